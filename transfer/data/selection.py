"""Taking some images of a dataset: by class, by number, or by valid labels."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from ..errors import DataError
from .dataset import Dataset
from .image_files import ImageFiles

#: The largest label of data without class names, for a few images and for each image of many: the
#: memory of many commands grows with the largest label.
_MOST_CLASSES, _CLASSES_PER_IMAGE = 25_000, 10

#: Labeled images, in memory or in files; a function returns the kind that it was given.
Data = TypeVar("Data", Dataset, ImageFiles, Dataset | ImageFiles)


def class_count(data: Dataset | ImageFiles) -> int:
    """Return the number of classes: of names if there are any, else the largest label + 1.

    Raises:
        DataError: If there are no labels.

    Example:
        >>> import numpy as np
        >>> from torchlift.transfer.data import Dataset, class_count
        >>> pixels, classes = np.zeros((2, 1, 2, 2), np.uint8), np.array([0, 2])
        >>> class_count(Dataset(pixels, classes))
        3
    """
    classes = labelled(data)
    return len(data.names) if data.names else int(classes.max(initial=-1)) + 1


def labelled(data: Dataset | ImageFiles) -> np.ndarray:
    """Return the class indices (N,) int64 of images that must have labels.

    Raises:
        DataError: If there are no labels.
    """
    if data.classes is None:
        raise DataError("no labels: labeled images are required here")
    return data.classes


def keep_valid_labels(data: Data, on_error: str = "raise") -> Data:
    """Return the images whose labels are within the range of classes.

    Args:
        data: Classes below 0, or with an index that has no name, are out of range; without names,
            those that no data with so few images has.
        on_error: `raise`, or `skip` to leave these images out, counted and named in the notes.

    Raises:
        DataError: If labels are out of range and `on_error` is `raise`.
    """
    if data.classes is None:
        return data
    count = class_count(data)
    if not data.names:
        count = min(count, max(_MOST_CLASSES, _CLASSES_PER_IMAGE * len(data)))
    invalid = np.flatnonzero((data.classes < 0) | (data.classes >= count))
    if not len(invalid):
        return data
    ids = invalid if data.ids is None else data.ids[invalid]
    pairs = list(zip(data.classes[invalid], ids, strict=True))
    examples = ", ".join(f"{label} of image {name}" for label, name in pairs[:5])
    problem = f"{len(invalid)} labels out of range 0 to {count - 1} (counted from 0): {examples}"
    if on_error == "raise":
        raise DataError(problem)
    kept = data.take(np.setdiff1d(np.arange(len(data)), invalid))
    return replace(kept, notes=(*data.notes, f"left out: {problem}"))


def select_classes(data: Data, names: Sequence[str]) -> Data:
    """Return the images of some classes, which are renumbered in the order of their names.

    Args:
        data: Labeled images.
        names: Class names, whatever the case of their letters; for data without names, Torch7's
            labels, which count from 1. They then stand for the positions of the classes, by which
            `match_classes` matches them.

    Raises:
        DataError: If a class does not exist, or is named twice.

    Example:
        >>> import numpy as np
        >>> from torchlift.transfer.data import Dataset, select_classes
        >>> pixels = np.zeros((3, 1, 2, 2), np.uint8)
        >>> data = Dataset(pixels, np.array([0, 1, 2]), names=("cat", "dog", "owl"))
        >>> chosen = select_classes(data, ["owl", "cat"])
        >>> chosen.classes.tolist(), chosen.names
        ([1, 0], ('owl', 'cat'))
    """
    classes = labelled(data)
    names = [*map(str, names)]  # Python has the numbers of classes without names as integers
    known = data.names or tuple(str(index + 1) for index in range(class_count(data)))
    missing = [name for name in names if _position(name, known) is None]
    if missing:
        listed = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
        raise DataError(f"no class {', '.join(missing)}; the data has: {listed}")
    positions = [position for name in names if (position := _position(name, known)) is not None]
    numbers = range(len(known)) if data.names is None else data.source_classes
    if not names or len(set(positions)) != len(names):
        raise DataError("name at least one class, and each only once")
    renumbered = np.full(len(known), -1)
    renumbered[positions] = range(len(names))
    kept = np.flatnonzero(renumbered[classes] >= 0)
    return replace(
        data.take(kept),
        classes=renumbered[classes[kept]],
        names=tuple(known[position] for position in positions),
        source_classes=None if numbers is None else tuple(numbers[at] for at in positions),
        notes=(*data.notes, f"classes {', '.join(names)}: {len(kept):,} of {len(data):,}"),
    )


def _position(name: str, known: Sequence[str]) -> int | None:
    """Return the position of a name, whatever its spelling (`folded`) if that leaves no choice."""
    if name in known:
        return known.index(name)
    alike = [index for index, other in enumerate(known) if folded(other) == folded(name)]
    return alike[0] if len(alike) == 1 else None


def folded(name: str) -> str:
    """Return a class name without what names of one class may differ in.

    That is the case of letters, and the coding of an accent: macOS writes names of folders with a
    letter and an accent behind it, other programs as one sign.

    Example:
        >>> folded("Cafe\u0301") == folded("caf\u00e9")
        True
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def limited(data: Data, count: int, *, balanced: bool = False, seed: int = 0) -> Data:
    """Return at most this many images, drawn by seed, in their original order.

    Args:
        data: Images; where it has several splits, each contributes in proportion.
        count: The number of images.
        balanced: Draw the same number from each class, as far as they go; by default in the
            data's own proportions.
        seed: The seed of the draw.

    Raises:
        DataError: If `count` is less than 1.

    Example:
        >>> import numpy as np
        >>> from torchlift.transfer.data import Dataset, limited
        >>> data = Dataset(np.zeros((9, 1, 2, 2), np.uint8), np.array([0, 0, 0, 0, 0, 0, 1, 1, 1]))
        >>> limited(data, 3).classes.tolist()
        [0, 0, 1]
        >>> limited(data, 4, balanced=True).classes.tolist()
        [0, 0, 1, 1]
    """
    if count < 1:
        raise DataError(f"limit={count}: expected at least 1")
    if count >= len(data):
        return data
    return data.take(draw_stratified(strata(data), count, balanced=balanced, seed=seed))


