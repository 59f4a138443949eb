"""Datasets at addresses: images and archives are read where they are, other files are copied."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ....converters.images.files import SUFFIXES
from ...errors import DataError
from ..collect_images import SPLITS_BY_NAME, collect_images
from ..dataset import Dataset
from ..image_files import ImageFiles
from ..remote_files import RemoteFile, is_address
from .registry import ReadOptions, find_reader, reader
from .tables import TABLE_SUFFIXES, dataset_of_table, read_rows
from .webdataset import Sample, dataset_of_archives, samples_of_archive, split_of


@reader("an address such as s3://, hf://, https:// or zip://", accepts=is_address, order=1)
def read_remote(source: str, options: ReadOptions) -> Dataset | ImageFiles:
    """Return the images at an address that fsspec opens.

    The images of folders and tables and of webdataset's archives stay where they are, and are
    fetched when they are needed. Of a table only paths relative to it are followed. Any other file,
    such as a .npz or .t7, and Parquet, is copied to a temporary file while it is read.

    Raises:
        MissingPackageError: If fsspec is missing.
        DataError: If it cannot be reached or read, or holds no dataset.
        ImageError: If an image cannot be read.
    """
    file = RemoteFile.at(source)
    if file.suffix == ".tar":
        return _archives([file], options, source)
    if file.suffix in TABLE_SUFFIXES and file.suffix != ".parquet":
        return _table(file, options)
    if file.suffix in _COPIED:
        return _copied([file], file.beside(""), options)
    files = file.files()
    if len(files) == 1 and files[0].path == file.path:
        return _copied(files, file.beside(""), options)
    kinds = {each.suffix for each in files}
    if ".tar" in kinds:
        return _archives([each for each in files if each.suffix == ".tar"], options, source)
    if ".parquet" in kinds:
        return _copied([each for each in files if each.suffix == ".parquet"], file, options)
    return _folder(file, files, options)


#: Files that are copied before they are read; a name without a suffix may be a folder.
_COPIED = (".npz", ".t7", ".parquet", ".bin", ".gz")


def _archives(
    shards: Sequence[RemoteFile], options: ReadOptions, source: str
) -> Dataset | ImageFiles:
    rows: list[Sample] = []
    for shard in shards:
        split = split_of(shard.name) if len(shards) > 1 else None
        with shard.opened() as stream:
            rows += [(*row, split) for row in samples_of_archive(stream, shard.part)]
    return dataset_of_archives(rows, options, source)


def _table(file: RemoteFile, options: ReadOptions) -> Dataset | ImageFiles:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / file.name
        file.copy_to(copy)
        try:
            return dataset_of_table(read_rows(copy), lambda path: _beside(file, path), options)
        except DataError as error:
            raise DataError(f"{file}: {error}") from None


def _beside(table: RemoteFile, path: str) -> RemoteFile:
    """Return the file that a table names.

    Raises:
        DataError: If it is not in the table's folder or below.
    """
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts:
        raise DataError(f"{path}: a table at an address names files in its own folder and below")
    return table.beside(path)


def _folder(
    root: RemoteFile, files: Sequence[RemoteFile], options: ReadOptions
) -> Dataset | ImageFiles:
    """Return the images of a folder with class folders, in it or in folders of splits.

    Raises:
        DataError: If it holds no images.
    """
    by_name = {each.relative_to(root): each for each in files}
    places = {
        name: PurePosixPath(name).parts
        for name, file in sorted(by_name.items())
        if file.suffix in SUFFIXES and not any(part.startswith(".") for part in name.split("/"))
    }
    if not places:
        raise DataError(f"{root}: holds no images ({', '.join(SUFFIXES)})")
    # As in a folder here: these are splits if they have class folders, and none beside them has.
    named = {parts[0] for parts in places.values() if parts[0].lower() in SPLITS_BY_NAME}
    deep = {parts[0] for parts in places.values() if len(parts) > 2}
    depth = 1 if deep and deep <= named else 0
    labeled = {
        name: parts[depth]
        for name, parts in places.items()
        if len(parts) > depth + 1 and (not depth or parts[0] in named)
    }
    ids = list(labeled or places)
    data = collect_images(
        [by_name[name] for name in ids],
        ids,
        [labeled.get(name) for name in ids],
        options,
        [SPLITS_BY_NAME[places[name][0].lower()] for name in ids] if depth else (),
    )
    left_out = len(files) - len(ids)
    notes = [f"left out, no images in a class folder: {left_out:,} files"] if left_out else []
    return replace(data, notes=(*data.notes, *notes))


def _copied(
    files: Sequence[RemoteFile], root: RemoteFile, options: ReadOptions
) -> Dataset | ImageFiles:
    """Return the dataset in files that are copied while they are read."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        copies = []
        for file in files:
            copies.append(Path(folder) / file.relative_to(root))
            copies[-1].parent.mkdir(parents=True, exist_ok=True)
            file.copy_to(copies[-1])
        source = str(copies[0]) if len(copies) == 1 else folder
        try:
            return find_reader(source).read(source, options)
        except DataError as error:
            # What was typed, not the copy.
            shown = str(files[0]) if len(copies) == 1 else str(root)
            raise DataError(str(error).replace(source, shown)) from None
