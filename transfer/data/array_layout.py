"""What the arrays of a dataset mean: the shape of images, the numbers of pixels, labels.

It is found by looking at them, and what was assumed becomes a note.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import DataError
from .dataset import SPLIT_NAMES, Dataset

#: What datasets call their images, their labels and the names of their classes, in lower case.
IMAGE_KEYS = ("data", "x", "images", "image", "inputs", "input")
LABEL_KEYS = ("label", "labels", "y", "targets", "target")
NAME_KEYS = ("classes", "class_names", "classnames")

#: Images that are saved flat, by their number of values: CIFAR, MNIST and MNIST padded to 32×32.
_FLAT_SHAPES = {3072: (3, 32, 32), 784: (1, 28, 28), 1024: (1, 32, 32)}

#: Names that tell the split: `trainData`, `test_images`, `validation`, and `x_train`.
_SPLIT = r"(train|val|test)(?:ing|idation|id)?"
_PART_FIRST, _PART_LAST = re.compile(rf"{_SPLIT}_?(\w*)"), re.compile(rf"(\w+?)_?{_SPLIT}")

#: Images that are looked at together; bounds the memory for it.
_CHUNK = 1024


def assembled(
    images: np.ndarray,
    labels: np.ndarray | None,
    names: tuple[str, ...] | None,
    *,
    image_shape: Sequence[int] | None = None,
    first_label: int | None = None,
) -> Dataset:
    """A dataset of the arrays that a file holds.

    Args:
        images: (N, C, H, W), (N, H, W), flat (N, C·H·W), or the last transposed.
        labels: N whole numbers; None without labels.
        names: of the classes, if the file has them.
        image_shape: (C, H, W) of one image, for data that is saved flat.
        first_label: the label of the first class; by default 0 if that label occurs, else 1.

    Raises:
        DataError: when the arrays are nothing of that, or not of one length.
    """
    classes, label_notes = (None, []) if labels is None else _classes(labels, first_label)
    count = None if classes is None else len(classes)
    images, shape_notes = _as_batch(images, count, image_shape)
    if classes is not None:
        _check_lengths(images, classes)
    images, pixel_notes = _as_pixels(images)
    return Dataset(images, classes, names, (*shape_notes, *pixel_notes, *label_notes))


def assembled_splits(
    splits: Mapping[str, tuple[np.ndarray, np.ndarray | None]],
    names: tuple[str, ...] | None,
    *,
    image_shape: Sequence[int] | None = None,
    first_label: int | None = None,
) -> Dataset:
    """One dataset of all splits of a file, which says of each image where it is from.

    What labels and pixels mean is found by looking at all splits: one may lack the first class.

    Args:
        splits: `train`, `val`, `test`, those that there are: images and labels of each.
        names: of the classes, if the file has them.
        image_shape: as in `assembled`.
        first_label: the same.

    Raises:
        DataError: when the arrays are nothing of that, or of different kinds.
    """
    batches, labels, notes = [], [], list[str]()
    for images, own in splits.values():
        batch, said = _as_batch(images, None if own is None else own.size, image_shape)
        batches.append(batch)
        if own is not None:
            labels.append(_one_each(own))
            _check_lengths(batch, labels[-1])
        notes += said
    kinds = {(batch.shape[1:], batch.dtype.name) for batch in batches}
    if len(kinds) != 1 or len(labels) not in (0, len(batches)):
        raise DataError(f"the splits {', '.join(splits)} do not hold images of one kind: {kinds}")
    whole = assembled(
        np.concatenate(batches),
        np.concatenate(labels) if labels else None,
        names,
        first_label=first_label,
    )
    return replace(
        whole,
        notes=(*dict.fromkeys(notes), *whole.notes),
        splits=np.repeat(list(splits), [len(batch) for batch in batches]),
    )


def by_split(entries: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Entries whose names tell a split, sorted by it: `{train_x, train_y}` → `{train: {x, y}}`.

    Args:
        entries: by name; those that are of no split are left out.

    Returns:
        what there is of `train`, `val` and `test`, under the rest of its name in lower case.
    """
    found: dict[str, dict[str, Any]] = {split: {} for split in SPLIT_NAMES}
    for name, value in entries.items():
        if match := _PART_FIRST.fullmatch(name.lower()):
            split, rest = match.groups()
        elif match := _PART_LAST.fullmatch(name.lower()):
            rest, split = match.groups()
        else:
            continue
        found[split][rest] = value
    return {split: inner for split, inner in found.items() if inner}


