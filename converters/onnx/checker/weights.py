"""Comparing every number in an exported file with the number that the model has there.

The outputs of a few images cannot show every weight; the weights themselves can. A number must be
equal, or be the model's number rounded once: by float32 where the exporter computed it, by float16,
or to a step of int8. How far rounding goes follows from the format alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import numpy_helper

from .reference import Constant

#: How many units in the last place computing a number in another order may change.
_UNITS = 3
#: The smallest numbers of float16. What is smaller still may be stored as one of them, not as 0.
_SMALLEST_HALF = 2 * float(np.finfo(np.float16).smallest_subnormal)

#: What a quantizer adds to the name of a weight, of its scale and of its zero point.
_QUANTIZED, _SCALE, _ZERO_POINT = "_quantized", "_scale", "_zero_point"
#: What it adds before that, when it turns a Gemm into a MatMul. ONNX Runtime 1.22 adds nothing:
#: only the name of the node says that its weight was transposed.
_TRANSPOSED, _WAS_GEMM = "_Transposed", "_MatMul_quant"
#: The largest numbers that int8 weights, uint8 values and their reduced ranges take.
_LEVELS = (64, 127, 255)
#: Above this an int32 bias has set the scale of its channel, and not the weights.
_LARGE_BIAS = 2**30


@dataclass
class WeightComparison:
    """What comparing the numbers in a file with the model's showed.

    Attributes:
        differing: Names of the constants that have other numbers.
        unknown: Names of the constants that the model has no numbers for.
        compared: How many numbers were compared.
        total: How many numbers the file holds, without the ranges of activations, which an int8
            file measured on its calibration data.
    """

    differing: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    compared: int = 0
    total: int = 0

    @property
    def fraction(self) -> float:
        """The fraction of the numbers that were compared."""
        return self.compared / self.total if self.total else 1.0


@dataclass(frozen=True)
class _Quantized:
    """A constant in whole steps: each number is (steps - zero) · scale.

    Attributes:
        name: The name of the constant before it was quantized.
        steps: The whole numbers.
        scale: One scale, or one for each index of `axis`.
        zero: As `scale`.
        axis: Of the steps.
        is_transposed: Whether the constant is transposed in the file.
    """

    name: str
    steps: np.ndarray
    scale: np.ndarray
    zero: np.ndarray
    axis: int
    is_transposed: bool


def compare_weights(
    constants: Mapping[str, Constant], onnx_model: onnx.ModelProto, kept: Collection[str] = ()
) -> WeightComparison:
    """Compare every constant of a file with the model's.

    Whole numbers that the model lacks are shapes that the exporter merged, and belong to the nodes
    (see `check_structure`).

    Args:
        constants: What the file must hold (see `Reference`).
        onnx_model: The exported file, with its weights.
        kept: If not empty, the names that every exporter keeps; constants with other names are
            looked up by their numbers, because another version numbers them in another way.
    """
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx_model.graph.initializer}
    if kept:
        constants = {**constants, **dict(_renamed(arrays, constants, kept))}
    result = WeightComparison()
    biases = [array for array in arrays.values() if array.dtype == np.int32]
    quantized = list(_quantized(arrays, onnx_model, constants))
    for group in quantized:
        for suffix in (_QUANTIZED, f"{_QUANTIZED}{_SCALE}", f"{_QUANTIZED}{_ZERO_POINT}"):
            arrays.pop(f"{group.name}{suffix}", None)
        for suffix in (_SCALE, _ZERO_POINT):
            if f"{group.name}{suffix}" not in constants:
                arrays.pop(f"{group.name}{suffix}", None)
        name = group.name.removesuffix(_TRANSPOSED)
        _count(result, name, group.steps.size, constants)
        if name in constants:
            values = constants[name].values
            if not _is_quantized(values.T if group.is_transposed else values, group, biases):
                result.differing.append(name)
    for name, array in arrays.items():
        is_range = name.endswith((_SCALE, _ZERO_POINT)) and array.size == 1
        if name not in constants and (is_range or array.dtype.kind != "f"):
            continue
        _count(result, name, array.size, constants)
        if name in constants and not is_rounded(constants[name], array):
            result.differing.append(name)
    return result


def _renamed(
    arrays: Mapping[str, np.ndarray], constants: Mapping[str, Constant], kept: Collection[str]
) -> Iterator[tuple[str, Constant]]:
    """Yield the constants of the model that a file holds under other names."""
    by_shape: dict[tuple[int, ...], list[Constant]] = defaultdict(list)
    for constant in constants.values():
        by_shape[constant.values.shape].append(constant)
    for name, array in arrays.items():
        if name not in kept and array.dtype.kind == "f":
            same = (c for c in by_shape[array.shape] if is_rounded(c, array))
            if (found := next(same, None)) is not None:
                yield name, found


def weights_with_nan(onnx_model: onnx.ModelProto) -> list[str]:
    """Return the names of the constants with NaN. An infinity may be on purpose."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx_model.graph.initializer}
    return [name for name, a in arrays.items() if a.dtype.kind == "f" and np.isnan(a).any()]


def _count(
    result: WeightComparison, name: str, size: int, constants: Mapping[str, Constant]
) -> None:
    result.total += size
    if name in constants:
        result.compared += size
    else:
        result.unknown.append(name)


