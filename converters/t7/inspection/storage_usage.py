"""Where the bytes of a file go: every storage counted once, split between the tensors that view it.

Torch7 writes a storage where it first meets it, and everything else that attributions the memory only
refers to it: `getParameters` puts the weights of a whole network in one storage, an optimizer's
state views it again. So the numbers of a storage belong to whom they mean most: weights before
running statistics, those before gradients, buffers, and anything outside a network.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from ..values import TorchArray

#: The kinds of numbers, the one that uses a storage first in front.
GROUPS = ("weights", "running_statistics", "gradients", "buffers", "other")


@dataclass
class Bytes:
    """Bytes of a file by what they hold.

    Attributes:
        weights: parameters.
        running_statistics: batch normalization's `running_mean`, `running_var`, `running_std`.
        gradients: gradients with respect to parameters.
        buffers: outputs, gradients with respect to inputs, scratch memory.
        other: tensors outside every module: optimizer state, data.
        structure: everything that is no tensor's numbers: names, scalars, sizes.
    """

    weights: int = 0
    running_statistics: int = 0
    gradients: int = 0
    buffers: int = 0
    other: int = 0
    structure: int = 0

    @property
    def total(self) -> int:
        """All of them; for a whole file, its size."""
        return sum(getattr(self, field.name) for field in fields(self))

    def add(self, group: str, count: int) -> None:
        """Count bytes of one group."""
        setattr(self, group, getattr(self, group) + count)


@dataclass(frozen=True)
class TensorUse:
    """One tensor (or storage) that was met, and to whom its numbers belong.

    Attributes:
        array: the tensor or storage.
        owner: number of the module it was met in, or None outside every module.
        group: one of `GROUPS`.
    """

    array: TorchArray
    owner: int | None
    group: str


@dataclass(frozen=True)
class Attribution:
    """What a use got: numbers of a storage, and the bytes that they take in the file."""

    use: TensorUse
    numbers: int
    bytes: int


def attribute_bytes(uses: Sequence[TensorUse]) -> list[Attribution]:
    """Split the storages behind uses, each number once; a storage's attributions add up to its bytes.

    Numbers that no tensor shows (of a storage larger than its views) go to the last use.

    Args:
        uses: in the order in which they were met: the first of a kind comes before others.
    """
    by_storage: defaultdict[int, list[TensorUse]] = defaultdict(list)
    for use in uses:
        if (storage := _storage(use.array)) is not None:
            by_storage[id(storage)].append(use)
    return [attribution for users in by_storage.values() for attribution in _split(users)]


def _split(users: list[TensorUse]) -> list[Attribution]:
    """The attributions of one storage."""
    storage = _storage(users[0].array)
    assert storage is not None
    if len(users) == 1:
        return [Attribution(users[0], len(storage), storage.stored_bytes)]
    users = sorted(users, key=lambda use: GROUPS.index(use.group))
    extents = [_extent(use.array) for use in users]
    bounds = np.unique(np.array([0, len(storage), *(end for extent in extents for end in extent)]))
    # Painted from the weakest use to the strongest, so that the strongest shows in the end.
    winner = np.full(len(bounds) - 1, len(users) - 1)
    for index in reversed(range(len(users))):
        start, stop = np.searchsorted(bounds, extents[index])
        winner[start:stop] = index
    won = np.bincount(winner, weights=np.diff(bounds), minlength=len(users)).astype(int).tolist()
    sizes = [storage.stored_bytes * count // max(len(storage), 1) for count in won]
    sizes[-1] += storage.stored_bytes - sum(sizes)
    return [
        Attribution(use, *attribution) for use, *attribution in zip(users, won, sizes, strict=True)
    ]


def _storage(array: TorchArray) -> TorchArray | None:
    is_storage = (array.torch_class or "").endswith("Storage")
    return array if is_storage else array.storage


def _extent(array: TorchArray) -> tuple[int, int]:
    """First number of a tensor in its storage, and the one after its last."""
    if array.storage is None:
        return 0, len(array)
    start = array.storage_offset
    if array.size == 0:
        return 0, 0
    reach = sum(
        (size - 1) * (step // array.itemsize)
        for size, step in zip(array.shape, array.strides, strict=True)
    )
    return start, start + reach + 1
