"""Half precision: weights and arithmetic in float16, inputs and outputs in float32."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir

from ..errors import OnnxError

_LARGEST = float(np.finfo(np.float16).max)
#: Operators that compute in single precision: ONNX Runtime has no others on a CPU, and rounding
#: would add up from step to step.
_RECURRENT = ("LSTM", "GRU", "RNN", "Scan")


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
    converted = convert_float_to_float16(
        onnx_ir.to_proto(model),
        keep_io_types=True,
        disable_shape_infer=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_RECURRENT],
    )
    _tidy_constants(converted.graph)
    result: onnx_ir.Model = onnx_ir.from_proto(converted)
    # The converter appends the casts of the inputs after the nodes that need them.
    result.graph.sort()
    return result