def _classes(labels: np.ndarray, first_label: int | None) -> tuple[np.ndarray, list[str]]:
    """Labels as class indices from 0: Torch7's own count from 1, CIFAR's files from 0."""
    labels = _one_each(labels)
    whole = labels.astype(np.int64)
    if not labels.size or (whole != labels).any():
        raise DataError("the labels are no whole numbers" if labels.size else "no labels")
    low, high = int(whole.min()), int(whole.max())
    first = first_label if first_label is not None else min(max(low, 0), 1)
    said = "as told" if first_label is not None else "as found"
    return whole - first, [f"labels {low} to {high}, counted from {first} {said}"]


def _one_each(labels: np.ndarray) -> np.ndarray:
    """Labels (N,) in whatever shape they were saved."""
    if labels.size != max(labels.shape, default=0):
        raise DataError(f"one label an image was expected, not {_times(labels.shape)}")
    if labels.dtype.kind not in "biuf":
        raise DataError("the labels are no numbers")
    return labels.reshape(-1)


def _check_lengths(images: np.ndarray, labels: np.ndarray) -> None:
    if len(labels) != len(images):
        raise DataError(f"{len(images)} images, but {len(labels)} labels")


def _as_batch(
    images: np.ndarray, count: int | None, image_shape: Sequence[int] | None
) -> tuple[np.ndarray, list[str]]:
    """Images as (N, C, H, W)."""
    images = np.asarray(images)
    if images.ndim == 2 and count is not None and images.shape[0] != count == images.shape[1]:
        images = images.T
    if images.ndim == 4:
        return images, []
    if images.ndim == 3:
        return images[:, None], [f"{_times(images.shape)} taken for grey images"]
    values = math.prod(images.shape[1:])
    shape = tuple(image_shape) if image_shape else _FLAT_SHAPES.get(values)
    if images.ndim != 2 or shape is None or math.prod(shape) != values:
        raise DataError(f"images have the shape {_times(images.shape)}, N×C×H×W was expected")
    return images.reshape(-1, *shape), [f"{values} values an image taken for {_times(shape)}"]


def _as_pixels(images: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Images as uint8 if their numbers are pixels, whatever type they were saved in.

    Zeros alone do not tell; then the number type decides, which is usual for inputs.
    """
    if images.dtype == np.uint8:
        return images, []
    for scale, said in ((255, "256 steps from 0 to 1"), (1, "whole numbers from 0 to 255")):
        if images.any() and all(_are_steps(chunk, scale) for chunk in _chunks(images)):
            pixels = np.empty(images.shape, np.uint8)
            for target, chunk in zip(_chunks(pixels), _chunks(images), strict=True):
                target[...] = np.rint(chunk * scale)
            return pixels, [f"{images.dtype} values are {said}: taken for pixels"]
    return images, [f"{images.dtype} values are no pixels: taken for inputs, ready for the network"]


def _chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    return (array[start : start + _CHUNK] for start in range(0, len(array), _CHUNK))


def _are_steps(values: np.ndarray, scale: int) -> bool:
    """Whether all values are k / scale for a whole k from 0 to 255."""
    scaled = values.astype(np.float64) * scale
    return bool(((scaled >= 0) & (scaled < 255.5) & (abs(scaled - np.rint(scaled)) < 1e-3)).all())


def _times(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
