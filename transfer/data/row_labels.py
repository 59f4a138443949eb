"""What the labels of a table, an archive or an array of texts mean: one class an image."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DataError
from .array_layout import to_classes

_WHOLE = re.compile(r"[+-]?\d+(\.0*)?")
#: What programs write among numbers where there is none.
_NO_NUMBERS = ("nan", "na", "n/a", "<na>", "null", "none", "inf", "+inf", "-inf")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
#: What stands between several labels in one text.
_BETWEEN = re.compile(r"\s*[|;,]\s*")


def classes_of(
    labels: Sequence[Any], first_label: int | None = None, names: Sequence[str] | None = None
) -> tuple[np.ndarray | None, tuple[str, ...] | None, list[str]]:
    """Return the class indices (N,) of labels, the class names, and notes.

    Whole numbers are numbers of classes without names, as in a `.t7`; texts are names, whose order
    is that of the alphabet.

    Args:
        labels: One text or number an image.
        first_label: The number of the first class; by default 0 if it occurs, else 1.
        names: The class names, if the source has them; labels are then their positions, from 0.

    Returns:
        None and None if no image has a label.

    Raises:
        DataError: If images have several labels, none, or real numbers.

    Example:
        >>> classes, names, _ = classes_of(["dog", "cat", "dog"])
        >>> classes.tolist(), names
        ([1, 0, 1], ('cat', 'dog'))
        >>> classes_of(["1", "2", "2"])[0].tolist()
        [0, 1, 1]
    """
    missing = [index for index, label in enumerate(labels) if _is_missing(label, names)]
    if len(missing) == len(labels):
        return None, None, []
    if missing:
        raise DataError(
            f"{len(missing):,} of {len(labels):,} images have no label, the first in row "
            f"{missing[0] + 1}"
        )
    for row, label in enumerate(labels):
        if isinstance(label, (list, tuple, set, dict, np.ndarray)):
            raise _several(f"row {row + 1} has {_short(label)}")
    texts = [str(label).strip() for label in labels]
    if all(map(_NUMBER.fullmatch, texts)):
        return _numbered(texts, first_label, names)
    rest = [row for row, text in enumerate(texts) if not _NUMBER.fullmatch(text)]
    if len(rest) < len(texts) and all(texts[row].lower() in _NO_NUMBERS for row in rest):
        raise DataError(
            f"{len(rest):,} of {len(labels):,} images have no label where others have a number, "
            f"the first in row {rest[0] + 1}, which has {texts[rest[0]]}"
        )
    known = set(texts)
    for row, text in enumerate(texts):
        parts = _BETWEEN.split(text)
        if len(parts) > 1 and known.intersection(parts):
            raise _several(f"row {row + 1} has {_short(text)}")
    found = tuple(names or sorted(known))
    if unknown := sorted(known - {*found}):
        raise DataError(f"the label {unknown[0]!r} is none of the class names")
    positions = {name: position for position, name in enumerate(found)}
    return np.array([positions[text] for text in texts], np.int64), found, []


def _numbered(
    texts: list[str], first_label: int | None, names: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...] | None, list[str]]:
    real = [text for text in texts if not _WHOLE.fullmatch(text)]
    if real and any(float(text) != math.floor(float(text)) for text in real):
        raise DataError(
            f"the labels are real numbers, such as {real[0]}: torchlift trains classifiers, whose "
            "labels are classes; make classes of ranges of them first"
        )
    if large := [text for text in texts if abs(float(text)) >= 2.0**53]:
        raise DataError(f"the label {large[0]} is out of range: no data has so many classes")
    numbers = np.array([int(float(text)) for text in texts])
    if names is not None:
        return numbers, tuple(names), []
    classes, notes = to_classes(numbers, first_label)
    return classes, None, notes


def _is_missing(label: Any, names: Sequence[str] | None) -> bool:
    if label is None or (isinstance(label, str) and not label.strip()):
        return True
    if isinstance(label, float) and math.isnan(label):
        return True
    # What Hugging Face's datasets write for an unlabeled image.
    return names is not None and isinstance(label, int) and label == -1


def _several(where: str) -> DataError:
    return DataError(
        f"several labels an image ({where}): torchlift trains classifiers with one class an image"
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
