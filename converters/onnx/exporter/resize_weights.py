"""The weights of torch's and Torch7's resizing, computed in a graph from the sizes of the image.

Resizing an axis is a product with a matrix: along one of its axes are the old pixels, along the
other the new ones. The weights repeat the arithmetic of the library that a method is named after,
in single precision like there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from .expressions import Tensor

#: A length that is known, or a scalar of the graph.
Length = int | Tensor


@dataclass(frozen=True)
class Lengths:
    """What the weights of an axis depend on.

    Attributes:
        old: How many pixels it has, a scalar.
        new: How many it gets.
        sources: The old pixels, counted from 0, along the axis `along` of the matrix.
        targets: The new pixels, along the other axis.
        along: 0 or 1.
    """

    old: Tensor
    new: Length
    sources: Tensor
    targets: Tensor | np.ndarray
    along: int

    @property
    def scale(self) -> Tensor:
        """How many old pixels a new one takes, in single precision."""
        return scale_of(self.old, self.new)


def scale_of(old: Tensor, new: Length) -> Tensor:
    """Return old / new in single precision."""
    return old.number(np.float32) / as_float(new)


def as_float(value: Tensor | np.ndarray | int) -> Tensor | np.ndarray:
    """Return whole numbers in single precision."""
    return value.number(np.float32) if isinstance(value, Tensor) else np.asarray(value, np.float32)


def _at(lengths: Lengths, places: Tensor, weights: Tensor | float) -> Tensor:
    """Return a matrix with weights at these old pixels, limited to those that exist."""
    limited = places.apply("Max", 0).apply("Min", lengths.old - 1)
    return lengths.sources.equals(limited).where(weights, np.float32(0))


def _torch_linear(lengths: Lengths) -> Tensor:
    position = (lengths.scale * (as_float(lengths.targets) + 0.5) - 0.5).apply("Max", 0)
    first = position.apply("Floor")
    second = position - first
    places = first.number(np.int64)
    return _at(lengths, places, 1 - second) + _at(lengths, places + 1, second)


def _torch_cubic(lengths: Lengths) -> Tensor:
    position = lengths.scale * (as_float(lengths.targets) + 0.5) - 0.5
    first = position.apply("Floor")
    x = position - first
    weights = [_cubic_far(x + 1), _cubic_near(x), _cubic_near(1 - x), _cubic_far(2 - x)]
    places = first.number(np.int64)
    result = _at(lengths, places - 1, weights[0])
    for offset, weight in enumerate(weights[1:]):
        result = result + _at(lengths, places + offset, weight)
    return result


#: The parameter of torch's cubic splines.
_A = -0.75


def _cubic_near(x: Tensor) -> Tensor:
    return ((_A + 2) * x - (_A + 3)) * x * x + 1


def _cubic_far(x: Tensor) -> Tensor:
    return ((_A * x - 5 * _A) * x + 8 * _A) * x - 4 * _A


def _torch_antialias(lengths: Lengths, filter: Callable[[Tensor], Tensor], reach: int) -> Tensor:
    """Return the weights of `_upsample_…_aa`.

    Args:
        lengths: What is resized.
        filter: The weight at a distance in new pixels.
        reach: Where it ends.
    """
    scale = lengths.scale.apply("Max", 1)
    center = lengths.scale * (as_float(lengths.targets) + 0.5)
    support = scale * reach
    first = (center - support + 0.5).number(np.int64).apply("Max", 0)
    end = (center + support + 0.5).number(np.int64)
    inside = (lengths.sources >= first).apply("And", lengths.sources < end)
    distance = (lengths.sources.number(np.float32) - center + 0.5) * (1 / scale)
    weights = inside.where(filter(distance.apply("Abs")), np.float32(0))
    return weights / weights.sum(lengths.along)


def _triangle(x: Tensor) -> Tensor:
    return (1 - x).apply("Max", 0)


def _antialias_cubic(x: Tensor) -> Tensor:
    inner = ((1.5 * x - 2.5) * x) * x + 1
    outer = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return (x < 1).where(inner, (x < 2).where(outer, 0))


def _image_scale_positions(lengths: Lengths) -> tuple[Tensor, Tensor]:
    """Return the old pixel before each new one, and the distance from it (`image_scale.py`)."""
    last = (lengths.old - 1).number(np.float32)
    new = lengths.new
    steps = (new - 1).apply("Max", 1) if isinstance(new, Tensor) else max(new - 1, 1)
    position = as_float(lengths.targets) * (last / as_float(steps))
    targets = lengths.targets
    if isinstance(targets, Tensor):
        is_last = targets.equals(new - 1)
    else:
        constant = lengths.old.writer.constant(targets, np.int64)
        is_last = Tensor(lengths.old.writer, constant, np.int64).equals(new - 1)
    position = is_last.where(last, position)
    first = position.number(np.int64).apply("Min", lengths.old - 2).apply("Max", 0)
    return first, position - first.number(np.float32)


def _image_scale_bilinear(lengths: Lengths) -> Tensor:
    first, x = _image_scale_positions(lengths)
    larger = _at(lengths, first, 1 - x) + _at(lengths, first + 1, x)
    left = as_float(lengths.targets) * lengths.scale
    right = (as_float(lengths.targets) + 1) * lengths.scale
    source = lengths.sources.number(np.float32)
    covered = (right.apply("Min", source + 1) - left.apply("Max", source)).apply("Max", 0)
    smaller = covered / covered.sum(lengths.along)
    return (lengths.old < lengths.new).where(larger, smaller)


def _image_scale_bicubic(lengths: Lengths) -> Tensor:
    first, x = _image_scale_positions(lengths)
    before = x * (-1 + x * (2 - x)) / 2
    at_first = 1 + x * x * (3 * x - 5) / 2
    at_second = x * (1 + x * (4 - 3 * x)) / 2
    after = x * x * (x - 1) / 2
    # Neighbors outside are extrapolated: 2 · first - second, and 2 · second - first.
    left = before * (first < 1).number(np.float32)
    right = after * (first + 2 >= lengths.old).number(np.float32)
    weights = [
        before - left,
        at_first + 2 * left - right,
        at_second + 2 * right - left,
        after - right,
    ]
    result = _at(lengths, first - 1, weights[0])
    for offset, weight in enumerate(weights[1:]):
        result = result + _at(lengths, first + offset, weight)
    return result


#: The weights of each method that does not round in between.
WEIGHTS: dict[str, Callable[[Lengths], Tensor]] = {
    "torch-bilinear": _torch_linear,
    "torch-bicubic": _torch_cubic,
    "torch-bilinear-antialias": partial(_torch_antialias, filter=_triangle, reach=1),
    "torch-bicubic-antialias": partial(_torch_antialias, filter=_antialias_cubic, reach=2),
    "image.scale-bilinear": _image_scale_bilinear,
    "image.scale-bicubic": _image_scale_bicubic,
}


def _floor_of(old: Tensor, new: Length, kept: Tensor | np.ndarray, offset: float = 0.0) -> Tensor:
    position = (as_float(kept) + np.float32(offset)) * scale_of(old, new)
    return position.number(np.int64).apply("Min", old - 1)


#: The old pixel that each new one copies, for methods without weights.
NEAREST: dict[str, Callable[[Tensor, Length, Tensor | np.ndarray], Tensor]] = {
    "torch-nearest": _floor_of,
    "torch-nearest-exact": partial(_floor_of, offset=0.5),
    "image.scale-simple": _floor_of,
}
