"""Pictures in numpy's `.npz`, and scikit-learn's handwritten digits."""

from __future__ import annotations

import os
import zipfile
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError
from .dataset import PART_NAMES, Dataset, joined
from .interpret import IMAGE_KEYS, LABEL_KEYS, NAME_KEYS, assembled


def read_npz(file: str | os.PathLike[str], first_label: int | None = None) -> Dataset:
    """The labelled pictures of a `.npz`: `x` and `y`, `x_train` and `y_train`, `test_images`, ….

    Channels may stand first (N, C, H, W) or last (N, H, W, C).

    Args:
        file: the archive; pickled objects in it are not read.
        first_label: the label of the first class; by default 0 if that label occurs, else 1.

    Raises:
        DataError: when it cannot be read or holds no pictures under a usual name.
    """
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name.lower(): archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{os.fspath(file)}: cannot be read: {error}") from None
    names = next((arrays[key] for key in NAME_KEYS if key in arrays), None)
    classes = None if names is None else tuple(map(str, names.tolist()))
    whole = _part(arrays, "", first_label, classes)
    if whole is not None:
        return whole
    if first_label is None:
        first_label = _first_label(arrays)
    parts = {part: _part(arrays, part, first_label, classes) for part in PART_NAMES}
    found = {part: dataset for part, dataset in parts.items() if dataset is not None}
    if not found:
        raise DataError(
            f"{os.fspath(file)}: no pictures under a usual name (x, data, images, x_train, "
            f"train_images) among: {', '.join(list(arrays)[:8])}"
        )
    return joined(found)


def _part(
    arrays: dict[str, np.ndarray],
    part: str,
    first_label: int | None,
    names: tuple[str, ...] | None,
) -> Dataset | None:
    images, labels = _entry(arrays, IMAGE_KEYS, part), _entry(arrays, LABEL_KEYS, part)
    if images is None:
        return None
    if images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return assembled(images, labels, names, first_label=first_label)


def _first_label(arrays: dict[str, np.ndarray]) -> int | None:
    """0 where any part has that label: a small part may lack the first class."""
    found = (_entry(arrays, LABEL_KEYS, part) for part in PART_NAMES)
    zero = any(labels is not None and (labels == 0).any() for labels in found)
    return 0 if zero else None


def _entry(arrays: dict[str, np.ndarray], names: tuple[str, ...], part: str) -> np.ndarray | None:
    for name in names:
        for key in (f"{name}_{part}", f"{part}_{name}") if part else (name,):
            if key in arrays:
                return arrays[key]
    return None


def digits() -> Dataset:
    """Scikit-learn's 1,797 handwritten digits as LeNet-5 takes them: uint8 (1797, 1, 32, 32).

    8×8 pixels of 0 to 16 become 28×28 of 0 to 255 (bicubic) in a black border of 2, as MNIST's
    do; the same pictures as in `fixtures/digits`.
    """
    from sklearn.datasets import load_digits

    source: Any = load_digits()
    small = np.rint(source.images * 255 / 16).astype(np.uint8)
    scaled = [Image.fromarray(digit).resize((28, 28), Image.Resampling.BICUBIC) for digit in small]
    images = np.pad(np.stack([np.asarray(digit) for digit in scaled]), ((0, 0), (2, 2), (2, 2)))
    return Dataset(
        images[:, None],
        source.target.astype(np.int64),
        tuple(map(str, range(10))),
        ("scikit-learn's digits: 8×8 scaled to 28×28, in a border of 2",),
    )
