"""Copy arrays out of a memory-mapped file without holding their data in memory twice."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

#: Bytes to copy before their pages of the map are released.
_CHUNK = 4 * 2**20


def copy_array(array: np.ndarray) -> np.ndarray:
    """Copy an array into native, aligned, contiguous memory of its own.

    Pages of a read-only map are released during the copy: nobody can have written to them, so they
    can be read from the file again. Pages of a writable map may hold changes and are kept.
    """
    array = np.asarray(array)
    copy = np.empty(array.shape, array.dtype.newbyteorder("="))
    mapped = _read_only_map(array)
    if mapped is None or not array.flags.c_contiguous:
        copy[...] = array
        return copy
    flat_source, flat_copy = array.reshape(-1), copy.reshape(-1)
    map_address = _address(np.frombuffer(mapped, np.uint8))
    count = _CHUNK // array.itemsize
    for start in range(0, array.size, count):
        chunk = flat_source[start : start + count]
        flat_copy[start : start + count] = chunk
        offset = _address(chunk) - map_address
        page = offset - offset % mmap.PAGESIZE
        mapped.madvise(mmap.MADV_DONTNEED, page, offset + chunk.nbytes - page)
    return copy


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
