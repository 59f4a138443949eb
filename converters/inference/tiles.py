"""Large images in tiles: how far the outputs of a network depend on what is beside them.

Nothing of the network has to be known: it is run on a trial image and on a part of it. Where both
give the same numbers, the cut cannot be felt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import numpy as np

from .errors import InferenceError

#: Runs a network on pixels (H, W, channels), uint8, and returns its output (C, H', W').
Run: TypeAlias = Callable[[np.ndarray], np.ndarray]

#: Sides of the trial image, and the distances by which a network's grid may be apart.
_SIDES = (96, 192, 384, 768)
_STEPS = (1, 2, 4, 8, 16, 32, 64, 128)

#: Two outputs count as equal if they differ by less than this fraction of the largest one: less
#: than a tenth of a gray level.
_EQUAL = 2e-4

#: The least of a trial's outputs that must be the same for a cut to be understood.
_LEAST_EQUAL = 0.1


@dataclass(frozen=True)
class Tiling:
    """Where a network may be cut, along one side of an image.

    Attributes:
        step: Tiles begin at multiples of it.
        scale: How many output pixels an input pixel becomes.
        lost: By how many output pixels an output is smaller than that; below 0 it is larger.
        before: How many outputs behind a cut at the left or the top are wrong.
        after: How many outputs before a cut at the right or the bottom are wrong.
    """

    step: int
    scale: Fraction
    lost: int
    before: int
    after: int

    def windows(self, length: int, tile: int) -> Iterator[tuple[slice, slice]]:
        """Yield what of a side to run, and which outputs of that belong to the whole.

        Args:
            length: How many pixels the side has.
            tile: How many of them a tile stands for, without what it needs beside them.

        Example:
            >>> blur = Tiling(step=1, scale=Fraction(1), lost=0, before=2, after=2)
            >>> for window, kept in blur.windows(10, 6):
            ...     print(window.start, window.stop, kept.start, kept.stop)
            0 8 0 6
            4 10 2 None
        """
        tile = self._up(tile)
        outputs = length * self.scale - self.lost
        for start in range(0, length, tile):
            if start and start * self.scale >= outputs:
                return
            first = max(0, (start - self._input(self.before)) // self.step * self.step)
            last = self._up(start + tile + max(0, self._input(self.lost + self.after)))
            # A network may also give more than its image has: that is the last one's.
            is_last = start + tile >= length or (start + tile) * self.scale >= outputs
            last = length if is_last else min(length, last)
            offset = int((start - first) * self.scale)
            end = None if is_last else offset + int(tile * self.scale)
            yield slice(first, last), slice(offset, end)

    def _up(self, pixels: int) -> int:
        """Return the next multiple of the step."""
        return -(-pixels // self.step) * self.step

    def _input(self, outputs: int) -> int:
        """Return how many input pixels so many outputs stand for."""
        return -int(-outputs // self.scale)


def measure_tiling(run: Run, channels: int) -> Tiling:
    """Return where a network may be cut.

    Args:
        run: The network.
        channels: Of the pixels that it is run on.

    Raises:
        InferenceError: If its outputs depend on the whole image, or on chance.

    Example:
        >>> def blur(pixels: np.ndarray) -> np.ndarray:
        ...     padded = np.pad(pixels[..., 0].astype(float), 1)
        ...     return (padded[:-2, :-2] + padded[2:, 2:])[None]
        >>> measure_tiling(blur, 1)
        Tiling(step=1, scale=Fraction(1, 1), lost=0, before=1, after=1)
    """
    for side in _SIDES:
        image = _trial_image(side, channels)
        whole = run(image)
        for step in (one for one in _STEPS if one <= side // 4):
            # An odd number of steps, about a quarter of the side.
            cut = step * (side // 4 // step | 1)
            found = _compare(run, image, whole, cut, step)
            if found is not None:
                return found
    raise InferenceError(
        "every output depends on the whole image (or on chance), so that tiles would not fit each "
        "other: leave out tile=…"
    )


def _compare(run: Run, image: np.ndarray, whole: np.ndarray, cut: int, step: int) -> Tiling | None:
    """Return where a network may be cut if it may be moved by a step; else None."""
    side = len(image)
    right = run(image[cut:, cut:])
    shift = whole.shape[1] - right.shape[1]
    scale = Fraction(shift, cut)
    if shift <= 0 or (scale * step).denominator != 1:
        return None
    largest = float(np.abs(whole).max()) or 1.0
    before = _wrong_before(whole[:, shift:, shift:], right, largest)
    count = len(right[0])
    if count - before < max(1, _LEAST_EQUAL * count):
        return None
    left = run(image[: side - cut, : side - cut])
    after = _wrong_after(whole[:, : left.shape[1], : left.shape[2]], left, largest)
    if left.shape != right.shape or count - before - after < max(1, _LEAST_EQUAL * count):
        return None
    lost = int(scale * side) - whole.shape[1]
    return Tiling(step, scale, lost, before, after)


def _wrong_before(whole: np.ndarray, part: np.ndarray, largest: float) -> int:
    """Return how far from its left and top a part (C, H, W) differs."""
    rows, columns = np.nonzero((np.abs(whole - part) > _EQUAL * largest).any(axis=0))
    return int(np.minimum(rows, columns).max()) + 1 if rows.size else 0


def _wrong_after(whole: np.ndarray, part: np.ndarray, largest: float) -> int:
    """Return how far from its right and bottom a part (C, H, W) differs."""
    rows, columns = np.nonzero((np.abs(whole - part) > _EQUAL * largest).any(axis=0))
    return len(part[0]) - int(np.maximum(rows, columns).min()) if rows.size else 0


def _trial_image(side: int, channels: int) -> np.ndarray:
    """Return noise that is darker at the left and at the top: no part of it is like the whole."""
    slope = np.linspace(0.1, 1, side)
    noise = np.random.default_rng(0).integers(0, 256, (side, side, channels))
    image: np.ndarray = (noise * np.sqrt(np.outer(slope, slope))[..., None]).astype(np.uint8)
    return image
