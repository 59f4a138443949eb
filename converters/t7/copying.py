"""Copy arrays out of a memory-mapped file, fast, and without holding their data in memory twice."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import TruncatedError
from .reading.byte_stream import FileMap

#: Smaller arrays are copied from the map: reading the file takes a system call.
_SMALL = 2**16

#: Bytes that a thread reads at once.
_CHUNK = 8 * 2**20

#: Smaller arrays are not copied ahead: a thread takes as long to begin as they do.
_WORTH_A_THREAD = 2**20

#: Most threads that copy at once: a few of them use all of the memory's speed.
_MAX_THREADS = 4


def copy_array(array: np.ndarray) -> np.ndarray:
    """Copy an array into native, aligned, contiguous memory of its own.

    A large array of a read-only map is read from its file, by several threads: the pages of a map
    cost as much as a part of the copy, and would be in memory beside it. Those of a writable map
    may hold changes.

    The memory is numpy's, which asks for huge pages: torch's own allocator does not, and its pages
    of 4 KiB cost more than the copy itself.

    Raises:
        TruncatedError: If the file of a large array has become shorter since it was mapped.
    """
    array = np.asarray(array)
    place = _place(array)
    if place is None:
        return np.array(array, array.dtype.newbyteorder("="), order="C")
    file, offset = place
    started = file.copies.pop((offset, array.nbytes), None)
    if started is not None:
        contents = started.finished()
    elif array.nbytes <= _CHUNK:
        contents = np.empty(array.nbytes, np.uint8)
        _read(file, offset, contents)
    else:
        with _threads() as pool:
            contents = _Copy.start(pool, file, offset, array.nbytes).finished()
    copy: np.ndarray = contents.view(array.dtype).reshape(array.shape)
    return copy


@contextmanager
def copied_ahead(arrays: Iterable[np.ndarray]) -> Iterator[None]:
    """Copy large arrays of a file while something else is done; `copy_array` takes the copies.

    While one weight of a network is read, the modules around it are made. Each copy is taken once;
    what nobody took is dropped. Together they are no larger than the file.

    Args:
        arrays: What will be copied; in the order of their places in the file.
    """
    places: dict[tuple[int, int], FileMap] = {}
    for array in arrays:
        place = _place(array) if array.nbytes >= _WORTH_A_THREAD else None
        # Views of one storage may be many times as large as it.
        if place is not None and sum(size for _, size in places) + array.nbytes <= len(place[0]):
            places[place[1], array.nbytes] = place[0]
    if not places:
        yield
        return
    pool = _threads()
    try:
        for (offset, size), file in sorted(places.items(), key=lambda item: item[0]):
            file.copies[offset, size] = _Copy.start(pool, file, offset, size)
        yield
    finally:
        pool.shutdown(cancel_futures=True)
        for key, file in places.items():
            file.copies.pop(key, None)


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1))


@dataclass(frozen=True)
class _Copy:
    """Bytes that threads read.

    Attributes:
        contents: Where to.
        reads: One for each chunk.
    """

    contents: np.ndarray
    reads: list[Future[None]]

    @classmethod
    def start(cls, pool: ThreadPoolExecutor, file: FileMap, offset: int, size: int) -> _Copy:
        contents = np.empty(size, np.uint8)
        reads = [
            pool.submit(_read, file, offset + start, contents[start : start + _CHUNK])
            for start in range(0, size, _CHUNK)
        ]
        return cls(contents, reads)

    def finished(self) -> np.ndarray:
        for read in self.reads:
            read.result()
        return self.contents


def _read(file: FileMap, offset: int, contents: np.ndarray) -> None:
    """Fill an array of bytes from an offset in the file."""
    start, view = 0, contents.data
    while start < len(view):
        count = os.preadv(file.descriptor, [view[start:]], offset + start)
        if not count:
            raise TruncatedError("the file has become shorter while it was read")
        start += count


def _place(array: np.ndarray) -> tuple[FileMap, int] | None:
    """Return the file of an array that is read from it, and the offset there."""
    if array.nbytes < _SMALL or not array.flags.c_contiguous or not array.dtype.isnative:
        return None
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if not isinstance(base, FileMap) or not hasattr(os, "preadv"):
        return None
    return base, _address(array) - _address(np.frombuffer(base, np.uint8))


def _address(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
