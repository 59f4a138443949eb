"""A divided dataset as one file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..errors import DataError
from .dataset import SPLIT_NAMES, Dataset
from .selection import class_count, labelled
from .splits import Splits


def write_npz(splits: Splits[Dataset], file: str | os.PathLike[str]) -> Path:
    """Write the splits of a dataset to a `.npz` that `read_npz` takes.

    It holds `x_train` (N, C, H, W), `y_train` (N,) from 0, the same of `val` and `test` where
    there are any, and the classes' names: `classes`, or the labels as Torch7 counts them, from 1.

    Args:
        splits: labelled images in memory.
        file: replaced when it is written to the end.

    Raises:
        DataError: when the images have no labels.
    """
    target = Path(file)
    if target.suffix != ".npz":
        raise DataError(f"{target}: a dataset is written as .npz")
    arrays: dict[str, np.ndarray] = {}
    for split in SPLIT_NAMES:
        data: Dataset = getattr(splits, split)
        if len(data):
            arrays |= {f"x_{split}": data.images, f"y_{split}": labelled(data)}
    names = splits.train.names or tuple(str(i + 1) for i in range(class_count(splits.train)))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.npz")
    # One by one, so that no name can be taken for an argument of numpy's.
    np.savez(temporary, classes=np.array(names), **arrays)  # type: ignore[arg-type]  # its other keyword is a flag
    temporary.replace(target)
    return target
