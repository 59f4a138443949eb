"""Features on disk: a zarr v3 group that says what is in it, written chunk by chunk.

    features/<layer>   (N, …) one array a layer, chunks of the same examples in each
    labels, ids, splits (N,) what the data says of the examples
    attributes         the manifest: which network, layers, data and settings the numbers are of

A chunk is the unit of work. It is written to a temporary name and renamed, so that a chunk that is
there is whole, and what is missing is told by looking. Chunks are not compressed: their bytes
depend on nothing but the numbers.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from ..data import Dataset
from ..errors import StoreError

#: The attribute of the group that holds the manifest.
_ATTRIBUTE = "torchlift_features"

#: Counts up when an older torchlift could not read what this one writes. Version 1, of torchlift
#: 0.1.0, has no entry for it, and calls the column of the splits `parts`.
FORMAT_VERSION = 2
_FEATURES = "features"
#: What a file is called that is not finished.
_UNFINISHED = "*.partial"


@dataclass(frozen=True)
class FeatureStore:
    """A feature store (see `create_store` and `open_store`).

    Attributes:
        path: its folder.
        manifest: what its numbers are of, as JSON values.
    """

    path: Path
    manifest: dict[str, Any]

    @property
    def layers(self) -> dict[str, tuple[int, ...]]:
        """Each layer's name → the shape of an example's features."""
        return {name: tuple(shape) for name, shape in self.manifest["features"].items()}

    @property
    def count(self) -> int:
        """How many examples there are."""
        return int(self.manifest["data"]["count"])

    @cached_property
    def chunks(self) -> list[range]:
        """The examples of each chunk."""
        size = int(self.manifest["chunk"])
        return [range(at, min(at + size, self.count)) for at in range(0, self.count, size)]

    def has(self, chunk: int) -> bool:
        """Whether a chunk is there, for every layer."""
        return all(self._chunk(name, shape, chunk).is_file() for name, shape in self.layers.items())

    def missing(self) -> list[int]:
        """The chunks that are not there yet."""
        return [chunk for chunk in range(len(self.chunks)) if not self.has(chunk)]

    def write(self, chunk: int, features: Iterable[np.ndarray]) -> None:
        """Write the features of a chunk's examples, an array (n, …) a layer.

        A chunk that is not compressed is its numbers one after another, the last one filled up
        with zeros (Zarr v3, "bytes" codec). zarr itself needs some milliseconds for that.
        """
        dtype = np.dtype(self.manifest["dtype"]).newbyteorder("<")
        for (name, shape), values in zip(self.layers.items(), features, strict=True):
            whole = np.ascontiguousarray(values, dtype)
            if len(values) < self.manifest["chunk"]:
                whole = np.zeros((self.manifest["chunk"], *shape), dtype)
                whole[: len(values)] = values
            file = self._chunk(name, shape, chunk)
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary = file.with_name(_UNFINISHED.replace("*", f"{file.name}.{os.getpid()}"))
            whole.tofile(temporary)
            temporary.replace(file)

    def read(self, layer: str) -> Dataset:
        """The features of a layer, each example one row (N, D) in the place of its image.

        Raises:
            StoreError: when there is no such layer, or chunks are missing.
        """
        import zarr

        if layer not in self.layers:
            raise StoreError(f"{self.path}: no layer {layer!r}; it has {', '.join(self.layers)}")
        missing = self.missing()
        if missing:
            raise StoreError(
                f"{self.path}: {len(missing)} of {len(self.chunks)} chunks are missing: "
                "extract was not finished; run it again"
            )
        values = np.asarray(zarr.open_array(self._array(layer), mode="r")[:])
        names = self.manifest["data"]["classes"]
        return Dataset(
            values.reshape(self.count, -1),
            self._column("labels"),
            None if names is None else tuple(names),
            ids=self._column("ids"),
            splits=self._column("parts" if self.format_version == 1 else "splits"),
        )

    def remove_unfinished(self) -> None:
        """Remove what a writer left that was killed. No other may be writing."""
        for file in self.path.rglob(_UNFINISHED):
            file.unlink(missing_ok=True)

    def check(self, manifest: Mapping[str, Any]) -> None:
        """Check that the store is of what a manifest says.

        Raises:
            StoreError: when it is of something else; it says of what.
        """
        changed = list(_differences(self.manifest, manifest))
        if changed:
            raise StoreError(
                f"{self.path} holds other features: {'; '.join(changed)}. "
                "Write to another place, or replace them with --overwrite"
            )

    @property
    def format_version(self) -> int:
        """The version of the format that the store was written in."""
        return int(self.manifest.get("format_version", 1))

    def _array(self, layer: str) -> Path:
        # Layers of ONNX graphs have slashes in their names.
        return self.path / _FEATURES / quote(layer, safe="")

    def _chunk(self, layer: str, shape: tuple[int, ...], chunk: int) -> Path:
        """The file of a chunk: `c/7/0/0` has as many numbers as the array has axes."""
        return self._array(layer).joinpath("c", str(chunk), *("0" for _ in shape))

    def _column(self, name: str) -> np.ndarray | None:
        import zarr

        path = self.path / name
        if not path.is_dir():
            return None
        values = np.asarray(zarr.open_array(path, mode="r")[:])
        # numpy casts no StringDType to text of a fixed length.
        return values if values.dtype.kind == "i" else np.array(values.tolist(), str)


def create_store(
    path: str | os.PathLike[str],
    manifest: Mapping[str, Any],
    columns: Mapping[str, np.ndarray | None],
    overwrite: bool = False,
) -> None:
    """Create a store without features, or leave one as it is that is there.

    Args:
        path: its folder.
        manifest: what its features will be of: `features` (name → shape of an example), `dtype`,
            `chunk` (examples a chunk), `data` with `count` and `classes`, and whatever else
            decides the numbers.
        columns: `labels`, `ids`, `splits`: (N,) each, or None.
        overwrite: remove a feature store that is there.

    Raises:
        StoreError: when something else is there.
    """
    import zarr

    target = Path(path)
    if target.exists() and not is_feature_store(target):
        raise StoreError(f"{target} is there already, and is no feature store")
    if target.exists() and not overwrite:
        return
    temporary = target.with_name(f".{target.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    group = zarr.create_group(temporary, attributes={_ATTRIBUTE: dict(manifest)})
    for name, shape in manifest["features"].items():
        group.create_array(
            f"{_FEATURES}/{quote(name, safe='')}",
            shape=(manifest["data"]["count"], *shape),
            chunks=(manifest["chunk"], *shape),
            dtype=manifest["dtype"],
            compressors=None,
        )
    for name, values in columns.items():
        if values is not None:
            text = values.dtype.kind == "U"
            group.create_array(
                name,
                shape=values.shape,
                chunks=values.shape,
                dtype="string" if text else values.dtype,
                compressors=None,
            )[:] = values.astype(object) if text else values
    if target.exists():
        shutil.rmtree(target)
    temporary.rename(target)


def open_store(path: str | os.PathLike[str]) -> FeatureStore:
    """The feature store in a folder, complete or not.

    Raises:
        StoreError: when there is none.
    """
    target = Path(path)
    manifest = _manifest(target)
    if manifest is None:
        raise StoreError(f"{target}: no feature store (a folder that `torchlift extract` wrote)")
    store = FeatureStore(target, manifest)
    if store.format_version not in (1, FORMAT_VERSION):
        raise StoreError(
            f"{target}: format version {store.format_version}, this torchlift reads 1 and "
            f"{FORMAT_VERSION}: install the version that wrote it, {manifest.get('torchlift')}"
        )
    return store


def is_feature_store(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is a feature store."""
    return _manifest(Path(path)) is not None


