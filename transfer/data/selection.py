"""Parts of a dataset: classes by name, a limited number of images, labels that are in range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from ..errors import DataError
from .dataset import Dataset
from .image_files import ImageFiles

#: Labelled images, in memory or in files; what comes out is of the kind that went in.
Data = TypeVar("Data", Dataset, ImageFiles, Dataset | ImageFiles)


def class_count(data: Dataset | ImageFiles) -> int:
    """How many classes there are: as many as have names, else up to the largest that occurs.

    Raises:
        DataError: when there are no labels.
    """
    classes = labelled(data)
    return len(data.names) if data.names else int(classes.max(initial=-1)) + 1


def labelled(data: Dataset | ImageFiles) -> np.ndarray:
    """The classes (N,) int64 of images that must have some.

    Raises:
        DataError: when there are no labels.
    """
    if data.classes is None:
        raise DataError("no labels: labelled images are needed here")
    return data.classes


def in_range(data: Data, on_error: str = "raise") -> Data:
    """The images whose labels are classes that exist.

    Args:
        data: classes below 0, or beyond its names, are out of range.
        on_error: `raise`, or `skip` to leave them out, counted and named in the notes.

    Raises:
        DataError: when some are out of range and `on_error` is `raise`.
    """
    if data.classes is None:
        return data
    count = class_count(data)
    wrong = np.flatnonzero((data.classes < 0) | (data.classes >= count))
    if not len(wrong):
        return data
    ids = wrong if data.ids is None else data.ids[wrong]
    pairs = list(zip(data.classes[wrong], ids, strict=True))
    some = ", ".join(f"{label} of image {name}" for label, name in pairs[:5])
    said = f"{len(wrong)} labels out of range 0 to {count - 1} (counted from 0): {some}"
    if on_error == "raise":
        raise DataError(said)
    kept = data.take(np.setdiff1d(np.arange(len(data)), wrong))
    return replace(kept, notes=(*data.notes, f"left out: {said}"))


def select_classes(data: Data, wanted: Sequence[str]) -> Data:
    """The images of some classes, which are numbered anew in the order asked for.

    Args:
        data: labelled images.
        wanted: names; where the data has none, labels as Torch7 counts them, from 1.

    Raises:
        DataError: when a class is not there, or named twice.
    """
    classes = labelled(data)
    names = data.names or tuple(str(index + 1) for index in range(class_count(data)))
    missing = [name for name in wanted if name not in names]
    if missing:
        known = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
        raise DataError(f"no class {', '.join(missing)}; there are: {known}")
    if not wanted or len(set(wanted)) != len(wanted):
        raise DataError("classes must be named, each once")
    renumbered = np.full(len(names), -1)
    renumbered[[names.index(name) for name in wanted]] = range(len(wanted))
    kept = np.flatnonzero(renumbered[classes] >= 0)
    return replace(
        data.take(kept),
        classes=renumbered[classes[kept]],
        names=tuple(wanted),
        notes=(*data.notes, f"classes {', '.join(wanted)}: {len(kept):,} of {len(data):,}"),
    )


def limited(data: Data, count: int, *, balanced: bool = False, seed: int = 0) -> Data:
    """At most so many images, drawn by seed, in their old order.

    Args:
        data: images; of one with several splits, each split gives its proportion.
        count: how many.
        balanced: as many of each class as of any other, as far as they go; by default in the
            data's own proportions.
        seed: of the draw.

    Raises:
        DataError: when fewer than one is asked for.
    """
    if count < 1:
        raise DataError(f"a limit of {count} images: at least 1 was expected")
    if count >= len(data):
        return data
    return data.take(drawn(strata(data), count, balanced=balanced, seed=seed))


def strata(data: Dataset | ImageFiles) -> np.ndarray:
    """(N,) int64: the same number for images of the same class and split."""
    classes = np.zeros(len(data), np.int64) if data.classes is None else data.classes
    if data.splits is None:
        return classes
    return np.unique(np.stack([classes.astype(str), data.splits]), axis=1, return_inverse=True)[1]


def drawn(groups: np.ndarray, count: int, *, balanced: bool = False, seed: int = 0) -> np.ndarray:
    """Indices of `count` members, sorted, drawn from each group in its proportion.

    Args:
        groups: (N,) the group of each member.
        count: how many are drawn in all, at most N.
        balanced: equal counts, as far as the groups go; else in proportion to their sizes.
        seed: of the draw.
    """
    _, numbered, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    counts = _equal_counts(sizes, count) if balanced else _proportional_counts(sizes, count)
    mixed = np.random.default_rng(seed).permutation(len(groups))
    # The members of each group one after another, and the place of each in its group.
    order = mixed[np.argsort(numbered[mixed], kind="stable")]
    place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(order[place < np.repeat(counts, sizes)])


def _proportional_counts(sizes: np.ndarray, count: int) -> np.ndarray:
    """Whole counts of `count` in proportion to sizes: the largest remainders are rounded up."""
    exact = sizes * (count / sizes.sum())
    counts = np.floor(exact).astype(np.int64)
    largest = np.argsort(counts - exact, kind="stable")[: count - counts.sum()]
    counts[largest] += 1
    return counts


def _equal_counts(sizes: np.ndarray, count: int) -> np.ndarray:
    counts = np.zeros_like(sizes)
    while (left := count - counts.sum()) > 0:
        open_groups = np.flatnonzero(counts < sizes)
        more = max(left // len(open_groups), 1)
        chosen = open_groups[: left if more == 1 else None]
        counts[chosen] = np.minimum(counts[chosen] + more, sizes[chosen])
    return counts
