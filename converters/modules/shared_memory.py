"""Which arrays of a file overlap in memory without being the same view."""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np

#: Work that numpy may spend on an exact answer; beyond it, overlapping bounds count as shared.
_MAX_WORK = 10_000


class SharedMemory:
    """The arrays that have become parameters, by where they lie in memory."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._arrays: dict[int, list[tuple[int, np.ndarray, str]]] = {}
        self._longest = 0

    def add(self, array: np.ndarray, path: str) -> str | None:
        """Remember an array, and return the path of an earlier one that it overlaps, if any.

        Args:
            array: not empty; it is kept, so that its memory is not used again.
            path: where it stands in the model.
        """
        start, end = _bounds(array)
        shared = None
        for position in range(bisect_left(self._starts, start - self._longest), len(self._starts)):
            other = self._starts[position]
            if other >= end:
                break
            for other_end, held, held_path in self._arrays[other]:
                if other_end > start and _overlap(array, held):
                    shared = shared or held_path
        if start not in self._arrays:
            insort(self._starts, start)
        self._arrays.setdefault(start, []).append((end, array, path))
        self._longest = max(self._longest, end - start)
        return shared


def _bounds(array: np.ndarray) -> tuple[int, int]:
    """Return the address of the first byte and the one after the last; strides are not negative."""
    start = array.__array_interface__["data"][0]
    steps = zip(array.shape, array.strides, strict=True)
    return start, start + array.itemsize + sum((size - 1) * stride for size, stride in steps)


def _overlap(first: np.ndarray, second: np.ndarray) -> bool:
    try:
        return bool(np.shares_memory(first, second, max_work=_MAX_WORK))  # type: ignore[arg-type]  # numpy's stub knows -1 and 0 only
    except np.exceptions.TooHardError:
        return True
