"""Training, validation and test split: the source's own, or drawn by seed and class."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic

import numpy as np

from ..errors import DataError
from .selection import Data, drawn, strata


@dataclass(frozen=True)
class Splits(Generic[Data]):
    """The three splits of a dataset; one that there is not is empty.

    Attributes:
        train: what is learnt from.
        val: what decides (early stopping, C of a probe); never learnt from.
        test: what is reported; never looked at before.
        notes: where each split comes from.
    """

    train: Data
    val: Data
    test: Data
    notes: tuple[str, ...] = ()


def split(
    data: Data,
    val_fraction: float = 0.1,
    test_fraction: float = 0.0,
    seed: int = 0,
    test_data: Data | None = None,
) -> Splits[Data]:
    """Divide a dataset; no image is in two splits, and each class gives each split its fraction.

    Parts that the source has itself (`train`, `val`, `test` folders or files) stay as they are,
    and only what is missing is drawn from its training split.

    Args:
        data: images, labelled or not.
        val_fraction: the fraction for validation, where the source has no such split.
        test_fraction: the fraction for testing, where the source has no such split.
        seed: of the draw.
        test_data: the test split, if it stands elsewhere; then none is drawn, and the source's own
            is left out.

    Raises:
        DataError: when the fractions leave nothing to learn from.
    """
    if not (0 <= val_fraction < 1 and 0 <= test_fraction < 1 and val_fraction + test_fraction < 1):
        raise DataError(
            f"fractions of {val_fraction} and {test_fraction} leave nothing to learn from"
        )
    splits = np.full(len(data), "train") if data.splits is None else data.splits
    rest = data.take(np.flatnonzero(splits == "train"))
    if not len(rest):
        raise DataError("no images to learn from: the source has no training split")
    found: dict[str, Data] = {} if test_data is None else {"test": test_data}
    notes = [] if test_data is None else [f"test: {len(test_data):,} images, given"]
    for split, fraction in (("test", test_fraction), ("val", val_fraction)):
        own = np.flatnonzero(splits == split)
        if split in found:
            continue
        if len(own):
            found[split] = data.take(own)
            notes.append(f"{split}: the source's own {len(own):,} images")
            continue
        count = round(fraction * int((splits == "train").sum()))
        chosen = drawn(strata(rest), count, seed=seed + (split == "val"))
        found[split] = rest.take(chosen)
        rest = rest.take(np.setdiff1d(np.arange(len(rest)), chosen))
        if count:
            notes.append(f"{split}: {count:,} images drawn by seed {seed}, stratified by class")
    return Splits(
        replace(rest, splits=None),
        replace(found["val"], splits=None),
        replace(found["test"], splits=None),
        tuple(notes),
    )


def test_split(data: Data) -> Data:
    """The source's own test split, or everything where it has none."""
    if data.splits is None or "test" not in data.splits:
        return data
    return data.take(np.flatnonzero(data.splits == "test"))
