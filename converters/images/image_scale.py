"""Torch7's `image.scale`, `image.crop` and `image.hflip` (the package `image`), number by number.

`image.scale` is neither PIL's nor torch's resampling. Where an image shrinks, `bilinear` is the
mean over the area of the new pixel; where it grows, both ends are kept and the line between two
neighbours is followed. `bicubic` reads four neighbours and never averages. Height and width are
done one after the other, each with positions in single precision.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .errors import PreprocessingError

#: How `scale` computes a new pixel.
MODES = ("bilinear", "bicubic", "simple")

#: Numbers that are gathered at a time: few enough for a processor's cache.
_BLOCK = 2**16

_FACTOR = r"\*(\d+)/(\d+)|\*(\d+\.?\d*|\.\d+)"
_SIZE = re.compile(rf"(\d+\.?\d*)|(\d+)x(\d+)|\^(\d+)|{_FACTOR}")


class _Taps(NamedTuple):
    """Which old pixels of a line make each new one: both (new, taps)."""

    indices: np.ndarray
    weights: np.ndarray


def output_size(form: str | int | float, height: int, width: int) -> tuple[int, int]:
    """The height and width that a size of `image.scale` means for an image (`init.lua`).

    Args:
        form: `256` (a number, or as text): the longer side; `^256`: the shorter side; `320x240`:
            width and height; `*0.5` or `*1/2`: times a factor.
        height: of the image.
        width: of the image.

    Raises:
        PreprocessingError: when it is none of these, or nothing of the image would be left.
    """
    found = _SIZE.fullmatch(str(form))
    if not found:
        raise PreprocessingError(
            f"no size of image.scale: {form!r}; 256, ^256, 320x240, *0.5 or *1/2 was expected"
        )
    longer, across, down, shorter, numerator, denominator, factor = found.groups()
    if across:
        size = (int(down), int(across))
    else:
        if factor:
            multiplier, divisor = float(factor), 1
        elif numerator:
            multiplier, divisor = float(numerator), int(denominator)
        elif shorter:
            multiplier, divisor = float(shorter), min(height, width)
        else:
            multiplier, divisor = float(longer), max(height, width)
        if divisor == 0:
            raise PreprocessingError(f"a size of image.scale divides by zero: {form!r}")
        # Lua multiplies first and cuts the fraction off.
        size = (int(height * multiplier / divisor), int(width * multiplier / divisor))
    if min(size) < 1:
        raise PreprocessingError(f"an image of {height}×{width} has no pixels at the size {form}")
    return size


def scale(
    image: np.ndarray, size: tuple[int, int] | str | int | float, mode: str = "bilinear"
) -> np.ndarray:
    """An image in another size (`image.scale`; `generic/image.c`).

    Args:
        image: (C, H, W) or (H, W), floats or uint8. As for a ByteTensor, uint8 is rounded after
            each of the two directions.
        size: (height, width), or one of the forms of `output_size`.
        mode: one of `MODES`.

    Returns:
        the image, of the number type of the given one.

    Raises:
        PreprocessingError: when the size, mode, shape or number type is none that is known.
    """
    _require_mode(mode)
    if image.ndim not in (2, 3) or not image.size:
        raise PreprocessingError(f"an image (C, H, W) or (H, W) was expected, not {image.shape}")
    old_height, old_width = image.shape[-2:]
    height, width = size if isinstance(size, tuple) else output_size(size, old_height, old_width)
    if min(height, width) < 1:
        raise PreprocessingError(f"no image has {height}×{width} pixels")
    if mode == "simple":
        rows, columns = _nearest(old_height, height), _nearest(old_width, width)
        return image[..., rows[:, None], columns]
    down, across = _taps(old_height, height, mode), _taps(old_width, width, mode)
    if image.dtype == np.uint8:
        return _bytes(_along(-2, _bytes(_along(-1, image, across)), down))
    if image.dtype not in (np.float32, np.float64):
        raise PreprocessingError(f"pixels must be uint8 or floats, not {image.dtype}")
    # Torch7 begins with the width; in floating point the order is free, and whole rows are fast.
    return np.ascontiguousarray(_along(-1, _along(-2, image, down), across))


def scale_pixels(pixels: np.ndarray, size: tuple[int, int], mode: str) -> np.ndarray:
    """An image as files have it, in another size: what `scale` gives for its floats, and faster.

    Args:
        pixels: (H, W, C), uint8.
        size: (height, width).
        mode: one of `MODES`.

    Returns:
        float32 (height, width, C) from 0 to 255, and a little outside where `bicubic` swings.

    Raises:
        PreprocessingError: when there is no such mode.
    """
    _require_mode(mode)
    (old_height, old_width), (height, width) = pixels.shape[:2], size
    if mode == "simple":
        rows, columns = _nearest(old_height, height), _nearest(old_width, width)
        return pixels[rows[:, None], columns].astype(np.float32)
    lower = _weighted(pixels, _taps(old_height, height, mode))
    return _weighted(lower, _taps(old_width, width, mode)).transpose(1, 2, 0)


def crop(image: np.ndarray, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """A part of an image (`image.crop(src, x1, y1, x2, y2)`).

    Args:
        image: (C, H, W) or (H, W).
        left: the first column, from 0.
        top: the first row, from 0.
        right: the column after the last.
        bottom: the row after the last.

    Raises:
        PreprocessingError: when the part is empty or not inside the image.
    """
    height, width = image.shape[-2:]
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise PreprocessingError(
            f"columns {left} to {right} and rows {top} to {bottom} are no part of an image of "
            f"{height}×{width}"
        )
    return image[..., top:bottom, left:right].copy()


def crop_at(image: np.ndarray, place: str, width: int, height: int) -> np.ndarray:
    """A part of an image, by its place (`image.crop(src, format, width, height)`).

    Args:
        image: (C, H, W) or (H, W).
        place: `c` for the middle, or the corner `tl`, `tr`, `bl` or `br`.
        width: columns of the part.
        height: rows of the part.

    Raises:
        PreprocessingError: when the place is unknown or the part not inside the image.
    """
    right, bottom = image.shape[-1] - width, image.shape[-2] - height
    corners = {
        "c": (right // 2, bottom // 2),
        "tl": (0, 0),
        "tr": (right, 0),
        "bl": (0, bottom),
        "br": (right, bottom),
    }
    if place not in corners:
        raise PreprocessingError(f"no place {place!r} to crop at: choose {', '.join(corners)}")
    left, top = corners[place]
    return crop(image, left, top, left + width, top + height)


def hflip(image: np.ndarray) -> np.ndarray:
    """An image (C, H, W) or (H, W) with left and right exchanged (`image.hflip`)."""
    return image[..., ::-1].copy()


def _along(axis: int, image: np.ndarray, taps: _Taps) -> np.ndarray:
    """An image with one axis resampled."""
    return np.moveaxis(_weighted(np.moveaxis(image, axis, 0), taps), -1, axis)


def _weighted(lines: np.ndarray, taps: _Taps) -> np.ndarray:
    """(old, …) → (…, new): each new line is a weighted sum of old ones.

    The new axis goes to the end: twice this, and (H, W, C) is (C, H, W), without a copy between.
    """
    flat = np.ascontiguousarray(lines).reshape(len(lines), -1)
    new, count = taps.weights.shape
    result = np.empty((flat.shape[1], new), np.result_type(flat, np.float32))
    step = max(1, _BLOCK // (flat.shape[1] * count))
    for start in range(0, new, step):
        part = slice(start, start + step)
        block = flat[taps.indices[part]].astype(result.dtype, copy=False)
        # einsum, not a matrix product: BLAS would start threads inside those that decode.
        result[:, part] = np.einsum("ik,ikn->in", taps.weights[part], block).T
    return result.reshape(*lines.shape[1:], new)


def _bytes(image: np.ndarray) -> np.ndarray:
    """Rounded half up, within 0 to 255 (`FromIntermediate`)."""
    return np.clip(np.floor(image + np.float32(0.5)), 0, 255).astype(np.uint8)


@lru_cache(maxsize=256)
def _taps(old: int, new: int, mode: str) -> _Taps:
    """How `new` pixels in a line are made of `old` ones; a folder's images share few sizes."""
    if old in (1, new):
        return _Taps(np.minimum(np.arange(new), old - 1)[:, None], np.ones((new, 1), np.float32))
    if mode == "bicubic":
        indices, weights = _cubic(old, new)
    else:
        indices, weights = _lines(old, new) if new > old else _areas(old, new)
    # What lies outside has no weight.
    return _Taps(indices.clip(0, old - 1), weights.astype(np.float32))


