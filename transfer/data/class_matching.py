"""Matching the classes of two sides, such as data and a model, by their names.

Wherever both sides name their classes they are matched by name, whatever their order; where one of
them has no names, position is all there is, and a note says so. Every command that pairs classes
does it here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

import numpy as np

from ..errors import DataError
from .selection import Data, class_count, folded, labelled

#: How classes are matched: by name where both sides have names, else by position; or by position
#: in any case.
MatchBy = Literal["name", "position"]

#: The two sides that are matched, as messages call them.
DATA_AND_MODEL = ("the data", "the model")

#: The number of names that a message lists.
_LISTED = 10

_T = TypeVar("_T")


def match_classes(
    data: Data,
    labels: Sequence[str] | None,
    by: MatchBy = "name",
    sides: tuple[str, str] = DATA_AND_MODEL,
    count: int | None = None,
) -> tuple[Data, list[str]]:
    """Renumber the classes of data as those of another side, by name if both have names.

    A folder's classes are in alphabetical order and a model's often are not; the data may also
    hold only some of the model's classes.

    Args:
        data: Labeled images.
        labels: The names of the other side's classes, in its order; None without names.
        by: `position` matches by position even if both sides have names.
        sides: What messages call the data and the other side.
        count: The number of the other side's classes, if it has no names and it is known.

    Returns:
        The data, which has the other side's names if there are any; and notes on which way it
        was matched, none if the names are the same in the same order.

    Raises:
        DataError: If there are no labels, the sides have no name in common, the other side lacks
            some of the data's classes, or one side has several classes of the same name.

    Example:
        >>> import numpy as np
        >>> from torchlift.transfer.data import Dataset, match_classes
        >>> data = Dataset(np.zeros((2, 1, 2, 2), np.uint8), np.array([0, 1]), ("cat", "dog"))
        >>> matched, notes = match_classes(data, ["dog", "owl", "cat"])
        >>> matched.classes.tolist(), matched.names
        ([2, 0], ('dog', 'owl', 'cat'))
        >>> notes
        ["the data's classes were matched with the model's by name"]
        >>> match_classes(data, None)[1]
        ['classes were matched by position, because the model does not name them']
    """
    if data.source_classes is not None and not _same_names(data.names, labels):
        # The names are only numbers: the data has the classes of its source again, without names.
        data = replace(
            data,
            classes=np.array(data.source_classes)[labelled(data)],
            names=None,
            source_classes=None,
        )
    classes = labelled(data)
    if by == "name" and data.names is not None and labels is not None:
        positions = match_names(data.names, labels, sides)
        if list(data.names) == list(labels):
            return data, []
        matched = replace(
            data,
            classes=np.array(positions)[classes],
            names=tuple(labels),
            source_classes=_reordered(data.source_classes, positions),
        )
        return matched, [f"{sides[0]}'s classes were matched with {sides[1]}'s by name"]
    note = _reason_for_position(data.names, labels, sides)
    count = count if labels is None else len(labels)
    if count is not None and class_count(data) > count:
        raise DataError(
            f"{sides[0]} has {class_count(data)} classes, {sides[1]} has {count}: they cannot be "
            "matched by position"
        )
    return (data if labels is None else replace(data, names=tuple(labels))), [note]


def match_names(
    names: Sequence[str], labels: Sequence[str], sides: tuple[str, str] = DATA_AND_MODEL
) -> list[int]:
    """Return the position in `labels` of each name, whatever the case and the coding of letters.

    Args:
        names: The names of one side's classes.
        labels: The names of the other side's classes.
        sides: What messages call the two sides.

    Raises:
        DataError: If no name is in both, `labels` lacks some of them, or one side has several
            classes of the same name.

    Example:
        >>> from torchlift.transfer.data.class_matching import match_names
        >>> match_names(["Cat", "dog"], ["dog", "owl", "cat"])
        [2, 0]
    """
    if list(names) == list(labels):
        # A name may occur twice, as `crane` does in ImageNet.
        return list(range(len(labels)))
    by_spelling, by_folded_name = _positions(labels, str), _positions(labels, folded)
    found = [by_spelling.get(name) or by_folded_name.get(folded(name), []) for name in names]
    missing = sorted({name for name, places in zip(names, found, strict=True) if not places})
    if not any(found):
        raise DataError(
            f"{sides[0]} has the classes {_listed(names)}, {sides[1]} has {_listed(labels)}: no "
            "name in common. match_classes='position' matches them by their positions; "
            "class_names=… gives the data's classes names or another order"
        )
    if missing:
        raise DataError(
            f"{sides[1]} has no class {_listed(missing)}; it has {_listed(labels)}. Choose some of "
            "the classes with classes=[…], or give them other names or another order with "
            "class_names=…, or match them by their positions with match_classes='position'"
        )
    for name, places in zip(names, found, strict=True):
        if len(places) > 1:
            raise _ambiguous(sides[1], len(places), name)
    positions = [places[0] for places in found]
    counts = Counter(positions)
    for name, position in zip(names, positions, strict=True):
        if counts[position] > 1:
            raise _ambiguous(sides[0], counts[position], name)
    return positions


def name_classes(data: Data, names: Sequence[str]) -> Data:
    """Return data with class names: new ones if it has none, else its own in the given order.

    Args:
        data: Labeled images.
        names: The name of each class.

    Raises:
        DataError: If the data has other names; all of them must be given, and no others.

    Example:
        >>> import numpy as np
        >>> from torchlift.transfer.data import Dataset
        >>> from torchlift.transfer.data.class_matching import name_classes
        >>> data = Dataset(np.zeros((2, 1, 2, 2), np.uint8), np.array([0, 1]))
        >>> named = name_classes(data, ["cat", "dog"])
        >>> named.names
        ('cat', 'dog')
        >>> ordered = name_classes(named, ["dog", "cat"])
        >>> ordered.names, ordered.classes.tolist()
        (('dog', 'cat'), [1, 0])
    """
    if data.names is None:
        return replace(data, names=tuple(names), notes=(*data.notes, *_without_images(data, names)))
    sides = ("the data", "the list of class names")
    unknown: list[str] = _lacking(names, data.names)
    missing: list[str] = _lacking(data.names, names)
    if unknown or missing or len(names) != len(data.names):
        problems = [
            *([f"it names {_listed(unknown)}, which the data does not have"] if unknown else []),
            *([f"it lacks {_listed(missing)}"] if missing else []),
        ] or [f"it has {len(names)} names for {len(data.names)} classes"]
        raise DataError(
            f"the data names its classes itself ({_listed(data.names)}), and class_names=… can "
            f"only order them: {'; '.join(problems)}"
        )
    positions = match_names(data.names, names, sides)
    classes = None if data.classes is None else np.array(positions)[data.classes]
    return replace(
        data,
        classes=classes,
        names=_reordered(data.names, positions),
        source_classes=_reordered(data.source_classes, positions),
    )


def _reordered(values: Sequence[_T] | None, positions: Sequence[int]) -> tuple[_T, ...] | None:
    """Return what is said of each class, if anything is, in the order of their new positions."""
    if values is None:
        return None
    return tuple(values[positions.index(place)] for place in range(len(positions)))


def _same_names(names: Sequence[str] | None, labels: Sequence[str] | None) -> bool:
    """Return whether two sides have the same names in any order.

    A network that was trained on classes 3 and 5 of data without names calls them so.
    """
    return names is not None and labels is not None and sorted(names) == sorted(labels)


def _lacking(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return the names that are not among others, whatever the case of the letters."""
    known = {folded(name) for name in others}
    return [name for name in names if folded(name) not in known]


