"""What the arrays of a dataset mean: the layout of images, the range of pixels, the first label.

The values themselves decide, and each assumption becomes a note.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...converters.finite import require_finite
from ..errors import DataError
from .class_matching import match_names
from .dataset import SPLIT_NAMES, Dataset, check_same_kind

#: Usual names of the images, the labels and the class names in a dataset, in lower case.
IMAGE_KEYS = ("data", "x", "images", "image", "inputs", "input")
LABEL_KEYS = ("label", "labels", "y", "targets", "target")
NAME_KEYS = ("classes", "class_names", "classnames", "label_names", "target_names")

#: Shapes of images that are saved flat, by their number of values: CIFAR, MNIST, and MNIST padded
#: to 32×32.
_FLAT_SHAPES = {3072: (3, 32, 32), 784: (1, 28, 28), 1024: (1, 32, 32)}

#: Names that contain a split: `trainData`, `test_images`, `validation`, and `x_train`.
_SPLIT = r"(train|val|test)(?:ing|idation|id)?"
_SPLIT_FIRST, _SPLIT_LAST = re.compile(rf"{_SPLIT}_?(\w*)"), re.compile(rf"(\w+?)_?{_SPLIT}")

#: What is trained.
_ONE = "torchlift trains classifiers, with one class an image"

#: Images that are examined at a time, which bounds the memory.
_CHUNK = 1024


def build_dataset(
    images: np.ndarray,
    labels: np.ndarray | None,
    names: tuple[str, ...] | None,
    *,
    image_shape: Sequence[int] | None = None,
    first_label: int | None = None,
    are_classes: bool = False,
) -> Dataset:
    """Return the arrays of a file as a dataset.

    Args:
        images: (N, C, H, W), (N, H, W), flat (N, C·H·W), or flat and transposed.
        labels: N integers; None without labels.
        names: The class names, if the file has them.
        image_shape: (C, H, W) of one image, for images that are saved flat.
        first_label: The label of the first class; by default 0 if that label occurs, else 1.
        are_classes: Whether the labels are the indices of the classes already.

    Raises:
        DataError: If the arrays have another layout, or differ in length.
        NotFiniteError: If a pixel or a label is NaN or infinite.
    """
    classes, label_notes = labels, list[str]()
    if labels is not None and not are_classes:
        classes, label_notes = to_classes(labels, first_label)
    count = None if classes is None else len(classes)
    images, shape_notes = _to_batch(images, count, image_shape)
    if classes is not None:
        _check_lengths(images, classes)
    require_finite(images, "images")
    images, pixel_notes = _to_pixels(images)
    return Dataset(images, classes, names, (*shape_notes, *pixel_notes, *label_notes))


def build_dataset_of_splits(
    splits: Mapping[str, tuple[np.ndarray, np.ndarray | None]],
    names: tuple[str, ...] | None,
    *,
    split_names: Mapping[str, Sequence[str]] | None = None,
    image_shape: Sequence[int] | None = None,
    first_label: int | None = None,
    are_classes: bool = False,
) -> Dataset:
    """Return all splits of a file as one dataset that remembers the split of each image.

    The meaning of labels and pixels is derived from all splits together: one split may lack the
    first class.

    Args:
        splits: Images and labels of what the file has of `train`, `val` and `test`.
        names: The class names, if the file has them.
        split_names: The class names of each split that has a list of its own. All are matched by
            name with `names`, or with the first of them.
        image_shape: As in `build_dataset`.
        first_label: As in `build_dataset`.
        are_classes: As in `build_dataset`; `split_names` number nothing then.

    Raises:
        DataError: If the arrays have another layout, or the splits differ in kind or in the names
            of their classes.
    """
    own_names = split_names or {}
    names = names or next((tuple(each) for each in own_names.values()), None)
    batches: list[np.ndarray] = []
    labels: list[np.ndarray | None] = []
    notes: list[str] = []
    for split, (images, own) in splits.items():
        if not len(images):
            raise DataError(f"the split {split} has no images: leave it out")
        batch, shape_notes = _to_batch(images, None if own is None else own.size, image_shape)
        batches.append(batch)
        notes += shape_notes
        flat = None if own is None else _flatten_labels(own)
        labels.append(flat)
        if flat is not None:
            _check_lengths(batch, flat)
    check_same_kind(list(splits), batches, labels)
    present = [own for own in labels if own is not None]
    whole = build_dataset(
        np.concatenate(batches),
        np.concatenate(present) if present else None,
        names,
        first_label=first_label,
        are_classes=are_classes,
    )
    whole = replace(
        whole,
        notes=(*dict.fromkeys(notes), *whole.notes),
        splits=np.repeat(list(splits), [len(batch) for batch in batches]),
    )
    if names is None or are_classes:
        return whole
    return _with_common_names(whole, names, own_names)


def _with_common_names(
    data: Dataset, names: Sequence[str], split_names: Mapping[str, Sequence[str]]
) -> Dataset:
    """Return data whose splits number their classes as `names` does."""
    if data.classes is None or data.splits is None:
        return data
    classes, notes = data.classes.copy(), list(data.notes)
    for split, own in split_names.items():
        if list(own) == list(names):
            continue
        sides = (f"the split {split}", "the first list of class names")
        # What is out of the range of the split's own names stays out of range.
        positions = np.array([*match_names(own, names, sides), -1])
        rows = data.splits == split
        inside = (classes[rows] >= 0) & (classes[rows] < len(own))
        classes[rows] = positions[np.where(inside, classes[rows], len(own))]
        notes.append(f"the classes of the split {split} were matched with the others by name")
    return replace(data, classes=classes, notes=tuple(notes))


def group_by_split(entries: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Group the entries whose names contain a split: `{train_x, train_y}` → `{train: {x, y}}`.

    Args:
        entries: Values by name; those of no split are left out.

    Returns:
        What there is of `train`, `val` and `test`, under the rest of its name in lower case.
    """
    groups: dict[str, dict[str, Any]] = {split: {} for split in SPLIT_NAMES}
    for name, value in entries.items():
        if match := _SPLIT_FIRST.fullmatch(name.lower()):
            split, rest = match.groups()
        elif match := _SPLIT_LAST.fullmatch(name.lower()):
            rest, split = match.groups()
        else:
            continue
        groups[split][rest] = value
    return {split: group for split, group in groups.items() if group}


