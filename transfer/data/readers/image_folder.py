"""Folders of images with a subfolder for each class, with or without `train`, `val`, `test`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from ....converters.images.errors import ImageError
from ....converters.images.files import find_images
from ...errors import DataError
from ..dataset import SPLIT_NAMES, Dataset
from ..image_files import MEMORY_LIMIT, ImageFiles, decode_8bit
from .registry import ReadOptions, reader

#: Names of a split's folder, in lower case.
_SPLIT_FOLDERS: dict[str, str] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


# Any folder may be one of images, so the kinds of folders with certain files are asked first.
@reader(
    "a folder with a subfolder of images for each class",
    accepts=lambda source: Path(source).is_dir(),
    order=90,
)
def read_image_folder(source: str, options: ReadOptions) -> Dataset | ImageFiles:
    """Return the images of a folder.

    They are decoded at once if they have one size, or are resized to one, and take no more than
    2 GB.

    Raises:
        ImageError: If an image cannot be read, or there is none.
    """
    files, sizes = _find_files(source, split=options.split, on_error=options.on_error)
    size = options.size or (sizes.pop() if len(sizes) == 1 else None)
    if size is None or len(files) * 3 * size[0] * size[1] > MEMORY_LIMIT:
        return files
    try:
        return files.in_memory(options.size)
    except DataError:
        # Images of one size may be stored turned (EXIF): upright, they differ.
        return files


def stream_folder(
    folder: str | os.PathLike[str], *, split: str | None = None, on_error: str = "raise"
) -> ImageFiles:
    """Return the images of a folder as files that are decoded on demand, however few they are.

    Args:
        folder: It has a subfolder for each class, or `train`, `val`, `test` with those.
        split: Only this split.
        on_error: `raise` or `skip` (see `open_data`).

    Raises:
        ImageError: If an image cannot be read, or there is none.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> from PIL import Image
        >>> from torchlift.transfer.data import stream_folder
        >>> folder = Path(mkdtemp())
        >>> for name in ("cat", "dog"):
        ...     (folder / name).mkdir()
        ...     Image.new("RGB", (8, 6)).save(folder / name / "1.png")
        >>> data = stream_folder(folder)
        >>> data.ids.tolist(), data.names, data[1].size
        (['cat/1.png', 'dog/1.png'], ('cat', 'dog'), (8, 6))
    """
    return _find_files(folder, split=split, on_error=on_error)[0]


def _find_files(
    folder: str | os.PathLike[str], *, split: str | None, on_error: str
) -> tuple[ImageFiles, set[tuple[int, int]]]:
    """Return the images of a folder, and the sizes (height, width) that occur.

    With `raise`, only the headers are read here and the first file that is not an image is an
    error. With `skip`, every file is decoded once; the unreadable ones are left out and noted.
    """
    root = Path(folder)
    by_split = {_SPLIT_FOLDERS.get(sub.name.lower(), ""): sub for sub in _subfolders(root)}
    places = {name: by_split[name] for name in SPLIT_NAMES if name in by_split} or {"": root}
    candidates = [
        (file, name, _class_of(file, place))
        for name, place in places.items()
        if split in (None, name)
        for file in find_images([place])
    ]
    sizes, modes, problems, readable = set(), set(), [], []
    for candidate in candidates:
        try:
            size, mode = _inspect(candidate[0], decode=on_error == "skip")
        except ImageError as error:
            if on_error == "raise":
                raise
            problems.append(str(error))
            continue
        sizes.add(size)
        modes.add(mode)
        readable.append(candidate)
    if not readable:
        raise ImageError(f"{root}: no readable image{f' in {split}' if split else ''}")
    names = tuple(sorted({label for _, _, label in readable}))
    notes = []
    if problems:
        examples = "; ".join(problems[:5]) + ("; …" if len(problems) > 5 else "")
        notes.append(f"{len(problems)} files cannot be read and are left out: {examples}")
    return ImageFiles(
        np.array([file for file, _, _ in readable], object),
        np.searchsorted(names, [label for _, _, label in readable]) if all(names) else None,
        names if all(names) else None,
        tuple(notes),
        np.array([file.relative_to(root).as_posix() for file, _, _ in readable]),
        np.array([name for _, name, _ in readable]) if "" not in places else None,
        "gray" if modes <= {"1", "L", "LA"} else "RGB",
    ), sizes


def _subfolders(root: Path) -> list[Path]:
    return sorted(entry for entry in root.iterdir() if entry.is_dir())


def _class_of(file: Path, place: Path) -> str:
    """Return the subfolder that an image is in; empty if it is in none."""
    steps = file.relative_to(place).parts
    return steps[0] if len(steps) > 1 else ""


def _inspect(file: Path, *, decode: bool) -> tuple[tuple[int, int], str]:
    """Return the size (height, width) and the mode of an image."""
    if decode:
        image = decode_8bit(file)
        return (image.height, image.width), image.mode
    try:
        with Image.open(file) as image:
            return (image.height, image.width), image.mode
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        # Decoding raises an error that names the problem.
        return _inspect(file, decode=True)
