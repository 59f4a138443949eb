"""Resizing by Pillow, with the same bytes whatever version is installed.

Pillow resizes one axis after the other and rounds to bytes in between. Up to version 12 the width
comes first; version 13 begins with the height where that is less work, and other bytes come out.
Two calls, each of which changes one axis, leave it no choice.
"""

from __future__ import annotations

from PIL import Image

#: The part of an image that is resized: left, top, right, bottom.
Box = tuple[float, float, float, float]


def resize_image(
    image: Image.Image,
    size: tuple[int, int],
    method: Image.Resampling,
    box: Box | None = None,
) -> Image.Image:
    """Resize an image, the width first, as `Image.resize` does up to Pillow 12.

    Args:
        image: An image of mode `L` or `RGB`.
        size: (height, width) of the result.
        method: How new pixels are computed from old ones.
        box: The part to resize; by default the whole image.

    Example:
        >>> resize_image(Image.new("L", (72, 100)), (64, 48), Image.Resampling.BICUBIC).size
        (48, 64)
    """
    left, top, right, bottom = box or (0, 0, *image.size)
    height, width = size
    rows = image.resize((width, image.height), method, (left, 0, right, image.height))
    return rows.resize((width, height), method, (0, top, width, bottom))


def fit_image(image: Image.Image, size: tuple[int, int], method: Image.Resampling) -> Image.Image:
    """Resize the largest centered part of an image that has the proportions of a size to it.

    This is `ImageOps.fit` of Pillow up to 12.

    Args:
        image: An image of mode `L` or `RGB`.
        size: (height, width) of the result.
        method: How new pixels are computed from old ones.

    Example:
        >>> fit_image(Image.new("RGB", (60, 40)), (16, 16), Image.Resampling.BILINEAR).size
        (16, 16)
    """
    ratio = size[1] / size[0]
    part_width, part_height = float(image.width), float(image.height)
    if image.width / image.height > ratio:
        part_width = ratio * image.height
    elif image.width / image.height < ratio:
        part_height = image.width / ratio
    left, top = (image.width - part_width) * 0.5, (image.height - part_height) * 0.5
    box = (left, top, left + part_width, top + part_height)
    return resize_image(image, size, method, box)
