"""Class names: the labels of a classifier's outputs, in the order of the outputs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import t7
from .errors import LabelsError
from .t7 import LuaTable
from .validation import is_writable

#: The keys under which checkpoints and label files keep their class names.
_KEYS = ("classes", "labels", "class_names", "classNames")


def labels_from(value: Any) -> list[str]:
    """Return the class names in a value of a `.t7`.

    Args:
        value: A list-like `LuaTable`, a Python list, or a table that holds one of them under
            `classes`, `labels`, `class_names` or `classNames`.

    Raises:
        LabelsError: If it holds no list of names.
    """
    inner = labels_in(value)
    if inner is not None:
        return inner
    names = value.to_list() if isinstance(value, LuaTable) and value.is_list() else value
    if not isinstance(names, Sequence) or isinstance(names, str) or not names:
        raise LabelsError("no class names found: a list was expected, or {classes = list}")
    for number, name in enumerate(names, 1):
        if not isinstance(name, (str, int)):
            raise LabelsError(f"class {number} of the list is not a name: {name!r}")
    checked = [str(name) for name in names]
    check_writable(checked)
    return checked


def labels_in(value: Any) -> list[str] | None:
    """Return the class names that a checkpoint keeps beside its model, None if it has none.

    Raises:
        LabelsError: If its list of classes does not consist of names.
    """
    if not isinstance(value, LuaTable):
        return None
    tables = (value[key] for key in _KEYS if isinstance(value.get(key), LuaTable))
    table = next(tables, None)
    return None if table is None else labels_from(table)


def read_labels(file: str | os.PathLike[str]) -> list[str]:
    r"""Read the class names in a file: a `.t7`, or a text file with one name per line.

    Raises:
        T7Error: If a `.t7` cannot be read.
        LabelsError: If the file does not exist, is not text, or holds no names.

    Example:
        >>> from tempfile import mkdtemp
        >>> file = Path(mkdtemp()) / "classes.txt"
        >>> _ = file.write_text("cat\ndog\n", encoding="utf-8")
        >>> read_labels(file)
        ['cat', 'dog']
    """
    path = Path(file)
    try:
        if path.suffix == ".t7":
            return labels_from(t7.load(path))
        return labels_from([line.strip() for line in _text(path).splitlines() if line.strip()])
    except LabelsError as error:
        raise LabelsError(f"{path}: {error}") from None


def check_labels(labels: Sequence[str], outputs: int) -> None:
    """Check that there is one class name per output, and that each can be written.

    Raises:
        LabelsError: If there are more or fewer, or one is no Unicode text.
    """
    check_writable(labels)
    if len(labels) != outputs:
        raise LabelsError(
            f"{len(labels)} class names for {outputs} outputs: the list belongs to another model"
        )


def check_order(labels: Sequence[str], own: Sequence[str] | None) -> None:
    """Check that class names given for a model are not its own names in another order.

    Raises:
        LabelsError: If they are: each output would be called by the name of another class.

    Example:
        >>> check_order(["tabby", "spaniel"], ["cat", "dog"])
        >>> try:
        ...     check_order(["dog", "cat"], ["cat", "dog"])
        ... except LabelsError as error:
        ...     print(str(error).partition(";")[0])
        labels=… has the model's own names in another order: output 1 is 'cat', not 'dog'
    """
    if own is None or list(labels) == list(own) or sorted(labels) != sorted(own):
        return
    place = next(index for index, name in enumerate(own) if labels[index] != name)
    raise LabelsError(
        f"labels=… has the model's own names in another order: output {place + 1} is "
        f'{own[place]!r}, not {labels[place]!r}; leave labels=… out, or edit "labels" in the '
        "config.json of the saved model if its own order is wrong"
    )


def check_writable(labels: Sequence[str]) -> None:
    """Check that every class name is whole Unicode characters, which files can hold.

    Raises:
        LabelsError: If one is not.
    """
    for number, name in enumerate(labels, 1):
        if not is_writable(name):
            raise LabelsError(f"class {number} is {name!a}, which is no Unicode text")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise LabelsError("no such file") from None
    except (OSError, UnicodeDecodeError):
        raise LabelsError(
            "cannot be read as text (a .t7, or text with one name per line, was expected)"
        ) from None
