"""Class names: the labels of a classifier's outputs, in the order of the outputs."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import t7
from .errors import LabelsError
from .numbered_names import numbered_names
from .t7 import LuaTable
from .validation import is_writable

#: The keys under which checkpoints and label files keep their class names, in lower case and
#: without what is no letter or digit.
_KEYS = re.compile(
    r"classes|labels|categories|synsets?|(class|label|category|synset)(names?|list|words)"
    r"|(class|label|category)(to|2)(idx|ix|id|index)|(idx|ix|id|index)(to|2)(class|label|category)"
)

#: The fewest names of a table that is no list.
_FEWEST = 2

#: A string, a number in brackets, or punctuation of a Lua table of strings; a comment.
_LUA_TOKEN = re.compile(
    r"""\s*(?:--\[\[.*?\]\]|--[^\n]*"""
    r"""|(?P<string>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|\[\[.*?\]\])"""
    r"""|\[\s*(?P<number>\d{1,9})\s*\]\s*=|return\b|(?:local\s+)?[A-Za-z_][\w.]*\s*=|[{},;])\s*""",
    re.DOTALL,
)
#: An escape in a string of Lua: the number of a byte, in decimal or hexadecimal; a character.
_LUA_ESCAPE = re.compile(rb"\\(?:(\d{1,3})|x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_LUA_CHARACTERS = {
    b"a": b"\a",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
}


def labels_from(value: Any) -> list[str]:
    """Return the class names in a value of a `.t7`.

    Args:
        value: A list-like `LuaTable`, a Python list, a table of the numbers of names or of the
            names of numbers, from 1 or 0, or a table that holds one of them under a name such as
            `classes`, `labels`, `class_names` or `categories`.

    Raises:
        LabelsError: If it holds no list of names.
    """
    inner = labels_in(value)
    if inner is not None:
        return inner
    names = _in_order(value) if isinstance(value, LuaTable) else value
    if not isinstance(names, Sequence) or isinstance(names, str) or not names:
        raise LabelsError("no class names found: a list was expected, or {classes = list}")
    for number, name in enumerate(names, 1):
        if not isinstance(name, (str, int)):
            raise LabelsError(f"class {number} of the list is not a name: {name!r}")
    checked = [str(name) for name in names]
    check_writable(checked)
    return checked


def is_label_key(key: Any) -> bool:
    """Return whether class names are kept under a key of a table.

    Example:
        >>> is_label_key("classNames"), is_label_key("idx_to_class"), is_label_key("epoch")
        (True, True, False)
    """
    return isinstance(key, str) and bool(_KEYS.fullmatch(plain_key(key)))


def label_key_order(key: str) -> bool:
    """Return a sort key: `labels` may be those of examples, `classes` are names."""
    return "label" in plain_key(key)


def plain_key(key: str) -> str:
    """Return a key in lower case, without what is no letter or digit."""
    return re.sub(r"[^a-z0-9]", "", key.lower())


def labels_in(value: Any) -> list[str] | None:
    """Return the class names that a checkpoint keeps beside its model, None if it has none.

    Raises:
        LabelsError: If its list of classes does not consist of names.
    """
    if not isinstance(value, LuaTable):
        return None
    tables = {
        key: entry
        for key, entry in value.items()
        if is_label_key(key) and isinstance(entry, LuaTable)
    }
    return labels_from(tables[min(tables, key=label_key_order)]) if tables else None


def _in_order(table: LuaTable) -> Any:
    """Return the names in a table in the order of their numbers; the table, if it has no order."""
    if table.is_list():
        return table.to_list()
    by_number = numbered_names(table)
    # A single name is no list of classes.
    if by_number is None or len(by_number) < _FEWEST:
        return table
    first = next(iter(by_number))
    is_complete = list(by_number) == list(range(first, first + len(by_number)))
    return list(by_number.values()) if first in (0, 1) and is_complete else table


def read_labels(file: str | os.PathLike[str]) -> list[str]:
    r"""Read the class names in a file: a `.t7`, a `.lua` with a list, or text, one name a line.

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
    suffix = path.suffix.lower()
    try:
        if suffix == ".t7" or _is_binary(path):
            return labels_from(t7.load(path))
        if suffix == ".lua":
            return labels_from(_lua_strings(_text(path)))
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


def _is_binary(path: Path) -> bool:
    """Return whether a file holds bytes that no text has, as a `.t7` under another suffix."""
    try:
        with path.open("rb") as stream:
            return b"\0" in stream.read(64)
    except OSError:
        return False


def _lua_strings(text: str) -> list[str]:
    r"""Return the strings of a Lua file that returns a table of strings, which is not run.

    Raises:
        LabelsError: If there is anything else in it, or names are numbered with a gap or twice.

    Example:
        >>> _lua_strings("-- fish\nreturn { 'tench, Tinca', \"cock's\" }")
        ['tench, Tinca', "cock's"]
        >>> _lua_strings("return { [2] = 'owl', [1] = 'cat' }")
        ['cat', 'owl']
    """
    tables: list[dict[int, str]] = [{}]
    position, listed, number = 0, 0, None
    while position < len(text.rstrip()):
        found = _LUA_TOKEN.match(text, position)
        try:
            if found is None:
                raise LabelsError("a Lua table of names was expected, and nothing else")
            if string := found["string"]:
                listed += number is None
                place = listed if number is None else number
                if place in tables[-1]:
                    raise LabelsError(f"a second name has the number {place}")
                tables[-1][place], number = _lua_string(string), None
            elif found["number"]:
                number = int(found["number"])
            elif found[0].strip() in ("{", "}"):
                # Each table counts for itself.
                tables.append({})
                listed, number = 0, None
        except LabelsError as error:
            line = text.count("\n", 0, position) + 1
            raise LabelsError(f"line {line}: {error}") from None
        position = found.end()
    for names in tables:
        first = min(names, default=1)
        if first > 1 or sorted(names) != list(range(first, first + len(names))):
            raise LabelsError("the numbers of the names have a gap, or begin above 1")
    return [names[place] for names in tables for place in sorted(names)]


def _lua_string(quoted: str) -> str:
    """Return the text of a string of Lua."""
    if quoted.startswith("[["):
        return quoted[2:-2]

    def unescaped(found: re.Match[bytes]) -> bytes:
        decimal, hexadecimal, character = found.groups()
        if character:
            return _LUA_CHARACTERS.get(character, character)
        return bytes([int(decimal) if decimal else int(hexadecimal, 16)])

    try:
        return _LUA_ESCAPE.sub(unescaped, quoted[1:-1].encode()).decode()
    except ValueError:
        raise LabelsError(f"{quoted} is no UTF-8 text") from None


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
