"""Whether a graph computes at each run what could have been computed once."""

from __future__ import annotations

from collections import Counter

import onnx

#: Their weights can hold the scale and shift of a batch normalization behind them.
_LINEAR = ("Conv", "ConvTranspose", "Gemm")

#: Quantized weights are stored small, to be scaled when they are loaded.
_MEANT = ("DequantizeLinear", "QuantizeLinear", "Cast")


def unfolded(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that work on constants alone, or normalize what a linear layer gives.

    Args:
        model: with or without its external weights.
    """
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(value.name for value in graph.output)
    found = []
    for node in graph.node:
        given = [name for name in node.input if name]
        if given and constants.issuperset(given) and node.op_type not in _MEANT:
            found.append(node.name)
        elif node.op_type == "BatchNormalization" and uses[given[0]] == 1:
            maker = makers.get(given[0])
            if maker is not None and maker.op_type in _LINEAR:
                found.append(node.name)
    return found
