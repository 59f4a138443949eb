"""Methods for resizing an image, by the name under which a saved model stores them.

A network expects the method that it was trained with; with another it sees other pixels. Pillow
averages over all source pixels when it makes an image smaller, torch only with `antialias`, and
Torch7's `image.scale` has rules of its own (see `image_scale`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image

from . import image_scale
from .errors import PreprocessingError
from .pillow_resize import resize_image
from .torch_resize import interpolate

#: Resizes an (H, W, C) uint8 image to a (height, width): uint8, or float32 from 0 to 255 where the
#: method does not round.
Resizer = Callable[[np.ndarray, tuple[int, int]], np.ndarray]


def as_image(pixels: np.ndarray) -> Image.Image:
    """Return a PIL image of (H, W, 1 or 3) uint8 pixels."""
    return Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)


def as_pixels(image: Image.Image) -> np.ndarray:
    """Return the (H, W, C) uint8 pixels of a PIL image."""
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _pil(method: Image.Resampling) -> Resizer:
    """Return a resizer that uses Pillow, which antialiases when it makes an image smaller."""

    def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        return as_pixels(resize_image(as_image(image), size, method))

    return resize


def _torch(mode: str, antialias: bool) -> Resizer:
    """Return a resizer that gives `torch.nn.functional.interpolate`'s floats, rounded."""
    return partial(interpolate, mode=mode, antialias=antialias)


def _torch7(mode: str) -> Resizer:
    """Return a resizer that uses Torch7's `image.scale`, which does not round.

    As with a FloatTensor in Torch7, `bicubic` may return values slightly outside 0 to 255.
    """
    return partial(image_scale.scale_pixels, mode=mode)


def _refuse(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    height, width = image.shape[:2]
    raise PreprocessingError(f"an image of {height}×{width}, {size[0]}×{size[1]} was expected")


#: Every method, by name. A name is a contract: it gives the same pixels in every later version.
RESIZERS: dict[str, Resizer] = {
    "none": _refuse,
    "pil-nearest": _pil(Image.Resampling.NEAREST),
    "pil-box": _pil(Image.Resampling.BOX),
    "pil-bilinear": _pil(Image.Resampling.BILINEAR),
    "pil-hamming": _pil(Image.Resampling.HAMMING),
    "pil-bicubic": _pil(Image.Resampling.BICUBIC),
    "pil-lanczos": _pil(Image.Resampling.LANCZOS),
    "torch-nearest": _torch("nearest", antialias=False),
    "torch-nearest-exact": _torch("nearest-exact", antialias=False),
    "torch-bilinear": _torch("bilinear", antialias=False),
    "torch-bicubic": _torch("bicubic", antialias=False),
    "torch-bilinear-antialias": _torch("bilinear", antialias=True),
    "torch-bicubic-antialias": _torch("bicubic", antialias=True),
    **{f"image.scale-{mode}": _torch7(mode) for mode in image_scale.MODES},
}
