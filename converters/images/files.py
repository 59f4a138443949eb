"""Image files: where they are, and what else is in their folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from .errors import ImageError

#: The suffixes of the files that are taken from a folder, in lower case.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff", ".webp"),
)

#: The prefixes that distinguish a URI from a path.
_URI_PREFIXES = ("file:", "http://", "https://")

#: How many files a note names.
_NAMED = 3


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


@dataclass
class FolderContent:
    """The files of a folder and of all folders below it.

    Attributes:
        images: The files with one of `SUFFIXES`, sorted.
        hidden: Files and folders whose names begin with a dot, such as the `._cat.jpg` of macOS.
        others: All other files.
    """

    images: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)

    def add(self, content: FolderContent) -> None:
        """Add the files of another folder."""
        self.images += content.images
        self.hidden += content.hidden
        self.others += content.others

    def note(self) -> str:
        """Return what is not taken, with counts and the first names; empty if there is nothing."""
        kinds = {"hidden files": self.hidden, "files of other kinds": self.others}
        parts = [f"{kind}: {name_files(files)}" for kind, files in kinds.items() if files]
        return f"left out, {'; '.join(parts)}" if parts else ""


def list_folder(folder: str | os.PathLike[str], *, below: bool = True) -> FolderContent:
    """Return the images of a folder and of all folders below it, and what else is there.

    Links are followed; a folder that links lead to more than once is read once.

    Args:
        folder: The folder.
        below: Whether to search the folders below it; otherwise they are ignored.

    Raises:
        ImageError: If a folder cannot be read.

    Example:
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp())
        >>> for name in ("dog.JPG", "cat.png", "._cat.png", "notes.txt"):
        ...     (folder / name).touch()
        >>> content = list_folder(folder)
        >>> [path.name for path in content.images]
        ['cat.png', 'dog.JPG']
        >>> content.note()
        'left out, hidden files: 1 (._cat.png); files of other kinds: 1 (notes.txt)'
    """
    content = FolderContent()
    waiting, seen = [Path(folder)], set()
    while waiting:
        place = waiting.pop()
        try:
            status = place.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(place.iterdir())
        except OSError as error:
            raise ImageError(f"{place}: cannot be read: {error.strerror or error}") from error
        for entry in entries:
            if entry.name.startswith("."):
                content.hidden.append(entry)
            elif entry.is_dir():
                waiting += [entry] if below else []
            # A link that leads nowhere is an image that cannot be read.
            elif entry.suffix.lower() in SUFFIXES and (entry.is_file() or entry.is_symlink()):
                content.images.append(entry)
            else:
                content.others.append(entry)
    content.images.sort()
    return content


def find_images(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Return the image files that paths name; a folder stands for all images below it.

    Args:
        paths: Files, which are returned whatever their suffix is, and folders (see `list_folder`).
            URIs as in `local_path`.

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
            inside = list_folder(path).images
            if not inside:
                raise no_images(path)
            images += inside
        elif path.exists():
            images.append(path)
        else:
            raise ImageError(f"{path}: no such file")
    return images


def no_images(folder: Path) -> ImageError:
    """Return the error for a folder that has no images."""
    return ImageError(f"{folder}: no images in this folder ({', '.join(SUFFIXES)})")


def name_files(files: Sequence[Path]) -> str:
    """Return the number of files and the names of the first ones.

    Example:
        >>> name_files([Path("a/1.png"), Path("a/2.png")])
        '2 (1.png, 2.png)'
    """
    names = [path.name for path in files[:_NAMED]] + ["…"] * (len(files) > _NAMED)
    return f"{len(files):,} ({', '.join(names)})"