def _quantized(
    arrays: Mapping[str, np.ndarray],
    onnx_model: onnx.ModelProto,
    constants: Mapping[str, Constant],
) -> Iterator[_Quantized]:
    """Yield the quantized constants of a file."""
    axes = {
        node.input[0]: next((a.i for a in node.attribute if a.name == "axis"), 1)
        for node in onnx_model.graph.node
        if node.op_type == "DequantizeLinear"
    }
    turned = {
        name
        for node in onnx_model.graph.node
        if node.op_type == "MatMulInteger" and node.name.endswith(_WAS_GEMM)
        for name in node.input
    }
    for key, steps in arrays.items():
        name = key.removesuffix(_QUANTIZED)
        if name == key or key in constants or steps.dtype.kind == "f":
            continue
        # The scale of a bias is that of the products that it is added to.
        prefix = f"{name}{_QUANTIZED}" if f"{name}{_QUANTIZED}{_SCALE}" in arrays else name
        if f"{prefix}{_SCALE}" in arrays and f"{prefix}{_ZERO_POINT}" in arrays:
            scale, zero = arrays[f"{prefix}{_SCALE}"], arrays[f"{prefix}{_ZERO_POINT}"]
            is_transposed = name.endswith(_TRANSPOSED) or key in turned
            axis = axes.get(key, steps.ndim - 1)
            yield _Quantized(name, steps, scale, zero, axis, is_transposed)


def quantized_constants(
    arrays: Mapping[str, np.ndarray], onnx_model: onnx.ModelProto
) -> Iterator[tuple[str, np.ndarray, tuple[str, ...]]]:
    """Yield the name of each quantized constant, the numbers that it stands for, and its parts.

    Args:
        arrays: The constants of a file.
        onnx_model: The file.
    """
    for group in list(_quantized(arrays, onnx_model, {})):
        shape = [1] * group.steps.ndim
        if group.scale.size > 1:
            shape[group.axis] = -1
        steps = group.steps.astype(np.float64) - group.zero.astype(np.float64).reshape(shape)
        values = steps * group.scale.astype(np.float64).reshape(shape)
        name = group.name.removesuffix(_TRANSPOSED)
        parts = [
            f"{prefix}{end}"
            for prefix in (group.name, f"{group.name}{_QUANTIZED}")
            for end in (_QUANTIZED, _SCALE, _ZERO_POINT)
        ]
        parts.append(f"{group.name}{_QUANTIZED}")
        yield name, values.T if group.is_transposed else values, tuple(parts)


def is_rounded(constant: Constant, stored: np.ndarray) -> bool:
    """Whether stored numbers are a constant's, rounded to their own format."""
    values = constant.values
    if stored.shape != values.shape:
        return False
    if stored.dtype.kind != "f":
        return np.array_equal(stored, values)
    if stored.dtype != np.float16:
        values = values.astype(stored.dtype)
        if not constant.is_computed:
            return np.array_equal(stored, values)
        finite = np.isfinite(values)
        with np.errstate(invalid="ignore"):  # An infinity less an infinity is left out.
            near = np.abs(stored - values, where=finite, out=np.zeros_like(values))
        units = np.spacing(np.abs(values), where=finite, out=np.zeros_like(values))
        return bool(((near <= _UNITS * units) & (finite | (stored == values))).all())
    with np.errstate(over="ignore", invalid="ignore"):
        half = values.astype(np.float16)
        step = np.spacing(np.abs(half)).astype(np.float64)
        # A computed number may lie on either side of the middle of two.
        slack = _UNITS * np.spacing(np.abs(values)) if constant.is_computed else 0
        is_near = np.abs(stored.astype(np.float64) - values) <= step / 2 + slack
    is_tiny = np.maximum(np.abs(values), np.abs(stored)) <= _SMALLEST_HALF
    is_same_sign = np.sign(values) * np.sign(stored) >= 0
    return bool(((stored == half) | is_near | (is_tiny & is_same_sign)).all())


def _is_quantized(values: np.ndarray, group: _Quantized, biases: list[np.ndarray]) -> bool:
    """Whether each step is the nearest to its number, and the scale is that of the largest."""
    if values.shape != group.steps.shape:
        return False
    shape = [1] * values.ndim
    if group.scale.size > 1:
        shape[group.axis] = -1
    exact = values.astype(np.float64) / group.scale.astype(np.float64).reshape(shape)
    steps = group.steps.astype(np.float64) - group.zero.astype(np.float64).reshape(shape)
    if group.steps.dtype == np.int32:
        return bool((np.abs(steps - exact) <= 0.5 + 1e-6).all())
    axes = tuple(axis for axis in range(values.ndim) if shape[axis] == 1)
    extent = np.abs(values).max(axis=axes, initial=0)
    if (group.zero != 0).any() or group.steps.dtype == np.uint8:
        lowest = np.minimum(values.min(axis=axes, initial=0), 0)
        extent = np.maximum(values.max(axis=axes, initial=0), 0) - lowest
    extent, scale = np.ravel(extent), np.ravel(group.scale)
    is_scale = extent < np.finfo(np.float32).tiny
    for levels in _LEVELS:
        is_scale |= np.abs(extent.astype(np.float64) / levels - scale) <= np.spacing(scale)
    for bias in biases:
        if bias.shape == scale.shape:
            is_scale |= np.abs(bias.astype(np.int64)) > _LARGE_BIAS
    return bool(is_scale.all() and (np.abs(steps - exact) <= 0.5 + 1e-4).all())
