"""The short way to a tensor in a binary stream: a model's file is mostly those.

The reader knows every form that a tensor may have, and what to say of one that is damaged. This
knows the form that nearly all have, written by a 64-bit machine of the byte order of this one, and
leaves the others to the reader.
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

_count = struct.Struct("=q").unpack_from

#: Most dimensions of a tensor that is read here.
_DIMENSIONS = 8

#: What follows the dimensions of a tensor without elements: offset (from 1), type tag of a nil.
_NO_STORAGE = struct.pack("=qi", 1, NIL)


class StorageForm(NamedTuple):
    """Storages of one class.

    Attributes:
        name: `torch.FloatStorage`.
        dtype: of its elements.
        header: how one begins.
    """

    name: str
    dtype: np.dtype
    header: bytes


class TensorForm(NamedTuple):
    """Tensors of one class and number of dimensions.

    Attributes:
        name: `torch.FloatTensor`.
        dimensions: 0 for one without elements.
        storage: the form of its storage.
        unpack: gives sizes, strides, offset (from 1), and the type tag, index and header of the
            storage and its number of elements.
        size: bytes of these up to the storage's header.
    """

    name: str
    dimensions: int
    storage: StorageForm
    unpack: Callable[[Any, int], tuple[Any, ...]]
    size: int


def _header(name: str) -> bytes:
    """How an instance begins: the version of its class and its name."""
    return struct.pack("=i3si", 3, b"V 1", len(name)) + name.encode()


def _tensor_form(name: str, dimensions: int) -> TensorForm:
    storage_name = storage_class(name)
    storage = STORAGE_FORMS[_header(storage_name)]
    start = f"={2 * dimensions + 1}qii"
    unpack = struct.Struct(f"{start}{len(storage.header)}sq").unpack_from
    return TensorForm(name, dimensions, storage, unpack, struct.calcsize(start))


#: How an instance begins → the form of its storage.
STORAGE_FORMS = {
    _header(name): StorageForm(name, dtype, _header(name)) for name, dtype in STORAGE_DTYPES.items()
}

#: How an instance begins, and its number of dimensions → the form of its tensor.
TENSOR_FORMS = {
    _header(name) + struct.pack("=i", dimensions): _tensor_form(name, dimensions)
    for name in TENSOR_DTYPES
    for dimensions in range(_DIMENSIONS + 1)
}


def read_plain_tensor(
    buffer: Any, position: int, form: TensorForm, index: int, memo: dict[int, Any]
) -> tuple[TorchArray, int] | None:
    """A tensor, and its storage if that comes with it.

    Args:
        buffer: the whole stream.
        position: offset after the number of dimensions.
        form: what was read up to there.
        index: its index; it and its storage are put into `memo`.
        memo: index → object that was read.

    Returns:
        it and the offset after it; `None`, with nothing changed, where the form is not the usual
        one or something is damaged.

    Raises:
        struct.error: when the stream is too short for a storage.
    """
    name, dimensions, storage_form, unpack, size = form
    dtype = storage_form.dtype
    if not dimensions:
        # Every module has some of these.
        if buffer[position : position + 12] != _NO_STORAGE:
            return None
        tensor = memo[index] = TorchArray((0,), dtype)
        tensor.torch_class = name
        return tensor, position + 12
    *numbers, offset, tag, storage_index, header, count = unpack(buffer, position)
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
        storage = _storage(buffer, start, count, storage_form)
        if storage is None or header != storage_form.header:
            return None
        end = start + storage.stored_bytes
    sizes, strides = numbers[:dimensions], numbers[dimensions:]
    # Most are vectors, and nearly all the whole of their storage: `tensor_view` takes longer.
    if offset == 1 and numbers == [count, 1]:
        tensor = storage.view()
        tensor.torch_class, tensor.storage = name, storage
    elif offset == 1 and _is_whole(sizes, strides, count):
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


def read_plain_storage(
    buffer: Any, position: int, form: StorageForm, index: int, memo: dict[int, Any]
) -> tuple[TorchArray, int] | None:
    """A storage that no tensor came with.

    Args:
        buffer: the whole stream.
        position: offset of its number of elements.
        form: what was read up to there.
        index: its index; it is put into `memo`.
        memo: index → object that was read.

    Returns:
        it and the offset after it; `None`, with nothing changed, where it is damaged.

    Raises:
        struct.error: when the stream ends here.
    """
    (count,) = _count(buffer, position)
    storage = _storage(buffer, position + 8, count, form)
    if storage is None:
        return None
    memo[index] = storage
    return storage, position + 8 + storage.stored_bytes


def _storage(buffer: Any, start: int, count: int, form: StorageForm) -> TorchArray | None:
    """The storage of `count` elements from `start`; `None` where the stream is shorter."""
    end = start + count * form.dtype.itemsize
    if not start <= end <= len(buffer):
        return None
    storage = TorchArray((count,), form.dtype, buffer, start)
    storage.torch_class, storage.stored_bytes = form.name, end - start
    return storage


def _is_whole(sizes: list[int], strides: list[int], count: int) -> bool:
    """Whether a tensor has `count` elements, one after the other."""
    expected = 1
    for size, stride in zip(reversed(sizes), reversed(strides), strict=True):
        if stride != expected or size < 1:
            return False
        expected *= size
    return expected == count
