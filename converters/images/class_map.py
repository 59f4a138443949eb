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


def class_map_image(scores: np.ndarray, labels: Sequence[str] | None = None) -> Image.Image:
    """Return the most probable class of each pixel, as an image of mode `P`.

    Args:
        scores: (classes, H, W); of equal scores the first class counts.
        labels: The names of the classes, which are kept with the image.

    Example:
        >>> scores = np.array([[[0.1, 0.9]], [[0.8, 0.2]]])
        >>> image = class_map_image(scores, ["road", "sky"])
        >>> image.mode, [image.getpixel((x, 0)) for x in (0, 1)]
        ('P', [1, 0])
    """
    image = Image.fromarray(scores.argmax(axis=0).astype(np.uint8))
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
