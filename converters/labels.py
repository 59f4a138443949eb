"""Class lists: the names of a classifier's outputs, in the order of its outputs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import t7
from .errors import LabelsError
from .t7 import LuaTable

#: What checkpoints and label files call their class list.
_KEYS = ("classes", "labels", "class_names", "classNames")


def labels_from(value: Any) -> list[str]:
    """The class names in a value of a `.t7`: a list of strings, or a table such as `{classes=…}`.

    Args:
        value: a list-like `LuaTable`, a Python list, or a table that holds one of them.

    Raises:
        LabelsError: when it holds no list of names.
    """
    inner = labels_in(value)
    if inner is not None:
        return inner
    names = value.to_list() if isinstance(value, LuaTable) and value.is_list() else value
    if not isinstance(names, Sequence) or isinstance(names, str) or not names:
        raise LabelsError("no class list here: a list of names was expected, or {classes = list}")
    wrong = next((i for i, name in enumerate(names, 1) if not isinstance(name, (str, int))), None)
    if wrong is not None:
        raise LabelsError(f"class {wrong} of the list is no name: {names[wrong - 1]!r}")
    return [str(name) for name in names]


def labels_in(value: Any) -> list[str] | None:
    """The class names that a checkpoint table keeps beside its model, if there are any."""
    if not isinstance(value, LuaTable):
        return None
    found = next((value[key] for key in _KEYS if isinstance(value.get(key), LuaTable)), None)
    return None if found is None else labels_from(found)


def read_labels(file: str | os.PathLike[str]) -> list[str]:
    """The class names in a file: a `.t7`, or a text file with one name a line.

    Raises:
        T7Error: when a `.t7` cannot be read.
        LabelsError: when the file is missing, is no text, or holds no names.
    """
    path = Path(file)
    try:
        if path.suffix == ".t7":
            return labels_from(t7.load(path))
        return labels_from([line.strip() for line in _text(path).splitlines() if line.strip()])
    except LabelsError as error:
        raise LabelsError(f"{path}: {error}") from None


def check_labels(labels: Sequence[str], outputs: int) -> None:
    """Check that there is one name for each output.

    Raises:
        LabelsError: when there are more or fewer.
    """
    if len(labels) != outputs:
        raise LabelsError(
            f"{len(labels)} class names for {outputs} outputs: the list belongs to another model"
        )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise LabelsError("no such file") from None
    except (OSError, UnicodeDecodeError):
        raise LabelsError(
            "cannot be read as text (a .t7 or one name a line was expected)"
        ) from None