def _without_images(data: Data, names: Sequence[str]) -> list[str]:
    """Return a note on the names that are given to classes without images, if there are any."""
    if data.classes is None:
        return []
    counts = np.bincount(data.classes[data.classes >= 0], minlength=len(names))
    unused = [name for name, count in zip(names, counts.tolist(), strict=False) if not count]
    if not unused:
        return []
    return [f"{len(unused)} of {len(names)} class names have no images: {_listed(unused)}"]


def _reason_for_position(
    names: Sequence[str] | None, labels: Sequence[str] | None, sides: tuple[str, str]
) -> str:
    """Return the note on classes that are matched by position."""
    if names is not None and labels is not None:
        pairs = [f"{name} with {label}" for name, label in zip(names, labels, strict=False)]
        return f"classes were matched by position, as was asked for: {_listed(pairs)}"
    if names is None and labels is None:
        reason = f"neither {sides[0]} nor {sides[1]} names them"
    else:
        reason = f"{sides[0] if names is None else sides[1]} does not name them"
    return f"classes were matched by position, because {reason}"


def _ambiguous(side: str, count: int, name: str) -> DataError:
    return DataError(
        f"{side} has {count} classes of the name {name}: give all of its classes different names"
    )


def _positions(labels: Iterable[str], key: Callable[[str], str]) -> dict[str, list[int]]:
    """Return the positions of each label, by its key."""
    positions: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        positions.setdefault(key(label), []).append(index)
    return positions


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
