"""The splits of a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..data import Dataset, ImageFiles, Splits, match_classes, split
from ..data.class_matching import MatchBy
from .options import SplitOptions


def draw_splits(
    images: Dataset | ImageFiles,
    test: Dataset | ImageFiles | None,
    options: SplitOptions,
    seed: int = 0,
    match_by: MatchBy = "name",
    labels: Sequence[str] | None = None,
) -> Splits[Any]:
    """Split a dataset for a training; the notes say what was assumed.

    Args:
        images: The dataset.
        test: Another dataset as the test split, if any.
        options: The fractions of the splits that the dataset has not itself.
        seed: Seed of the draw.
        match_by: How classes are matched (see `match_classes`).
        labels: The names of a model's outputs, which all classes are matched with.

    Raises:
        DataError: If the data lacks such a class or split.
    """
    data: Any = images
    notes = [*images.notes]
    if labels is not None:
        data, matching = match_classes(images, labels, match_by, ("the data", "the model"))
        notes += matching
        if test is not None:
            test, matching = match_classes(test, labels, match_by, ("the test data", "the model"))
            notes += matching
    splits = split(
        data,
        options.val_fraction,
        options.test_fraction,
        seed,
        test_data=test,
        match_classes=match_by,
    )
    return replace(splits, notes=(*notes, *splits.notes))