def to_classes(labels: np.ndarray, first_label: int | None) -> tuple[np.ndarray, list[str]]:
    """Return labels as class indices from 0: Torch7 counts from 1, CIFAR's files from 0."""
    labels = _flatten_labels(labels)
    require_finite(labels, "labels")
    with np.errstate(invalid="ignore"):  # what is too large does not equal its integer
        whole = labels.astype(np.int64)
    if not labels.size:
        raise DataError("no labels")
    # Beyond it, floats and unsigned integers lose digits, and differ from their integers.
    if (large := labels[np.abs(labels.astype(np.float64)) >= 2.0**53]).size:
        raise DataError(f"the label {large[0]} is out of range: no data has so many classes")
    if (real := labels[whole != labels]).size:
        raise DataError(f"the labels are not integers, but real numbers such as {real[0]}: {_ONE}")
    low, high = int(whole.min()), int(whole.max())
    first = first_label if first_label is not None else min(max(low, 0), 1)
    origin = "as given" if first_label is not None else "as found"
    return whole - first, [f"labels {low} to {high}, counted from {first} {origin}"]


def _flatten_labels(labels: np.ndarray) -> np.ndarray:
    """Return labels as (N,), in whatever shape they were saved."""
    if labels.size != max(labels.shape, default=0):
        raise DataError(f"expected one label per image, not {_format_shape(labels.shape)}: {_ONE}")
    if labels.dtype.kind not in "biuf":
        raise DataError("the labels are not numbers")
    return labels.reshape(-1)


def _check_lengths(images: np.ndarray, labels: np.ndarray) -> None:
    if len(labels) != len(images):
        raise DataError(f"{len(images)} images, but {len(labels)} labels")


def _to_batch(
    images: np.ndarray, count: int | None, image_shape: Sequence[int] | None
) -> tuple[np.ndarray, list[str]]:
    """Return images as (N, C, H, W), with notes."""
    images = np.asarray(images)
    if images.dtype.kind not in "biuf":
        raise DataError(f"images of the type {images.dtype}, expected numbers")
    if not images.size:
        raise DataError(f"images have the shape {_format_shape(images.shape)}: there are no pixels")
    if images.ndim == 2 and count is not None and images.shape[0] != count == images.shape[1]:
        images = images.T
    if images.ndim == 4:
        return images, []
    if images.ndim == 3:
        return images[:, None], [f"{_format_shape(images.shape)} taken as gray images"]
    values = math.prod(images.shape[1:])
    shape = tuple(image_shape) if image_shape else _FLAT_SHAPES.get(values)
    if images.ndim != 2 or shape is None or math.prod(shape) != values:
        raise DataError(f"images have the shape {_format_shape(images.shape)}, expected N×C×H×W")
    return images.reshape(-1, *shape), [
        f"{values} values per image taken as {_format_shape(shape)}"
    ]


def _to_pixels(images: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return images as uint8 if their values are pixels in another dtype, with notes.

    Images that are all zeros could be either; floats are then taken as inputs, which is usual.
    """
    if images.dtype == np.uint8:
        return images, []
    for scale, range_name in ((255, "256 steps from 0 to 1"), (1, "integers from 0 to 255")):
        if images.any() and all(_are_steps(chunk, scale) for chunk in _chunks(images)):
            pixels = np.empty(images.shape, np.uint8)
            for target, chunk in zip(_chunks(pixels), _chunks(images), strict=True):
                target[...] = np.rint(chunk * scale)
            return pixels, [f"{images.dtype} values are {range_name}: taken as pixels"]
    return images, [f"{images.dtype} values are not pixels: taken as a network's inputs"]


def _chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    return (array[start : start + _CHUNK] for start in range(0, len(array), _CHUNK))


def _are_steps(values: np.ndarray, scale: int) -> bool:
    """Return whether all values are k / scale for integers k from 0 to 255."""
    scaled = values.astype(np.float64) * scale
    return bool(((scaled >= 0) & (scaled < 255.5) & (abs(scaled - np.rint(scaled)) < 1e-3)).all())


def _format_shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "()"
