"""Resizing in a graph: each method of `RESIZERS` that a graph can repeat byte for byte."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .expressions import Tensor
from .pillow_weights import HALF, nearest_of_pillow, whole_weights
from .resize_weights import NEAREST, WEIGHTS, Lengths


@dataclass(frozen=True)
class Axis:
    """An axis that is resized.

    Attributes:
        old: How many pixels it has, a scalar.
        new: How many it gets, a number or a scalar.
        kept: Which of the new ones are wanted: int64 (n,).
    """

    old: Tensor
    new: Tensor | int
    kept: Tensor | np.ndarray

    def lengths(self, along: int) -> Lengths:
        """Return what the weights depend on.

        Args:
            along: The axis of the matrix of weights that has the old pixels.
        """
        sources = self.old.writer.range(self.old)
        assert isinstance(sources, Tensor)
        if along == 0:
            return Lengths(self.old, self.new, sources.unsqueeze(1), self.kept, along)
        kept = self.kept
        column = kept.unsqueeze(1) if isinstance(kept, Tensor) else kept[:, None]
        return Lengths(self.old, self.new, sources, column, along)


def resize_planes(planes: Tensor, vertical: Axis, horizontal: Axis, method: str) -> Tensor:
    """Return planes (C, H, W), resized to float32 (C, h, w) with values from 0 to 255.

    Args:
        planes: uint8, or whole numbers in float32.
        vertical: How H becomes h.
        horizontal: How W becomes w.
        method: A name of `RESIZERS`; `none` only takes the wanted pixels.
    """
    if method == "none" or method in NEAREST or method == "pil-nearest":
        return _gathered(planes, vertical, horizontal, method)
    left, above = horizontal.lengths(along=0), vertical.lengths(along=1)
    pixels = planes.number(np.float32)
    if method.startswith("pil-"):
        name = method.removeprefix("pil-")
        high, low = whole_weights(left, name)
        # Pillow resizes the width first, and rounds to bytes in between.
        rows = _to_bytes(pixels.product(high), pixels.product(low))
        high, low = whole_weights(above, name)
        return _to_bytes(high.product(rows), low.product(rows))
    weights = WEIGHTS[method]
    resized = weights(above).product(pixels.product(weights(left)))
    return resized.clip(0, 255).apply("Round") if method.startswith("torch-") else resized


def _to_bytes(high: Tensor, low: Tensor) -> Tensor:
    """Return (high · 2**11 + low) / 2**22 rounded half up, within 0 to 255.

    The two sums stay below 2**24, so that float32 holds them exactly.
    """
    carry = ((low + HALF * HALF / 2) * (1 / HALF)).apply("Floor")
    return ((high + carry) * (1 / HALF)).apply("Floor").clip(0, 255)


def _gathered(planes: Tensor, vertical: Axis, horizontal: Axis, method: str) -> Tensor:
    """Return the pixels that a method without weights takes."""
    for axis, number in ((vertical, 1), (horizontal, 2)):
        places = axis.kept
        if method == "pil-nearest":
            places = nearest_of_pillow(axis.old, axis.new, axis.kept)
        elif method != "none":
            places = NEAREST[method](axis.old, axis.new, axis.kept)
        planes = planes.gather(places, axis=number)
    return planes.number(np.float32)
