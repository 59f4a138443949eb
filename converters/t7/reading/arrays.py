"""Tensors as numpy views of their storages."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from operator import mul

from ..types import TENSOR_DTYPES
from ..values import TorchArray

#: numpy's limit on dimensions. Torch7 has no limit, but its files have far fewer.
MAX_DIMENSIONS = 64

# numpy's limit on the size of a tensor is 2^63 bytes, and an element has at most 8 bytes.
_MAX_ELEMENTS = 2**59


def tensor_view(
    class_name: str,
    sizes: Sequence[int],
    strides: Sequence[int],
    offset: int,
    storage: TorchArray | None,
) -> TorchArray:
    """Return a Torch tensor as a view of its storage, with any strides.

    Args:
        class_name: A tensor class.
        sizes: Size of each dimension; none for an empty tensor, which gets the shape (0,).
        strides: Stride of each dimension, in elements.
        offset: Index of the first element in the storage, from 0.
        storage: (N,), or None for an empty tensor.

    Raises:
        ValueError: If the tensor extends beyond its storage.
    """
    dtype = TENSOR_DTYPES[class_name]
    if not sizes:
        tensor: TorchArray = TorchArray((0,), dtype)
    elif (
        min(*sizes, *strides) < 0
        or max(strides) > _MAX_ELEMENTS
        # An expanded tensor may be larger than the file, but numpy has to be able to count it.
        or prod(filter(None, sizes)) > _MAX_ELEMENTS
    ):
        raise ValueError(f"a {class_name} has sizes {tuple(sizes)} and strides {tuple(strides)}")
    elif 0 in sizes:
        tensor = TorchArray(sizes, dtype)
    elif storage is None:
        raise ValueError(f"a {class_name} of sizes {tuple(sizes)} has no storage")
    else:
        last = offset + sum(map(mul, sizes, strides)) - sum(strides)
        if offset < 0 or last >= len(storage):
            raise ValueError(
                f"a {class_name} of sizes {tuple(sizes)} reaches element {last + 1:,} "
                f"of a storage of {len(storage):,}"
            )
        width = dtype.itemsize
        byte_strides = [width * stride for stride in strides]
        tensor = TorchArray(sizes, dtype, storage, offset * width, byte_strides)
    tensor.torch_class = class_name
    if storage is not None:
        tensor.storage = storage
    if offset:
        tensor.storage_offset = offset
    return tensor
