"""CIFAR-10 and CIFAR-100 in their own files: the binary version and the Python version.

The format is described on https://www.cs.toronto.edu/~kriz/cifar.html. A record is a label
(CIFAR-100: the coarse and the fine label) and 3,072 bytes: the red, green and blue planes of 32×32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import DataError
from ..dataset import Dataset, join_splits
from ..safe_pickle import read_pickle
from .registry import ReadOptions, reader

_PIXELS = 3 * 32 * 32

#: The files of a folder by split: CIFAR-10 binary, CIFAR-100 binary, and both as Python pickles.
_LAYOUTS = (
    {"train": [f"data_batch_{n}.bin" for n in range(1, 6)], "test": ["test_batch.bin"]},
    {"train": ["train.bin"], "test": ["test.bin"]},
    {"train": [f"data_batch_{n}" for n in range(1, 6)], "test": ["test_batch"]},
    {"train": ["train"], "test": ["test"]},
)

#: The files of class names: text in the binary version, pickles in the other.
_NAME_FILES = ("batches.meta.txt", "fine_label_names.txt", "batches.meta", "meta")
_NAME_KEYS = ("label_names", "fine_label_names")
_LABEL_KEYS = ("labels", "fine_labels")


def _accepts(source: str) -> bool:
    path = Path(source)
    if path.is_dir():
        return bool(_find_files(path))
    names = (name for layout in _LAYOUTS for split in layout.values() for name in split)
    return path.name in names and path.exists()


@reader("the files of CIFAR-10 or CIFAR-100 or their folder", accepts=_accepts, order=40)
def read_cifar(source: str, options: ReadOptions) -> Dataset:
    """Return the images of a folder or a single file; CIFAR-100 has its hundred fine classes.

    Raises:
        DataError: If a file cannot be read or holds something else.
    """
    path = Path(source)
    if not path.is_dir():
        return _read_files([path])
    files = _find_files(path)
    if options.split in files:
        files = {options.split: files[options.split]}
    return join_splits({split: _read_files(paths) for split, paths in files.items()})


def _find_files(folder: Path) -> dict[str, list[Path]]:
    """Return the CIFAR files of a folder by split, without the missing ones."""
    for layout in _LAYOUTS:
        files = {
            split: [folder / name for name in names if (folder / name).is_file()]
            for split, names in layout.items()
        }
        if any(files.values()):
            return {split: paths for split, paths in files.items() if paths}
    return {}


def _read_files(files: list[Path]) -> Dataset:
    """Return the images of files in one folder."""
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
            f"{file}: {len(values):,} bytes are not a multiple of {labels + _PIXELS:,}, the bytes "
            "of a record"
        )
    records = values.reshape(-1, labels + _PIXELS)
    return records[:, labels:], records[:, labels - 1]


def _python(file: Path) -> tuple[np.ndarray, np.ndarray]:
    entries = read_pickle(file)
    labels = next((entries[key] for key in _LABEL_KEYS if key in entries), None)
    pixels = entries.get("data")
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
        raise DataError(f"{file}: not a CIFAR batch: it has no array `data` of N×{_PIXELS}")
    if not isinstance(labels, list) or len(labels) != len(pixels):
        raise DataError(f"{file}: not a CIFAR batch: it has no list of {len(pixels)} labels")
    if not all(isinstance(label, int) for label in labels):
        raise DataError(f"{file}: the labels are not integers")
    # CIFAR-100 has the most classes; a pickle's integers may have any number of digits.
    invalid = [label for label in labels if not 0 <= label < 2**16]
    if invalid:
        raise DataError(f"{file}: the label {str(invalid[0])[:20]} is out of range")
    return pixels, np.array(labels, np.int64)


def _names(folder: Path) -> tuple[str, ...] | None:
    file = next((folder / name for name in _NAME_FILES if (folder / name).is_file()), None)
    if file is None:
        return None
    if file.suffix == ".txt":
        return tuple(file.read_text(encoding="utf-8", errors="replace").split())
    entries = read_pickle(file)
    names = next((entries[key] for key in _NAME_KEYS if key in entries), None)
    return tuple(map(str, names)) if isinstance(names, list) else None
