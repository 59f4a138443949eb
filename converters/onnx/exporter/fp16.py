"""Half precision: weights and arithmetic in float16, inputs and outputs as they were."""

from __future__ import annotations

import numpy as np
import onnx_ir

from ..errors import OnnxError

_LARGEST = float(np.finfo(np.float16).max)


def to_half(model: onnx_ir.Model) -> onnx_ir.Model:
    """A float32 graph with float16 inside.

    Args:
        model: it is left as it is.

    Raises:
        OnnxError: when a weight is too large for float16.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    too_large = [
        name
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
        and value.const_value.dtype == onnx_ir.DataType.FLOAT
        and np.abs(value.const_value.numpy()).max(initial=0) > _LARGEST
    ]
    if too_large:
        raise OnnxError(f"numbers above {_LARGEST:.0f} do not fit float16: {', '.join(too_large)}")
    # The graph has the shapes already: inferring them again would end at 2 GiB.
    converted = convert_float_to_float16(
        onnx_ir.to_proto(model), keep_io_types=True, disable_shape_infer=True
    )
    result = onnx_ir.from_proto(converted)
    # The casts at inputs were appended at the end.
    result.graph.sort()
    return result
