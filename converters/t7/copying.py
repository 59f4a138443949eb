"""Copy arrays out of a memory-mapped file, fast, and without holding their data in memory twice."""

from __future__ import annotations

import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

#: Bytes to copy before their pages of the map are released.
_CHUNK = 4 * 2**20

#: Most threads that copy one array: a few of them use all of the memory's speed, and each of them
#: holds a chunk of the map.
_MAX_THREADS = 4

#: Up to this number of chunks, starting threads would take longer than it saves.
_FEW_CHUNKS = 2


def copy_array(array: np.ndarray) -> np.ndarray:
    """Copy an array into native, aligned, contiguous memory of its own.

    Pages of a read-only map are released during the copy: nobody can have written to them, so they
    can be read from the file again. Pages of a writable map may hold changes and are kept.

    Threads share the copy of a large array. The memory is numpy's, which asks for huge pages:
    torch's own allocator does not, and its pages of 4 KiB cost more than the copy itself.
    """
    array = np.asarray(array)
    copy = np.empty(array.shape, array.dtype.newbyteorder("="))
    mapped = _read_only_map(array)
    if mapped is None or not array.flags.c_contiguous:
        copy[...] = array
        return copy
    pairs = array.reshape(-1), copy.reshape(-1)
    if array.dtype == copy.dtype:
        # The same bytes: numpy copies elements that are not aligned in the file one by one.
        pairs = pairs[0].view(np.uint8), pairs[1].view(np.uint8)
    starts = range(0, len(pairs[0]), _CHUNK // pairs[0].itemsize)
    copy_chunk = partial(_copy_chunk, *pairs, mapped)
    if len(starts) <= _FEW_CHUNKS:
        for start in starts:
            copy_chunk(start)
    else:
        with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
            list(pool.map(copy_chunk, starts))
    return copy


def _copy_chunk(source: np.ndarray, copy: np.ndarray, mapped: mmap.mmap, start: int) -> None:
    """Copy the elements of one chunk and release the pages of the map that they lie in."""
    chunk = slice(start, start + _CHUNK // source.itemsize)
    copy[chunk] = source[chunk]
    offset = _address(source[chunk]) - _address(np.frombuffer(mapped, np.uint8))
    page = offset - offset % mmap.PAGESIZE
    mapped.madvise(mmap.MADV_DONTNEED, page, offset + source[chunk].nbytes - page)


def _read_only_map(array: np.ndarray) -> mmap.mmap | None:
    """Return the read-only memory map under an array, or None if there is none to release."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    is_read_only_map = isinstance(base, mmap.mmap) and not array.flags.writeable
    return base if is_read_only_map and hasattr(mmap, "MADV_DONTNEED") else None


def _address(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