def _areas(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean over the stretch that a new pixel covers; old ones count by their covered part."""
    edges = np.arange(new + 1, dtype=np.float32) * (np.float32(old) / np.float32(new))
    whole = edges.astype(np.int64)
    left, right = edges[:-1, None], edges[1:, None]
    indices = whole[:-1, None] + np.arange(np.diff(whole).max() + 1)
    covered = (np.minimum(right, indices + 1) - np.maximum(left, indices)).clip(0)
    return indices, covered / covered.sum(axis=1, keepdims=True)


def _lines(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """The line between two neighbours; the first and last pixels stay where they are."""
    starts, x = _positions(old, new)
    return starts[:, None] + np.arange(2), np.stack([1 - x, x], axis=1)


def _cubic(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """The Catmull-Rom curve through four neighbours; those outside continue the end's line."""
    starts, x = _positions(old, new)
    before = x * (-1 + x * (2 - x)) / 2
    first = 1 + x * x * (3 * x - 5) / 2
    second = x * (1 + x * (4 - 3 * x)) / 2
    after = x * x * (x - 1) / 2
    # Outside on the left lies 2 × first - second, on the right 2 × second - first.
    left, right = before * (starts == 0), after * (starts + 2 >= old)
    weights = [before - left, first + 2 * left - right, second + 2 * right - left, after - right]
    return starts[:, None] + np.arange(-1, 3), np.stack(weights, axis=1)


def _positions(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Where new pixels lie: the old pixel before, and the way to the next (1 for the last)."""
    step = np.float32(old - 1) / np.float32(max(new - 1, 1))
    places = np.arange(new, dtype=np.float32) * step
    places[-1] = old - 1
    starts = np.minimum(places.astype(np.int64), old - 2)
    return starts, places - starts.astype(np.float32)


def _require_mode(mode: str) -> None:
    if mode not in MODES:
        raise PreprocessingError(f"image.scale has no mode {mode!r}: choose {', '.join(MODES)}")


def _nearest(old: int, new: int) -> np.ndarray:
    """The old pixel for each new one, without interpolation."""
    places = np.arange(new, dtype=np.float32) * (np.float32(old) / np.float32(new))
    return np.minimum(places.astype(np.int64), old - 1)
