"""Folders of images whose sub-folders are the classes, with or without `train`, `val`, `test`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ...converters.images.errors import ImageError
from ...converters.images.files import find_images, read_image
from ..errors import DataError
from .dataset import SPLIT_NAMES, Dataset, at

#: What the folders of the splits are called.
_SPLIT_FOLDERS: dict[str, str] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip

#: Images of one size are kept in memory if they take no more bytes than this.
MEMORY = 2**31


@dataclass(frozen=True)
class ImageFiles:
    """Labelled images that stay in their files, decoded when they are needed.

    It stands wherever a `Dataset` may stand that is read in batches.

    Attributes:
        files: (N,) paths.
        classes: (N,) int64, counted from 0; None for images without classes.
        names: the classes' names.
        notes: what was assumed.
        ids: (N,) the paths below the folder.
        splits: (N,) `train`, `val` or `test`; None for a folder without splits.
        color: what each is decoded to: `RGB` or `gray`.
    """

    files: np.ndarray
    classes: np.ndarray | None = None
    names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    ids: np.ndarray | None = None
    splits: np.ndarray | None = None
    color: str = "RGB"

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Image.Image:
        """One image, decoded.

        Raises:
            ImageError: when it cannot be read.
        """
        upright = ImageOps.exif_transpose(_read(self.files[index]))
        return upright.convert("L" if self.color == "gray" else "RGB")

    def batches(self, size: int) -> Iterator[tuple[list[Image.Image], np.ndarray | None]]:
        """Images and classes, `size` at a time; the last batch may be smaller."""
        for start in range(0, len(self), size):
            split = np.arange(start, min(start + size, len(self)))
            yield [self[index] for index in split.tolist()], at(self.classes, split)

    def take(self, indices: np.ndarray) -> ImageFiles:
        """The images at these indices (N,) int64, in that order."""
        return replace(
            self,
            files=self.files[indices],
            classes=at(self.classes, indices),
            ids=at(self.ids, indices),
            splits=at(self.splits, indices),
        )

    def in_memory(self, size: tuple[int, int] | None = None) -> Dataset:
        """Every image decoded: uint8 (N, C, H, W).

        Args:
            size: (height, width) that each is brought to: the shorter side is scaled, the middle
                is cut out; None where they all have one size.

        Raises:
            ImageError: when one cannot be read.
            DataError: when they differ in size and no size is given.
        """
        height, width = size or (self[0].height, self[0].width)
        channels = 1 if self.color == "gray" else 3
        images = np.empty((len(self), channels, height, width), np.uint8)
        for index, target in enumerate(images):
            image = _fitted(self[index], size)
            if (image.height, image.width) != (height, width):
                raise DataError(
                    f"{self.files[index]}: {image.height}×{image.width} pixels, others have "
                    f"{height}×{width}: give a size for all"
                )
            target[...] = np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
        return Dataset(images, self.classes, self.names, self.notes, self.ids, self.splits)


def find_image_folder(
    folder: str | os.PathLike[str], *, split: str | None = None, on_error: str = "raise"
) -> tuple[ImageFiles, set[tuple[int, int]]]:
    """The images of a folder, and the sizes (height, width) that occur.

    Args:
        folder: with a sub-folder for each class, or `train`, `val`, `test` with those.
        split: only this one of its splits.
        on_error: `raise`: the first file that is no image is an error (only their heads are
            read here); `skip`: every file is decoded once, and those that cannot be are left out,
            counted and named in the notes.

    Raises:
        ImageError: when an image cannot be read, or there is none.
    """
    root = Path(folder)
    named = {_SPLIT_FOLDERS.get(sub.name.lower(), ""): sub for sub in _folders(root)}
    places = {name: named[name] for name in SPLIT_NAMES if name in named} or {"": root}
    found = [
        (file, name, _class_of(file, place))
        for name, place in places.items()
        if split in (None, name)
        for file in find_images([place])
    ]
    sizes, modes, problems, good = set(), set(), [], []
    for entry in found:
        try:
            size, mode = _head(entry[0], decode=on_error == "skip")
        except ImageError as error:
            if on_error == "raise":
                raise
            problems.append(str(error))
            continue
        sizes.add(size)
        modes.add(mode)
        good.append(entry)
    if not good:
        raise ImageError(f"{root}: no image that can be read{f' in {split}' if split else ''}")
    names = tuple(sorted({label for _, _, label in good}))
    notes = []
    if problems:
        notes.append(f"{len(problems)} files cannot be read and are left out: {_few(problems)}")
    return ImageFiles(
        np.array([file for file, _, _ in good], object),
        np.searchsorted(names, [label for _, _, label in good]) if all(names) else None,
        names if all(names) else None,
        tuple(notes),
        np.array([file.relative_to(root).as_posix() for file, _, _ in good]),
        np.array([name for _, name, _ in good]) if "" not in places else None,
        "gray" if modes <= {"1", "L", "LA"} else "RGB",
    ), sizes


def _folders(root: Path) -> list[Path]:
    return sorted(entry for entry in root.iterdir() if entry.is_dir())


def _class_of(file: Path, place: Path) -> str:
    """The sub-folder that an image is in; empty for one that is in none."""
    inside = file.relative_to(place).parts
    return inside[0] if len(inside) > 1 else ""


def _head(file: Path, *, decode: bool) -> tuple[tuple[int, int], str]:
    """Size (height, width) and mode of an image."""
    if decode:
        image = _read(file)
        return (image.height, image.width), image.mode
    try:
        with Image.open(file) as image:
            return (image.height, image.width), image.mode
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        # read_image says what is wrong.
        return _head(file, decode=True)


def _read(file: Path) -> Image.Image:
    image = read_image(file)
    if image.mode.startswith(("I", "F")):
        raise ImageError(f"{file}: {image.mode} pixels: save it with 8 bits first")
    return image


def _fitted(image: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    if size is None or (image.height, image.width) == size:
        return image
    return ImageOps.fit(image, size[::-1], Image.Resampling.BILINEAR)


def _few(texts: list[str]) -> str:
    return "; ".join(texts[:5]) + ("; …" if len(texts) > 5 else "")
