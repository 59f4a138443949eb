"""Image files: finding them, and decoding one or saying why it cannot be decoded."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from PIL import Image, UnidentifiedImageError

from .errors import ImageError

#: The suffixes of the files that are taken from a folder.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".webp")

#: The prefixes that distinguish a URI from a path.
_URI_PREFIXES = ("file:", "http://", "https://")


def local_path(location: str | os.PathLike[str]) -> Path:
    """Return the path of a file on this machine, which may be given as a URI.

    Args:
        location: A path, or a URI such as `file:///tmp/a%20cat.jpg`.

    Raises:
        ImageError: If it is a URI of another machine.

    Example:
        >>> local_path("file:///tmp/a%20cat.jpg").name
        'a cat.jpg'
    """
    if not isinstance(location, str) or not location.lower().startswith(_URI_PREFIXES):
        return Path(location)
    uri = urlsplit(location)
    if uri.scheme != "file" or uri.netloc not in ("", "localhost"):
        raise ImageError(f"{location}: only files of this machine are read; download it first")
    return Path(url2pathname(uri.path))


def find_images(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Return the image files that paths name; a folder stands for all images below it.

    Args:
        paths: Files, which are returned whatever their suffix is, and folders, which are searched
            for `SUFFIXES` and whose files are sorted. URIs as in `local_path`.

    Raises:
        ImageError: If a path does not exist, or a folder contains no image.

    Example:
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp())
        >>> for name in ("cat.png", "dog.jpg", "notes.txt"):
        ...     (folder / name).touch()
        >>> [path.name for path in find_images([folder])]
        ['cat.png', 'dog.jpg']
    """
    images: list[Path] = []
    for path in map(local_path, paths):
        if path.is_dir():
            inside = (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
            files = sorted(file for file in inside if file.is_file())
            if not files:
                raise ImageError(f"{path}: no images in this folder ({', '.join(SUFFIXES)})")
            images += files
        elif path.exists():
            images.append(path)
        else:
            raise ImageError(f"{path}: no such file")
    return images


def read_image(file: str | os.PathLike[str]) -> Image.Image:
    """Read and decode an image.

    Args:
        file: A file on this machine (see `local_path`).

    Raises:
        ImageError: If the file does not exist, is not an image, or is damaged.

    Example:
        >>> from tempfile import mkdtemp
        >>> file = Path(mkdtemp()) / "gray.png"
        >>> Image.new("L", (4, 3)).save(file)
        >>> read_image(file).size
        (4, 3)
    """
    path = local_path(file)
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except UnidentifiedImageError:
        raise ImageError(f"{path}: not an image in a known format") from None
    except Exception as error:  # Pillow's decoders raise any class of exception.
        raise ImageError(f"{path}: cannot be read: {error}") from error
