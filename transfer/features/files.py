"""Features in a single file: a `.t7` for Torch7, or a `.npz` for NumPy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...converters import t7
from ...converters.errors import LabelsError
from ...converters.files import atomic_path
from ...converters.labels import labels_from
from ...converters.t7 import LuaTable
from ..data import Dataset
from ..data.array_layout import to_classes
from ..data.dataset import SPLIT_NAMES
from ..data.lua_tables import label_array
from ..data.readers.npz import load_arrays
from ..data.selection import keep_valid_labels
from ..errors import DataError, StoreError
from .store import FeatureStore, open_store

#: The formats of features; all but the first are a single file.
FORMATS = ("zarr", "t7", "npz")


def format_of(path: str | os.PathLike[str], named: str | None = None) -> str:
    """Return the format that is named, or else the format of the file's suffix.

    Raises:
        StoreError: If there is no such format.
    """
    suffix = Path(path).suffix.lower().removeprefix(".")
    chosen = named or (suffix if suffix in FORMATS else FORMATS[0])
    if chosen not in FORMATS:
        raise StoreError(f"format={chosen!r}: expected one of {', '.join(FORMATS)}")
    return chosen


def read_features(path: str | os.PathLike[str]) -> dict[str, Dataset]:
    """Return the features that `extract` wrote: a store's folder, a `.t7` or a `.npz`.

    The only layer of a file, which has no name there, is named `data`.

    Returns:
        Each layer's name → its features, one row (N, D) per example in place of its image.

    Raises:
        StoreError: If there are none, a store is not complete, or the labels or class
            names of a file are invalid.
        DataError: If a `.npz` cannot be read.
        T7Error: If a `.t7` cannot be read.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> import numpy as np
        >>> from torchlift.transfer.features.files import read_features
        >>> file = Path(mkdtemp()) / "features.npz"
        >>> np.savez(file, data=np.ones((3, 4), np.float32), labels=[0, 1, 1])
        >>> {name: data.images.shape for name, data in read_features(file).items()}
        {'data': (3, 4)}
    """
    target = Path(path)
    if target.suffix.lower() == ".t7":
        return _read_t7(target)
    if target.suffix.lower() == ".npz":
        return _read_npz(target)
    store = open_store(target)
    return {name: store.read(name) for name in store.layers}


def write_features(store: FeatureStore, path: str | os.PathLike[str], format: str) -> None:
    """Write the features of a complete store to a single file, atomically, in the store's dtype.

    A single layer is `data` (N, …); several are under their names: in the table `data` of a `.t7`,
    as `data/NAME` in a `.npz`. `labels` (N,) count from 1 in a `.t7` and from 0 in a `.npz`;
    `classes` are the class names, `splits` the data's own split of each example, if it has some.

    Args:
        store: A complete store.
        path: The file; an existing file is replaced.
        format: `t7` or `npz`.

    Raises:
        StoreError: If chunks are missing.
        WriteError: If the file cannot be written.
    """
    layers = {name: store.read(name) for name in store.layers}
    arrays = {
        name: data.images.reshape(store.count, *store.layers[name]) for name, data in layers.items()
    }
    write = _write_t7 if format == "t7" else _write_npz
    with atomic_path(path) as file:
        write(file, arrays, next(iter(layers.values())))


def _write_t7(file: Path, arrays: Mapping[str, np.ndarray], data: Dataset) -> None:
    single = len(arrays) == 1
    entries: dict[str, Any] = {
        "data": next(iter(arrays.values())) if single else LuaTable(dict(arrays)),
    }
    if data.classes is not None:
        entries["labels"] = data.classes + 1
    if data.names is not None:
        entries["classes"] = LuaTable.from_list(list(data.names))
    if data.splits is not None:
        entries["splits"] = LuaTable.from_list(data.splits.tolist())
    t7.save(LuaTable(entries), file)


def _write_npz(file: Path, arrays: Mapping[str, np.ndarray], data: Dataset) -> None:
    single = len(arrays) == 1
    entries = {"data" if single else f"data/{name}": values for name, values in arrays.items()}
    if data.classes is not None:
        entries["labels"] = data.classes
    if data.names is not None:
        entries["classes"] = np.array(data.names)
    if data.splits is not None:
        entries["splits"] = data.splits
    with file.open("wb") as stream:
        np.savez(stream, **entries)  # type: ignore[arg-type]  # the stub takes keywords for options


def _read_t7(file: Path) -> dict[str, Dataset]:
    value = t7.load(file)
    entries = dict(value.items()) if isinstance(value, LuaTable) else {}
    data = entries.get("data")
    arrays = dict(data.items()) if isinstance(data, LuaTable) else {"data": data}
    return _datasets(file, arrays, entries, entries.get("classes"), first_label=1)


def _read_npz(file: Path) -> dict[str, Dataset]:
    entries = load_arrays(file)
    arrays = {
        name.removeprefix("data/"): values
        for name, values in entries.items()
        if name.split("/")[0] == "data"
    }
    names = entries.get("classes")
    listed = None if names is None else names.tolist()
    return _datasets(file, arrays, entries, listed, first_label=0)


def _datasets(
    file: Path, arrays: Mapping[Any, Any], entries: Mapping[Any, Any], names: Any, first_label: int
) -> dict[str, Dataset]:
    """Return the features of each layer, with the labels, class names and splits of the file."""
    labels, splits = entries.get("labels"), _splits(file, entries.get("splits"))
    try:
        classes = None if labels is None else to_classes(label_array(labels), first_label)[0]
        class_names = None if names is None else tuple(labels_from(names))
    except (DataError, LabelsError) as error:
        raise StoreError(f"{file}: {error}") from None
    for array in arrays.values():
        if not isinstance(array, np.ndarray) or array.ndim < 2 or array.dtype.kind not in "biuf":
            raise StoreError(f"{file}: no features: expected data of N×D and labels of N")
        if classes is not None and len(classes) != len(array):
            raise StoreError(
                f"{file}: features of {len(array)} examples, but {len(classes)} labels"
            )
        if splits is not None and len(splits) != len(array):
            raise StoreError(f"{file}: features of {len(array)} examples, but {len(splits)} splits")
    if not arrays:
        raise StoreError(f"{file}: no features: expected data of N×D")
    rows = {
        str(name): np.asarray(array, np.float32).reshape(len(array), -1)
        for name, array in arrays.items()
    }
    try:
        return {
            name: keep_valid_labels(Dataset(each, classes, class_names, splits=splits))
            for name, each in rows.items()
        }
    except DataError as error:
        raise StoreError(f"{file}: {error}") from None


def _splits(file: Path, listed: Any) -> np.ndarray | None:
    """Return the split of each example, which files of torchlift 0.1.0 do not have."""
    if listed is None:
        return None
    names = listed.to_list() if isinstance(listed, LuaTable) else np.ravel(listed).tolist()
    if not all(isinstance(name, str) and name in SPLIT_NAMES for name in names):
        raise StoreError(f"{file}: splits are no list of {', '.join(SPLIT_NAMES)}")
    return np.array(names, str)
