"""Ways to bring an image to another size, by the name that a saved model gives them.

Networks are trained on one of them and see something else with another: PIL's (which averages
where it shrinks), torch's (which averages only when told to) and Torch7's `image.scale`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image

from . import image_scale
from .errors import PreprocessingError

#: Turns one (H, W, C) uint8 image into one of another (height, width): uint8, or float32 from
#: 0 to 255 where the method does not round.
Resizer = Callable[[np.ndarray, tuple[int, int]], np.ndarray]


def as_image(pixels: np.ndarray) -> Image.Image:
    """A PIL image of (H, W, 1 or 3) uint8 pixels."""
    return Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)


def as_pixels(image: Image.Image) -> np.ndarray:
    """The (H, W, C) uint8 pixels of a PIL image."""
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _pil(method: Image.Resampling) -> Resizer:
    """Pillow's resampling, which averages over all source pixels when it makes them fewer."""

    def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        return as_pixels(as_image(image).resize(size[::-1], method))

    return resize


def _torch(mode: str, antialias: bool) -> Resizer:
    """`torch.nn.functional.interpolate` in floating point, rounded to whole pixel values."""

    def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        import torch
        from torch.nn import functional

        pixels = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32))
        corners = None if mode.startswith("nearest") else False
        result = functional.interpolate(
            pixels, size=size, mode=mode, align_corners=corners, antialias=antialias
        )
        return result[0].clamp(0, 255).round().byte().numpy().transpose(1, 2, 0)

    return resize


def _torch7(mode: str) -> Resizer:
    """Torch7's `image.scale` of a FloatTensor, which is not rounded and may leave 0 to 255."""
    return partial(image_scale.scale_pixels, mode=mode)


def _refuse(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    height, width = image.shape[:2]
    raise PreprocessingError(f"an image of {height}×{width}, {size[0]}×{size[1]} was expected")


#: Every way to resize.
RESIZERS: dict[str, Resizer] = {
    "none": _refuse,
    **{f"pil-{method.name.lower()}": _pil(method) for method in Image.Resampling},
    "torch-nearest": _torch("nearest", antialias=False),
    "torch-nearest-exact": _torch("nearest-exact", antialias=False),
    "torch-bilinear": _torch("bilinear", antialias=False),
    "torch-bicubic": _torch("bicubic", antialias=False),
    "torch-bilinear-antialias": _torch("bilinear", antialias=True),
    "torch-bicubic-antialias": _torch("bicubic", antialias=True),
    **{f"image.scale-{mode}": _torch7(mode) for mode in image_scale.MODES},
}
