"""`image.scale` of Torch7's package `image`, with the same pixel values.

It differs from both Pillow's and torch's resampling. When an image gets smaller, `bilinear` is the
mean over the area that a new pixel covers; when it gets larger, the first and last pixels keep
their values and the others are linear interpolations of two neighbors. `bicubic` reads four
neighbors and never averages. Height and width are resampled one after the other, with positions in
single precision (`init.lua`, `generic/image.c`).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .errors import PreprocessingError

#: How `scale` computes a new pixel.
MODES = ("bilinear", "bicubic", "simple")

#: Number of pixel values that are gathered at a time, which fit into a processor's cache.
_BLOCK = 2**16

_FACTOR = r"\*(\d+)/(\d+)|\*(\d+\.?\d*|\.\d+)"
_SIZE = re.compile(rf"(\d+\.?\d*)|(\d+)x(\d+)|\^(\d+)|{_FACTOR}")


class _Taps(NamedTuple):
    """The source pixels of each new pixel in a line, and their weights: both (new, taps)."""

    indices: np.ndarray
    weights: np.ndarray


class SizeForm(NamedTuple):
    """What a size argument of `image.scale` says.

    Attributes:
        size: (height, width), if it names both.
        multiplier: What height and width are multiplied by, as a decimal number.
        divisor: What they are divided by: a number, or the `longer` or `shorter` side.
    """

    size: tuple[int, int] | None
    multiplier: str = "1"
    divisor: int | str = 1

    def divisor_of(self, height: int, width: int) -> int:
        """Return what the sides of an image are divided by."""
        if isinstance(self.divisor, int):
            return self.divisor
        return max(height, width) if self.divisor == "longer" else min(height, width)


def parse_size(form: str | int | float) -> SizeForm:
    """Return what a size argument of `image.scale` says (see `output_size`).

    Raises:
        PreprocessingError: If the form is invalid.
    """
    match = _SIZE.fullmatch(str(form))
    if not match:
        raise PreprocessingError(
            f"not a size of image.scale: {form!r}; 256, ^256, 320x240, *0.5 or *1/2 was expected"
        )
    longer, width, height, shorter, numerator, denominator, factor = match.groups()
    if width:
        return SizeForm((int(height), int(width)))
    if numerator:
        if int(denominator) == 0:
            raise PreprocessingError(f"a size of image.scale divides by zero: {form!r}")
        return SizeForm(None, numerator, int(denominator))
    if factor:
        return SizeForm(None, factor)
    return SizeForm(None, shorter, "shorter") if shorter else SizeForm(None, longer, "longer")


def output_size(form: str | int | float, height: int, width: int) -> tuple[int, int]:
    """Return the (height, width) that a size argument of `image.scale` stands for (`init.lua`).

    Args:
        form: `256` (a number or text) sets the longer side, `^256` the shorter side, `320x240`
            width and height, `*0.5` or `*1/2` a factor.
        height: Height of the image.
        width: Width of the image.

    Raises:
        PreprocessingError: If the form is invalid, or the result has no pixels.

    Example:
        >>> output_size("^256", 480, 640)
        (256, 341)
    """
    size_form = parse_size(form)
    if size_form.size is not None:
        size = size_form.size
    else:
        divisor = size_form.divisor_of(height, width)
        # Lua multiplies before it divides, and truncates.
        multiplier = float(size_form.multiplier)
        size = (int(height * multiplier / divisor), int(width * multiplier / divisor))
    if min(size) < 1:
        raise PreprocessingError(f"an image of {height}×{width} has no pixels at the size {form}")
    return size


def scale(
    image: np.ndarray, size: tuple[int, int] | str | int | float, mode: str = "bilinear"
) -> np.ndarray:
    """Resize an image as `image.scale` does (`generic/image.c`).

    Args:
        image: (C, H, W) or (H, W), floats or uint8. As with a ByteTensor, uint8 is rounded after
            each of the two directions.
        size: (height, width), or a form that `output_size` takes.
        mode: One of `MODES`.

    Returns:
        The resized image, with the dtype of the input.

    Raises:
        PreprocessingError: If the size, mode, shape or dtype is not supported.
    """
    _require_mode(mode)
    if image.ndim not in (2, 3) or not image.size:
        raise PreprocessingError(f"an image (C, H, W) or (H, W) was expected, not {image.shape}")
    old_height, old_width = image.shape[-2:]
    height, width = size if isinstance(size, tuple) else output_size(size, old_height, old_width)
    if min(height, width) < 1:
        raise PreprocessingError(f"an image cannot have {height}×{width} pixels")
    if mode == "simple":
        rows, columns = _nearest(old_height, height), _nearest(old_width, width)
        return image[..., rows[:, None], columns]
    vertical, horizontal = _taps(old_height, height, mode), _taps(old_width, width, mode)
    if image.dtype == np.uint8:
        return _to_bytes(_along(-2, _to_bytes(_along(-1, image, horizontal)), vertical))
    if image.dtype not in (np.float32, np.float64):
        raise PreprocessingError(f"pixels must be uint8 or floats, not {image.dtype}")
    # Torch7 begins with the width. Without rounding in between the order does not matter, and
    # weighted sums of whole rows are faster.
    return np.ascontiguousarray(_along(-1, _along(-2, image, vertical), horizontal))


def scale_pixels(pixels: np.ndarray, size: tuple[int, int], mode: str) -> np.ndarray:
    """Resize uint8 pixels to floats: what `scale` returns for float pixels, but faster.

    Args:
        pixels: (H, W, C), uint8.
        size: (height, width).
        mode: One of `MODES`.

    Returns:
        float32 (height, width, C) from 0 to 255; `bicubic` may overshoot slightly.

    Raises:
        PreprocessingError: If the mode is unknown.
    """
    _require_mode(mode)
    (old_height, old_width), (height, width) = pixels.shape[:2], size
    if mode == "simple":
        rows, columns = _nearest(old_height, height), _nearest(old_width, width)
        copied: np.ndarray = pixels[rows[:, None], columns].astype(np.float32)
        return copied
    lower = _weighted(pixels, _taps(old_height, height, mode))
    return _weighted(lower, _taps(old_width, width, mode)).transpose(1, 2, 0)


def _along(axis: int, image: np.ndarray, taps: _Taps) -> np.ndarray:
    """Resample one axis of an image."""
    return np.moveaxis(_weighted(np.moveaxis(image, axis, 0), taps), -1, axis)


def _weighted(lines: np.ndarray, taps: _Taps) -> np.ndarray:
    """Map (old, …) to (…, new), where each new line is a weighted sum of old lines.

    The new axis becomes the last, so that two calls turn (H, W, C) into (C, H, W) without a copy
    in between.
    """
    flat = np.ascontiguousarray(lines).reshape(len(lines), -1)
    new, count = taps.weights.shape
    result = np.empty((flat.shape[1], new), np.result_type(flat, np.float32))
    step = max(1, _BLOCK // (flat.shape[1] * count))
    for start in range(0, new, step):
        chunk = slice(start, start + step)
        block = flat[taps.indices[chunk]].astype(result.dtype, copy=False)
        # Not a matrix product: BLAS would start threads of its own in each decoding thread.
        result[:, chunk] = np.einsum("ik,ikn->in", taps.weights[chunk], block).T
    return result.reshape(*lines.shape[1:], new)


def _to_bytes(image: np.ndarray) -> np.ndarray:
    """Round half up and clip to 0 to 255 (`FromIntermediate` in `generic/image.c`)."""
    return np.clip(np.floor(image + np.float32(0.5)), 0, 255).astype(np.uint8)


@lru_cache(maxsize=256)
def _taps(old: int, new: int, mode: str) -> _Taps:
    """Return the taps that resample a line; cached, because images often have the same size."""
    if old in (1, new):
        return _Taps(np.minimum(np.arange(new), old - 1)[:, None], np.ones((new, 1), np.float32))
    if mode == "bicubic":
        indices, weights = _cubic(old, new)
    else:
        indices, weights = _linear(old, new) if new > old else _areas(old, new)
    # Indices outside the line have weight 0.
    return _Taps(indices.clip(0, old - 1), weights.astype(np.float32))


def _areas(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Average over the interval that a new pixel covers, weighted by the covered fractions."""
    edges = np.arange(new + 1, dtype=np.float32) * (np.float32(old) / np.float32(new))
    whole = edges.astype(np.int64)
    left, right = edges[:-1, None], edges[1:, None]
    indices = whole[:-1, None] + np.arange(np.diff(whole).max() + 1)
    fractions = (np.minimum(right, indices + 1) - np.maximum(left, indices)).clip(0)
    return indices, fractions / fractions.sum(axis=1, keepdims=True)


