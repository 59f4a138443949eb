"""Maps of classes as palette images: one byte a pixel, the number of its class from 0."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

#: A byte tells as many classes apart.
MOST_CLASSES = 256

#: The keyword of the text in a PNG that holds the names of its classes.
LABELS = "labels"


def class_map(scores: np.ndarray) -> np.ndarray:
    """Return the most probable class of each pixel, uint8 (H, W).

    Args:
        scores: (classes, H, W), at most `MOST_CLASSES`; of equal scores the first class counts.

    Example:
        >>> class_map(np.array([[[0.1, 0.9]], [[0.8, 0.2]]])).tolist()
        [[1, 0]]
    """
    classes: np.ndarray = scores.argmax(axis=0).astype(np.uint8)
    return classes


def class_map_image(classes: np.ndarray, labels: Sequence[str] | None = None) -> Image.Image:
    """Return the class of each pixel (H, W) as an image of mode `P`.

    Args:
        classes: uint8.
        labels: The names of the classes, which are kept with the image.

    Example:
        >>> class_map_image(np.array([[1, 0]], np.uint8), ["road", "sky"]).mode
        'P'
    """
    image = Image.fromarray(classes)
    image.putpalette(palette())
    if labels is not None:
        image.info[LABELS] = json.dumps(list(labels), ensure_ascii=False)
    return image


def png_text(image: Image.Image) -> PngInfo | None:
    """Return the names of an image's classes as a text of a PNG: a JSON list; None without."""
    if LABELS not in image.info:
        return None
    text = PngInfo()
    text.add_itxt(LABELS, image.info[LABELS])
    return text


def palette() -> list[int]:
    """Return the colors of all classes, as in PASCAL VOC: R, G, B of class 0, of class 1, ….

    Example:
        >>> palette()[:9]
        [0, 0, 0, 128, 0, 0, 0, 128, 0]
    """
    colors = []
    for number in range(MOST_CLASSES):
        rgb = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                rgb[channel] |= (number >> (3 * bit + channel) & 1) << (7 - bit)
        colors += rgb
    return colors
