"""`torch.nn.functional.interpolate` in NumPy, for the methods `torch-…`: the same bytes, no torch.

A new pixel is a weighted sum of old ones. Positions, weights and sums are computed in single
precision, in the order of torch's own loops (`UpSample.h`, `UpSampleKernel.cpp`) and with the fused
multiply-adds that compilers make of them: a value between two bytes is rounded to the same one as
by torch on one thread; with several it sums in another order itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

_F = np.float32

#: Up to this sum of height and width, torch resizes images of one channel like those of three.
_SMALL = 128

#: The cubic's parameter, without and with averaging.
_A, _A_ANTIALIAS = _F(-0.75), _F(-0.5)


class _Taps(NamedTuple):
    """The old pixels of each new pixel in a line, and their weights: both (new, taps).

    Of those, the first `counts` (new,) are its own; the others have the weight 0.
    """

    indices: np.ndarray
    weights: np.ndarray
    counts: np.ndarray


def interpolate(image: np.ndarray, size: tuple[int, int], mode: str, antialias: bool) -> np.ndarray:
    """Resize a uint8 image (H, W, C) and round to bytes.

    Args:
        image: The pixels.
        size: (height, width).
        mode: `nearest`, `nearest-exact`, `bilinear` or `bicubic`.
        antialias: Whether a smaller image averages over all old pixels.

    Returns:
        uint8 (height, width, C).
    """
    height, width = image.shape[:2]
    if mode.startswith("nearest"):
        rows, columns = (_nearest(*sizes, mode) for sizes in ((height, size[0]), (width, size[1])))
        return np.ascontiguousarray(image[rows[:, None], columns])
    values = image.astype(_F)
    if mode == "bilinear" and not antialias:
        down, across = _two_taps(height, size[0]), _two_taps(width, size[1])
        # Torch has another loop for large images of one channel.
        if image.shape[2] > 1 or sum(size) <= _SMALL:
            values = _four(values, down, across)
        else:
            values = _along(_along(values, 1, across, (1, 0)), 0, down, (1, 0))
        return _bytes(values)
    for axis in (1, 0):
        old, new = image.shape[axis], size[axis]
        if not antialias:
            values = _along(values, axis, _four_taps(old, new), (1, 0, 2, 3))
        elif old != new:
            values = _average(values, axis, _areas(old, new, mode))
    return _bytes(values)


def _bytes(values: np.ndarray) -> np.ndarray:
    """Round to bytes, halves to even ones."""
    pixels: np.ndarray = np.rint(values.clip(0, 255)).astype(np.uint8)
    return pixels


def _fused(
    factor: np.ndarray, other: np.ndarray | np.float32, term: np.ndarray | np.float32
) -> np.ndarray:
    """Return factor × other + term, rounded once: a product of floats is exact in a double."""
    result: np.ndarray = (factor.astype(np.float64) * other + term).astype(_F)
    return result


def _along(pixels: np.ndarray, axis: int, taps: _Taps, order: Sequence[int]) -> np.ndarray:
    """Resample one axis.

    Args:
        pixels: The image.
        axis: 0 or 1.
        taps: Those of each new pixel.
        order: In which they are added up.
    """
    first, *others = order
    total: np.ndarray = _part(pixels, axis, taps, first) * _weight(axis, taps, first)
    for tap in others:
        total = _fused(_part(pixels, axis, taps, tap), _weight(axis, taps, tap), total)
    return total


def _average(pixels: np.ndarray, axis: int, taps: _Taps) -> np.ndarray:
    """Average along one axis: compilers multiply four at a time, and fuse what remains."""
    total: np.ndarray = _part(pixels, axis, taps, 0) * _weight(axis, taps, 0)
    in_fours = (taps.counts - 1) // 4 * 4
    for tap in range(1, taps.indices.shape[1]):
        part, weight = _part(pixels, axis, taps, tap), _weight(axis, taps, tap)
        alone = tap - 1 < in_fours
        if alone.all():
            total = total + part * weight
        elif alone.any():
            mask = alone.reshape(_shape(axis))
            total = np.where(mask, total + part * weight, _fused(part, weight, total))
        else:
            total = _fused(part, weight, total)
    return total


def _part(pixels: np.ndarray, axis: int, taps: _Taps, tap: int) -> np.ndarray:
    return np.take(pixels, taps.indices[:, tap], axis)


def _weight(axis: int, taps: _Taps, tap: int) -> np.ndarray:
    weights: np.ndarray = taps.weights[:, tap]
    return weights.reshape(_shape(axis))


def _shape(axis: int) -> tuple[int, int, int]:
    return (-1, 1, 1) if axis == 0 else (1, -1, 1)


def _four(pixels: np.ndarray, rows: _Taps, columns: _Taps) -> np.ndarray:
    """Resample both axes at once: four neighbors, each with a product of two weights."""
    total: np.ndarray | None = None
    for row, column in ((0, 1), (0, 0), (1, 0), (1, 1)):
        weight = (rows.weights[:, row, None] * columns.weights[None, :, column])[..., None]
        part = pixels[rows.indices[:, row, None], columns.indices[None, :, column]]
        total = part * weight if total is None else _fused(part, weight, total)
    assert total is not None
    return total


def _scale(old: int, new: int) -> np.float32:
    return _F(old) / _F(new)


@lru_cache(maxsize=256)
def _nearest(old: int, new: int, mode: str) -> np.ndarray:
    """Return the old pixel that each new pixel copies."""
    positions = np.arange(new, dtype=_F)
    if mode == "nearest-exact":
        positions = positions + _F(0.5)
    copied: np.ndarray = np.floor(positions * _scale(old, new)).astype(np.int64)
    return copied.clip(0, old - 1)


def _fixed(indices: np.ndarray, weights: list[np.ndarray]) -> _Taps:
    """Return as many taps for every pixel."""
    return _Taps(indices, np.stack(weights, 1), np.full(len(indices), len(weights)))


def _positions(old: int, new: int) -> np.ndarray:
    """Return where each new pixel lies among the old ones."""
    return _fused(np.arange(new, dtype=_F) + _F(0.5), _scale(old, new), _F(-0.5))


@lru_cache(maxsize=256)
def _two_taps(old: int, new: int) -> _Taps:
    """Return two neighbors of each new pixel."""
    if old == new:
        indices = np.stack([np.arange(new)] * 2, 1)
        return _fixed(indices, [np.ones(new, _F), np.zeros(new, _F)])
    positions = np.maximum(_positions(old, new), _F(0))
    first = np.minimum(positions.astype(np.int64), old - 1)
    fraction = np.clip(positions - first.astype(_F), _F(0), _F(1))
    indices = np.stack([first, np.minimum(first + 1, old - 1)], 1)
    return _fixed(indices, [_F(1) - fraction, fraction])


@lru_cache(maxsize=256)
def _four_taps(old: int, new: int) -> _Taps:
    """Return four neighbors of each new pixel, which may lie beyond the edge."""
    positions = _positions(old, new)
    first = np.floor(positions).astype(np.int64)
    fraction = np.clip(positions - first.astype(_F), _F(0), _F(1))
    rest = _F(1) - fraction
    a = _A

    def inner(x: np.ndarray) -> np.ndarray:
        weight: np.ndarray = _fused(x, a + _F(2), -(a + _F(3))) * x * x + _F(1)
        return weight

    def outer(x: np.ndarray) -> np.ndarray:
        weight: np.ndarray = _fused(_fused(x, a, -(_F(5) * a)), x, _F(8) * a) * x - _F(4) * a
        return weight

    weights = [outer(fraction + _F(1)), inner(fraction), inner(rest), outer(rest + _F(1))]
    indices = (first[:, None] + np.arange(-1, 3)).clip(0, old - 1)
    return _fixed(indices, weights)


def _cubic(x: np.ndarray) -> np.ndarray:
    """Return the weights of old pixels at these distances, for an average."""
    a = _A_ANTIALIAS
    near = _fused(_fused(x, a + _F(2), -(a + _F(3))) * x, x, _F(1))
    far = _fused(_fused(_fused(x, a, -(_F(5) * a)), x, _F(8) * a), x, -(_F(4) * a))
    return np.where(x < 1, near, np.where(x < 2, far, _F(0)))


@lru_cache(maxsize=256)
def _areas(old: int, new: int, mode: str) -> _Taps:
    """Return all old pixels that a new one averages over (`_compute_indices_weights_aa`)."""
    scale = _scale(old, new)
    reach = _F(1) if mode == "bilinear" else _F(2)
    support = reach * scale if scale >= 1 else reach
    inverse = _F(1) / scale if scale >= 1 else _F(1)
    most = int(np.ceil(support)) * 2 + 1
    indices = np.zeros((new, most), np.int64)
    weights = np.zeros((new, most), _F)
    counts = np.zeros(new, np.int64)
    for pixel in range(new):
        center = scale * (_F(pixel) + _F(0.5))
        # Torch adds 0.5 in double precision here.
        first = max(int(float(center - support) + 0.5), 0)
        count = min(int(float(center + support) + 0.5), old) - first
        count = min(max(count, 0), most)
        offsets = (np.arange(count) + first).astype(_F) - center
        distances = np.abs(((offsets.astype(np.float64) + 0.5) * inverse).astype(_F))
        if mode == "bilinear":
            kernel = np.where(distances < 1, _F(1) - distances, _F(0))
        else:
            kernel = _cubic(distances)
        kernel = kernel.astype(_F)
        total = _F(0)
        for one in kernel:
            total = total + one
        indices[pixel, :count] = first + np.arange(count)
        weights[pixel, :count] = kernel / total
        counts[pixel] = count
    return _Taps(indices, weights, counts)