def describe_store(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a feature store holds, as JSON values; no feature is read.

    Raises:
        StoreError: when there is none.
    """
    store = open_store(path)
    width = np.dtype(store.manifest["dtype"]).itemsize
    values = sum(math.prod(shape) for shape in store.layers.values())
    done = len(store.chunks) - len(store.missing())
    return {
        **store.manifest,
        "bytes": store.count * values * width,
        "chunks": len(store.chunks),
        "chunks_done": done,
        "complete": done == len(store.chunks),
    }


def _manifest(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads((path / "zarr.json").read_bytes())["attributes"][_ATTRIBUTE]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _differences(there: Any, now: Any, where: str = "") -> Iterator[str]:
    """In words, where two JSON values differ."""
    if isinstance(there, Mapping) and isinstance(now, Mapping) and set(there) == set(now):
        for key in there:
            yield from _differences(there[key], now[key], f"{where}.{key}" if where else str(key))
    elif _plain(there) != _plain(now):
        yield f"{where} was {_short(there)}, now {_short(now)}"


def _plain(value: Any) -> Any:
    """A value as it comes back from JSON."""
    return json.loads(json.dumps(value))


def _short(value: Any) -> str:
    text = ", ".join(value) if isinstance(value, Mapping) else str(value)
    return text if len(text) <= 60 else f"{text[:12]}…"
