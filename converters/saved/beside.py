"""What a checkpoint keeps beside its model: class names, mean and std, vocabularies.

Nothing here makes a conversion fail: what is not understood is named in a note.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..errors import LabelsError
from ..images.errors import PreprocessingError
from ..images.mean_std import read_mean_std
from ..images.normalization import Normalization
from ..labels import is_label_key, label_key_order, labels_from, plain_key
from ..t7 import LuaObject, LuaTable
from ..t7.embedded import embedded_value
from ..t7.model import is_module
from ..t7.paths import children, follow, format_path, parse_path
from ..vocabulary import Vocabulary, read_vocabulary, without_repetitions
from .image_projects import CAFFE_MEAN, FAST_NEURAL_STYLE, ImageProject
from .vocabularies import is_vocabulary_key, vocabularies_in

#: Tables in which training scripts keep their options.
_OPTIONS = ("opt", "opts", "options", "config", "params")

#: What stands before or behind the words mean and std.
_OF = "(img|image|data|dataset|pixel|channel|color|rgb|train|input|vgg|norm|normali[sz]e)?"

#: Keys of a mean, of a std and of a table of both, as `plain_key` gives them.
_MEANS = re.compile(rf"{_OF}(means?|avg)(img|image|pixels?|rgb|values?|vec)?")
_STDS = re.compile(rf"{_OF}(stds?|stdv|stddev|sigma)(img|image|pixels?|rgb|values?|vec)?")
_BOTH = re.compile(r"(mean(and)?std|stdmean|stats?|statistics|norm|normali[sz]ation)")

#: Keys that look like preprocessing.
_SUSPECTS = re.compile(r"mean|std|preproc|normali[sz]|whiten|zca")

#: `opt.preprocessing` of fast-neural-style.
_NAMED = {
    "vgg": Normalization(CAFFE_MEAN, (1.0,), "BGR", 255),
    "resnet": Normalization.of("imagenet", "imagenet"),
}

#: The most entries of a table in which mean, std and class names are looked for, whatever its name;
#: in larger ones, such as a vocabulary, they are words.
_LARGEST_INNER = 100

#: The fewest tokens of a vocabulary that has no name.
_FEWEST_UNNAMED = 10


class ClassNames(NamedTuple):
    """Class names beside a model, and where they stand."""

    path: str
    names: list[str]


@dataclass
class Beside:
    """What stands beside a model.

    Attributes:
        labels: What may be its class names, the most probable first.
        normalization: Mean and std, or None.
        vocabularies: Its vocabularies.
        project: The project that it comes from, if it turns images into images and is known.
        notes: What was found and is not used, and why.
    """

    labels: list[ClassNames] = field(default_factory=list)
    normalization: Normalization | None = None
    vocabularies: list[Vocabulary] = field(default_factory=list)
    project: ImageProject | None = None
    notes: list[str] = field(default_factory=list)


def read_beside(value: Any, path: str) -> Beside:
    """Return what stands beside the model in a value of a `.t7`.

    Args:
        value: A value returned by `t7.load`.
        path: Path of the model in it.

    Example:
        >>> names = LuaTable.from_list(["cat", "dog"])
        >>> checkpoint = LuaTable({"net": LuaObject("nn.Tanh"), "classes": names})
        >>> read_beside(checkpoint, "net").labels
        [ClassNames(path='classes', names=['cat', 'dog'])]
    """
    found = Beside()
    numbers: dict[str, tuple[str, Any]] = {}
    inner: list[_Entry] = []
    for one in sorted(_entries(value, path), key=lambda one: label_key_order(str(one.key))):
        name, place, entry = plain_key(str(one.key)), one.path, one.value
        if isinstance(entry, bool) or is_module(entry):
            continue
        if isinstance(one.key, int):
            _read_unnamed(found, place, entry)
            inner.append(one)
        elif one.is_option and isinstance(entry, (int, float)):
            if name == "tanhconstant" and found.project is None:
                # fast_neural_style.lua: without the option `preprocessing` it is vgg.
                found.normalization, found.project = _NAMED["vgg"], FAST_NEURAL_STYLE
            # Scripts have options such as the std of their first weights.
            if _MEANS.fullmatch(name) or _STDS.fullmatch(name):
                found.notes.append(f"{place} beside the model is left out: a number among options")
        elif is_label_key(one.key):
            _read_labels(found, place, entry)
        elif is_vocabulary_key(one.key):
            _read_vocabularies(found, place, entry)
        elif _MEANS.fullmatch(name):
            numbers.setdefault("mean", (place, entry))
        elif _STDS.fullmatch(name):
            numbers.setdefault("std", (place, entry))
        elif _BOTH.fullmatch(name) and isinstance(entry, LuaTable):
            _read_numbers(found, place, entry)
        elif name == "preprocessing" and isinstance(entry, str):
            _read_named(found, place, entry)
        elif not one.is_option or _SUSPECTS.search(name):
            inner.append(one)
    if numbers:
        places = " and ".join(place for place, _ in numbers.values())
        table = {"mean": 0.0} | {name: entry for name, (_, entry) in numbers.items()}
        _read_numbers(found, places, LuaTable(table))
    for one in inner:
        if not _read_inner(found, one) and _SUSPECTS.search(plain_key(str(one.key))):
            found.notes.append(f"{one.path} beside the model is left out: not understood")
    found.vocabularies = without_repetitions(found.vocabularies)
    return found


class _Entry(NamedTuple):
    """An entry of a table around a model."""

    path: str
    key: str | int
    value: Any
    is_option: bool


def _entries(value: Any, path: str) -> Iterator[_Entry]:
    """Yield what stands in the tables around a model, inner ones first, and their options.

    A model that keeps its own vocabulary, as torch-rnn's does, is one of these tables.
    """
    for around, table in reversed(_tables_around(value, path)):
        for key, entry in table.items():
            if isinstance(key, (str, int)):
                yield _Entry(format_path([*around, key]), key, entry, is_option=False)
        for name in _OPTIONS:
            options = table.get(name)
            for key, entry in options.items() if isinstance(options, LuaTable) else ():
                if isinstance(key, str):
                    yield _Entry(format_path([*around, name, key]), key, entry, is_option=True)


def _tables_around(value: Any, path: str) -> list[tuple[list[Any], LuaTable]]:
    """Return the keys that lead to each table around a model, outer ones first, and the table."""
    steps: list[Any] = []
    tables: list[tuple[list[Any], LuaTable]] = []
    keys = [] if is_module(value) else parse_path(path)
    for key in (*keys, None):
        value = embedded_value(value) or value
        if is_module(value):
            own = [item for item in value.fields.items() if is_vocabulary_key(item[0])]
            tables.append((steps or ["model"], LuaTable(own)))
        if is_module(value) or not isinstance(value, (LuaTable, LuaObject)):
            break
        tables.append(([*steps], children(value)))
        if key is not None:
            value, steps = follow(value, format_path([key])), [*steps, key]
    return tables


def _read_labels(found: Beside, place: str, entry: Any) -> None:
    if not isinstance(entry, (LuaTable, LuaObject)):
        # Labels of examples stand there too.
        found.notes.append(f"{place} beside the model is left out: no list of class names")
        return
    table = children(entry)
    whole = [name for name in table.values() if isinstance(name, int)]
    if table.is_list() and len(set(whole)) < len(whole):
        found.notes.append(f"{place} beside the model is left out: numbers that repeat")
        return
    try:
        found.labels.append(ClassNames(place, labels_from(table)))
    except LabelsError as error:
        found.notes.append(f"{place} beside the model is left out: {error}")


def _read_inner(found: Beside, table: _Entry) -> bool:
    """Read mean, std and class names in a table of any name; return whether there are any."""
    if not isinstance(table.value, (LuaTable, LuaObject)) or table.key in _OPTIONS:
        return False
    entries = children(table.value)
    if len(entries) > _LARGEST_INNER:
        return False
    named = {key: entry for key, entry in entries.items() if isinstance(key, str)}
    tables = {key: one for key, one in named.items() if isinstance(one, (LuaTable, LuaObject))}
    labels = [key for key in tables if is_label_key(key)]
    for key in sorted(labels, key=label_key_order):
        _read_labels(found, format_path([*parse_path(table.path), key]), named[key])
    mean = next((key for key in named if _MEANS.fullmatch(plain_key(key))), None)
    std = next((key for key in named if _STDS.fullmatch(plain_key(key))), None)
    if mean is not None and std is not None:
        numbers = LuaTable({"mean": named[mean], "std": named[std]})
        _read_numbers(found, f"{table.path} (mean and std)", numbers)
    elif (alone := mean or std) is not None:
        reason = "mean and std do not stand there together"
        found.notes.append(f"{table.path}.{alone} beside the model is left out: {reason}")
    return bool(labels or mean or std)


def _read_unnamed(found: Beside, place: str, entry: Any) -> None:
    """Read an entry of a list: class names, or a vocabulary, if it cannot be options."""
    vocabulary = read_vocabulary(entry, place)
    if (
        vocabulary is not None
        and len(vocabulary.tokens) >= _FEWEST_UNNAMED
        and vocabulary.first_index in (0, 1)
        and None not in vocabulary.tokens
    ):
        found.vocabularies.append(vocabulary)
    if isinstance(entry, LuaTable) and _is_list_of(entry, str):
        _read_labels(found, place, entry)
    elif _is_list_of(entry, (int, float)) and len(entry) in (1, 3):
        found.notes.append(f"{place} beside the model is left out: numbers without a name")


def _is_list_of(value: Any, kinds: type | tuple[type, ...]) -> bool:
    """Return whether a value is a list of strings or numbers, or a tensor of one dimension."""
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and kinds is not str
    return (
        isinstance(value, LuaTable)
        and value.is_list()
        and all(isinstance(one, kinds) for one in value.values())
    )


def _read_vocabularies(found: Beside, place: str, entry: Any) -> None:
    if not isinstance(entry, (LuaTable, LuaObject)):
        # Options name files of words.
        return
    vocabularies = vocabularies_in(entry, place)
    found.vocabularies += vocabularies
    if not vocabularies:
        found.notes.append(f"{place} beside the model is left out: no tokens with numbers")


def _read_numbers(found: Beside, place: str, table: LuaTable) -> None:
    if found.normalization is not None:
        return
    try:
        read = read_mean_std(table)
    except PreprocessingError as error:
        found.notes.append(f"{place} beside the model is left out: {error}")
        return
    if read is None:
        found.notes.append(f"{place} beside the model is left out: not understood")
        return
    is_caffe = read.mean is not None and np.allclose(read.mean, CAFFE_MEAN, atol=0.01)
    found.normalization = Normalization(color="BGR").over(read) if is_caffe else read


def _read_named(found: Beside, place: str, name: str) -> None:
    if name in _NAMED:
        found.normalization, found.project = _NAMED[name], FAST_NEURAL_STYLE
    else:
        found.notes.append(f"{place} beside the model is left out: {name!r} is not known")
