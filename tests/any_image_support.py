"""Image files of every kind and size, as a folder of a stranger holds them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image
from support import SHARED

PHOTOS = sorted((SHARED / "data" / "photos").glob("*.*"))

#: The sizes (width, height) that come first; the others are drawn.
SIZES = [(1, 1), (1, 37), (53, 1), (2, 3), (32, 32), (31, 33), (6000, 4000), (4000, 6000)]

#: The tag that tells how a camera was held.
ORIENTATION = 0x0112

KINDS = ("jpeg", "turned", "cmyk", "png", "gray", "palette", "alpha", "bilevel", "webp", "bmp")


def write_images(folder: Path, count: int) -> list[Path]:
    """Write images of each kind in turn, parts of photographs and made ones, and return them."""
    random = np.random.default_rng(0)
    photos = [Image.open(file).convert("RGB") for file in PHOTOS]
    files = []
    for index in range(count):
        size = SIZES[index] if index < len(SIZES) else _size(random)
        if photos and index % 2 and max(size) < 3000:
            image = _part(photos[index % len(photos)], size, random)
        else:
            # What is larger is a smaller one, each of its pixels repeated.
            drawn = (min(size[0], 1000), min(size[1], 1000))
            image = _made(drawn, random).resize(size, Image.Resampling.NEAREST)
        files.append(_save(image, KINDS[index % len(KINDS)], folder / f"{index:04}", index))
    return files


def _size(random: np.random.Generator) -> tuple[int, int]:
    width, height = np.exp(random.uniform(np.log(4), np.log(900), 2)).astype(int)
    return int(width), int(height)


def _part(photo: Image.Image, size: tuple[int, int], random: np.random.Generator) -> Image.Image:
    """Return a part of a photograph; past its edges it is black."""
    left, upper = (int(random.integers(0, length)) // 2 for length in photo.size)
    return photo.crop((left, upper, left + size[0], upper + size[1]))


def _made(size: tuple[int, int], random: np.random.Generator) -> Image.Image:
    """Return gratings in one color on another, with noise."""
    rows, columns = np.ogrid[: size[1], : size[0]]
    down, across = random.uniform(-0.3, 0.3, 2)
    wave = (np.sin(down * rows + across * columns)[..., None] / 2 + 0.5).astype(np.float32)
    first, second = random.uniform(0, 255, (2, 3)).astype(np.float32)
    noise = random.standard_normal((64, 64, 3), np.float32) * random.uniform(0, 40)
    tiles = (-(-size[1] // 64), -(-size[0] // 64), 1)
    pixels = first + (second - first) * wave + np.tile(noise, tiles)[: size[1], : size[0]]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _save(image: Image.Image, kind: str, path: Path, index: int) -> Path:
    if kind in ("jpeg", "turned", "cmyk"):
        exif = Image.Exif()
        exif[ORIENTATION] = 1 + index // len(KINDS) % 8 if kind == "turned" else 1
        image = image.convert("CMYK") if kind == "cmyk" else image
        image.save(f"{path}.jpg", quality=92, exif=exif)
        return Path(f"{path}.jpg")
    if kind == "alpha":
        image.putalpha(image.convert("L").point(lambda value: 255 - value // 2))
    modes = {"gray": "L", "palette": "P", "bilevel": "1"}
    image = image.convert(modes[kind]) if kind in modes else image
    suffix = kind if kind in ("webp", "bmp") else "png"
    options = {"compress_level": 1} if suffix == "png" else {}
    image.save(f"{path}.{suffix}", **options)
    return Path(f"{path}.{suffix}")


def web_package() -> Path:
    """Return where onnxruntime-web must be to be tested with."""
    here = Path(__file__).parent.parent / "node_modules" / "onnxruntime-web"
    return Path(os.environ.get("TORCHLIFT_ONNXRUNTIME_WEB", here))
