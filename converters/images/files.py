"""Images as files: finding them, and reading one or saying why it cannot be read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from PIL import Image, UnidentifiedImageError

from .errors import ImageError

#: Endings of the files that are taken from a folder.
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".webp"})


#: How a place begins that is no path.
_URIS = ("file:", "http://", "https://")


def local_path(place: str | os.PathLike[str]) -> Path:
    """The path of a file of this machine, which may be given as a URI (`file:///tmp/a%20cat.jpg`).

    Raises:
        ImageError: when it is a URI of another machine.
    """
    if not isinstance(place, str) or not place.lower().startswith(_URIS):
        return Path(place)
    uri = urlsplit(place)
    if uri.scheme != "file" or uri.netloc not in ("", "localhost"):
        raise ImageError(f"{place}: only files of this machine are read; download it first")
    return Path(url2pathname(uri.path))


def find_images(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The image files that paths mean: files as they are, folders with all that is below them.

    Args:
        paths: files and folders (see `local_path`).

    Raises:
        ImageError: when a path is missing, or a folder holds no image.
    """
    found: list[Path] = []
    for path in map(local_path, paths):
        if path.is_dir():
            inside = (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
            images = sorted(file for file in inside if file.is_file())
            if not images:
                raise ImageError(f"{path}: no images in this folder ({', '.join(SUFFIXES)})")
            found += images
        elif path.exists():
            found.append(path)
        else:
            raise ImageError(f"{path}: no such file")
    return found


def read_image(file: str | os.PathLike[str]) -> Image.Image:
    """An image, decoded.

    Args:
        file: of this machine (see `local_path`).

    Raises:
        ImageError: when the file is missing, is no image, or is damaged.
    """
    path = local_path(file)
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except UnidentifiedImageError:
        raise ImageError(f"{path}: no image in a format that is known") from None
    except Exception as error:  # Pillow's decoders raise whatever their parsers do.
        raise ImageError(f"{path}: cannot be read: {error}") from error
