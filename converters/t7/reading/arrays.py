"""Tensors as numpy views over their storages."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from operator import mul

from ..types import TENSOR_DTYPES
from ..values import TorchArray

#: numpy's limit on dimensions; Torch7 has none, its files never came near.
MAX_DIMENSIONS = 64

# numpy's limit on a tensor's size is 2^63 bytes, and an element has 8 of them at most.
_MAX_NUMBERS = 2**59


def tensor_view(
    class_name: str,
    sizes: Sequence[int],
    strides: Sequence[int],
    offset: int,
    storage: TorchArray | None,
) -> TorchArray:
    """A Torch tensor over its storage, with whatever strides it has.

    Args:
        class_name: a tensor class.
        sizes: its dimensions; none for an empty tensor, which becomes one of shape (0,).
        strides: of each dimension, in elements.
        offset: its first element in the storage, from 0.
        storage: (N,), or `None` for an empty tensor.

    Raises:
        ValueError: when it reaches beyond its storage.
    """
    dtype = TENSOR_DTYPES[class_name]
    if not sizes:
        tensor: TorchArray = TorchArray((0,), dtype)
    elif (
        min(*sizes, *strides) < 0
        or max(strides) > _MAX_NUMBERS
        # Expanded tensors may be larger than the file, but not than what can be counted.
        or prod(filter(None, sizes)) > _MAX_NUMBERS
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
        steps = [width * stride for stride in strides]
        tensor = TorchArray(sizes, dtype, storage, offset * width, steps)
    tensor.torch_class = class_name
    if storage is not None:
        tensor.storage = storage
    if offset:
        tensor.storage_offset = offset
    return tensor
