"""What a program may hand to a classifier as an image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..images.decode import ImageSource, read_image
from .errors import InferenceError

#: One image: what `read_image` reads, a PIL image, or uint8 pixels (H, W) or (H, W, 1 or 3).
ImageInput = ImageSource | Image.Image | np.ndarray

_EXPECTED = (
    "an image is a file name, the bytes of a file, an open binary file, a PIL image, or an array "
    "of uint8 pixels (height, width) or (height, width, 1 or 3)"
)


def list_images(images: Any) -> Sequence[ImageInput] | np.ndarray:
    """Return one image, or several, as a list; an array of several stays an array.

    Args:
        images: An image, a list or tuple of images, or uint8 pixels (N, 1 or 3, H, W).

    Raises:
        InferenceError: If something is not an image, or there is none.

    Example:
        >>> gray = np.zeros((5, 4), np.uint8)
        >>> len(list_images(gray)), len(list_images([gray, gray])), len(list_images("cat.png"))
        (1, 2, 1)
    """
    if isinstance(images, np.ndarray) and images.ndim == 4:
        if images.dtype != np.uint8 or images.shape[1] not in (1, 3):
            raise InferenceError(
                f"images are {describe(images)}: pixels must be uint8 (N, 1 or 3, H, W); "
                "predict_inputs takes preprocessed inputs"
            )
        listed: Sequence[ImageInput] | np.ndarray = images
    elif isinstance(images, (list, tuple)):
        for index, image in enumerate(images):
            _require_image(image, f"images[{index}]")
        listed = images
    else:
        _require_image(images, "images")
        listed = [images]
    if not len(listed):
        raise InferenceError(f"no images; {_EXPECTED}")
    return listed


def read_images(
    images: Sequence[ImageInput] | np.ndarray, first: int = 0
) -> list[Image.Image | np.ndarray] | np.ndarray:
    """Return images as `Preprocessing` takes them: files and bytes are decoded.

    Args:
        images: What `list_images` returned, or a part of it.
        first: The index of the first of them, for messages.

    Raises:
        ImageError: If an image cannot be read.
    """
    if isinstance(images, np.ndarray):
        return images
    return [
        image
        if isinstance(image, (Image.Image, np.ndarray))
        else read_image(image, "" if _has_name(image) else f"images[{index}]")
        for index, image in enumerate(images, first)
    ]


def require_count(name: str, value: Any) -> int:
    """Return the value of an option that must be a positive integer.

    Raises:
        InferenceError: If it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise InferenceError(f"{name}={value!r}: an integer of at least 1 was expected")
    return int(value)


def describe(value: Any) -> str:
    """Return what a value is, for a message.

    Example:
        >>> describe(np.zeros((2, 3))), describe(None)
        ('a float64 array (2, 3)', 'a value of type NoneType')
    """
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} array {value.shape}"
    return f"a value of type {type(value).__name__}"


def _require_image(image: Any, name: str) -> None:
    if isinstance(image, np.ndarray):
        shape = image.shape
        valid = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))
        valid = valid and image.dtype == np.uint8 and image.size > 0
    else:
        kinds = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)
        valid = isinstance(image, kinds) or callable(getattr(image, "read", None))
    if not valid:
        raise InferenceError(f"{name}: {describe(image)}; {_EXPECTED}")


def _has_name(image: Any) -> bool:
    return isinstance(image, (str, os.PathLike)) or isinstance(getattr(image, "name", None), str)
