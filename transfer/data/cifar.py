"""CIFAR-10 and CIFAR-100 in their own files: the binary version, and the Python version.

The format is of https://www.cs.toronto.edu/~kriz/cifar.html: a record is a label (CIFAR-100: the
coarse and the fine one) and 3,072 bytes, the red, green and blue planes of 32×32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import DataError
from .dataset import Dataset, joined
from .pickled import read_pickle

_PIXELS = 3 * 32 * 32

#: Files of a folder by split: CIFAR-10 binary, CIFAR-100 binary, and both as Python pickles.
_LAYOUTS = (
    {"train": [f"data_batch_{n}.bin" for n in range(1, 6)], "test": ["test_batch.bin"]},
    {"train": ["train.bin"], "test": ["test.bin"]},
    {"train": [f"data_batch_{n}" for n in range(1, 6)], "test": ["test_batch"]},
    {"train": ["train"], "test": ["test"]},
)

#: Where class names stand: text files of the binary version, pickles of the other.
_NAME_FILES = ("batches.meta.txt", "fine_label_names.txt", "batches.meta", "meta")
_NAME_KEYS = ("label_names", "fine_label_names")
_LABEL_KEYS = ("labels", "fine_labels")


def find_cifar_files(folder: Path) -> dict[str, list[Path]]:
    """The CIFAR files of a folder by split, or none; those that are missing are left out."""
    for layout in _LAYOUTS:
        found = {
            split: [folder / name for name in names if (folder / name).is_file()]
            for split, names in layout.items()
        }
        if any(found.values()):
            return {split: files for split, files in found.items() if files}
    return {}


def is_cifar_file(path: Path) -> bool:
    """Whether a file is called as one of CIFAR's."""
    return any(path.name in names for layout in _LAYOUTS for names in layout.values())


def read_cifar_splits(files: dict[str, list[Path]]) -> Dataset:
    """The images of CIFAR's files by split (see `find_cifar_files`).

    Raises:
        DataError: when a file cannot be read or holds something else.
    """
    return joined({split: read_cifar(paths) for split, paths in files.items()})


def read_cifar(files: list[Path]) -> Dataset:
    """The images of CIFAR's files, all in one folder; of CIFAR-100 the hundred fine classes.

    Raises:
        DataError: when a file cannot be read or holds something else.
    """
    batches = [_binary(path) if path.suffix == ".bin" else _python(path) for path in files]
    return Dataset(
        np.concatenate([pixels for pixels, _ in batches]).reshape(-1, 3, 32, 32),
        np.concatenate([labels for _, labels in batches]).astype(np.int64),
        _names(files[0].parent),
    )


def _binary(file: Path) -> tuple[np.ndarray, np.ndarray]:
    labels = 1 if "batch" in file.name else 2
    values = np.fromfile(file, np.uint8)
    if not len(values) or len(values) % (labels + _PIXELS):
        raise DataError(
            f"{file}: {len(values):,} bytes are no whole number of records of {labels + _PIXELS:,}"
        )
    records = values.reshape(-1, labels + _PIXELS)
    return records[:, labels:], records[:, labels - 1]


def _python(file: Path) -> tuple[np.ndarray, np.ndarray]:
    entries = read_pickle(file)
    labels = next((entries[key] for key in _LABEL_KEYS if key in entries), None)
    pixels = entries.get("data")
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
        raise DataError(f"{file}: no CIFAR batch: no array `data` of N×{_PIXELS}")
    if not isinstance(labels, list) or len(labels) != len(pixels):
        raise DataError(f"{file}: no CIFAR batch: no list of {len(pixels)} labels")
    if not all(isinstance(label, int) for label in labels):
        raise DataError(f"{file}: the labels are no whole numbers")
    return pixels, np.array(labels, np.int64)


def _names(folder: Path) -> tuple[str, ...] | None:
    file = next((folder / name for name in _NAME_FILES if (folder / name).is_file()), None)
    if file is None:
        return None
    if file.suffix == ".txt":
        return tuple(file.read_text().split())
    entries = read_pickle(file)
    names = next((entries[key] for key in _NAME_KEYS if key in entries), None)
    return tuple(map(str, names)) if isinstance(names, list) else None
