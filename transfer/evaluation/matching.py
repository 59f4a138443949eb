"""The data's classes as the model's outputs: by name where both have names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..data.selection import Data, labelled
from ..errors import DataError


def matched(data: Data, labels: Sequence[str] | None) -> tuple[Data, list[str]]:
    """The data with its classes numbered as the model's outputs are, and what was assumed.

    A folder's classes are in the order of the alphabet, a model's often are not; and data may hold
    some of the classes only. If there are as many classes, but no name of the data is one of the
    model's, they are two languages for the same thing, and the numbers count.

    Args:
        data: labelled images.
        labels: the names of the model's outputs; None without names.

    Raises:
        DataError: when there are no labels, or the model knows some of the classes only.
    """
    classes = labelled(data)
    if labels is None or data.names is None:
        return data, []
    places = {label.casefold(): index for index, label in enumerate(labels)}
    known = [name for name in data.names if name.casefold() in places]
    if not known and len(data.names) == len(labels):
        shown = f"{', '.join(data.names[:3])}, … and {', '.join(labels[:3])}, …"
        return data, [f"the data and the model name their classes differently ({shown}): by number"]
    missing = sorted(set(data.names) - set(known))
    if missing:
        raise DataError(
            f"the model has no class {', '.join(missing[:10])}; it has {', '.join(labels[:10])}. "
            "Leave it out (--classes), or give the data the model's names (--class-names)"
        )
    outputs = np.array([places[name.casefold()] for name in data.names])
    if np.array_equal(outputs, np.arange(len(labels))):
        return data, []
    renumbered = replace(data, classes=outputs[classes], names=tuple(labels))
    return renumbered, ["the data's classes were matched with the model's by name"]
