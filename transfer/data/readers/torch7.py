"""Torch7's `.t7` datasets.

Torch7 has no format for datasets: each project saved its own table of tensors. The common layouts
are recognized. What has to be assumed (the first label, the range of pixels) is derived from the
values and noted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ....converters import t7
from ....converters.errors import NotFiniteError
from ....converters.labels import labels_from
from ....converters.t7 import LuaTable
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
from ..lua_tables import entry, images_and_labels, named_entries, unwrapped
from ..selection import keep_valid_labels
from .registry import ReadOptions, has_suffix, reader

#: What messages call a `.t7` that is known by its content.
KIND_BY_CONTENT = "a Torch7 file under another suffix"

#: How a table or an object begins: its type tag, in either byte order and as text.
_STARTS = (b"\3\0\0\0", b"\4\0\0\0", b"\0\0\0\3", b"\0\0\0\4", b"3\n", b"4\n", b"3\r\n", b"4\r\n")


def is_torch7_file(source: str | os.PathLike[str]) -> bool:
    """Return whether a file begins as Torch7 writes a table or an object, whatever its suffix.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> from torchlift.converters import t7
        >>> file = Path(mkdtemp()) / "train.dat"
        >>> t7.save(t7.LuaTable({"label": 1}), file)
        >>> is_torch7_file(file)
        True
    """
    path = Path(source)
    if not path.is_file():
        return False
    if ".t7" in path.suffixes:
        return True  # It may be compressed.
    with path.open("rb") as stream:
        return stream.read(4).startswith(_STARTS)


@reader(KIND_BY_CONTENT, accepts=is_torch7_file, order=60)
def read_torch7_file(source: str, options: ReadOptions) -> Dataset:
    """Return the labeled images of a Torch7 file under another suffix (see `read_dataset`)."""
    return read_dataset(source, first_label=options.first_label, on_error=options.on_error)


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

    - a table of images and labels, `{data = N×C×H×W, label = N}`, also named x and y, images and
      labels, inputs and targets, or without names; the images may be a list;
    - a list of pairs `{image, label}`;
    - images alone, as a tensor or a list;
    - splits of these, in a table or an object (`cifar.torch`'s Provider):
      `{train = {data, labels}, test = …}`, `{trainData = …, testData = …}`,
      `{x_train, y_train, …}`;
    - one of these in a string that `torch.serialize` wrote, or under the name `dataset`.

    An image may be a tensor or the bytes of a JPEG or PNG file.

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
    value = unwrapped(value)
    if len(named_entries(value)) and (inner := entry(value, ("dataset",))) is not None:
        value = unwrapped(inner)
    splits = _splits(value)
    names = _names(value)
    layout: Any = {"image_shape": image_shape, "first_label": first_label}
    if splits:
        arrays = {split: images_and_labels(table) for split, table in splits.items()}
        own = {split: own for split, table in splits.items() if (own := _names(table))}
        dataset = build_dataset_of_splits(arrays, names, split_names=own, **layout)
    else:
        dataset = build_dataset(*images_and_labels(value), names, **layout)
    if beside := sorted({"mean", "std"} & named_entries(value).keys()):
        note = f"not applied: {' and '.join(beside)}, which stand beside the images"
        dataset = replace(dataset, notes=(*dataset.notes, note))
    return keep_valid_labels(dataset, on_error)


def _names(table: Any) -> tuple[str, ...] | None:
    """Return the class names that a table keeps beside its images, if there are any."""
    listed = entry(table, NAME_KEYS)
    return None if listed is None else tuple(labels_from(listed))


def _splits(value: Any) -> dict[str, LuaTable]:
    """Return the splits of a dataset that has some, each as a table of its own."""
    if entry(value, IMAGE_KEYS) is not None:
        return {}
    return {
        split: table
        for split, entries in group_by_split(named_entries(value)).items()
        if (table := _split_table(entries)) is not None
    }


def _split_table(entries: Mapping[str, Any]) -> LuaTable | None:
    """Return a split from entries such as `trainData` and `trainLabels`, or its own table."""
    flat = LuaTable(dict(entries))
    if entry(flat, IMAGE_KEYS) is not None and entry(flat, LABEL_KEYS) is not None:
        return flat
    for name in ("", "data", "set"):
        table = unwrapped(entries.get(name))
        if isinstance(table, LuaTable):
            return table
    return None if entry(flat, IMAGE_KEYS) is None else flat
