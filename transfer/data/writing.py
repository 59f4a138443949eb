"""Writing a dataset and its splits to one file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ...converters.files import atomic_path
from ..errors import DataError
from .dataset import SPLIT_NAMES, Dataset
from .selection import image_shape, labelled
from .splits import Splits


def write_npz(splits: Splits[Any], file: str | os.PathLike[str]) -> Path:
    """Write the splits of a dataset to a `.npz` file that `open_data` reads.

    It holds `x_train` (N, C, H, W), `y_train` (N,), the same for `val` and `test` unless they are
    empty, and the class names `classes`, if there are any. Labels then count from 0. Without names
    they count from 1, as in Torch7: the first class is certain even if it has no image. Of classes
    that were chosen from a source without names, `source_classes` are the indices there.

    Args:
        splits: Labeled images of one size; those in files are decoded.
        file: The file to write, atomically; an existing file is replaced.

    Raises:
        DataError: If the images have no labels or differ in shape, or the file has another suffix.
        ImageError: If an image cannot be read.
        WriteError: If the file cannot be written.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> import numpy as np
        >>> from torchlift.transfer.data import Dataset, open_data, split
        >>> from torchlift.transfer.data.writing import write_npz
        >>> data = Dataset(np.zeros((10, 1, 2, 2), np.uint8), np.array([0, 1] * 5))
        >>> file = write_npz(split(data, val_fraction=0.2), Path(mkdtemp()) / "data.npz")
        >>> len(open_data(file, split="val"))
        2
    """
    target = Path(file)
    if target.suffix.lower() != ".npz":
        raise DataError(f"{target}: a dataset is written as .npz")
    arrays: dict[str, np.ndarray] = {}
    decoded = splits.in_memory()
    for split in SPLIT_NAMES:
        data: Dataset = getattr(decoded, split)
        if len(data):
            labels = labelled(data) + (0 if splits.train.names else 1)
            arrays |= {f"x_{split}": data.images, f"y_{split}": labels}
            if data.images.shape[1:] != decoded.train.images.shape[1:]:
                shapes = f"{image_shape(data)} in {split}, {image_shape(decoded.train)} in train"
                raise DataError(
                    f"{target}: one file holds images of one shape, not {shapes}: give one size "
                    "for all, image_size=(H, W)"
                )
    if splits.train.names:
        arrays["classes"] = np.array(splits.train.names)
    if splits.train.source_classes is not None:
        arrays["source_classes"] = np.array(splits.train.source_classes)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Of a name with other letters than `.npz` numpy would make one with two suffixes.
    with atomic_path(target) as path, path.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]  # the stub takes keywords for options
    return target
