"""What a checkpoint keeps beside its model: class names, mean and std, words.

Nothing here makes a conversion fail: what is not understood is named in a note.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import LabelsError
from ..images.errors import PreprocessingError
from ..images.mean_std import read_mean_std
from ..images.normalization import Normalization
from ..labels import LABEL_KEYS, labels_from
from ..t7 import LuaObject, LuaTable
from ..t7.model import is_module
from ..t7.paths import children, format_path, parse_path

#: Tables in which training scripts keep their options.
_OPTIONS = ("opt", "opts", "options", "config", "params")

#: Names of a mean, of a std and of a table of both, in lower case without underscores.
_MEANS = re.compile(r"(img|image|data|pixel|channel|rgb|train|vgg)?means?(img|image|pixel|rgb)?")
_STDS = re.compile(r"(img|image|data|pixel|channel|rgb|train)?(std|stds|stdv|stddev|sigma)")
_BOTH = re.compile(r"(mean(and)?std|stdmean|stats?|statistics|norm|normalization)")

#: Names that look like preprocessing.
_SUSPECTS = re.compile(r"mean|std|preproc|normali[sz]|whiten|zca")

#: Names of vocabularies.
_WORDS = re.compile(
    r"vocab(ulary)?|ivocab|id2vocab|(idx|ix|i|id)(to|2)(token|word|char|w)"
    r"|(token|word|char|w)(to|2)(idx|ix|i|id)|alphabet|dicts?"
)

#: Mean of networks that come from Caffe, in the order that they see: BGR, values from 0 to 255.
_CAFFE_MEAN = (103.939, 116.779, 123.68)

#: `opt.preprocessing` of fast-neural-style.
_NAMED = {
    "vgg": Normalization(_CAFFE_MEAN, (1.0,), "BGR", 255),
    "resnet": Normalization.of("imagenet", "imagenet"),
}


@dataclass
class Beside:
    """What stands beside a model.

    Attributes:
        labels: The class names, or None.
        labels_path: Where they stand.
        normalization: Mean and std, or None.
        notes: What was found and is not used, and why.
    """

    labels: list[str] | None = None
    labels_path: str = ""
    normalization: Normalization | None = None
    notes: list[str] = field(default_factory=list)


def read_beside(value: Any, path: str) -> Beside:
    """Return what stands beside the model in a value of a `.t7`.

    Args:
        value: A value returned by `t7.load`.
        path: Path of the model in it.

    Example:
        >>> names = LuaTable.from_list(["cat", "dog"])
        >>> checkpoint = LuaTable({"net": LuaObject("nn.Tanh"), "classes": names})
        >>> beside = read_beside(checkpoint, "net")
        >>> beside.labels, beside.labels_path
        (['cat', 'dog'], 'classes')
    """
    found = Beside()
    numbers: dict[str, tuple[str, Any]] = {}
    for place, key, entry in _entries(value, path):
        name = re.sub(r"[^a-z0-9]", "", str(key).lower())
        if key in LABEL_KEYS or (isinstance(key, str) and key.lower() in LABEL_KEYS):
            _read_labels(found, place, entry)
        elif isinstance(entry, bool) or is_module(entry):
            continue
        elif _MEANS.fullmatch(name):
            numbers.setdefault("mean", (place, entry))
        elif _STDS.fullmatch(name):
            numbers.setdefault("std", (place, entry))
        elif _BOTH.fullmatch(name) and isinstance(entry, LuaTable):
            _read_numbers(found, place, entry)
        elif name == "preprocessing" and isinstance(entry, str):
            _read_named(found, place, entry)
        elif _WORDS.fullmatch(name) and isinstance(entry, (LuaTable, LuaObject)):
            found.notes.append(
                f"{place} beside the model, a vocabulary of {len(children(entry)):,}, stays in the "
                "file"
            )
        elif _SUSPECTS.search(name):
            found.notes.append(f"{place} beside the model is left out: not understood")
    if numbers:
        places = " and ".join(place for place, _ in numbers.values())
        table = {"mean": 0.0} | {name: entry for name, (_, entry) in numbers.items()}
        _read_numbers(found, places, LuaTable(table))
    return found


def _entries(value: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield path, key and value of what stands in the tables around a model, inner ones first."""
    tables: list[tuple[list[Any], LuaTable]] = []
    keys = parse_path(path)
    for depth in range(len(keys) + 1):
        if is_module(value) or not isinstance(value, (LuaTable, LuaObject)):
            break
        tables.append((list(keys[:depth]), children(value)))
        value = children(value).get(keys[depth]) if depth < len(keys) else None
    for steps, table in reversed(tables):
        inner = [(steps, table)]
        inner += [
            ([*steps, name], table[name])
            for name in _OPTIONS
            if isinstance(table.get(name), LuaTable)
        ]
        for start, entries in inner:
            for key, entry in entries.items():
                is_option = start is not steps
                if isinstance(key, str) and not (is_option and isinstance(entry, (int, float))):
                    yield format_path([*start, key]), key, entry


def _read_labels(found: Beside, place: str, entry: Any) -> None:
    if found.labels is not None:
        return
    if not isinstance(entry, (LuaTable, LuaObject)):
        # Labels of examples stand there too.
        found.notes.append(f"{place} beside the model is left out: no list of class names")
        return
    try:
        found.labels, found.labels_path = labels_from(children(entry)), place
    except LabelsError as error:
        found.notes.append(f"{place} beside the model is left out: {error}")


def _read_numbers(found: Beside, place: str, table: LuaTable) -> None:
    if found.normalization is not None:
        return
    try:
        read = read_mean_std(table)
    except PreprocessingError as error:
        found.notes.append(f"{place} beside the model: left out: {error}")
        return
    if read is None:
        found.notes.append(f"{place} beside the model is left out: not understood")
        return
    is_caffe = read.mean is not None and np.allclose(read.mean, _CAFFE_MEAN, atol=0.01)
    found.normalization = Normalization(color="BGR").over(read) if is_caffe else read


def _read_named(found: Beside, place: str, name: str) -> None:
    if name in _NAMED:
        found.normalization = _NAMED[name]
    else:
        found.notes.append(f"{place} beside the model is left out: {name!r} is not known")
