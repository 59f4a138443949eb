"""Torch7's `.t7` datasets.

Torch7 has no format for datasets: each project saved its own table of tensors. The common layouts
are recognized. What has to be assumed (the first label, the range of pixels) is derived from the
values and noted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ....converters import t7
from ....converters.errors import NotFiniteError
from ....converters.labels import labels_from
from ....converters.t7 import LuaObject, LuaTable
from ...errors import DataError
from ..array_layout import (
    IMAGE_KEYS,
    LABEL_KEYS,
    NAME_KEYS,
    build_dataset,
    build_dataset_of_splits,
    group_by_split,
)
from ..dataset import Dataset
from ..selection import keep_valid_labels
from .registry import ReadOptions, has_suffix, reader


@reader("a .t7 file", accepts=has_suffix(".t7"), order=20)
def read_t7(source: str, options: ReadOptions) -> Dataset:
    """Return the labeled images of a `.t7` file (see `read_dataset`)."""
    return read_dataset(source, first_label=options.first_label, on_error=options.on_error)


def read_dataset(
    file: str | os.PathLike[str],
    image_shape: Sequence[int] | None = None,
    first_label: int | None = None,
    on_error: str = "raise",
) -> Dataset:
    """Return the labeled images of a `.t7` file.

    Args:
        file: The dataset.
        image_shape: (C, H, W) of one image, for images that are saved flat; the sizes of CIFAR
            and MNIST are recognized.
        first_label: The label of the first class; by default 0 if that label occurs, else 1.
        on_error: `raise` an error for labels out of range, or `skip` those images.

    Raises:
        T7Error: If the file cannot be read.
        DataError: If it holds no images in a known layout.
        NotFiniteError: If a pixel or a label is NaN or infinite.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> import numpy as np
        >>> from torchlift.converters import t7
        >>> from torchlift.transfer.data import read_dataset
        >>> file = Path(mkdtemp()) / "train.t7"
        >>> images = np.zeros((2, 3, 4, 4), np.uint8)
        >>> t7.save(t7.LuaTable({"data": images, "label": np.array([1, 2])}), file)
        >>> data = read_dataset(file)
        >>> data.images.shape, data.classes.tolist()
        ((2, 3, 4, 4), [0, 1])
        >>> data.notes
        ('labels 1 to 2, counted from 1 as found',)
    """
    try:
        return dataset_from(t7.load(file), image_shape, first_label, on_error)
    except (DataError, NotFiniteError) as error:
        raise type(error)(f"{os.fspath(file)}: {error}") from None


def dataset_from(
    value: Any,
    image_shape: Sequence[int] | None = None,
    first_label: int | None = None,
    on_error: str = "raise",
) -> Dataset:
    """Return the labeled images in a value of a `.t7` file.

    The value is one of these:

    - a table of two tensors, `{data = N×C×H×W, label = N}`, also named x and y, images and
      labels, inputs and targets, or without names;
    - a list of pairs `{image, label}`;
    - images alone;
    - splits of these, in a table or an object (`cifar.torch`'s Provider):
      `{train = {data, labels}, test = …}`, `{trainData = …, testData = …}`,
      `{x_train, y_train, …}`.

    Args:
        value: What `t7.load` returned.
        image_shape: (C, H, W) of one image, for images that are saved flat.
        first_label: The label of the first class; by default 0 if that label occurs, else 1.
        on_error: `raise` an error for labels out of range, or `skip` those images.

    Raises:
        DataError: If it is none of these.

    Example:
        >>> import numpy as np
        >>> from torchlift.converters.t7 import LuaTable
        >>> from torchlift.transfer.data import dataset_from
        >>> images = np.zeros((2, 3, 4, 4), np.uint8)
        >>> table = LuaTable({"trainData": images, "trainLabels": np.array([2, 1])})
        >>> data = dataset_from(table)
        >>> data.classes.tolist(), data.splits.tolist()
        ([1, 0], ['train', 'train'])
    """
    if isinstance(value, LuaObject):
        value = value.fields
    splits = _splits(value)
    names = _names(value)
    layout: Any = {"image_shape": image_shape, "first_label": first_label}
    if splits:
        arrays = {split: _images_and_labels(table) for split, table in splits.items()}
        own = {split: own for split, table in splits.items() if (own := _names(table))}
        dataset = build_dataset_of_splits(arrays, names, split_names=own, **layout)
    else:
        dataset = build_dataset(*_images_and_labels(value), names, **layout)
    return keep_valid_labels(dataset, on_error)


def _names(table: Any) -> tuple[str, ...] | None:
    """Return the class names that a table keeps beside its images, if there are any."""
    listed = _entry(table, NAME_KEYS)
    return None if listed is None else tuple(labels_from(listed))


def _splits(value: Any) -> dict[str, LuaTable]:
    """Return the splits of a dataset that has some, each as a table of its own."""
    if _entry(value, IMAGE_KEYS) is not None:
        return {}
    return {
        split: table
        for split, entries in group_by_split(_named_entries(value)).items()
        if (table := _split_table(entries)) is not None
    }


def _split_table(entries: Mapping[str, Any]) -> LuaTable | None:
    """Return a split from entries such as `trainData` and `trainLabels`, or its own table."""
    for name in ("", "data", "set"):
        entry = entries.get(name)
        table = entry.fields if isinstance(entry, LuaObject) else entry
        if isinstance(table, LuaTable):
            return table
    flat = LuaTable(dict(entries))
    return None if _entry(flat, IMAGE_KEYS) is None else flat


def _images_and_labels(value: Any) -> tuple[np.ndarray, np.ndarray | None]:
    if isinstance(value, np.ndarray):
        return value, None
    if not isinstance(value, LuaTable) or not len(value):
        raise DataError("not a dataset: expected a table such as {data = N×C×H×W, label = N}")
    images, labels = _entry(value, IMAGE_KEYS), _entry(value, LABEL_KEYS)
    if isinstance(images, np.ndarray):
        return images, None if labels is None else label_array(labels)
    entries = value.to_list()
    if len(entries) == 2 and all(isinstance(entry, np.ndarray) for entry in entries):
        return entries[0], entries[1]
    pairs = [pair for entry in entries if (pair := _pair(entry)) is not None]
    if not pairs or len(pairs) != len(entries):
        keys = ", ".join(map(str, value.keys()[:8]))
        raise DataError(f"no images under a usual name (data, x, images, inputs) among: {keys}")
    shapes = {image.shape for image, _ in pairs}
    if len(shapes) != 1:
        raise DataError(f"images of different shapes: {sorted(shapes)[:4]}")
    return (
        np.stack([image for image, _ in pairs]),
        label_array(LuaTable.from_list([label for _, label in pairs])),
    )


def _entry(value: Any, names: Sequence[str]) -> Any:
    """Return a table's entry under the first of these names, in upper or lower case."""
    entries = _named_entries(value)
    return next((entries[name] for name in names if name in entries), None)


def _named_entries(value: Any) -> dict[str, Any]:
    """Return the entries of a table whose keys are strings, with the keys in lower case."""
    if not isinstance(value, LuaTable):
        return {}
    return {key.lower(): item for key, item in value.items() if isinstance(key, str)}


def _pair(entry: Any) -> tuple[np.ndarray, Any] | None:
    """Return the pair `{image, label}` or `{image = …, label = …}`, as `nn.StochasticGradient`."""
    if not isinstance(entry, LuaTable):
        return None
    image = entry.get(1, _entry(entry, IMAGE_KEYS))
    label = entry.get(2, _entry(entry, LABEL_KEYS))
    return (image, label) if isinstance(image, np.ndarray) and label is not None else None


def label_array(labels: Any) -> np.ndarray:
    """Return the labels of a tensor, or of a list of numbers or one-element tensors."""
    if isinstance(labels, LuaTable):
        try:
            labels = np.array([float(np.ravel(label)[0]) for label in labels.to_list()])
        except (TypeError, ValueError, IndexError):
            raise DataError("the labels are not numbers") from None
    if not isinstance(labels, np.ndarray):
        raise DataError(f"the labels are a {type(labels).__name__}, expected a tensor or a list")
    return labels
