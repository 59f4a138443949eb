"""MNIST, FashionMNIST and similar datasets: idx files, compressed with gzip or not.

The format is described on http://yann.lecun.com/exdb/mnist: two zero bytes, the dtype, the number
of dimensions, each dimension as a big-endian uint32, then the values.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ...errors import DataError
from ..dataset import SPLIT_NAMES, Dataset, join_splits
from .registry import ReadOptions, reader

#: `train-images-idx3-ubyte.gz`, `t10k-labels.idx1-ubyte`, `emnist-letters-test-images-idx3-ubyte`.
_NAME = re.compile(r"(?P<split>.+)-(?P<content>images|labels)[-.]idx[13]-ubyte(?:\.gz)?")

#: Images have three dimensions and labels one; four are images in colors.
_MOST_DIMENSIONS = 4

#: The code of uint8 values.
_UINT8 = 8

#: The largest ratio of sizes that gzip can reach.
_MAX_GZIP_RATIO = 1032

_FASHION_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def _accepts(source: str) -> bool:
    path = Path(source)
    if path.is_dir():
        return bool(_find_image_files(path))
    return _NAME.fullmatch(path.name) is not None and path.exists()


@reader("the idx files of MNIST or FashionMNIST or their folder", accepts=_accepts, order=50)
def read_idx(source: str, options: ReadOptions) -> Dataset:
    """Return the images of a folder, or of one file of images or labels and its counterpart.

    A folder has one file of images per split: `train`, and `test` or `t10k`.

    Raises:
        DataError: If a file is missing, damaged, or holds something else.
    """
    path = Path(source)
    if not path.is_dir():
        return _read_pair(path)
    files = _find_image_files(path)
    by_split = {"train" if "train" in file.name else "test": file for file in files}
    if len(by_split) != len(files):
        names = ", ".join(file.name for file in files)
        raise DataError(f"{files[0].parent}: several datasets; name a file of one: {names}")
    return join_splits(
        {split: _read_pair(by_split[split]) for split in SPLIT_NAMES if split in by_split}
    )


def _find_image_files(folder: Path) -> list[Path]:
    """Return the files of images in a folder, or in the `raw` folder that torchvision creates."""
    for place in (folder, folder / "raw", *sorted(folder.glob("*/raw"))):
        files = sorted(place.glob("*-images*idx3-ubyte*")) if place.is_dir() else []
        # A file that was unpacked beside its archive counts once.
        plain = [file for file in files if file.suffix != ".gz"]
        packed = [file for file in files if file.suffix == ".gz"]
        if files:
            return plain + [file for file in packed if file.with_suffix("") not in plain]
    return []


def _read_pair(file: Path) -> Dataset:
    """Return the images of a file of images or labels, together with its counterpart."""
    images = _read_array(_counterpart(file, "images"))
    if images.ndim != 3:
        raise DataError(f"{file}: {images.ndim} dimensions, expected images (N, H, W)")
    labels = _read_array(_counterpart(file, "labels"))
    if labels.shape != images.shape[:1]:
        raise DataError(f"{file}: {len(images)} images, but labels of shape {labels.shape}")
    fashion = any("fashion" in step.lower() for step in file.resolve().parts)
    names = _FASHION_NAMES if fashion else tuple(map(str, range(10)))
    fits = int(labels.max(initial=0)) < len(names)
    notes = ("class names of FashionMNIST, because of the folder's name",) if fashion else ()
    return Dataset(
        images[:, None], labels.astype(np.int64), names if fits else None, notes if fits else ()
    )


def _counterpart(file: Path, content: str) -> Path:
    """Return the file of `images` or `labels` that belongs to a file, compressed or not."""
    given = _NAME.fullmatch(file.name)
    if given is None or given["content"] == content:
        return file
    for other in sorted(file.parent.iterdir()):
        match = _NAME.fullmatch(other.name)
        if match and (match["split"], match["content"]) == (given["split"], content):
            return other
    raise DataError(f"{file}: no file of {content} beside it ({given['split']}-{content}-idx…)")


def _read_array(file: Path) -> np.ndarray:
    """Return the uint8 array of an idx file."""
    try:
        with file.open("rb") as plain:
            compressed = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            stream: BinaryIO = gzip.GzipFile(fileobj=plain) if compressed else plain  # type: ignore[assignment]  # it reads bytes like any
            return _parse(stream, file)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: cannot be read: {error}") from None


def _parse(stream: BinaryIO, file: Path) -> np.ndarray:
    head = stream.read(4)
    if len(head) != 4 or head[:2] != b"\0\0":
        raise DataError(f"{file}: not an idx file: it starts with {head!r}")
    if head[2] != _UINT8:
        raise DataError(f"{file}: values of type {head[2]:#04x}, expected bytes (0x08)")
    if head[3] > _MOST_DIMENSIONS:
        raise DataError(f"{file}: {head[3]} dimensions, expected images (N, H, W) or labels (N)")
    sizes = stream.read(4 * head[3])
    if len(sizes) != 4 * head[3]:
        raise DataError(f"{file}: truncated in its header")
    shape = struct.unpack(f">{head[3]}I", sizes)
    expected = math.prod(shape)
    # A false size must not allocate memory.
    if expected > _MAX_GZIP_RATIO * file.stat().st_size:
        raise DataError(f"{file}: expected {expected:,} bytes, the file is too small for them")
    values = stream.read(expected + 1)
    if len(values) != expected:
        actual = "more" if len(values) > expected else f"{len(values):,}"
        raise DataError(f"{file}: expected {expected:,} bytes, it has {actual}")
    return np.frombuffer(values, np.uint8).reshape(shape)
