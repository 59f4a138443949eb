"""The image that a network is run on: a file, an image of a dataset, or a sample photograph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from ...converters.images.decode import read_image
from ...converters.images.files import SUFFIXES
from ..data import Dataset, ImageFiles
from ..errors import PlotError

#: The photographs that come with scikit-learn.
PHOTOGRAPHS = ("china", "flower")


def open_image(
    source: str, index: int, open_data: Callable[[str], Dataset | ImageFiles]
) -> Image.Image | np.ndarray:
    """Return an image, upright: a PIL image, or uint8 pixels (C, H, W).

    Args:
        source: An image file; `china` or `flower`; or a dataset.
        index: Index of the image in a dataset, from 0.
        open_data: Opens a dataset.

    Raises:
        PlotError: A dataset has no such image, or holds inputs instead of images.
        TorchliftError: The image cannot be read.
    """
    if source in PHOTOGRAPHS and not Path(source).exists():
        return photograph(source)
    if Path(source).suffix.lower() in SUFFIXES:
        return read_image(source)
    data = open_data(source)
    if not 0 <= index < len(data):
        raise PlotError(
            f"{source} has no image index={index}: they count from 0 to {len(data) - 1}"
        )
    if isinstance(data, ImageFiles):
        return data[index]
    if data.images.dtype != np.uint8:
        raise PlotError(f"{source} holds inputs of dtype {data.images.dtype}, not images")
    pixels: np.ndarray = data.images[index]
    return pixels


def photograph(name: str) -> Image.Image:
    """Return one of `PHOTOGRAPHS`, 640×427 pixels."""
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image(f"{name}.jpg"))
