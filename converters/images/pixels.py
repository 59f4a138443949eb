"""The pixels of whatever is given as an image: PIL images and arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from .decode import upright
from .errors import ImageError, PreprocessingError
from .resize import as_pixels


def rounded(pixels: np.ndarray) -> np.ndarray:
    """Return pixels as bytes: rounded, and from 0 to 255."""
    if pixels.dtype != np.uint8:
        pixels = np.rint(pixels.clip(0, 255)).astype(np.uint8)
    return pixels


def channels_last(batch: np.ndarray) -> np.ndarray:
    """Map (N, C, H, W) uint8 to (N, H, W, C)."""
    _require_bytes(batch)
    if batch.shape[1] not in (1, 3):
        raise PreprocessingError(
            f"images have the shape {batch.shape}; (N, 1 or 3, H, W) was expected"
        )
    return batch.transpose(0, 2, 3, 1)


def pixels_of(image: Any) -> np.ndarray:
    """Return the (H, W, 1 or 3) uint8 pixels of an image, rotated as its EXIF orientation says."""
    if isinstance(image, np.ndarray):
        _require_bytes(image)
        pixels = image[..., None] if image.ndim == 2 else image
        if not (pixels.ndim == 3 and pixels.shape[2] in (1, 3) and pixels.size > 0):
            raise PreprocessingError(
                f"an image has the shape {image.shape}; (H, W) or (H, W, 1 or 3) was expected"
            )
        return pixels
    if not isinstance(image, Image.Image):
        raise PreprocessingError(f"an image was expected, not {type(image).__name__}")
    try:
        return as_pixels(upright(image))
    except ImageError as error:
        raise PreprocessingError(f"an image has {error}") from None
    except Exception as error:  # Pillow's decoders raise any class of exception.
        raise PreprocessingError(f"an image cannot be read: {error}") from error


def _require_bytes(pixels: np.ndarray) -> None:
    if pixels.dtype != np.uint8:
        raise PreprocessingError(f"pixels must be uint8 (0 to 255), not {pixels.dtype}")
