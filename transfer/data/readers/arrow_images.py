"""Images inside Arrow tables: Hugging Face's dataset folders, and Parquet with an image column."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....converters.requirements import is_installed, require
from ...errors import DataError
from ..collect_images import SPLITS_BY_NAME, collect_images
from ..dataset import Dataset
from ..image_files import EncodedImage, ImageFiles
from .registry import ReadOptions, reader
from .tables import LABEL_COLUMNS, SPLIT_COLUMNS, column

#: Files of a folder that `datasets` wrote with `save_to_disk`.
_DICT, _STATE = "dataset_dict.json", "state.json"
#: Usual names of the column of images, in lower case.
_IMAGE_COLUMNS = ("image", "img", "images", "picture", "jpg", "png", "bytes")


@dataclass(frozen=True)
class _Shard:
    """A file of a dataset, and its split, if it is known."""

    file: Path
    split: str | None


def _accepts(source: str) -> bool:
    path = Path(source)
    if path.is_dir():
        return bool(_shards(path))
    return path.suffix.lower() == ".parquet" and path.is_file() and _has_images(path)


def _has_images(path: Path) -> bool:
    """Return whether a Parquet file has a column of encoded images, and not only of paths."""
    if not is_installed("pyarrow"):
        return False
    from pyarrow import ArrowException, parquet

    try:
        return _image_column(parquet.read_schema(path)) is not None
    except (ArrowException, OSError):
        return False


@reader(
    "a folder that Hugging Face's datasets saved, or Parquet files with an image column",
    accepts=_accepts,
    order=35,
)
def read_arrow_images(source: str, options: ReadOptions) -> Dataset | ImageFiles:
    """Return the images of a dataset that `save_to_disk` wrote, or of Parquet files.

    `.arrow` files are mapped and read on demand; of Parquet files, the encoded images are held in
    memory. The class names are those of the feature `ClassLabel`.

    Raises:
        DataError: If a file is damaged, lacks images, or an image has several labels or a number.
        ImageError: If an image cannot be read.
    """
    require(f"reading {source}", "pyarrow")
    path = Path(source)
    shards = _shards(path) if path.is_dir() else [_Shard(path, None)]
    images: list[EncodedImage] = []
    ids: list[str] = []
    labels: list[Any] = []
    splits: list[str | None] = []
    names: list[str] | None = None
    for shard in shards:
        table = _read(shard.file)
        name = _image_column(table.schema)
        if name is None:
            raise DataError(f"{shard.file}: no column of images among: {_listed(table)}")
        start = len(images)
        for row, (image, called) in enumerate(_images(table.column(name), shard.file)):
            images.append(image)
            ids.append(called or f"{shard.file.stem}/{row}")
        others = table.select([n for n in table.column_names if n != name and _is_small(n)])
        values = others.to_pydict()
        labels += column(values, LABEL_COLUMNS) or [None] * (len(images) - start)
        splits += column(values, SPLIT_COLUMNS) or [shard.split] * (len(images) - start)
        names = _class_names(table.schema) or names
    try:
        return collect_images(images, ids, labels, options, splits if all(splits) else (), names)
    except DataError as error:
        raise DataError(f"{source}: {error}") from None


def _shards(folder: Path) -> list[_Shard]:
    """Return the files of a dataset's folder, in the order of the splits and of their names."""
    if (folder / _DICT).is_file():
        parts = [each for each in sorted(folder.iterdir()) if (each / _STATE).is_file()]
        return [
            _Shard(file, SPLITS_BY_NAME.get(part.name.lower()))
            for part in sorted(parts, key=_position)
            for file in _arrow_files(part)
        ]
    if (folder / _STATE).is_file():
        return [_Shard(file, None) for file in _arrow_files(folder)]
    # The layout of Hugging Face's hub: `data/train-00000-of-00002.parquet`.
    files = [*sorted(folder.glob("*.parquet")), *sorted(folder.glob("data/*.parquet"))]
    found = [_Shard(file, SPLITS_BY_NAME.get(file.name.lower().split("-")[0])) for file in files]
    return sorted(found, key=lambda shard: ["train", "val", "test", None].index(shard.split))


def _arrow_files(folder: Path) -> list[Path]:
    """Return the files that the state of a saved dataset lists, of this folder only."""
    try:
        listed = json.loads((folder / _STATE).read_text(encoding="utf-8"))["_data_files"]
        names = [Path(str(entry["filename"])).name for entry in listed]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / _STATE}: damaged: {error}") from None
    return [folder / name for name in names]


def _position(folder: Path) -> tuple[int, str]:
    order = ["train", "val", "test", None]
    return order.index(SPLITS_BY_NAME.get(folder.name.lower())), folder.name


def _read(file: Path) -> Any:
    import pyarrow
    from pyarrow import parquet

    try:
        if file.suffix.lower() == ".parquet":
            return parquet.read_table(file)
        return pyarrow.ipc.open_stream(pyarrow.memory_map(str(file))).read_all()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from None


def _image_column(schema: Any) -> str | None:
    """Return the column of images: bytes, or Hugging Face's pair of bytes and path."""
    import pyarrow

    found = None
    for field in schema:
        kind = field.type
        pair = pyarrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        plain = pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)
        if pair or (plain and field.name.lower() in _IMAGE_COLUMNS):
            found = found or field.name
    return found


def _images(values: Any, file: Path) -> Iterator[tuple[EncodedImage, str]]:
    """Yield each image of a column, and the name that the column gives it.

    Raises:
        DataError: If an image has no bytes: it is a path on the machine that wrote the file.
    """
    import pyarrow

    row = 0
    for chunk in values.chunks:
        pair = pyarrow.types.is_struct(chunk.type)
        encoded = chunk.field("bytes") if pair else chunk
        has_paths = pair and chunk.type.get_field_index("path") >= 0
        paths = chunk.field("path") if has_paths else None
        for index in range(len(chunk)):
            row += 1
            called = None if paths is None else paths[index].as_py()
            if not encoded[index].is_valid:
                raise DataError(f"{file}: row {row} has no image, only the path {called!r}")
            yield memoryview(encoded[index].as_buffer()), str(called or "")


def _class_names(schema: Any) -> list[str] | None:
    """Return the names of the feature `ClassLabel` in the metadata that `datasets` writes."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        found = column({name: [feature] for name, feature in features.items()}, LABEL_COLUMNS)
        names = found[0]["names"] if found else None
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None


def _is_small(name: str) -> bool:
    return name.lower() in (*LABEL_COLUMNS, *SPLIT_COLUMNS)


def _listed(table: Any) -> str:
    return ", ".join(table.column_names[:8])
