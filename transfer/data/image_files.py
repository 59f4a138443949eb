"""Labeled images that stay in their files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ...converters.images.decode import read_image
from ...converters.images.pillow_resize import fit_image
from ..errors import DataError
from .dataset import Dataset, take_rows
from .remote_files import RemoteFile

#: Decoded images are held in memory if they take no more bytes than this.
MEMORY_LIMIT = 2**31


@dataclass(frozen=True)
class FileSlice:
    """An image within a larger file, such as an archive.

    Attributes:
        file: The file.
        offset: Where the image begins.
        size: How many bytes it has.
    """

    file: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """Return the bytes of the image."""
        with self.file.open("rb") as stream:
            stream.seek(self.offset)
            return stream.read(self.size)


#: An encoded image: a file, a part of a file, one elsewhere, or bytes, which may be those of a
#: mapped file.
EncodedImage = Path | FileSlice | RemoteFile | bytes | memoryview


def readable(image: EncodedImage) -> Path | bytes | memoryview:
    """Return what an encoded image is decoded from."""
    return image.read() if isinstance(image, (FileSlice, RemoteFile)) else image


def name_of(image: EncodedImage, name: str) -> str:
    """Return what messages call an image: a file its path, anything else its name in the source."""
    return str(image) if isinstance(image, (Path, RemoteFile)) else str(name)


@dataclass(frozen=True)
class ImageFiles:
    """Labeled images that stay in their files and are decoded on demand.

    It can replace a `Dataset` wherever images are read in batches.

    Attributes:
        files: (N,) `EncodedImage`s.
        classes: (N,) int64 class indices, counted from 0; None for images without classes.
        names: The class names.
        notes: What was assumed when the folder was read.
        ids: (N,) paths relative to the folder, or names within the source.
        splits: (N,) `train`, `val` or `test`; None for a folder without splits.
        color: What each image is decoded to: `RGB` or `gray`.
        source_classes: As of a `Dataset`.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> import numpy as np
        >>> from PIL import Image
        >>> from torchlift.transfer.data import ImageFiles
        >>> file = Path(mkdtemp()) / "1.png"
        >>> Image.new("L", (8, 6)).save(file)
        >>> data = ImageFiles(np.array([file], object), np.array([0]), ("cat",), color="gray")
        >>> data.in_memory().images.shape
        (1, 1, 6, 8)
    """

    files: np.ndarray
    classes: np.ndarray | None = None
    names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    ids: np.ndarray | None = None
    splits: np.ndarray | None = None
    color: str = "RGB"
    source_classes: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Image.Image:
        """Return one image, decoded.

        Raises:
            ImageError: If it cannot be read.
        """
        image = read_image(readable(self.files[index]), self.name(index))
        return image.convert("L" if self.color == "gray" else "RGB")

    def name(self, index: int) -> str:
        """Return what messages call an image."""
        return name_of(self.files[index], "" if self.ids is None else self.ids[index])

    def batches(self, size: int) -> Iterator[tuple[list[Image.Image], np.ndarray | None]]:
        """Yield images and classes, `size` at a time; the last batch may be smaller."""
        for start in range(0, len(self), size):
            rows = np.arange(start, min(start + size, len(self)))
            yield [self[index] for index in rows.tolist()], take_rows(self.classes, rows)

    def take(self, indices: np.ndarray) -> ImageFiles:
        """Return the images at these indices (N,) int64, in this order."""
        return replace(
            self,
            files=self.files[indices],
            classes=take_rows(self.classes, indices),
            ids=take_rows(self.ids, indices),
            splits=take_rows(self.splits, indices),
        )

    def in_memory(self, size: tuple[int, int] | None = None) -> Dataset:
        """Decode every image: uint8 (N, C, H, W).

        Args:
            size: (height, width) of all results: the shorter side is scaled and the center is
                cropped. None if all images have the same size.

        Raises:
            ImageError: If an image cannot be read.
            DataError: If images differ in size and no size is given.
        """
        height, width = size or (self[0].height, self[0].width)
        channels = 1 if self.color == "gray" else 3
        images = np.empty((len(self), channels, height, width), np.uint8)
        for index, target in enumerate(images):
            image = _fit(self[index], size)
            if (image.height, image.width) != (height, width):
                raise DataError(
                    f"{self.name(index)} has {image.height}×{image.width} pixels, "
                    f"{self.name(0)} {height}×{width}: give one size for all, such as "
                    f"image_size=({height}, {width})"
                )
            target[...] = np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
        return Dataset(
            images,
            self.classes,
            self.names,
            self.notes,
            self.ids,
            self.splits,
            self.source_classes,
        )


def _fit(image: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    if size is None or (image.height, image.width) == size:
        return image
    return fit_image(image, size, Image.Resampling.BILINEAR)