def _linear(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate linearly between two neighbors; the first and last pixels keep their place."""
    starts, x = _positions(old, new)
    return starts[:, None] + np.arange(2), np.stack([1 - x, x], axis=1)


def _cubic(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate by a Catmull-Rom spline; neighbors outside the line are extrapolated linearly."""
    starts, x = _positions(old, new)
    before = x * (-1 + x * (2 - x)) / 2
    first = 1 + x * x * (3 * x - 5) / 2
    second = x * (1 + x * (4 - 3 * x)) / 2
    after = x * x * (x - 1) / 2
    # The extrapolated neighbors: 2 × first - second on the left, 2 × second - first on the right.
    left, right = before * (starts == 0), after * (starts + 2 >= old)
    weights = [before - left, first + 2 * left - right, second + 2 * right - left, after - right]
    return starts[:, None] + np.arange(-1, 3), np.stack(weights, axis=1)


def _positions(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the old pixel before each new pixel, and the distance from it (0 to 1)."""
    step = np.float32(old - 1) / np.float32(max(new - 1, 1))
    positions = np.arange(new, dtype=np.float32) * step
    positions[-1] = old - 1
    starts = np.minimum(positions.astype(np.int64), old - 2)
    return starts, positions - starts.astype(np.float32)


def _require_mode(mode: str) -> None:
    if mode not in MODES:
        raise PreprocessingError(f"image.scale has no mode {mode!r}: choose {', '.join(MODES)}")


def _nearest(old: int, new: int) -> np.ndarray:
    """Return the old pixel that each new pixel copies."""
    positions = np.arange(new, dtype=np.float32) * (np.float32(old) / np.float32(new))
    return np.minimum(positions.astype(np.int64), old - 1)
