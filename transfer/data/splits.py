"""Training, validation and test splits: the source's own, or drawn by seed and class."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic

import numpy as np

from ..errors import DataError
from .class_matching import MatchBy
from .class_matching import match_classes as matched
from .dataset import Dataset
from .image_files import ImageFiles
from .selection import Data, class_count, draw_stratified, image_shape, strata

#: What messages call a test split of its own and the data that it belongs to.
_TEST_AND_TRAINING = ("the test data", "the training data")


@dataclass(frozen=True)
class Splits(Generic[Data]):
    """The three splits of a dataset; a split may be empty.

    Attributes:
        train: The images to train on.
        val: The images that decide (early stopping, the C of a probe); never trained on.
        test: The images of the reported results; never looked at before.
        notes: Where each split comes from.
    """

    train: Data
    val: Data
    test: Data
    notes: tuple[str, ...] = ()

    def in_memory(self) -> Splits[Dataset]:
        """Return the same splits with all images decoded.

        Raises:
            ImageError: If an image cannot be read.
            DataError: If images of one split differ in size.
        """
        return Splits(
            _decoded(self.train), _decoded(self.val), _decoded(self.test), notes=self.notes
        )


def split(
    data: Data,
    val_fraction: float = 0.1,
    test_fraction: float = 0.0,
    seed: int = 0,
    test_data: Data | None = None,
    match_classes: MatchBy = "name",
) -> Splits[Data]:
    """Split a dataset: no image is in two splits, and each class is split in the same fractions.

    Splits that the source has itself (`train`, `val`, `test` folders or files) are kept; only the
    missing ones are drawn, from its training split.

    Args:
        data: Images, labeled or not.
        val_fraction: The validation fraction, where the source has no such split.
        test_fraction: The test fraction, where the source has no such split.
        seed: The seed of the draw.
        test_data: The test split, if it is another dataset; the source's own is then left out. Of
            one with splits of its own, its test split.
        match_classes: How its classes are matched with those of `data` (see `match_classes`).

    Raises:
        DataError: If the fractions leave nothing to train on, there is no training split, or
            `data` lacks a class of `test_data`.

    Example:
        >>> import numpy as np
        >>> from torchlift.transfer.data import Dataset, split
        >>> pixels = np.zeros((10, 1, 2, 2), np.uint8)
        >>> data = Dataset(pixels, np.array([0, 1] * 5))
        >>> splits = split(data, val_fraction=0.2, test_fraction=0.2, seed=0)
        >>> len(splits.train), len(splits.val), len(splits.test)
        (6, 2, 2)
        >>> np.bincount(splits.val.classes).tolist()
        [1, 1]
        >>> splits.notes[0]
        'test: 2 images drawn by seed 0, stratified by class'
    """
    if not (0 <= val_fraction < 1 and 0 <= test_fraction < 1 and val_fraction + test_fraction < 1):
        raise DataError(
            f"val_fraction={val_fraction} and test_fraction={test_fraction} leave nothing to "
            "train on"
        )
    own_splits = np.full(len(data), "train") if data.splits is None else data.splits
    rest = data.take(np.flatnonzero(own_splits == "train"))
    if not len(rest):
        raise DataError("no images to train on: the source has no training split")
    results: dict[str, Data] = {}
    notes: list[str] = []
    if test_data is not None:
        given = len(test_data)
        test_data = results["test"] = test_split(test_data)
        if data.classes is not None:
            test_data, matching = matched(
                test_data, data.names, match_classes, _TEST_AND_TRAINING, class_count(data)
            )
            results["test"] = test_data
            notes += matching
        part = "" if len(test_data) == given else f": the test split of {given:,}"
        notes.append(f"test: {len(test_data):,} images, given{part}")
        own_shape, test_shape = image_shape(data), image_shape(test_data)
        if own_shape != test_shape:
            notes.append(f"test images are {test_shape}, the others {own_shape}: each is converted")
    for name, fraction in (("test", test_fraction), ("val", val_fraction)):
        own = np.flatnonzero(own_splits == name)
        if name in results:
            continue
        if len(own):
            results[name] = data.take(own)
            notes.append(f"{name}: the source's own {len(own):,} images")
            continue
        count = round(fraction * int((own_splits == "train").sum()))
        chosen = draw_stratified(strata(rest), count, seed=seed + (name == "val"))
        results[name] = rest.take(chosen)
        rest = rest.take(np.setdiff1d(np.arange(len(rest)), chosen))
        if count:
            notes.append(f"{name}: {count:,} images drawn by seed {seed}, stratified by class")
    train, val, test = (
        replace(part, splits=None) for part in (rest, results["val"], results["test"])
    )
    if data.names is None and data.classes is not None and class_count(rest) < class_count(data):
        train, val, test = (_numbered(part, class_count(data)) for part in (train, val, test))
    return Splits(train, val, test, tuple(notes))


def _numbered(data: Data, count: int) -> Data:
    """Return data without names with its numbers as names, so that no class is lost.

    The last classes of unnamed data are known only by their images, which another split may have.
    """
    numbers = tuple(str(index + 1) for index in range(count))
    return replace(data, names=numbers, source_classes=tuple(range(count)))


def _decoded(data: Dataset | ImageFiles) -> Dataset:
    if isinstance(data, Dataset):
        return data
    if not len(data):
        return Dataset(np.empty((0, 0, 0, 0), np.uint8), data.classes, data.names, data.notes)
    return data.in_memory()


def test_split(data: Data) -> Data:
    """Return the source's own test split, or all images if it has none.

    Example:
        >>> import numpy as np
        >>> from torchlift.transfer.data import Dataset, test_split
        >>> names = np.array(["train", "train", "test"])
        >>> len(test_split(Dataset(np.zeros((3, 1, 2, 2), np.uint8), splits=names)))
        1
    """
    if data.splits is None or "test" not in data.splits:
        return data
    return data.take(np.flatnonzero(data.splits == "test"))
