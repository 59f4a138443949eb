"""Attribute the bytes of a file to its tensors, with every storage counted once.

Torch7 writes a storage at its first use; later uses refer to it by index. `getParameters` puts the
weights of a whole network into one storage, and an optimizer's state may be a view of it too. So
each element of a storage is attributed to the most important tensor that views it: weights before
running statistics, then gradients, then buffers, and tensors outside every module last.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ..values import TorchArray

#: Groups of tensors, in the order of precedence.
GROUPS = ("weights", "running_statistics", "gradients", "buffers", "other")


@dataclass
class Bytes:
    """Bytes of a file by group.

    Attributes:
        weights: Parameters.
        running_statistics: Batch normalization's `running_mean`, `running_var`, `running_std`.
        gradients: Gradients with respect to parameters.
        buffers: Outputs, gradients with respect to inputs, scratch memory.
        other: Tensors outside every module: optimizer state, data.
        structure: Everything but the elements of tensors: names, scalars, sizes.
    """

    weights: int = 0
    running_statistics: int = 0
    gradients: int = 0
    buffers: int = 0
    other: int = 0
    structure: int = 0

    @property
    def total(self) -> int:
        """Sum over all groups; for a whole file, its size."""
        return sum(getattr(self, field.name) for field in fields(self))

    def add(self, group: str, count: int) -> None:
        """Add bytes to one group."""
        setattr(self, group, getattr(self, group) + count)

    def to_json(self) -> list[dict[str, Any]]:
        """Return the groups that are not empty as `{"group": …, "bytes": …}`."""
        counts = {field.name: getattr(self, field.name) for field in fields(self)}
        return [{"group": group, "bytes": count} for group, count in counts.items() if count]


@dataclass(frozen=True)
class TensorUse:
    """An occurrence of a tensor or storage in a file.

    Attributes:
        array: The tensor or storage.
        owner: Index of the module it belongs to, or None outside every module.
        group: One of `GROUPS`.
    """

    array: TorchArray
    owner: int | None
    group: str


@dataclass(frozen=True)
class Attribution:
    """The part of a storage that is attributed to one use.

    Attributes:
        use: The use.
        elements: Number of elements.
        bytes: Bytes that these occupy in the file.
    """

    use: TensorUse
    elements: int
    bytes: int


def attribute_bytes(uses: Sequence[TensorUse]) -> list[Attribution]:
    """Divide storages among their uses; a storage's attributions add up to its bytes.

    Elements that no tensor views (of a storage larger than its views) are attributed to the use of
    lowest precedence.

    Args:
        uses: In the order of the file; within a group the first has precedence.
    """
    by_storage: defaultdict[int, list[TensorUse]] = defaultdict(list)
    for use in uses:
        if (storage := _storage(use.array)) is not None:
            by_storage[id(storage)].append(use)
    return [attribution for users in by_storage.values() for attribution in _divide(users)]


def _divide(users: list[TensorUse]) -> list[Attribution]:
    """Divide one storage among its users."""
    storage = _storage(users[0].array)
    assert storage is not None
    if len(users) == 1:
        return [Attribution(users[0], len(storage), storage.stored_bytes)]
    users = sorted(users, key=lambda use: GROUPS.index(use.group))
    extents = [_extent(use.array) for use in users]
    bounds = np.unique(np.array([0, len(storage), *(end for extent in extents for end in extent)]))
    # Assign each interval in order of increasing precedence, so that the last assignment wins.
    owner_of_interval = np.full(len(bounds) - 1, len(users) - 1)
    for index in reversed(range(len(users))):
        start, stop = np.searchsorted(bounds, extents[index])
        owner_of_interval[start:stop] = index
    elements = (
        np.bincount(owner_of_interval, weights=np.diff(bounds), minlength=len(users))
        .astype(int)
        .tolist()
    )
    sizes = [storage.stored_bytes * count // max(len(storage), 1) for count in elements]
    sizes[-1] += storage.stored_bytes - sum(sizes)
    return [Attribution(*row) for row in zip(users, elements, sizes, strict=True)]


def _storage(array: TorchArray) -> TorchArray | None:
    is_storage = (array.torch_class or "").endswith("Storage")
    return array if is_storage else array.storage


def _extent(array: TorchArray) -> tuple[int, int]:
    """Return the index of a tensor's first element in its storage, and the one after its last."""
    if array.storage is None:
        return 0, len(array)
    start = array.storage_offset
    if array.size == 0:
        return 0, 0
    last = sum(
        (size - 1) * (stride // array.itemsize)
        for size, stride in zip(array.shape, array.strides, strict=True)
    )
    return start, start + last + 1
