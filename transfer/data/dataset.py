"""Labeled images in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import NoneType

import numpy as np

from ..errors import DataError

#: The names of the splits, in their order.
SPLIT_NAMES = ("train", "val", "test")


@dataclass(frozen=True)
class Dataset:
    """Labeled images in memory.

    Attributes:
        images: (N, C, H, W) uint8 pixels, or floats that are already a network's input.
        classes: (N,) int64 class indices, counted from 0 like a network's outputs; None for
            images without labels.
        names: The class names, where the source has them.
        notes: What was assumed when the source was read.
        ids: (N,) what the source calls each image: the path of its file, or its position from 0.
            None means the positions.
        splits: (N,) the source's own split of each image: `train`, `val` or `test`; None where
            the source has no splits.
        source_classes: The index of each class in the source, if some classes of a source without
            names were chosen: `names` are then only their numbers (see `select_classes`).

    Raises:
        DataError: If the images are no array, or the classes are not one integer for each image.

    Example:
        >>> import numpy as np
        >>> from torchlift.transfer.data import Dataset
        >>> pixels = np.zeros((3, 1, 2, 2), np.uint8)
        >>> data = Dataset(pixels, np.array([0, 1, 1]), names=("cat", "dog"))
        >>> len(data)
        3
        >>> data.take(np.array([2, 0])).classes
        array([1, 0])
        >>> [images.shape for images, classes in data.batches(2)]
        [(2, 1, 2, 2), (1, 1, 2, 2)]
    """

    images: np.ndarray
    classes: np.ndarray | None = None
    names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    ids: np.ndarray | None = None
    splits: np.ndarray | None = None
    source_classes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("images", "classes"):
            value = getattr(self, name)
            if not isinstance(value, np.ndarray | NoneType):
                raise DataError(f"{name} of the type {type(value).__name__}: expected an array")
        classes = self.classes
        if classes is not None and (classes.ndim != 1 or classes.dtype.kind not in "iu"):
            shape = "×".join(map(str, classes.shape))
            raise DataError(
                f"classes are {classes.dtype} {shape}: expected one integer for each image"
            )
        if classes is not None and len(classes) != len(self.images):
            raise DataError(f"{len(self.images)} images, but {len(classes)} classes")

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yield images and classes, `size` at a time; the last batch may be smaller."""
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            yield self.images[rows], None if self.classes is None else self.classes[rows]

    def take(self, indices: np.ndarray) -> Dataset:
        """Return the images at these indices (N,) int64, in this order."""
        return replace(
            self,
            images=self.images[indices],
            classes=take_rows(self.classes, indices),
            ids=indices if self.ids is None else self.ids[indices],
            splits=take_rows(self.splits, indices),
        )


def join_splits(splits: Mapping[str, Dataset]) -> Dataset:
    """Return the splits of a source as one dataset that remembers the split of each image.

    Args:
        splits: What the source has of `train`, `val` and `test`.

    Raises:
        DataError: If their images differ in shape or dtype, or only some have labels.
    """
    datasets = list(splits.values())
    check_same_kind(
        list(splits), [data.images for data in datasets], [data.classes for data in datasets]
    )
    return Dataset(
        np.concatenate([data.images for data in datasets]),
        _concatenate([data.classes for data in datasets]),
        datasets[0].names,
        tuple(dict.fromkeys(note for data in datasets for note in data.notes)),
        _concatenate([data.ids for data in datasets]),
        np.repeat(list(splits), [len(data) for data in datasets]),
    )


def check_same_kind(
    names: Sequence[str],
    images: Sequence[np.ndarray],
    labels: Sequence[np.ndarray | None],
) -> None:
    """Check that the images of several splits fit into one dataset.

    Args:
        names: The splits.
        images: The images of each split.
        labels: The labels of each split.

    Raises:
        DataError: If images differ in shape or dtype, or only some splits have labels.
    """
    kinds = {
        name: f"{'×'.join(map(str, array.shape[1:]))} {array.dtype}"
        f"{'' if own is None else ' with labels'}"
        for name, array, own in zip(names, images, labels, strict=True)
    }
    if len(set(kinds.values())) != 1:
        listed = ", ".join(f"{name}: {kind}" for name, kind in kinds.items())
        raise DataError(f"the splits hold images of different kinds ({listed})")


def take_rows(array: np.ndarray | None, indices: np.ndarray) -> np.ndarray | None:
    """Return the rows of an optional array at these indices."""
    return None if array is None else array[indices]


def _concatenate(arrays: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Return the arrays as one, or None if any is missing."""
    present = [array for array in arrays if array is not None]
    return np.concatenate(present) if len(present) == len(arrays) else None
