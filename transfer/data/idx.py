"""MNIST, FashionMNIST and their like: idx files, as they are or compressed with gzip.

The format is of http://yann.lecun.com/exdb/mnist: two zero bytes, the number type, the number of
dimensions, each dimension as a big-endian uint32, then the values.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import DataError
from .dataset import SPLIT_NAMES, Dataset, joined

#: `train-images-idx3-ubyte.gz`, `t10k-labels.idx1-ubyte`, `emnist-letters-test-images-idx3-ubyte`.
_NAME = re.compile(r"(?P<split>.+)-(?P<what>images|labels)[-.]idx[13]-ubyte(?:\.gz)?")

_UINT8 = 8

#: What gzip can make of a byte at most.
_MOST_COMPRESSED = 1032

FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def is_idx_file(path: Path) -> bool:
    """Whether a file is called as idx files are."""
    return _NAME.fullmatch(path.name) is not None


def find_idx_files(folder: Path) -> list[Path]:
    """The files of images in a folder, or in the `raw` folder where torchvision puts them."""
    places = (folder, folder / "raw", *sorted(folder.glob("*/raw")))
    for place in places:
        found = sorted(place.glob("*-images*idx3-ubyte*")) if place.is_dir() else []
        # A file that was unpacked beside its archive counts once.
        plain = [file for file in found if file.suffix != ".gz"]
        packed = [file for file in found if file.suffix == ".gz"]
        both = plain + [file for file in packed if file.with_suffix("") not in plain]
        if both:
            return both
    return []


def read_idx_splits(files: list[Path]) -> Dataset:
    """The images of a folder's files, each with the labels in the file beside it.

    Args:
        files: of one split, or of both: `train`, and `test` or `t10k`.

    Raises:
        DataError: when a file is missing, damaged, or holds something else.
    """
    named = {"train" if "train" in file.name else "test": file for file in files}
    if len(named) != len(files):
        names = ", ".join(file.name for file in files)
        raise DataError(f"{files[0].parent}: several datasets, name a file of one: {names}")
    return joined({split: read_idx_pair(named[split]) for split in SPLIT_NAMES if split in named})


def read_idx_pair(file: Path) -> Dataset:
    """The images of two files that belong together.

    Args:
        file: that of the images, or that of the labels.

    Raises:
        DataError: when a file is missing, damaged, or holds something else.
    """
    images = read_idx(_companion(file, "images"))
    if images.ndim != 3:
        raise DataError(f"{file}: {images.ndim} dimensions, images (N, H, W) were expected")
    labels = read_idx(_companion(file, "labels"))
    if labels.shape != images.shape[:1]:
        raise DataError(f"{file}: {len(images)} images, but labels of shape {labels.shape}")
    fashion = any("fashion" in step.lower() for step in file.resolve().parts)
    names = FASHION if fashion else tuple(map(str, range(10)))
    known = int(labels.max(initial=0)) < len(names)
    notes = ("class names of FashionMNIST, because of the folder's name",) if fashion else ()
    return Dataset(
        images[:, None], labels.astype(np.int64), names if known else None, notes if known else ()
    )


def _companion(file: Path, what: str) -> Path:
    """The file of images or labels that belongs to this one, compressed or not."""
    given = _NAME.fullmatch(file.name)
    if given is None or given["what"] == what:
        return file
    for other in sorted(file.parent.iterdir()):
        found = _NAME.fullmatch(other.name)
        if found and (found["split"], found["what"]) == (given["split"], what):
            return other
    raise DataError(f"{file}: no file of {what} beside it ({given['split']}-{what}-idx…)")


def read_idx(file: Path) -> np.ndarray:
    """The uint8 array of an idx file, compressed with gzip or not.

    Raises:
        DataError: when the file cannot be read, is cut short, too long, or of another type.
    """
    try:
        with file.open("rb") as plain:
            compressed = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            stream: BinaryIO = gzip.GzipFile(fileobj=plain) if compressed else plain  # type: ignore[assignment]  # reads bytes like any
            return _array(stream, file)
    except (OSError, EOFError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from None


def _array(stream: BinaryIO, file: Path) -> np.ndarray:
    head = stream.read(4)
    if len(head) != 4 or head[:2] != b"\0\0":
        raise DataError(f"{file}: no idx file: it starts with {head!r}")
    if head[2] != _UINT8:
        raise DataError(f"{file}: values of type {head[2]:#04x}, bytes (0x08) were expected")
    sizes = stream.read(4 * head[3])
    if len(sizes) != 4 * head[3]:
        raise DataError(f"{file}: cut short in its head")
    shape = struct.unpack(f">{head[3]}I", sizes)
    expected = math.prod(shape)
    # Nothing is allocated for what cannot be there.
    if expected > _MOST_COMPRESSED * file.stat().st_size:
        raise DataError(f"{file}: {expected:,} bytes were expected, the file is too small for them")
    values = stream.read(expected + 1)
    if len(values) != expected:
        said = "more" if len(values) > expected else f"{len(values):,}"
        raise DataError(f"{file}: {expected:,} bytes were expected, {said} are there")
    return np.frombuffer(values, np.uint8).reshape(shape)
