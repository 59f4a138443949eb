"""One word that names a dataset: a file, a folder, or `digits`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import DataError
from .arrays import digits, read_npz
from .cifar import find_cifar_files, is_cifar_file, read_cifar, read_cifar_splits
from .dataset import Dataset
from .idx import find_idx_files, is_idx_file, read_idx_pair, read_idx_splits
from .image_files import MEMORY, ImageFiles, find_image_folder
from .selection import in_range, limited, select_classes
from .torch7 import read_dataset

_KINDS = (
    "a .t7 or .npz dataset, a folder of images in a folder for each class, the files of "
    "CIFAR-10/100 or MNIST or their folder, or `digits`"
)


def open_data(
    source: str | os.PathLike[str],
    *,
    classes: str | Sequence[str] | None = None,
    limit: int | None = None,
    balanced: bool = False,
    first_label: int | None = None,
    names: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
    split: str | None = None,
    on_error: str = "raise",
    seed: int = 0,
) -> Dataset | ImageFiles:
    """The labelled images that a word names.

    They are in memory as uint8, except those of a folder that differ in size or take more than
    2 GB; these are `ImageFiles`, which serve wherever images are read in batches.

    Args:
        source: a `.t7` or `.npz` file; a folder with a sub-folder of images for each class, or
            with `train`, `val`, `test` of them; CIFAR's or MNIST's own files or their folder;
            `digits` for scikit-learn's.
        classes: only these, numbered anew in this order: a list of names, or one text with commas.
        limit: at most so many images, drawn by seed.
        balanced: draw as many of each class, not in the data's own proportions.
        first_label: of a `.t7` or `.npz`, the label of the first class; by default 0 if that
            label occurs, else 1.
        names: names of the classes, for sources without.
        size: (height, width) that the images of a folder are brought to.
        split: only the source's own `train`, `val` or `test`.
        on_error: `raise` for the first label out of range or unreadable image; `skip` leaves
            them out, counted and named in the notes.
        seed: of the limit's draw.

    Raises:
        TorchliftError: when there is no such dataset, it cannot be read, or lacks what is asked.
    """
    if on_error not in ("raise", "skip"):
        raise DataError(f"on_error is {on_error!r}, expected 'raise' or 'skip'")
    data = _read(source, first_label, size, split, on_error)
    if names is not None:
        data = replace(data, names=tuple(names))
    data = in_range(data, on_error)
    if split is not None:
        data = _take_split(data, split, source)
    if classes is not None:
        wanted = classes.split(",") if isinstance(classes, str) else classes
        data = select_classes(data, [name.strip() for name in wanted])
    if limit is not None:
        data = limited(data, limit, balanced=balanced, seed=seed)
    if not len(data):
        raise DataError(f"{os.fspath(source)}: no images are left")
    if data.ids is None:
        data = replace(data, ids=np.arange(len(data)))
    return data


def stream_folder(
    folder: str | os.PathLike[str], *, split: str | None = None, on_error: str = "raise"
) -> ImageFiles:
    """The images of a folder, left in their files however few they are.

    Args:
        folder: with a sub-folder for each class, or `train`, `val`, `test` with those.
        split: only this one of its splits.
        on_error: `raise` or `skip` (see `open_data`).

    Raises:
        ImageError: when an image cannot be read, or there is none.
    """
    return find_image_folder(folder, split=split, on_error=on_error)[0]


def _read(
    source: str | os.PathLike[str],
    first_label: int | None,
    size: tuple[int, int] | None,
    split: str | None,
    on_error: str,
) -> Dataset | ImageFiles:
    path = Path(source)
    if os.fspath(source) == "digits" and not path.exists():
        return digits()
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; a dataset is {_KINDS}")
    if path.is_dir():
        if cifar := find_cifar_files(path):
            return read_cifar_splits(cifar if split not in cifar else {split: cifar[split]})
        if idx := find_idx_files(path):
            return read_idx_splits(idx)
        return _folder(path, size, split, on_error)
    if path.suffix.lower() == ".t7":
        return read_dataset(path, first_label=first_label, on_error=on_error)
    if path.suffix.lower() == ".npz":
        return read_npz(path, first_label)
    if is_idx_file(path):
        return read_idx_pair(path)
    if is_cifar_file(path):
        return read_cifar([path])
    raise DataError(f"{path}: not a dataset of a kind that is known: {_KINDS}")


def _folder(
    path: Path, size: tuple[int, int] | None, split: str | None, on_error: str
) -> Dataset | ImageFiles:
    files, sizes = find_image_folder(path, split=split, on_error=on_error)
    each = size or (sizes.pop() if len(sizes) == 1 else None)
    if each is None or len(files) * 3 * each[0] * each[1] > MEMORY:
        return files
    return files.in_memory(size)


def _take_split(
    data: Dataset | ImageFiles, split: str, source: str | os.PathLike[str]
) -> Dataset | ImageFiles:
    if data.splits is None or split not in data.splits:
        there = "no splits" if data.splits is None else ", ".join(np.unique(data.splits))
        raise DataError(f"{os.fspath(source)}: no split {split}; it has {there}")
    return data.take(np.flatnonzero(data.splits == split))
