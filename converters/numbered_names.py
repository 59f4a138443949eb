"""Names with numbers in the tables of a `.t7`: lists, numbers of names, names of numbers."""

from __future__ import annotations

from typing import Any

from .t7 import LuaObject, LuaTable
from .t7.paths import children


def numbered_names(value: Any) -> dict[int, Any] | None:
    """Return the names in a table by their numbers, in ascending order.

    Args:
        value: A list; a table or a `tds` container of names by number, of which the numbers may be
            written as text, or of numbers by name.

    Returns:
        The names: texts, bytes that are no UTF-8, or whole numbers. None if the value is something
        else, or if two names have one number.

    Example:
        >>> numbered_names(LuaTable({"owl": 2, "cat": 1}))
        {1: 'cat', 2: 'owl'}
        >>> numbered_names(LuaTable({"1": "cat", "2": "owl"}))
        {1: 'cat', 2: 'owl'}
        >>> numbered_names(LuaTable({"5": 1, "7": 2}))
        {1: '5', 2: '7'}
    """
    if not isinstance(value, (LuaTable, LuaObject)):
        return None
    table = children(value)
    keys, values = table.keys(), table.values()
    if not keys:
        return None
    if all(isinstance(key, (str, bytes)) for key in keys) and all(map(_is_whole, values)):
        numbers, names = values, keys
    elif all(isinstance(name, (str, bytes)) or _is_whole(name) for name in values):
        numbers, names = list(map(_number, keys)), values
    else:
        return None
    if None in numbers:
        return None
    by_number = dict(zip(numbers, names, strict=True))
    return dict(sorted(by_number.items())) if len(by_number) == len(names) else None


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(key: Any) -> int | None:
    """Return a number, also one that is written as text."""
    if isinstance(key, str):
        return int(key) if key.isascii() and key.isdigit() else None
    return key if _is_whole(key) else None
