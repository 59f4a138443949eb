"""Labelled images from Torch7's `.t7` datasets.

Torch7 has no dataset format: each project saved its own table of tensors. The shapes that were
common are understood, and what had to be assumed (where the labels count from, what the numbers
of a pixel mean) is found by looking at the data and kept as notes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...converters import t7
from ...converters.labels import labels_from
from ...converters.t7 import LuaObject, LuaTable
from ..errors import DataError
from .array_layout import IMAGE_KEYS, LABEL_KEYS, NAME_KEYS, assembled, assembled_splits, by_split
from .dataset import Dataset
from .selection import in_range


def read_dataset(
    file: str | os.PathLike[str],
    image_shape: Sequence[int] | None = None,
    first_label: int | None = None,
    on_error: str = "raise",
) -> Dataset:
    """The labelled images of a `.t7` file.

    Args:
        file: the dataset.
        image_shape: (C, H, W) of one image, for data that is saved flat; guessed for CIFAR's
            and MNIST's sizes.
        first_label: the label of the first class; by default 0 if that label occurs, else 1.
        on_error: `raise` for labels out of range, or `skip` to leave them out.

    Raises:
        T7Error: when the file cannot be read.
        DataError: when it holds no images in a shape that is known.
    """
    try:
        return dataset_from(t7.load(file), image_shape, first_label, on_error)
    except DataError as error:
        raise DataError(f"{os.fspath(file)}: {error}") from None


def dataset_from(
    value: Any,
    image_shape: Sequence[int] | None = None,
    first_label: int | None = None,
    on_error: str = "raise",
) -> Dataset:
    """The labelled images in a value of a `.t7`.

    A table of two tensors (`{data = N×C×H×W, label = N}`, also named x and y, images and labels,
    inputs and targets, or not named at all), a list of pairs `{image, label}`, or images alone;
    or splits of that: `{train = {data, labels}, test = …}`, `{trainData = …, testData = …}` in a
    table or an object (`cifar.torch`'s Provider), `{x_train, y_train, …}`.

    Args:
        value: what `t7.load` gave.
        image_shape: (C, H, W) of one image, for data that is saved flat.
        first_label: the label of the first class; by default 0 if that label occurs, else 1.
        on_error: `raise` for labels out of range, or `skip` to leave them out.

    Raises:
        DataError: when it is none of these.
    """
    if isinstance(value, LuaObject):
        value = value.fields
    splits = _splits(value)
    listed = [_entry(table, NAME_KEYS) for table in (value, *splits.values())]
    names = next((tuple(labels_from(each)) for each in listed if each is not None), None)
    meaning: Any = {"image_shape": image_shape, "first_label": first_label}
    if splits:
        arrays = {split: _images_and_labels(inner) for split, inner in splits.items()}
        dataset = assembled_splits(arrays, names, **meaning)
    else:
        dataset = assembled(*_images_and_labels(value), names, **meaning)
    return in_range(dataset, on_error)


def _splits(value: Any) -> dict[str, LuaTable]:
    """The splits of a dataset that has some, each a dataset of its own."""
    if _entry(value, IMAGE_KEYS) is not None:
        return {}
    return {
        split: found
        for split, inner in by_split(_named(value)).items()
        if (found := _take_split(inner)) is not None
    }


def _take_split(entries: Mapping[str, Any]) -> LuaTable | None:
    """A split from entries such as `trainData` and `trainLabels`, or from a table of its own."""
    tables = (entries.get(name) for name in ("", "data", "set"))
    for table in tables:
        inner = table.fields if isinstance(table, LuaObject) else table
        if isinstance(inner, LuaTable):
            return inner
    flat = LuaTable(dict(entries))
    return None if _entry(flat, IMAGE_KEYS) is None else flat


def _images_and_labels(value: Any) -> tuple[np.ndarray, np.ndarray | None]:
    if isinstance(value, np.ndarray):
        return value, None
    if not isinstance(value, LuaTable) or not len(value):
        raise DataError("no dataset: a table such as {data = N×C×H×W, label = N} was expected")
    images, labels = _entry(value, IMAGE_KEYS), _entry(value, LABEL_KEYS)
    if isinstance(images, np.ndarray):
        return images, None if labels is None else _label_array(labels)
    entries = value.to_list()
    if len(entries) == 2 and all(isinstance(entry, np.ndarray) for entry in entries):
        return entries[0], entries[1]
    pairs = [_pair(entry) for entry in entries]
    if not pairs or any(pair is None for pair in pairs):
        keys = ", ".join(map(str, value.keys()[:8]))
        raise DataError(f"no images under a usual name (data, x, images, inputs) among: {keys}")
    shapes = {pair[0].shape for pair in pairs if pair}
    if len(shapes) != 1:
        raise DataError(f"images of different shapes: {sorted(shapes)[:4]}")
    return (
        np.stack([pair[0] for pair in pairs if pair]),
        _label_array(LuaTable.from_list([pair[1] for pair in pairs if pair])),
    )


def _entry(value: Any, names: Sequence[str]) -> Any:
    """A table's entry with the first of these names, in upper or lower case."""
    entries = _named(value)
    return next((entries[name] for name in names if name in entries), None)


def _named(value: Any) -> dict[str, Any]:
    """What stands in a table under a name, which is given in lower case."""
    if not isinstance(value, LuaTable):
        return {}
    return {key.lower(): item for key, item in value.items() if isinstance(key, str)}


def _pair(entry: Any) -> tuple[np.ndarray, Any] | None:
    """`{image, label}` or `{image = …, label = …}`, as nn's training loop takes a dataset."""
    if not isinstance(entry, LuaTable):
        return None
    pair = (entry.get(1, _entry(entry, IMAGE_KEYS)), entry.get(2, _entry(entry, LABEL_KEYS)))
    return pair if isinstance(pair[0], np.ndarray) and pair[1] is not None else None


def _label_array(labels: Any) -> np.ndarray:
    """Labels of a tensor, or of a list of numbers or one-element tensors."""
    if isinstance(labels, LuaTable):
        try:
            labels = np.array([float(np.ravel(label)[0]) for label in labels.to_list()])
        except (TypeError, ValueError, IndexError):
            raise DataError("the labels are no numbers") from None
    if not isinstance(labels, np.ndarray):
        raise DataError(f"the labels are no tensor or list, but {type(labels).__name__}")
    return labels
