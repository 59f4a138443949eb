"""Matching the classes of data with the outputs of a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from ..errors import DataError
from .selection import Data, labelled


def match_classes(data: Data, labels: Sequence[str] | None) -> tuple[Data, list[str]]:
    """Renumber the classes of data as a model's outputs, by name if both have names.

    A folder's classes are in alphabetical order and a model's often are not; the data may also
    hold only some of the model's classes. If both have the same number of classes but no name in
    common, the names are taken for two languages, and classes are matched by position.

    Args:
        data: Labeled images.
        labels: The names of the model's outputs; None without names.

    Returns:
        The data, and notes on what was assumed.

    Raises:
        DataError: If there are no labels, the model lacks some of the data's classes, or it has
            several of the same name.

    Example:
        >>> import numpy as np
        >>> from torchlift.transfer.data import Dataset, match_classes
        >>> data = Dataset(np.zeros((2, 1, 2, 2), np.uint8), np.array([0, 1]), ("cat", "dog"))
        >>> matched, notes = match_classes(data, ["dog", "owl", "cat"])
        >>> matched.classes.tolist()
        [2, 0]
        >>> notes
        ["the data's classes were matched with the model's by name"]
    """
    classes = labelled(data)
    if labels is None or data.names is None:
        return data, []
    outputs = match_names(data.names, labels)
    if outputs is None:
        examples = f"{', '.join(data.names[:3])}, … and {', '.join(labels[:3])}, …"
        return data, [
            f"the data and the model name their classes differently ({examples}): they were "
            "matched by position"
        ]
    if outputs == list(range(len(labels))):
        return data, []
    matched = replace(data, classes=np.array(outputs)[classes], names=tuple(labels))
    return matched, ["the data's classes were matched with the model's by name"]


def match_names(names: Sequence[str], labels: Sequence[str]) -> list[int] | None:
    """Return the output of a model for each class of data, whatever the case of their names.

    Args:
        names: The data's class names.
        labels: The names of the model's outputs.

    Returns:
        A position in `labels` for each name; None for as many classes without a common name,
        which are matched by position.

    Raises:
        DataError: If the model lacks some of the classes, or has several outputs of one's name.

    Example:
        >>> from torchlift.transfer.data.class_matching import match_names
        >>> match_names(["Cat", "dog"], ["dog", "owl", "cat"])
        [2, 0]
    """
    if list(names) == list(labels):
        # A name may occur twice, as `crane` does in ImageNet.
        return list(range(len(labels)))
    by_spelling, by_name = _positions(labels), _positions(label.casefold() for label in labels)
    found = [by_spelling.get(name) or by_name.get(name.casefold(), []) for name in names]
    if len(names) == len(labels) and not any(found):
        return None
    missing = sorted({name for name, outputs in zip(names, found, strict=True) if not outputs})
    if missing:
        raise DataError(
            f"the model has no class {', '.join(missing[:10])}; it has {', '.join(labels[:10])}. "
            "Choose some of the data's classes with classes=[…], or give the data the model's "
            "class names"
        )
    for name, outputs in zip(names, found, strict=True):
        if len(outputs) > 1:
            raise DataError(
                f"the model has {len(outputs)} classes of the name {name}: give all of its classes "
                "different names with labels=…"
            )
    return [outputs[0] for outputs in found]


def _positions(labels: Iterable[str]) -> dict[str, list[int]]:
    """Return the positions of each label."""
    positions: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        positions.setdefault(label, []).append(index)
    return positions
