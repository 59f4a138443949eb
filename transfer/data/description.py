"""What a dataset holds: classes and their counts, sizes, imbalance, and images that occur twice.

Of many images only some are looked at, evenly spaced, and it says how many: nothing is decoded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ...converters.images.decode import read_header
from ...converters.inference.classifier import class_name
from .dataset import SPLIT_NAMES, Dataset
from .image_files import EncodedImage, FileSlice, ImageFiles, readable
from .remote_files import RemoteFile
from .selection import class_count
from .splits import Splits

#: Files whose headers are read for their sizes.
_HEADERS = 1000

#: Bytes that are read at most to find equal images.
_MOST_BYTES = 2**29

#: Pairs of equal images that are named.
_EXAMPLES = 3

#: The split of data that has none.
_NO_SPLIT = ""


@dataclass(frozen=True)
class ImageSizes:
    """The sizes (height, width) of images that are files.

    Attributes:
        smallest: The one with the fewest pixels.
        largest: The one with the most pixels.
        different: How many sizes there are.
        examined: How many images were looked at.
    """

    smallest: tuple[int, int]
    largest: tuple[int, int]
    different: int
    examined: int


@dataclass(frozen=True)
class Duplicates:
    """Images that occur more than once: the same pixels, or of files the same bytes.

    Attributes:
        examined: How many images were looked at.
        repeated: `(split, images)`: how many images of a split repeat an earlier one of it.
        shared: `(split, other, images)`: how many images of `other` are also in `split`.
        conflicting: How many images are of another class than an equal one.
        examples: `(image, equal image)`.
    """

    examined: int
    repeated: tuple[tuple[str, int], ...]
    shared: tuple[tuple[str, str, int], ...]
    conflicting: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class DataDescription:
    """What a dataset holds.

    Attributes:
        image_shape: (C, H, W) of images in memory; None of files, whose `sizes` may differ.
        sizes: The sizes of files.
        splits: The images of each split; a dataset without splits has one, without a name.
        labels: The class names, or their numbers from 1; None without labels.
        counts: For each split, the images of each class.
        imbalance: Images of the largest class for each of the smallest that has any, in the
            training split; None without labels.
        duplicates: Images that occur more than once.
        notes: What was assumed when the data was read.
    """

    image_shape: tuple[int, ...] | None
    sizes: ImageSizes | None
    splits: dict[str, int]
    labels: list[str] | None
    counts: dict[str, list[int]]
    imbalance: float | None
    duplicates: Duplicates
    notes: tuple[str, ...]

    @property
    def count(self) -> int:
        """The number of images."""
        return sum(self.splits.values())

    @property
    def named_splits(self) -> list[str]:
        """The names of the splits; empty for a dataset without splits."""
        return [name for name in self.splits if name != _NO_SPLIT]

    def to_json(self) -> dict[str, Any]:
        """Return the description as JSON values."""
        repeated, shared = self.duplicates.repeated, self.duplicates.shared
        return {
            "count": self.count,
            "image_shape": None if self.image_shape is None else list(self.image_shape),
            "sizes": None if self.sizes is None else asdict(self.sizes),
            "splits": [{"split": name, "count": self.splits[name]} for name in self.named_splits],
            "classes": None
            if self.labels is None
            else [*map(self._class, range(len(self.labels)))],
            "imbalance": self.imbalance,
            "duplicates": {
                "examined": self.duplicates.examined,
                "repeated": [
                    {**({"split": split} if split else {}), "count": count}
                    for split, count in repeated
                ],
                "shared": [
                    {"split": split, "other": other, "count": count}
                    for split, other, count in shared
                ],
                "conflicting": self.duplicates.conflicting,
                "examples": [list(pair) for pair in self.duplicates.examples],
            },
            "notes": list(self.notes),
        }

    def _class(self, index: int) -> dict[str, Any]:
        assert self.labels is not None
        counts = {name: self.counts[name][index] for name in self.splits}
        named = {name: counts[name] for name in self.named_splits}
        return {"label": self.labels[index], "count": sum(counts.values()), **named}


def describe_data(data: Dataset | ImageFiles | Splits[Any]) -> DataDescription:
    """Return what a dataset holds.

    Args:
        data: A dataset, with or without splits of its own, or the splits of a training.

    Example:
        >>> import numpy as np
        >>> from torchlift.transfer.data import Dataset
        >>> pixels = np.zeros((3, 1, 2, 2), np.uint8)
        >>> pixels[2] = 1
        >>> found = describe_data(Dataset(pixels, np.array([0, 0, 1]), ("cat", "dog")))
        >>> found.counts, found.imbalance, found.duplicates.repeated
        ({'': [2, 1]}, 2.0, (('', 1),))
    """
    splits: Mapping[str, Dataset | ImageFiles]
    if isinstance(data, Splits):
        splits = {name: getattr(data, name) for name in SPLIT_NAMES if len(getattr(data, name))}
        first, notes = data.train, data.notes
    else:
        first, notes = data, data.notes
        rows = {} if data.splits is None else _rows_of(data.splits)
        splits = {name: data.take(rows[name]) for name in rows} or {_NO_SPLIT: data}
    labels, counts = None, {}
    if first.classes is not None:
        classes = class_count(first)
        labels = [class_name(first.names, index) for index in range(classes)]
        counts = {
            name: np.bincount(images.classes, minlength=classes)[:classes].tolist()
            for name, images in splits.items()
            if images.classes is not None
        }
        counts = {name: counts.get(name, [0] * classes) for name in splits}
    trained = np.array(counts.get("train") or next(iter(counts.values()), []))
    present = trained[trained > 0]
    return DataDescription(
        tuple(first.images.shape[1:]) if isinstance(first, Dataset) else None,
        _sizes([*splits.values()]),
        {name: len(images) for name, images in splits.items()},
        labels,
        counts,
        float(present.max() / present.min()) if len(present) else None,
        find_duplicates(splits),
        tuple(notes),
    )


def _rows_of(splits: np.ndarray) -> dict[str, np.ndarray]:
    given = set(splits.tolist())
    return {name: np.flatnonzero(splits == name) for name in SPLIT_NAMES if name in given}


def _sizes(splits: Sequence[Dataset | ImageFiles]) -> ImageSizes | None:
    files = [
        (images, index)
        for images in splits
        if isinstance(images, ImageFiles) and not _is_remote(images)
        for index in range(len(images))
    ]
    if not files:
        return None
    chosen = [files[at] for at in _evenly(len(files), _HEADERS)]
    found = {
        read_header(readable(images.files[index]), images.name(index)).size
        for images, index in chosen
    }
    by_area = sorted(found, key=lambda size: (size[0] * size[1], size))
    return ImageSizes(by_area[0], by_area[-1], len(found), len(chosen))


def _evenly(count: int, most: int) -> list[int]:
    """Return at most `most` of the numbers below `count`, evenly spaced."""
    spaced = np.linspace(0, count - 1, min(count, most)).astype(int)
    chosen: list[int] = np.unique(spaced).tolist()
    return chosen


def find_duplicates(splits: Mapping[str, Dataset | ImageFiles]) -> Duplicates:
    """Return which images occur more than once.

    Args:
        splits: The splits. Of those that are large together some images are looked at.
    """
    whole = sum(_byte_count(images) for images in splits.values())
    fraction = min(1.0, _MOST_BYTES / max(whole, 1))
    first: dict[bytes, tuple[str, str, int]] = {}
    seen: dict[str, set[bytes]] = {name: set() for name in splits}
    repeated = dict.fromkeys(splits, 0)
    shared = dict.fromkeys(combinations(splits, 2), 0)
    examined = conflicting = 0
    examples: list[tuple[str, str]] = []
    for split, images in splits.items():
        rows = [] if _is_remote(images) else _evenly(len(images), round(len(images) * fraction))
        examined += len(rows)
        for row, digest in zip(rows, _digests(images, rows), strict=True):
            name = str(row if images.ids is None else images.ids[row])
            label = -1 if images.classes is None else int(images.classes[row])
            if digest in first:
                other, equal, own = first[digest]
                conflicting += own != label
                if len(examples) < _EXAMPLES:
                    examples.append((_named(other, equal), _named(split, name)))
            else:
                first[digest] = split, name, label
            repeated[split] += digest in seen[split]
            for before in splits:
                if before == split:
                    break
                shared[before, split] += digest in seen[before]
            seen[split].add(digest)
    return Duplicates(
        examined,
        tuple((split, count) for split, count in repeated.items() if count),
        tuple((*pair, count) for pair, count in shared.items() if count),
        conflicting,
        tuple(examples),
    )


def _named(split: str, name: str) -> str:
    return f"{split}: {name}" if split else name


def _is_remote(images: Dataset | ImageFiles) -> bool:
    """Return whether images would have to be fetched to be looked at."""
    return isinstance(images, ImageFiles) and any(isinstance(f, RemoteFile) for f in images.files)


def _byte_count(images: Dataset | ImageFiles) -> int:
    if isinstance(images, Dataset):
        return images.images.nbytes
    return sum(map(_encoded_size, images.files))


def _encoded_size(image: EncodedImage) -> int:
    if isinstance(image, Path):
        return image.stat().st_size
    if isinstance(image, RemoteFile):
        return 0  # It is not fetched.
    return image.size if isinstance(image, FileSlice) else len(image)


def _digests(images: Dataset | ImageFiles, rows: Sequence[int]) -> Iterator[bytes]:
    """Yield a hash of each of some images: of the pixels, or of a file's bytes."""
    for row in rows:
        if isinstance(images, Dataset):
            image = images.images[row]
            content = f"{image.dtype} {image.shape}".encode() + image.tobytes()
        else:
            source = readable(images.files[row])
            content = source.read_bytes() if isinstance(source, Path) else bytes(source)
        yield hashlib.blake2b(content, digest_size=16).digest()
