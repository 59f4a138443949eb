"""Whether the weights in an exported file are the model's, number by number.

The outputs of a few images cannot show every weight; the weights themselves can. The exporter
keeps their names. It folds batch normalization into the convolution before it, which scales each
output channel by one factor and changes the bias; besides that, numbers are rounded to the file's
precision, and nothing else may have changed.
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


def differing_weights(
    model: nn.Module, file: onnx.ModelProto, rounding: float
) -> tuple[list[str], int]:
    """Names of the weights that differ, and how many were compared.

    Weights that the exporter renamed (by computing with them ahead) are not compared, and of a
    quantized file no biases: they are stored by the scale of what they are added to.

    Args:
        model: the network that was exported.
        file: the exported file, with its weights.
        rounding: largest error of a number that was rounded, relative to the largest of its
            channel (`Profile.rounding`).
    """
    state = {
        name: (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
        for name, tensor in model.state_dict().items()
    }
    stored = {name: array for name, array in _stored(file).items() if name in state}
    for name in _factors(file) & stored.keys():
        # A linear layer's weight is turned round where a quantizer made it the factor of a MatMul.
        if stored[name].ndim == 2 and not _equal(stored[name], state[name], rounding):
            stored[name] = stored[name].T
    changed = {name for name, array in stored.items() if not _equal(array, state[name], rounding)}
    if any(isinstance(module, _BatchNorm) for module in model.modules()):
        changed -= _folded(changed, stored, state, rounding)
    return sorted(changed), len(stored)


def weights_with_nan(file: onnx.ModelProto) -> list[str]:
    """Names of the constants in a file that hold NaN (an infinity may be meant)."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in file.graph.initializer}
    return [name for name, a in arrays.items() if a.dtype.kind == "f" and np.isnan(a).any()]


def _factors(file: onnx.ModelProto) -> set[str]:
    """Names of the weights that are the second factor of a product of matrices."""
    return {
        node.input[1].removesuffix(_QUANTIZED)
        for node in file.graph.node
        if node.op_type in ("MatMul", "MatMulInteger")
    }


def _stored(file: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The weights of a file by their names in the model; quantized ones are numbers again."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in file.graph.initializer}
    axes = {
        node.input[0]: next((a.i for a in node.attribute if a.name == "axis"), 1)
        for node in file.graph.node
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
            arrays[base] = (weight - zero.reshape(shape)) * steps
    return arrays


def _folded(
    changed: set[str],
    stored: Mapping[str, np.ndarray],
    model: Mapping[str, np.ndarray],
    rounding: float,
) -> set[str]:
    """Of the changed weights, those that batch normalization explains, with their biases."""
    weights = {
        name
        for name in changed
        if any(_scaled(model[name], stored[name], axis, rounding) for axis in (0, 1))
    }
    biases = {f"{name.removesuffix('weight')}bias" for name in weights}
    return weights | (biases & changed)


def _scaled(before: np.ndarray, after: np.ndarray, axis: int, rounding: float) -> bool:
    """Whether each channel of `axis` was multiplied by one factor."""
    if before.ndim < 2 or before.shape != after.shape:
        return False
    old, new = (np.moveaxis(a, axis, 0).reshape(a.shape[axis], -1) for a in (before, after))
    factors = (old * new).sum(axis=1) / np.maximum((old * old).sum(axis=1), 1e-30)
    return _near(factors[:, None] * old, new, rounding)


def _equal(stored: np.ndarray, array: np.ndarray, rounding: float) -> bool:
    """Whether two weights are the same; float32 was not rounded, other types were."""
    if stored.shape != array.shape:
        return False
    if stored.dtype == array.dtype or array.ndim == 0:
        return np.array_equal(stored, array)
    return _near(array.reshape(len(array), -1), stored.reshape(len(array), -1), rounding)


def _near(expected: np.ndarray, actual: np.ndarray, rounding: float) -> bool:
    """Whether each row is the same but for rounding, by its largest number."""
    largest = np.abs(actual).max(axis=1, initial=0)
    return bool((np.abs(actual - expected).max(axis=1, initial=0) <= rounding * largest).all())
