"""Comparing the weights in an exported file with the model's, value by value.

The outputs of a few images cannot show every weight; the weights themselves can. The exporter
keeps their names. It folds batch normalization into the convolution before it, which scales each
output channel by one factor and changes the bias. Values are also rounded to the file's precision;
nothing else may change.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

#: What a quantizer adds to the name of a weight, of its scale and of its zero point.
_QUANTIZED, _SCALE, _ZERO_POINT = "_quantized", "_scale", "_zero_point"
#: What newer quantizers add before that, when they turn a Gemm into a MatMul.
_TRANSPOSED = "_Transposed"


def differing_weights(
    module: nn.Module, onnx_model: onnx.ModelProto, rounding: float
) -> tuple[list[str], int]:
    """Return the names of the weights that differ, and how many were compared.

    Weights that the exporter renamed (because it computed with them) are not compared, nor are the
    biases of a quantized file, whose scale is that of the products they are added to.

    Args:
        module: The network that was exported.
        onnx_model: The exported file, with its weights.
        rounding: Largest error of a rounded value, relative to the largest of its channel
            (`Profile.rounding`).
    """
    state = {
        name: (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
        for name, tensor in module.state_dict().items()
    }
    stored = {name: array for name, array in _stored(onnx_model).items() if name in state}
    for name in _second_factors(onnx_model) & stored.keys():
        # Older quantizers transpose a linear layer's weight under its own name.
        if stored[name].ndim == 2 and not _equal(stored[name], state[name], rounding):
            stored[name] = stored[name].T
    changed = {name for name, array in stored.items() if not _equal(array, state[name], rounding)}
    if any(isinstance(part, _BatchNorm) for part in module.modules()):
        changed -= _folded(changed, stored, state, rounding)
    return sorted(changed), len(stored)


def weights_with_nan(onnx_model: onnx.ModelProto) -> list[str]:
    """Return the names of the constants with NaN. An infinity may be on purpose."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx_model.graph.initializer}
    return [name for name, a in arrays.items() if a.dtype.kind == "f" and np.isnan(a).any()]


def _second_factors(onnx_model: onnx.ModelProto) -> set[str]:
    """Return the names of the weights that are the second factor of a MatMul."""
    return {
        node.input[1].removesuffix(_QUANTIZED)
        for node in onnx_model.graph.node
        if node.op_type in ("MatMul", "MatMulInteger")
    }


def _stored(onnx_model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return the weights of a file by their names in the model, dequantized."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx_model.graph.initializer}
    axes = {
        node.input[0]: next((a.i for a in node.attribute if a.name == "axis"), 1)
        for node in onnx_model.graph.node
        if node.op_type == "DequantizeLinear"
    }
    for name in [name for name in arrays if name.endswith(_QUANTIZED)]:
        weight, base = arrays.pop(name), name.removesuffix(_QUANTIZED)
        if weight.ndim > 1 and base + _SCALE in arrays:
            scale, zero = arrays[base + _SCALE], arrays[base + _ZERO_POINT].astype(np.float32)
            shape = [1] * weight.ndim
            if scale.size > 1:
                shape[axes.get(name, weight.ndim - 1)] = -1
            steps = scale.astype(np.float64).reshape(shape)
            values = (weight - zero.reshape(shape)) * steps
            is_transposed = base.endswith(_TRANSPOSED)
            arrays[base.removesuffix(_TRANSPOSED)] = values.T if is_transposed else values
    return arrays


def _folded(
    changed: set[str],
    stored: Mapping[str, np.ndarray],
    state: Mapping[str, np.ndarray],
    rounding: float,
) -> set[str]:
    """Return the changed weights that batch normalization explains, with their biases."""
    weights = {
        name
        for name in changed
        if any(_is_scaled(state[name], stored[name], axis, rounding) for axis in (0, 1))
    }
    biases = {f"{name.removesuffix('weight')}bias" for name in weights}
    return weights | (biases & changed)


def _is_scaled(before: np.ndarray, after: np.ndarray, axis: int, rounding: float) -> bool:
    """Whether each channel of `axis` was multiplied by one factor."""
    if before.ndim < 2 or before.shape != after.shape:
        return False
    old, new = (np.moveaxis(a, axis, 0).reshape(a.shape[axis], -1) for a in (before, after))
    factors = (old * new).sum(axis=1) / np.maximum((old * old).sum(axis=1), 1e-30)
    return _near(factors[:, None] * old, new, rounding)


def _equal(stored: np.ndarray, array: np.ndarray, rounding: float) -> bool:
    """Whether two weights are equal: exactly in the same dtype, otherwise but for rounding."""
    if stored.shape != array.shape:
        return False
    if stored.dtype == array.dtype or array.ndim == 0:
        return np.array_equal(stored, array)
    return _near(array.reshape(len(array), -1), stored.reshape(len(array), -1), rounding)


def _near(expected: np.ndarray, actual: np.ndarray, rounding: float) -> bool:
    """Whether each row is equal but for rounding, relative to its largest value."""
    largest = np.abs(actual).max(axis=1, initial=0)
    return bool((np.abs(actual - expected).max(axis=1, initial=0) <= rounding * largest).all())
