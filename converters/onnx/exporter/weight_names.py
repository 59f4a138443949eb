"""Names of weights: a transposed one keeps the name of its parameter.

torch translates a linear layer on inputs of more than two axes to a product with its transposed
weight, which constant folding stores under the name of the value that held it, such as `val_95`.
"""

from __future__ import annotations

from collections import Counter

import onnx_ir


def transposed_weights(model: onnx_ir.Model) -> dict[str, str]:
    """Return the names of the values that are transposed weights, and the weights' own names.

    Args:
        model: A graph before its constants are folded.
    """
    found = {}
    uses = Counter[str]()
    for node in model.graph:
        source = node.inputs[0] if node.op_type == "Transpose" else None
        if source is not None and source.is_initializer():
            found[str(node.outputs[0].name)] = str(source.name)
            uses[str(source.name)] += 1
    # One weight in two orders has no name for both.
    return {value: weight for value, weight in found.items() if uses[weight] == 1}


def name_weights(model: onnx_ir.Model, names: dict[str, str]) -> dict[str, str]:
    """Give constants their weights' names, in place; what another constant is called stays.

    Args:
        model: The optimized graph.
        names: What `transposed_weights` returned.

    Returns:
        The old name of each constant that has a new one.
    """
    constants, renamed = model.graph.initializers, {}
    for old, new in names.items():
        if old in constants and new not in constants:
            value = constants.pop(old)
            value.name = new
            constants[new] = value
            renamed[new] = old
    return renamed
