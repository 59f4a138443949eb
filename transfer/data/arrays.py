"""Images in numpy's `.npz`, and scikit-learn's handwritten digits."""

from __future__ import annotations

import os
import zipfile
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError
from .array_layout import IMAGE_KEYS, LABEL_KEYS, NAME_KEYS, assembled, assembled_splits, by_split
from .dataset import Dataset


def read_npz(file: str | os.PathLike[str], first_label: int | None = None) -> Dataset:
    """The labelled images of a `.npz`: `x` and `y`, `x_train` and `y_train`, `test_images`, ….

    Channels may stand first (N, C, H, W) or last (N, H, W, C).

    Args:
        file: the archive; pickled objects in it are not read.
        first_label: the label of the first class; by default 0 if that label occurs, else 1.

    Raises:
        DataError: when it cannot be read or holds no images under a usual name.
    """
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name.lower(): archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{os.fspath(file)}: cannot be read: {error}") from None
    listed = _entry(arrays, NAME_KEYS)
    names = None if listed is None else tuple(map(str, listed.tolist()))
    images = _images(arrays)
    if images is not None:
        return assembled(images, _entry(arrays, LABEL_KEYS), names, first_label=first_label)
    splits = {
        split: (found, _entry(inner, LABEL_KEYS))
        for split, inner in by_split(arrays).items()
        if (found := _images(inner)) is not None
    }
    if not splits:
        raise DataError(
            f"{os.fspath(file)}: no images under a usual name (x, data, images, x_train, "
            f"train_images) among: {', '.join(list(arrays)[:8])}"
        )
    return assembled_splits(splits, names, first_label=first_label)


def _images(arrays: dict[str, np.ndarray]) -> np.ndarray | None:
    """Images with the channels first, if there are any."""
    images = _entry(arrays, IMAGE_KEYS)
    if images is None or images.ndim != 4:
        return images
    last = images.shape[1] not in (1, 3) and images.shape[3] in (1, 3)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if last else images


def _entry(arrays: dict[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray | None:
    return next((arrays[name] for name in names if name in arrays), None)


def digits() -> Dataset:
    """Scikit-learn's 1,797 handwritten digits as LeNet-5 takes them: uint8 (1797, 1, 32, 32).

    8×8 pixels of 0 to 16 become 28×28 of 0 to 255 (bicubic) in a black border of 2, as MNIST's
    do; the same images as in `fixtures/digits`.
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
