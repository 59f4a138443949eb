"""Copy arrays out of a memory-mapped file, fast, and without holding their data in memory twice."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from .errors import TruncatedError
from .reading.byte_stream import FileMap

#: Smaller arrays are copied from the map: reading the file takes a system call.
_SMALL = 2**16

#: Bytes that a thread reads at once.
_CHUNK = 8 * 2**20

#: Most threads that copy one array: a few of them use all of the memory's speed.
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
    copy = np.empty(array.shape, array.dtype.newbyteorder("="))
    is_read = array.nbytes >= _SMALL and array.flags.c_contiguous and array.dtype.isnative
    file = _file_map(array) if is_read else None
    if file is None:
        copy[...] = array
        return copy
    offset = _address(array) - _address(np.frombuffer(file, np.uint8))
    contents = copy.reshape(-1).view(np.uint8).data
    read_chunk = partial(_read_chunk, file, offset, contents)
    starts = range(0, len(contents), _CHUNK)
    if len(starts) == 1:
        read_chunk(0)
    else:
        with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
            list(pool.map(read_chunk, starts))
    return copy


def _read_chunk(file: FileMap, offset: int, contents: memoryview, start: int) -> None:
    """Fill one chunk of an array's contents, which begin at an offset in the file."""
    end = min(start + _CHUNK, len(contents))
    while start < end:
        count = os.preadv(file.descriptor, [contents[start:end]], offset + start)
        if not count:
            raise TruncatedError("the file has become shorter while it was read")
        start += count


def _file_map(array: np.ndarray) -> FileMap | None:
    """Return the map of a file under an array, None if there is none that can be read instead."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, FileMap) and hasattr(os, "preadv") else None


def _address(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
