"""webdataset: tar archives in which the files of an image have one name and several suffixes."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from ....converters.images.files import SUFFIXES
from ...errors import DataError
from ..collect_images import SPLITS_BY_NAME, collect_images
from ..dataset import Dataset
from ..image_files import EncodedImage, FileSlice, ImageFiles
from .registry import ReadOptions, reader
from .tables import LABEL_COLUMNS, column

#: `train-000012.tar`: a split, and the number of the archive in it.
_SHARD = re.compile(r"(?P<split>[a-z]+)?[-_.]?\d*\.tar")
#: The largest label in a file of its own.
_MOST_BYTES = 2**16

#: An image of an archive, its name, its label, and the split of the archive.
Sample = tuple[EncodedImage, str, Any, str | None]


def _shards(source: str) -> list[Path]:
    path = Path(source)
    return sorted(path.glob("*.tar")) if path.is_dir() else [path]


def _accepts(source: str) -> bool:
    path = Path(source)
    return (path.is_file() and path.suffix.lower() == ".tar") or bool(
        path.is_dir() and _shards(source)
    )


@reader("webdataset's .tar archives or their folder", accepts=_accepts, order=45)
def read_webdataset(source: str, options: ReadOptions) -> Dataset | ImageFiles:
    """Return the images of one archive, or of all in a folder, with their labels.

    `cat/0001.jpg` and `cat/0001.cls` belong together: the image, and its class as a number or a
    name; `0001.json` may have it under `label`. The images stay in the archives. In a folder,
    `train-0000.tar` is of the split train.

    Raises:
        DataError: If an archive is compressed or damaged, or a label is missing or no class.
        ImageError: If an image cannot be read.
    """
    shards = _shards(source)
    rows: list[Sample] = []
    for shard in shards:
        split = split_of(shard.name) if Path(source).is_dir() else None
        try:
            with shard.open("rb") as stream:
                place = partial(FileSlice, shard)
                rows += [(*row, split) for row in samples_of_archive(stream, place)]
        except (tarfile.TarError, OSError, ValueError) as error:
            reason = "compressed: unpack it with gunzip" if _is_compressed(shard) else error
            raise DataError(f"{shard}: cannot be read: {reason}") from None
    return dataset_of_archives(rows, options, source)


def dataset_of_archives(
    rows: Sequence[Sample], options: ReadOptions, source: str
) -> Dataset | ImageFiles:
    """Return the images of archives as a dataset.

    Args:
        rows: What `samples_of_archive` gives of each, and the split, if it is known of all.
        options: How images are read.
        source: What messages call the dataset.

    Raises:
        DataError: If there are none, or labels are no classes.
    """
    images, ids, labels, splits = zip(*rows, strict=True) if rows else ((), (), (), ())
    try:
        return collect_images(images, ids, labels, options, splits if all(splits) else ())
    except DataError as error:
        raise DataError(f"{source}: {error}") from None


def samples_of_archive(
    stream: BinaryIO, place: Callable[[int, int], EncodedImage]
) -> Iterator[tuple[EncodedImage, str, Any]]:
    """Yield the images of an archive, their names and their labels, in the archive's order.

    Args:
        stream: The archive.
        place: Returns the image at an offset of the archive, of some bytes.

    Raises:
        TarError: If it is no archive.
        ValueError: If it is not whole, or a label is no such.
    """
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    length = stream.seek(0, 2)
    stream.seek(0)
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        for member in archive:
            folder, _, name = member.name.rpartition("/")
            key, _, suffix = name.partition(".")
            if not member.isreg() or not key:
                continue
            if member.issparse() or member.offset_data + member.size > length:
                raise ValueError(f"{member.name} is not whole")
            part = member.offset_data, member.size
            parts = samples.setdefault(f"{folder}/{key}" if folder else key, {})
            if parts.setdefault(suffix.lower(), part) != part:
                raise ValueError(f"{member.name} is in it twice: which one counts?")
    stream.seek(length - min(length, tarfile.BLOCKSIZE))
    if stream.read().strip(b"\0"):
        raise ValueError("it ends early")
    for key, parts in samples.items():
        images = [suffix for suffix in parts if f".{suffix.rpartition('.')[2]}" in SUFFIXES]
        # Beside 1.jpg, 1.seg.png is no image of its own.
        images = [suffix for suffix in images if "." not in suffix] or images
        if len(images) > 1:
            names = " and ".join(f"{key}.{suffix}" for suffix in images[:2])
            raise ValueError(
                f"{names} are images of one sample, whose name ends at the first dot: rename one"
            )
        if images:
            yield place(*parts[images[0]]), f"{key}.{images[0]}", _label(stream, parts, key)


def _label(stream: BinaryIO, parts: dict[str, tuple[int, int]], key: str) -> Any:
    for suffix, (offset, size) in parts.items():
        if suffix not in ("cls", "cls.txt", "label", "json"):
            continue
        if size > _MOST_BYTES:
            raise ValueError(f"{key}.{suffix} has {size:,} bytes, too many for a label")
        stream.seek(offset)
        try:
            text = stream.read(size).decode()
            content = json.loads(text) if suffix == "json" else text.strip()
        except ValueError:
            kind = "JSON" if suffix == "json" else "UTF-8 text"
            raise ValueError(f"{key}.{suffix} is no {kind}") from None
        if suffix != "json":
            return content
        if isinstance(content, dict):
            found = column({name: [value] for name, value in content.items()}, LABEL_COLUMNS)
            if found is not None:
                return found[0]
    return None


def split_of(name: str) -> str | None:
    """Return the split that the name of an archive tells, if it does.

    Example:
        >>> split_of("train-0003.tar"), split_of("images.tar")
        ('train', None)
    """
    match = _SHARD.fullmatch(name.lower())
    return SPLITS_BY_NAME.get((match and match["split"]) or "")


def _is_compressed(shard: Path) -> bool:
    with shard.open("rb") as stream:
        return stream.read(2) in (b"\x1f\x8b", b"BZ", b"\xfd7", b"\x28\xb5")
