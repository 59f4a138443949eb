"""Labelled images in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import DataError

#: What the splits of a source are called, in their order.
SPLIT_NAMES = ("train", "val", "test")


@dataclass(frozen=True)
class Dataset:
    """Images and their classes.

    Attributes:
        images: (N, C, H, W): uint8 pixels, or floats that are a network's input already.
        classes: (N,) int64, counted from 0 as a network's outputs are; None without labels.
        names: the classes' names, where the source has them.
        notes: what was assumed.
        ids: (N,) what the source calls each image: the path of its file, or its number from 0;
            None stands for the numbers.
        splits: (N,) the split of the source that each image comes from: `train`, `val` or
            `test`; None where the source has no splits.
    """

    images: np.ndarray
    classes: np.ndarray | None = None
    names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    ids: np.ndarray | None = None
    splits: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Images and classes, `size` at a time; the last batch may be smaller."""
        for start in range(0, len(self), size):
            split = slice(start, start + size)
            yield self.images[split], None if self.classes is None else self.classes[split]

    def take(self, indices: np.ndarray) -> Dataset:
        """The images at these indices (N,) int64, in that order."""
        return replace(
            self,
            images=self.images[indices],
            classes=at(self.classes, indices),
            ids=indices if self.ids is None else self.ids[indices],
            splits=at(self.splits, indices),
        )


def joined(splits: dict[str, Dataset]) -> Dataset:
    """The splits of a source as one dataset that remembers them.

    Args:
        splits: `train`, `val` and `test`, those that there are.

    Raises:
        DataError: when their images differ in shape or number type, or only some have labels.
    """
    datasets = list(splits.values())
    kinds = {(split.images.shape[1:], split.images.dtype.name) for split in datasets}
    labelled = [split.classes is not None for split in datasets]
    if len(kinds) != 1 or len(set(labelled)) != 1:
        raise DataError(f"the splits {', '.join(splits)} do not hold images of one kind: {kinds}")
    return Dataset(
        np.concatenate([split.images for split in datasets]),
        _concatenated([split.classes for split in datasets]),
        datasets[0].names,
        tuple(dict.fromkeys(note for split in datasets for note in split.notes)),
        _concatenated([split.ids for split in datasets]),
        np.repeat(list(splits), [len(split) for split in datasets]),
    )


def at(array: np.ndarray | None, indices: np.ndarray) -> np.ndarray | None:
    """An array of a dataset, if there is one, at these indices."""
    return None if array is None else array[indices]


def _concatenated(arrays: Sequence[np.ndarray | None]) -> np.ndarray | None:
    there = [array for array in arrays if array is not None]
    return np.concatenate(there) if len(there) == len(arrays) else None
