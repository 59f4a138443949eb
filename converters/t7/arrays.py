"""Tensors as numpy views over their storages."""

from __future__ import annotations

from collections.abc import Sequence

from .types import TENSOR_DTYPES
from .values import TorchArray

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
    shape = tuple(sizes) or (0,)
    last, numbers = offset, 1
    for size, stride in zip(sizes, strides, strict=True):
        last += (size - 1) * stride
        # Expanded tensors may be larger than the file, but not than what can be counted.
        numbers *= size or 1
        if size < 0 or not 0 <= stride <= _MAX_NUMBERS or numbers > _MAX_NUMBERS:
            raise ValueError(f"a {class_name} has sizes {shape} and strides {tuple(strides)}")
    if 0 in shape:
        tensor: TorchArray = TorchArray(shape, dtype)
    elif storage is None:
        raise ValueError(f"a {class_name} of sizes {shape} has no storage")
    elif offset < 0 or last >= len(storage):
        raise ValueError(
            f"a {class_name} of sizes {shape} reaches element {last + 1:,} "
            f"of a storage of {len(storage):,}"
        )
    else:
        steps = [stride * dtype.itemsize for stride in strides]
        tensor = TorchArray(shape, dtype, storage, offset * dtype.itemsize, steps)
    tensor.torch_class = class_name
    tensor.storage, tensor.storage_offset = storage, offset
    return tensor
