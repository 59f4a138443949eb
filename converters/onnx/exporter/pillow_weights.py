"""The weights of Pillow's resizing, computed in a graph from the sizes of the image.

Pillow resizes bytes with whole numbers: the weights of a new pixel are rounded to multiples of
2**-22 (`Resample.c`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .expressions import Tensor
from .resize_weights import Lengths

#: A weight has 22 bits. They are taken in two halves, so that float32 holds all sums exactly.
HALF = 2**11


def whole_weights(lengths: Lengths, method: str) -> tuple[Tensor, Tensor]:
    """Return weights times 2**22, in two halves: (high, low) for high · 2**11 + low.

    Args:
        lengths: What is resized.
        method: `box`, `bilinear`, `hamming`, `bicubic` or `lanczos`.
    """
    if method == "bilinear":
        return _bilinear(lengths)
    filter, support = _FILTERS[method]
    scale = lengths.old.number(np.float64) / _double(lengths.new)
    larger = scale.apply("Max", 1)
    reach = larger * support
    center = (_double(lengths.targets) + 0.5) * scale
    first = (center - reach + 0.5).apply("Floor")
    end = (center + reach + 0.5).apply("Floor")
    sources = lengths.sources.number(np.float64)
    inside = (sources >= first).apply("And", sources < end)
    weights = inside.where(filter((sources - center + 0.5) * (1 / larger)), 0)
    total = weights.sum(lengths.along)
    # Rounded away from zero at a half, which for numbers below zero does not occur in practice.
    whole = (weights / total * float(HALF * HALF) + 0.5).apply("Floor").number(np.float32)
    high = (whole * (1 / HALF)).apply("Floor")
    return high, whole - high * HALF


def _bilinear(lengths: Lengths) -> tuple[Tensor, Tensor]:
    """Return the weights of a triangle, which are fractions of whole numbers.

    They are computed in whole numbers, below 2**31 for images of any usual size, so that they are
    right in a runtime too that knows no double precision.
    """
    old, new = lengths.old, lengths.new
    # The distance of an old pixel from the center of a new one, in units of 1 / size.
    size = 2 * old.apply("Max", new)
    distance = (2 * lengths.sources + 1) * new - (2 * lengths.targets + 1) * old
    parts = (size - distance.apply("Max", -1 * distance)).apply("Max", 0)
    total = parts.sum(lengths.along)
    high = HALF * parts // total
    rest = HALF * parts - high * total
    low = (2 * HALF * rest + total) // (2 * total)
    return high.number(np.float32), low.number(np.float32)


def _box(x: Tensor) -> Tensor:
    return (
        (x >= float(np.nextafter(-0.5, 0)))
        .apply("And", x < float(np.nextafter(0.5, 1)))
        .number(np.float64)
    )


def _hamming(x: Tensor) -> Tensor:
    x = x.apply("Abs")
    # cos(πx) = 1 - 2·sin²(πx/2): ONNX Runtime 1.22 has no Cos in double precision.
    sine = (x * (math.pi / 2)).apply("Sin")
    window = 0.54 + 0.46 * (1 - 2 * sine * sine)
    return (x < 1).where(_sinc(x) * window, 0)


def _bicubic(x: Tensor) -> Tensor:
    x = x.apply("Abs")
    inner = (1.5 * x - 2.5) * x * x + 1
    outer = (((x - 5) * x + 8) * x - 4) * -0.5
    return (x < 1).where(inner, (x < 2).where(outer, 0))


def _lanczos(x: Tensor) -> Tensor:
    x = x.apply("Abs")
    return (x < 3).where(_sinc(x) * _sinc(x / 3), 0)


def _sinc(x: Tensor) -> Tensor:
    angle = x.apply("Max", 1e-9) * math.pi
    return angle.apply("Sin") / angle


#: Each filter of a distance in new pixels (or old ones, where an image is enlarged), and its reach.
_FILTERS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "box": (_box, 0.5),
    "hamming": (_hamming, 1.0),
    "bicubic": (_bicubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}


def _double(value: Tensor | np.ndarray | int) -> Tensor | np.ndarray:
    """Return whole numbers in double precision."""
    return value.number(np.float64) if isinstance(value, Tensor) else np.asarray(value, np.float64)


def nearest_of_pillow(old: Tensor, new: Tensor | int, kept: Tensor | np.ndarray) -> Tensor:
    """Return the old pixel that each new one copies.

    Pillow adds up the step in double precision (`Geometry.c`), and so must the graph: the sums
    differ from products where a position is nearly a whole number.
    """
    writer = old.writer
    step = old.number(np.float64) / _double(new)
    if isinstance(new, Tensor):
        every = writer.range(new)
        assert isinstance(every, Tensor)
        one = Tensor(writer, writer.constant(1, np.float64), np.float64)
        steps = (every < 1).where(np.float64(0.5), one)
    else:
        counts = writer.constant(np.r_[0.5, np.ones(new - 1)], np.float64)
        steps = Tensor(writer, counts, np.float64)
    axis = writer.constant(0, np.int64)
    positions = writer.op("CumSum", step * steps, axis, dtype=np.float64)
    return positions.gather(kept, axis=0).number(np.int64).apply("Min", old - 1)
