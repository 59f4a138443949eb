"""Folders of images with a subfolder for each class, with or without `train`, `val`, `test`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ....converters.images.errors import ImageError
from ....converters.images.files import SUFFIXES, FolderContent, list_folder, name_files, no_images
from ..collect_images import SPLITS_BY_NAME, read_headers, small_in_memory, unreadable_note
from ..dataset import SPLIT_NAMES, Dataset
from ..image_files import ImageFiles
from ..image_folder_index import INDEX, ClassIndex, read_index
from .registry import ReadOptions, reader

#: What messages call such a folder.
KIND = "a folder with a subfolder of images for each class"


# Any folder may be one of images, so the kinds of folders with certain files are asked first.
@reader(
    KIND,
    accepts=lambda source: Path(source).is_dir(),
    order=90,
)
def read_image_folder(source: str, options: ReadOptions) -> Dataset | ImageFiles:
    """Return the images of a folder.

    They are decoded at once if they have one size, or are resized to one, and take no more than
    2 GB.

    Raises:
        ImageError: If an image cannot be read, or a class folder has none.
    """
    files, sizes = _find_files(source, split=options.split, on_error=options.on_error)
    return small_in_memory(files, sizes, options.size)


def stream_folder(
    folder: str | os.PathLike[str], *, split: str | None = None, on_error: str = "raise"
) -> ImageFiles:
    """Return the images of a folder as files that are decoded on demand, however few they are.

    Args:
        folder: It has a subfolder for each class, or `train`, `val`, `test` with those.
        split: Only this split.
        on_error: `raise` or `skip` (see `open_data`).

    Raises:
        ImageError: If an image cannot be read, or a class folder has none.

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


#: A file, its split (or an empty string) and its class (or an empty string).
_Entry = tuple[Path, str, str]


def _find_files(
    folder: str | os.PathLike[str], *, split: str | None, on_error: str
) -> tuple[ImageFiles, set[tuple[int, int]]]:
    """Return the images of a folder, and the sizes (height, width) that occur.

    With `raise`, only the headers are read here and the first file that is not an image is an
    error. With `skip`, every file is decoded once; the unreadable ones are left out and noted.
    """
    root = Path(folder)
    index = read_index(root)
    entries, notes = _list_entries(root, split, index is not None)
    listed = [file for file, _, _ in entries]
    headers, problems = read_headers(listed, [*map(str, listed)], on_error)
    found = [header for header in headers if header is not None]
    readable = [entry for entry, header in zip(entries, headers, strict=True) if header is not None]
    if problems:
        notes.append(unreadable_note(problems))
    _check_classes(root, entries, readable)
    index = index or ClassIndex({})
    names = index.ordered({label for _, _, label in readable})
    positions = {name: position for position, name in enumerate(names)}
    labels = np.array([positions[label] for _, _, label in readable]) if names != ("",) else None
    return ImageFiles(
        np.array([file for file, _, _ in readable], object),
        labels,
        None if labels is None else index.labels(names),
        tuple(notes),
        np.array([file.relative_to(root).as_posix() for file, _, _ in readable]),
        np.array([name for _, name, _ in readable]) if all(s for _, s, _ in readable) else None,
        "gray" if all(header.gray for header in found) else "RGB",
    ), {header.size for header in found}


def _list_entries(root: Path, split: str | None, indexed: bool) -> tuple[list[_Entry], list[str]]:
    """Return the images of a folder, and notes on what is not taken.

    Args:
        root: The folder.
        split: Only this split.
        indexed: Whether the folder has an index: the images are then in the order of their names.

    Raises:
        ImageError: If a class folder has no images, or the whole folder has none.
    """
    folders = _subfolders(root)
    splits = _split_folders(root, folders, split)
    entries: list[_Entry] = []
    unused = FolderContent()
    beside: list[Path] = []
    if splits:
        beside = [*list_folder(root, below=False).images, *sorted({*folders} - {*splits.values()})]
        unused.add(list_folder(root, below=False))
    for name, place in splits.items() or [("", root)]:
        if split in (None, name) or not splits:
            found, content, loose = _list_classes(place)
            entries += [(file, name, label) for file, label in found]
            unused.add(content)
            beside += loose
    if indexed:
        entries.sort(key=lambda entry: entry[0].name)
        unused.others = [file for file in unused.others if file != root / INDEX]
    notes = [unused.note()] if unused.note() else []
    if beside:
        notes.append(f"left out, in no class folder: {name_files(beside)}")
    if not entries:
        raise no_images(root)
    return entries, notes


def _list_classes(place: Path) -> tuple[list[tuple[Path, str]], FolderContent, list[Path]]:
    """Return the images of a folder with their classes, its files, and images of no class."""
    content = list_folder(place, below=False)
    loose = list(content.images)
    classes = {folder: list_folder(folder) for folder in _subfolders(place)}
    for inside in classes.values():
        content.add(inside)
    if not any(inside.images for inside in classes.values()):
        return [(file, "") for file in loose], content, []
    for folder, inside in classes.items():
        if not inside.images:
            raise ImageError(f"{folder}: no images in this class folder ({', '.join(SUFFIXES)})")
    labeled = [(file, folder.name) for folder, inside in classes.items() for file in inside.images]
    return labeled, content, loose


def _split_folders(root: Path, folders: list[Path], split: str | None) -> dict[str, Path]:
    """Return the folders of splits, by split, or none.

    A folder called `train`, `val` or `test` is one if it has class folders and no folder beside
    them has any; otherwise it is a class of that name.

    Raises:
        ImageError: If only some of them have class folders, or two are of the same split.
    """
    named: dict[str, Path] = {}
    beside = []
    for folder in folders:
        name = SPLITS_BY_NAME.get(folder.name.lower())
        if name in named:
            raise ImageError(f"{root}: both {named[name].name} and {folder.name} are {name} splits")
        if name is None:
            beside.append(folder)
        else:
            named[name] = folder
    with_classes = [folder for folder in named.values() if _subfolders(folder)]
    if not with_classes or any(map(_subfolders, beside)):
        return {}
    for name, folder in named.items():
        if folder not in with_classes and split in (None, name):
            raise ImageError(
                f"{folder}: no class folders, which {with_classes[0].name} has; move it elsewhere"
            )
    return {name: named[name] for name in SPLIT_NAMES if name in named}


def _subfolders(root: Path) -> list[Path]:
    entries = (entry for entry in root.iterdir() if not entry.name.startswith("."))
    return sorted(entry for entry in entries if entry.is_dir())


def _check_classes(root: Path, entries: list[_Entry], readable: list[_Entry]) -> None:
    """Check that each class still has an image once the unreadable ones are left out.

    Raises:
        ImageError: If it has none.
    """
    before, after = ({entry[1:] for entry in listed} for listed in (entries, readable))
    for name, label in sorted(before - after):
        place = "/".join(filter(None, (str(root), name, label)))
        raise ImageError(f"{place}: no readable image")
