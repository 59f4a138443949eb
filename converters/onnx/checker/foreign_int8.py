"""The int8 constants of a file that another program quantized, as the numbers they stand for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

#: Of an operator with an int8 weight: where among its inputs the weight, its scale and its zero
#: point are, and the weight's axis that has a scale for each index.
_WEIGHTS = {
    "DequantizeLinear": (0, 1, 2, 1),
    "QLinearConv": (3, 4, 5, 0),
    "QLinearMatMul": (3, 4, 5, -1),
    "QGemm": (3, 4, 5, -1),
    "ConvInteger": (1, None, 3, 0),
    "MatMulInteger": (1, None, 3, -1),
}
#: Of those with an int32 bias: where it is; its scale is the product of two others.
_BIASES = {"QLinearConv": (8, (1, 4)), "QGemm": (6, (1, 4))}
#: Of other operators: where the scales are that are measured and not the model's.
_SCALES = {"QuantizeLinear": (1,), "QLinearConv": (1, 6), "QLinearMatMul": (1, 6), "QGemm": (1, 7)}
#: With fewer steps than these, by bits, half a step is too coarse to compare numbers by.
_FEWEST_STEPS = {4: 2}
_FEWEST = 16
#: Rounding to the nearest step, computed in float32, may be off by this much of a step more.
_SLACK = 1e-3


@dataclass(frozen=True)
class Dequantized:
    """A constant of whole steps, as the numbers that it stands for.

    Attributes:
        name: The name of the steps in the graph.
        values: (…) the numbers.
        half: (…) by how much each may be off: half a step.
        is_fine: (…) whether enough steps share the number's scale to compare it by them.
    """

    name: str
    values: np.ndarray
    half: np.ndarray
    is_fine: np.ndarray


@dataclass(frozen=True)
class QuantizedConstants:
    """What is quantized in a graph.

    Attributes:
        dequantized: The constants whose scale is known.
        unread: The others, by name with the operator that takes them.
        scales: The names of all scales.
    """

    dequantized: list[Dequantized]
    unread: dict[str, tuple[np.ndarray, str]]
    scales: set[str]


def quantized_constants_of(graph: onnx.GraphProto) -> QuantizedConstants:
    """Return the constants of a graph that are whole steps of a scale.

    Args:
        graph: A graph in any of ONNX Runtime's forms: quantize-dequantize pairs, operators that
            take int8 (`QLinearConv`, `QGemm`, …), or products of int8 that are scaled behind them
            (`MatMulInteger`, …).
    """
    arrays = dict(all_constants(graph))
    found: dict[str, Dequantized] = {}
    scales: set[str] = set()
    small = {name: "" for name, array in arrays.items() if _bits(array) <= 8 and array.size > 1}
    for node in graph.node:
        inputs = list(node.input)
        # A QGemm may leave out its last inputs.
        places = _SCALES.get(node.op_type, ())
        scales.update(inputs[place] for place in places if place < len(inputs))
        small.update({name: node.op_type for name in inputs if name in small})
        if node.op_type not in _WEIGHTS:
            continue
        weight, scale, zero, axis = _WEIGHTS[node.op_type]
        scale_name = inputs[scale] if scale is not None else _scale_behind(graph, node, arrays)
        zero_name = inputs[zero] if len(inputs) > zero else ""
        scales.add(scale_name)
        small.pop(zero_name, None)
        if inputs[weight] in arrays and scale_name in arrays:
            steps, factor = arrays[inputs[weight]], arrays[scale_name]
            found[inputs[weight]] = _dequantized(
                inputs[weight], steps, factor, arrays.get(zero_name), _axis(node, axis, steps.ndim)
            )
        if node.op_type in _BIASES:
            bias, parts = _BIASES[node.op_type]
            names = [inputs[part] for part in parts]
            if len(inputs) > bias and inputs[bias] in arrays and all(n in arrays for n in names):
                factor = arrays[names[0]] * arrays[names[1]]
                steps = arrays[inputs[bias]]
                found[inputs[bias]] = _dequantized(inputs[bias], steps, factor, None, 0)
    unread = {name: (arrays[name], kind) for name, kind in small.items() if name not in found}
    return QuantizedConstants(list(found.values()), unread, scales)


def all_constants(graph: onnx.GraphProto) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the constants of a graph, in initializers and in nodes."""
    for tensor in graph.initializer:
        yield tensor.name, numpy_helper.to_array(tensor)
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            yield node.output[0], numpy_helper.to_array(node.attribute[0].t)


def _dequantized(
    name: str, steps: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, axis: int
) -> Dequantized:
    """Return what whole steps stand for.

    Args:
        name: The name of the steps.
        steps: (…) whole numbers.
        scale: One, or one for each index of `axis`, or one for each block along it.
        zero: As `scale`.
        axis: Of the steps.
    """
    counts = steps.astype(np.float64)
    if zero is not None:
        counts = counts - _spread(zero, steps.shape, axis)
    factor = _spread(scale, steps.shape, axis)
    shared = tuple(one for one in range(steps.ndim) if scale.size == 1 or one != axis % steps.ndim)
    fewest = _FEWEST_STEPS.get(_bits(steps), _FEWEST)
    most = np.abs(counts).max(axis=shared, keepdims=True, initial=0)
    half = np.broadcast_to(np.abs(factor) * (0.5 + _SLACK), steps.shape)
    return Dequantized(name, counts * factor, half, np.broadcast_to(most >= fewest, steps.shape))


def _spread(numbers: np.ndarray, shape: tuple[int, ...], axis: int) -> np.ndarray:
    """Return a number for each index of an axis in the shape of the steps."""
    numbers = numbers.astype(np.float64)
    if numbers.size == 1:
        return numbers.reshape([1] * len(shape))
    if numbers.ndim == len(shape) > 1:  # One for each block of an axis.
        # The last block may be a part of one.
        block = -(-shape[axis] // numbers.shape[axis])
        return np.repeat(numbers, block, axis=axis).take(range(shape[axis]), axis=axis)
    sizes = [1] * len(shape)
    sizes[axis] = -1
    return numbers.reshape(sizes)


def _axis(node: onnx.NodeProto, axis: int, count: int) -> int:
    """Return the axis of a weight that has a scale for each index."""
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    if node.op_type == "QGemm" and attributes.get("transB"):
        return 0
    axis = attributes.get("axis", axis) if node.op_type == "DequantizeLinear" else axis
    return axis if axis < count else 0


def _scale_behind(
    graph: onnx.GraphProto, node: onnx.NodeProto, arrays: Mapping[str, np.ndarray]
) -> str:
    """Return the name of the scale that the product of a weight is multiplied by; empty if none.

    What is multiplied is in whole steps; behind it stand a cast and the product of both scales.
    """
    producers = {name: one for one in graph.node for name in one.output}
    products: list[onnx.NodeProto] = []
    casts = [one for one in graph.node if node.output[0] in one.input and one.op_type == "Cast"]
    for cast in casts:
        products += [one for one in graph.node if cast.output[0] in one.input]
    for product in products:
        for name in product.input:
            scales = producers.get(name)
            if product.op_type == "Mul" and scales is not None and scales.op_type == "Mul":
                known = [one for one in scales.input if one in arrays]
                if len(known) == 1:
                    return str(known[0])
    return ""


def _bits(array: np.ndarray) -> int:
    """Return how many bits a whole number of an array has; many for other types."""
    name = array.dtype.name
    if not name.startswith(("int", "uint")):
        return 1024
    return int(name.removeprefix("u").removeprefix("int"))
