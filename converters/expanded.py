"""Expanded arrays, whose elements are fewer in memory: what a small file can ask to be written out.

A file of some hundred bytes can hold a tensor of any size: with strides of 0, as Torch7's `expand`
makes them, or smaller than the rows, as `unfold` does.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided


def expanded_elements(array: np.ndarray) -> int:
    """Return how many elements an array has beyond those in memory, 0 unless it is expanded.

    Example:
        >>> expanded_elements(np.broadcast_to(np.zeros(3), (5, 3)))
        12
    """
    return max(array.size - _span(array), 0) if array.size else 0


def without_repeats(array: np.ndarray) -> np.ndarray:
    """Return the part of an array without the repetitions along dimensions of stride 0.

    Example:
        >>> without_repeats(np.broadcast_to(np.zeros(3), (5, 3))).shape
        (1, 3)
    """
    return array[tuple(slice(0, 1) if step == 0 else slice(None) for step in array.strides)]


def memory_of(array: np.ndarray) -> np.ndarray:
    """Return the elements in memory from the first to the last one of an array, as a view (N,).

    Args:
        array: It has elements, and no negative strides.
    """
    return as_strided(np.asarray(array), (_span(array),), (array.itemsize,), writeable=False)


def _span(array: np.ndarray) -> int:
    """Return the number of elements from the first to the last one in memory."""
    steps = zip(array.shape, array.strides, strict=True)
    last: int = sum((size - 1) * abs(stride) for size, stride in steps)
    return 1 + last // max(array.itemsize, 1)
