"""The fast path for tensors and storages in a binary stream.

This module and `fast_tables` duplicate the semantics of `Reader` for speed;
`tests/test_t7_fast_path.py` checks that both give equal values and errors.

Most of a model's file is tensors. The fast path handles those in the form that nearly all have,
written by a 64-bit machine with this machine's byte order, and leaves the others to `Reader`, which
also reports damaged ones.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np

from ..scalars import NIL, TORCH
from ..types import STORAGE_DTYPES, TENSOR_DTYPES, storage_class
from ..values import TorchArray
from .arrays import tensor_view

_unpack_count = struct.Struct("=q").unpack_from

#: Tensors with more dimensions are left to the reader.
_MAX_DIMENSIONS = 8

#: The bytes after the dimensions of a tensor without elements: offset (from 1), type tag of a nil.
_NO_STORAGE = struct.pack("=qi", 1, NIL)


class StorageForm(NamedTuple):
    """The usual form of the storages of one class.

    Attributes:
        name: `torch.FloatStorage`.
        dtype: dtype of the elements.
        header: The bytes of the class header.
    """

    name: str
    dtype: np.dtype[Any]
    header: bytes


class TensorForm(NamedTuple):
    """The usual form of the tensors of one class and number of dimensions.

    Attributes:
        name: `torch.FloatTensor`.
        dimensions: Number of dimensions; 0 for a tensor without elements.
        storage: Form of the storage.
        unpack: Unpacks sizes, strides, offset (from 1), then the storage's type tag, index, header
            and number of elements.
        size: Bytes of these up to the storage's header.
    """

    name: str
    dimensions: int
    storage: StorageForm
    unpack: Callable[[Any, int], tuple[Any, ...]]
    size: int


def _header(name: str) -> bytes:
    """Return the bytes of a class header: version and name."""
    return struct.pack("=i3si", 3, b"V 1", len(name)) + name.encode()


def _tensor_form(name: str, dimensions: int) -> TensorForm:
    storage_name = storage_class(name)
    storage = STORAGE_FORMS[_header(storage_name)]
    start = f"={2 * dimensions + 1}qii"
    unpack = struct.Struct(f"{start}{len(storage.header)}sq").unpack_from
    return TensorForm(name, dimensions, storage, unpack, struct.calcsize(start))


#: Bytes of the class header → form of the storage.
STORAGE_FORMS = {
    _header(name): StorageForm(name, dtype, _header(name)) for name, dtype in STORAGE_DTYPES.items()
}

#: Bytes of the class header and the number of dimensions → form of the tensor.
TENSOR_FORMS = {
    _header(name) + struct.pack("=i", dimensions): _tensor_form(name, dimensions)
    for name in TENSOR_DTYPES
    for dimensions in range(_MAX_DIMENSIONS + 1)
}


def read_tensor_fast(
    buffer: Any, position: int, form: TensorForm, index: int, memo: dict[int, Any]
) -> tuple[TorchArray, int] | None:
    """Read a tensor, and its storage unless that was read before.

    Args:
        buffer: The whole stream.
        position: Offset after the number of dimensions.
        form: Form of the tensor.
        index: Index of the tensor.
        memo: Index → object read before; the tensor and its storage are added.

    Returns:
        The tensor and the offset after it; None, with nothing changed, if it has an unusual form or
        is damaged.

    Raises:
        struct.error: If the stream is too short for a storage.
    """
    name, dimensions, storage_form, unpack, size = form
    dtype = storage_form.dtype
    if not dimensions:
        # Every module has some empty tensors.
        if buffer[position : position + 12] != _NO_STORAGE:
            return None
        tensor = memo[index] = TorchArray((0,), dtype)
        tensor.torch_class = name
        return tensor, position + 12
    *sizes_and_strides, offset, tag, storage_index, header, count = unpack(buffer, position)
    if tag != TORCH:
        return None
    end = position + size
    storage = memo.get(storage_index)
    if storage is not None:
        if STORAGE_DTYPES.get(getattr(storage, "torch_class", "")) is not dtype:
            return None
        count = len(storage)
    else:
        start = end + len(header) + 8
        storage = _storage_view(buffer, start, count, storage_form)
        if storage is None or header != storage_form.header:
            return None
        end = start + storage.stored_bytes
    sizes, strides = sizes_and_strides[:dimensions], sizes_and_strides[dimensions:]
    # Most tensors are vectors, and nearly all cover their whole storage: `tensor_view` is slower.
    if offset == 1 and sizes_and_strides == [count, 1]:
        tensor = storage.view()
        tensor.torch_class, tensor.storage = name, storage
    elif offset == 1 and _is_contiguous(sizes, strides, count):
        tensor = cast(TorchArray, storage.reshape(sizes))
        tensor.torch_class, tensor.storage = name, storage
    else:
        try:
            tensor = tensor_view(name, sizes, strides, offset - 1, storage)
        except ValueError:
            return None
    memo[storage_index] = storage
    memo[index] = tensor
    return tensor, end


def read_storage_fast(
    buffer: Any, position: int, form: StorageForm, index: int, memo: dict[int, Any]
) -> tuple[TorchArray, int] | None:
    """Read a storage that is not inside a tensor.

    Args:
        buffer: The whole stream.
        position: Offset of the number of elements.
        form: Form of the storage.
        index: Index of the storage.
        memo: Index → object read before; the storage is added.

    Returns:
        The storage and the offset after it; None, with nothing changed, if it is damaged.

    Raises:
        struct.error: If the stream ends here.
    """
    (count,) = _unpack_count(buffer, position)
    storage = _storage_view(buffer, position + 8, count, form)
    if storage is None:
        return None
    memo[index] = storage
    return storage, position + 8 + storage.stored_bytes


def _storage_view(buffer: Any, start: int, count: int, form: StorageForm) -> TorchArray | None:
    """Return a view of `count` elements at `start`, or None if the stream is too short."""
    end = start + count * form.dtype.itemsize
    if not start <= end <= len(buffer):
        return None
    storage = TorchArray((count,), form.dtype, buffer, start)
    storage.torch_class, storage.stored_bytes = form.name, end - start
    return storage


def _is_contiguous(sizes: list[int], strides: list[int], count: int) -> bool:
    """Return whether a tensor is contiguous and has `count` elements."""
    expected = 1
    for size, stride in zip(reversed(sizes), reversed(strides), strict=True):
        if stride != expected or size < 1:
            return False
        expected *= size
    return expected == count