def image_shape(data: Dataset | ImageFiles) -> str:
    """Return the shape of the images in words; those of files may have any size.

    Example:
        >>> import numpy as np
        >>> from torchlift.transfer.data import Dataset
        >>> from torchlift.transfer.data.selection import image_shape
        >>> image_shape(Dataset(np.zeros((5, 1, 8, 8), np.uint8)))
        '1×8×8'
    """
    if isinstance(data, Dataset):
        return "×".join(map(str, data.images.shape[1:]))
    return data.color


def conversion_note(data: Dataset | ImageFiles, channels: int) -> tuple[str, ...]:
    """Return a note if a network's preprocessing changes the colors of images.

    Args:
        data: The images; a network's inputs are not changed.
        channels: The channels that the network takes.

    Example:
        >>> import numpy as np
        >>> from torchlift.transfer.data import Dataset
        >>> from torchlift.transfer.data.selection import conversion_note
        >>> conversion_note(Dataset(np.zeros((5, 3, 8, 8), np.uint8)), 1)
        ('the images are RGB and are converted to gray, which the network takes',)
    """
    if isinstance(data, ImageFiles):
        own = 1 if data.color == "gray" else 3
    elif data.images.dtype == np.uint8 and data.images.ndim == 4:
        own = data.images.shape[1]
    else:
        return ()
    names = {1: "gray", 3: "RGB"}
    if own == channels or own not in names:
        return ()
    return (
        f"the images are {names[own]} and are converted to {names[channels]}, "
        "which the network takes",
    )


def strata(data: Dataset | ImageFiles) -> np.ndarray:
    """Return (N,) int64: the same number for images of the same class and split."""
    classes = np.zeros(len(data), np.int64) if data.classes is None else data.classes
    if data.splits is None:
        return classes
    pairs = np.stack([classes.astype(str), data.splits])
    numbers: np.ndarray = np.unique(pairs, axis=1, return_inverse=True)[1]
    return numbers


def draw_stratified(
    groups: np.ndarray, count: int, *, balanced: bool = False, seed: int = 0
) -> np.ndarray:
    """Return the sorted indices of `count` members, drawn from each group in proportion.

    Args:
        groups: (N,) the group of each member.
        count: The number of members to draw in total, at most N.
        balanced: Equal counts, as far as the groups go; else in proportion to their sizes.
        seed: The seed of the draw.
    """
    _, numbered, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    counts = _equal_counts(sizes, count) if balanced else _proportional_counts(sizes, count)
    shuffled = np.random.default_rng(seed).permutation(len(groups))
    # The members of each group one after another, and the position of each in its group.
    order = shuffled[np.argsort(numbered[shuffled], kind="stable")]
    position = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(order[position < np.repeat(counts, sizes)])


def _proportional_counts(sizes: np.ndarray, count: int) -> np.ndarray:
    """Return integers that sum to `count`, in proportion to sizes; largest remainders round up."""
    exact = sizes * (count / sizes.sum())
    counts: np.ndarray = np.floor(exact).astype(np.int64)
    largest = np.argsort(counts - exact, kind="stable")[: count - counts.sum()]
    counts[largest] += 1
    return counts


def _equal_counts(sizes: np.ndarray, count: int) -> np.ndarray:
    counts = np.zeros_like(sizes)
    while (remaining := count - counts.sum()) > 0:
        unfilled = np.flatnonzero(counts < sizes)
        more = max(remaining // len(unfilled), 1)
        chosen = unfilled[: remaining if more == 1 else None]
        counts[chosen] = np.minimum(counts[chosen] + more, sizes[chosen])
    return counts
