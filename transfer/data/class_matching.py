"""Matching the classes of data with the outputs of a model."""

from __future__ import annotations

from collections.abc import Sequence
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
        DataError: If there are no labels, or the model lacks some of the data's classes.

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
    outputs = {label.casefold(): index for index, label in enumerate(labels)}
    known = [name for name in data.names if name.casefold() in outputs]
    if not known and len(data.names) == len(labels):
        examples = f"{', '.join(data.names[:3])}, … and {', '.join(labels[:3])}, …"
        return data, [
            f"the data and the model name their classes differently ({examples}): they were "
            "matched by position"
        ]
    missing = sorted(set(data.names) - set(known))
    if missing:
        raise DataError(
            f"the model has no class {', '.join(missing[:10])}; it has {', '.join(labels[:10])}. "
            "Choose some of the data's classes with classes=[…], or give the data the model's "
            "class names"
        )
    renumbered = np.array([outputs[name.casefold()] for name in data.names])
    if np.array_equal(renumbered, np.arange(len(labels))):
        return data, []
    matched = replace(data, classes=renumbered[classes], names=tuple(labels))
    return matched, ["the data's classes were matched with the model's by name"]
