"""The picture that a network is shown: a file, one of a dataset, or a photograph that is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ...converters.images.files import SUFFIXES, read_image
from ..data import Dataset, ImageFiles
from ..errors import PlotError

#: Photographs that come with scikit-learn.
PHOTOGRAPHS = ("china", "flower")


def open_image(
    word: str, index: int, open_data: Callable[[str], Dataset | ImageFiles]
) -> Image.Image | np.ndarray:
    """A picture, upright: a PIL image, or uint8 pixels (C, H, W).

    Args:
        word: a picture's file; `china` or `flower`; or a dataset.
        index: of the picture in a dataset, from 0.
        open_data: opens a dataset.

    Raises:
        PlotError: when a dataset has no such picture, or holds inputs instead of pictures.
        TorchliftError: when it cannot be read.
    """
    if word in PHOTOGRAPHS:
        return photograph(word)
    if Path(word).suffix.lower() in SUFFIXES:
        return ImageOps.exif_transpose(read_image(word))
    data = open_data(word)
    if not 0 <= index < len(data):
        raise PlotError(f"{word} has the pictures 0 to {len(data) - 1}, none is {index} (--index)")
    if isinstance(data, ImageFiles):
        return data[index]
    if data.images.dtype != np.uint8:
        raise PlotError(f"{word} holds inputs, not pictures: its numbers are {data.images.dtype}")
    return data.images[index]


def photograph(name: str) -> Image.Image:
    """One of `PHOTOGRAPHS`, 640×427."""
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image(f"{name}.jpg"))
