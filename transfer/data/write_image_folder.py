"""Writing a dataset as a folder of PNG files, which any program can look at."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ...converters.files import atomic_path
from ..errors import DataError
from .dataset import Dataset
from .image_files import ImageFiles
from .image_folder_index import ClassIndex, write_index
from .selection import class_count, image_shape

#: The longest name of a class's folder.
_LONGEST = 60


def write_image_folder(data: Dataset | ImageFiles, folder: str | os.PathLike[str]) -> Path:
    """Write images as PNG files, in a subfolder for each class, below one for each split.

    `open_data` reads the folder with the same pixels, classes, names, splits and order, so that it
    trains to the same numbers. Files are numbered in the order of the images. Classes without names
    have folders with numbers from 1; images without labels are in the folder itself.

    Args:
        data: Images with 8 bits a channel, gray or RGB.
        folder: The folder to write, atomically; an existing folder is replaced.

    Raises:
        DataError: If the images are inputs of a network and no pixels, or have other channels.
        ImageError: If an image of a file cannot be read.
        WriteError: If the folder cannot be written.

    Example:
        >>> from tempfile import mkdtemp
        >>> data = Dataset(np.zeros((2, 1, 4, 4), np.uint8), np.array([1, 0]), ("owl", "cat"))
        >>> folder = write_image_folder(data, Path(mkdtemp()) / "images")
        >>> sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.png"))
        ['cat/1.png', 'owl/2.png']
    """
    if isinstance(data, Dataset):
        is_image = data.images.ndim == 4 and data.images.shape[1] in (1, 3)
        if data.images.dtype != np.uint8 or not is_image:
            raise DataError(
                f"images of {image_shape(data)} {data.images.dtype} are no PNG files, which hold "
                "gray or RGB pixels from 0 to 255"
            )
    names = _folder_names(data)
    splits = None if data.classes is None else data.splits
    width = len(str(len(data)))
    target = Path(folder)
    with atomic_path(target) as path:
        path.mkdir()
        for index in range(len(data)):
            split = "" if splits is None else str(splits[index])
            name = "" if data.classes is None else names[data.classes[index]]
            place = path / split / name
            place.mkdir(parents=True, exist_ok=True)
            _image(data, index).save(place / f"{index + 1:0{width}}.png")
        labels: Sequence[str | None] = data.names or [None] * len(names)
        write_index(ClassIndex(dict(zip(names, labels, strict=True))), path)
    return target


def _image(data: Dataset | ImageFiles, index: int) -> Image.Image:
    if isinstance(data, ImageFiles):
        return data[index]
    pixels = np.ascontiguousarray(data.images[index].transpose(1, 2, 0))
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _folder_names(data: Dataset | ImageFiles) -> list[str]:
    """Return the name of each class's folder: different ones, also where case does not count."""
    if data.classes is None:
        return []
    count = class_count(data)
    labels = data.names or [f"{number:0{len(str(count))}}" for number in range(1, count + 1)]
    names: list[str] = []
    taken: set[str] = set()
    for label in labels:
        plain = re.sub(r"[^\w .,()\[\]+=@&'-]", "_", label).strip(" .")[:_LONGEST] or "class"
        name, number = plain, 1
        while name.casefold() in taken:
            number += 1
            name = f"{plain}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names
