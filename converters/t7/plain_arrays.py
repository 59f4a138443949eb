"""The short way to a tensor in a binary stream: a model's file is mostly those.

The reader knows every form that a tensor may have, and what to say of one that is damaged. This
knows the form that nearly all have, written by a 64-bit machine of the byte order of this one, and
leaves the others to the reader.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from .arrays import tensor_view
from .scalars import NIL, TORCH
from .types import STORAGE_DTYPES, TENSOR_DTYPES
from .values import TorchArray

_int = struct.Struct("=i").unpack_from
_long = struct.Struct("=q").unpack_from

#: Dimensions, offset (from 1) and the storage's type tag; and what they are of an empty tensor.
_first_words = struct.Struct("=iqi").unpack_from
_EMPTY = (0, 1, NIL)

#: Number of dimensions → what follows it (sizes, strides and offset, the type tag and index of the
#: storage) and its bytes.
_LAYOUTS = {n: (struct.Struct(f"={2 * n + 1}qii").unpack_from, 16 * n + 16) for n in range(8)}

#: How an instance begins (version and class) → class, dtype, and whether it is a tensor.
_CLASSES: dict[bytes, tuple[str, np.dtype, bool]] = {
    struct.pack("=i3si", 3, b"V 1", len(name)) + name.encode(): (name, dtype, name in TENSOR_DTYPES)
    for name, dtype in {**STORAGE_DTYPES, **TENSOR_DTYPES}.items()
}

_LONGEST = max(map(len, _CLASSES))


def read_plain_array(
    buffer: Any, position: int, index: int, memo: dict[int, Any]
) -> tuple[TorchArray, int] | None:
    """The tensor or storage that begins with its class at `position`, and the offset after it.

    Args:
        buffer: the whole stream.
        position: offset after the type tag and index of the instance.
        index: its index; it and its storage are put into `memo`.
        memo: index → object that was read.

    Returns:
        `None`, with nothing changed, where the class is another, the form is not the usual one, or
        something is damaged.
    """
    try:
        found = _class_at(buffer, position)
        if found is None:
            return None
        (name, dtype, is_tensor), start = found
        if not is_tensor:
            array, end = _storage_at(buffer, start, name, dtype)
            memo[index] = array
            return array, end
        if _first_words(buffer, start) == _EMPTY:
            # Every module has some of these.
            array = memo[index] = TorchArray((0,), dtype)
            array.torch_class = name
            return array, start + 16
        (count,) = _int(buffer, start)
        unpack, size = _LAYOUTS[count]
        numbers = unpack(buffer, start + 4)
        end = start + 4 + size
        tag, storage_index = numbers[-2:]
        storage = None
        if tag == NIL:
            end -= 4
        elif tag != TORCH:
            return None
        elif storage_index in memo:
            storage = memo[storage_index]
            if STORAGE_DTYPES.get(getattr(storage, "torch_class", "")) is not dtype:
                return None
        else:
            found = _class_at(buffer, end)
            if found is None or found[0][1:] != (dtype, False):
                return None
            storage, end = _storage_at(buffer, found[1], found[0][0], dtype)
        sizes, strides = numbers[:count], numbers[count : 2 * count]
        array = tensor_view(name, sizes, strides, numbers[-3] - 1, storage)
    except (struct.error, KeyError, ValueError):
        return None
    if storage is not None:
        memo[storage_index] = storage
    memo[index] = array
    return array, end


def _class_at(buffer: Any, position: int) -> tuple[tuple[str, np.dtype, bool], int] | None:
    """What `_CLASSES` holds of the class that is named here, if it does, and the offset after it.

    Raises:
        struct.error: when the stream ends here.
    """
    (size,) = _int(buffer, position + 7)
    end = position + 11 + size
    known = _CLASSES.get(buffer[position:end]) if 0 < size <= _LONGEST else None
    return None if known is None else (known, end)


def _storage_at(buffer: Any, position: int, name: str, dtype: np.dtype) -> tuple[TorchArray, int]:
    """The storage whose size stands at `position`, and the offset after it.

    Raises:
        ValueError: when the stream is shorter.
    """
    (count,) = _long(buffer, position)
    start = position + 8
    end = start + count * dtype.itemsize
    if not start <= end <= len(buffer):
        raise ValueError(count)
    storage = TorchArray((count,), dtype, buffer, start)
    storage.torch_class, storage.stored_bytes = name, end - start
    return storage, end
