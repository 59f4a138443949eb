"""Arithmetic that is written into a graph: whole numbers, and the weights of Pillow's resizing.

The truth is Python's integers and fractions, and Pillow's own `Resample.c`, repeated here in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from torchlift.converters.onnx.exporter.expressions import GraphWriter, Tensor
from torchlift.converters.onnx.exporter.pillow_weights import HALF, nearest_of_pillow, whole_weights
from torchlift.converters.onnx.exporter.resize_planes import Axis


def evaluated(
    write: Callable[..., list[Tensor]], *arrays: Any, operators: tuple[type[OpRun], ...] = ()
) -> list[np.ndarray]:
    """Return what an expression of whole numbers gives in a graph.

    Args:
        write: Takes a tensor for each array, and returns the results.
        arrays: The numbers.
        operators: Takes the place of ONNX's own.
    """
    writer = GraphWriter("")
    inputs = []
    for number, array in enumerate(arrays):
        value = onnx_ir.Value(name=f"x{number}", shape=onnx_ir.Shape(np.shape(array)))
        value.type = onnx_ir.TensorType(onnx_ir.DataType.INT64)
        inputs.append(Tensor(writer, value, np.int64))
    outputs = [tensor.value for tensor in write(*inputs)]
    graph = onnx_ir.Graph(
        [tensor.value for tensor in inputs],
        outputs,
        nodes=list(writer.tape.nodes),
        initializers=list(writer.tape.initializers),
        opset_imports={"": 18},
        name="g",
    )
    model: onnx.ModelProto = onnx_ir.to_proto(onnx_ir.Model(graph, ir_version=8))
    session = ReferenceEvaluator(model, new_ops=list(operators))
    feeds = {f"x{number}": np.array(array, np.int64) for number, array in enumerate(arrays)}
    return [np.asarray(one) for one in session.run(None, feeds)]


def division_off_by(error: int) -> type[OpRun]:
    """Return a Div that is wrong, as in runtimes that divide whole numbers in single precision."""

    class Div(OpRun):
        def _run(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray]:
            return (a // b + error,)

    return Div


@pytest.mark.parametrize("error", [0, 1, -1])
def test_whole_numbers_are_divided_right_where_a_runtime_is_off_by_one(error: int) -> None:
    numbers, divisors = np.mgrid[0:40, 1:9]
    operators = (division_off_by(error),) if error else ()
    (found,) = evaluated(lambda a, b: [a // b], numbers, divisors, operators=operators)
    assert np.array_equal(found, numbers // divisors)


#: Enlarged, made smaller, both sides of a ratio of two, and sides whose weights end in a half.
SIDES = [(7, 16), (16, 7), (10, 20), (20, 10), (30, 20), (9, 9), (1, 5), (5, 1), (97, 31)]


def weights_of_graph(old: int, new: int, method: str, along: int) -> np.ndarray:
    def write(length: Tensor) -> list[Tensor]:
        axis = Axis(length, new, np.arange(new))
        return list(whole_weights(axis.lengths(along), method))

    high, low = evaluated(write, old)
    assert (high.dtype, low.dtype) == (np.float32, np.float32)
    whole = high.astype(np.int64) * HALF + low.astype(np.int64)
    return whole if along else whole.T


@pytest.mark.parametrize("along", [0, 1])
@pytest.mark.parametrize(("old", "new"), SIDES)
def test_weights_of_a_triangle_are_the_nearest_whole_numbers(
    old: int, new: int, along: int
) -> None:
    """Pillow's triangle is as wide as a new pixel, or an old one where the image is enlarged."""
    reach = max(Fraction(old, new), Fraction(1))
    expected = []
    for target in range(new):
        center = Fraction(2 * target + 1, 2) * Fraction(old, new)
        parts = [max(0, reach - abs(Fraction(2 * source + 1, 2) - center)) for source in range(old)]
        expected.append([int(part * 2**22 / sum(parts) + Fraction(1, 2)) for part in parts])
    assert np.array_equal(weights_of_graph(old, new, "bilinear", along), expected)


def cubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    inner, outer = (1.5 * x - 2.5) * x**2 + 1, -0.5 * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, inner, np.where(x < 2, outer, 0))


#: Of `Resample.c`: the filter, and how far it reaches.
FILTERS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "box": (lambda x: ((x > -0.5) & (x <= 0.5)).astype(float), 0.5),
    "hamming": (lambda x: np.sinc(x) * (0.54 + 0.46 * np.cos(np.pi * x)) * (np.abs(x) < 1), 1.0),
    "bicubic": (cubic, 2.0),
    "lanczos": (lambda x: np.sinc(x) * np.sinc(x / 3) * (np.abs(x) < 3), 3.0),
}


@pytest.mark.parametrize("method", FILTERS)
@pytest.mark.parametrize(("old", "new"), SIDES)
def test_weights_of_other_filters_are_those_of_pillow(old: int, new: int, method: str) -> None:
    """Rounded to the nearest whole number, but for the last bits of sines."""
    filter, support = FILTERS[method]
    scale = old / new
    stretch = max(scale, 1.0)
    expected = np.zeros((new, old))
    for target in range(new):
        center = (target + 0.5) * scale
        first = max(int(center - support * stretch + 0.5), 0)
        end = min(int(center + support * stretch + 0.5), old)
        sources = np.arange(first, end)
        weights = filter((sources - center + 0.5) / stretch)
        expected[target, first:end] = weights / weights.sum() * 2**22
    found = weights_of_graph(old, new, method, along=1)
    assert np.abs(found - expected).max() < 0.501


@pytest.mark.parametrize("is_free", [False, True])
@pytest.mark.parametrize(("old", "new"), SIDES)
def test_the_pixel_that_is_copied_is_that_in_the_middle_of_the_new_one(
    old: int, new: int, is_free: bool
) -> None:
    """`Geometry.c` adds up in double precision, which cuts 16 / 7 · 3.5 to 7."""

    def write(old: Tensor, length: Tensor) -> list[Tensor]:
        return [nearest_of_pillow(old, length if is_free else new, np.arange(new))]

    (found,) = evaluated(write, old, new)
    step = old / new
    position, expected = step * 0.5, []
    for _ in range(new):
        expected.append(int(position))
        position += step
    assert found.tolist() == expected
