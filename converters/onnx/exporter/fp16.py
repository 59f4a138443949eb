"""Half precision: weights and arithmetic in float16, inputs and outputs in float32."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir

from ..errors import OnnxError

_LARGEST = float(np.finfo(np.float16).max)
#: Operators that compute in single precision: ONNX Runtime has no others on a CPU, and rounding
#: would add up from step to step.
_RECURRENT = ("LSTM", "GRU", "RNN", "Scan")
#: Operators behind a last softmax that only move its results.
_MOVES = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def _tidy_constants(graph: onnx.GraphProto) -> None:
    """Remove casts to float32 of constants that stayed in float32, and their stated types.

    The converter makes such a cast for each node that takes one, also twice under one name, and
    states float16 as the type of every constant.
    """
    kept = {each.name for each in graph.initializer if each.data_type == onnx.TensorProto.FLOAT}
    sources: dict[str, str] = {}
    for node in list(graph.node):
        if node.op_type == "Cast" and node.input[0] in kept:
            sources[node.output[0]] = node.input[0]
            graph.node.remove(node)
    for node in graph.node:
        node.input[:] = [sources.get(name, name) for name in node.input]
    for value in list(graph.value_info):
        if value.name in kept or value.name in sources:
            graph.value_info.remove(value)


def _last_softmaxes(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the softmaxes that give a graph's outputs.

    Old versions of ONNX Runtime have none in half precision, and the logarithm of a small
    probability is beyond its range in some.
    """
    producers = {name: node for node in graph.node for name in node.output}
    last = []
    for output in graph.output:
        node = producers.get(output.name)
        while node is not None and node.op_type in _MOVES:
            node = producers.get(node.input[0])
        if node is not None and node.op_type in ("Softmax", "LogSoftmax"):
            last.append(node.name)
    return last


def _tidy_casts(graph: onnx.GraphProto) -> None:
    """Leave out what is cast to half precision only to be cast back."""
    producers = {name: node for node in graph.node for name in node.output}
    uses = Counter(name for node in graph.node for name in node.input)
    outputs = {value.name for value in graph.output}
    for back in [node for node in graph.node if _casts_to(node, onnx.TensorProto.FLOAT)]:
        half = producers.get(back.input[0])
        if half is None or not _casts_to(half, onnx.TensorProto.FLOAT16):
            continue
        source, result = half.input[0], back.output[0]
        producer = producers.get(source)
        if result not in outputs:
            _rename_inputs(graph, result, source)
        elif producer is not None:
            _rename_inputs(graph, source, result)
            producer.output[list(producer.output).index(source)] = result
            producers[result] = producer
        else:
            continue
        graph.node.remove(back)
        uses[half.output[0]] -= 1
        if not uses[half.output[0]]:
            graph.node.remove(half)


def _casts_to(node: onnx.NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and node.attribute[0].i == kind


def _rename_inputs(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]


def to_half(model: onnx_ir.Model) -> onnx_ir.Model:
    """Return a float32 graph in half precision.

    Args:
        model: The graph; it is not changed.

    Raises:
        OnnxError: If a weight is too large for float16.
    """
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    too_large = [
        name
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
        and value.const_value.dtype == onnx_ir.DataType.FLOAT
        and np.abs(value.const_value.numpy()).max(initial=0) > _LARGEST
    ]
    if too_large:
        raise OnnxError(f"values above {_LARGEST:.0f} do not fit float16: {', '.join(too_large)}")
    # The graph has its shapes already, and shape inference fails above 2 GiB.
    proto = onnx_ir.to_proto(model)
    converted = convert_float_to_float16(
        proto,
        keep_io_types=True,
        disable_shape_infer=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_RECURRENT],
        node_block_list=_last_softmaxes(proto.graph),
    )
    _tidy_constants(converted.graph)
    _tidy_casts(converted.graph)
    result: onnx_ir.Model = onnx_ir.from_proto(converted)
    # The converter appends the casts of the inputs after the nodes that need them.
    result.graph.sort()
    return result
