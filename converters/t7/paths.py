"""Paths into a value: `model.modules[1].weight`, `["a b"]`, `optimState.dfdx`.

A path is written as in Lua: names after a dot, any other key in brackets, counting from 1. Errors
of the reader contain such paths, and `follow` returns the value at one.
"""

from __future__ import annotations

import ast
import difflib
import json
import re
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np

from .embedded import embedded_value
from .errors import T7Error
from .values import LuaFunction, LuaObject, LuaTable, TorchArray

#: The keys that can occur in a path; tables and tensors cannot.
Key: TypeAlias = str | bytes | bool | int | float

#: Names for the value itself at the start of a path.
ROOTS = ("value", "model")

_STEP = re.compile(
    r"""\.?(?P<name>[^.\[\]\s"']+)"""
    r"""|\[\s*(?P<key>b?"(?:[^"\\]|\\.)*"|b?'(?:[^'\\]|\\.)*'|[^\]"']+?)\s*\]"""
)
_LUA_KEYS: dict[str, Key] = {
    "true": True,
    "false": False,
    "inf": float("inf"),
    "-inf": float("-inf"),
}


def path_step(key: Any) -> str:
    """Return a key as a step of a path: `.name`, `[1]`, `["a b"]`, `[true]`.

    A key that is a table or a tensor is shown by its type; `follow` does not accept such a step.
    """
    if isinstance(key, str):
        return f".{key}" if key.isidentifier() else f"[{json.dumps(key, ensure_ascii=False)}]"
    if isinstance(key, bool):
        return f"[{str(key).lower()}]"
    return f"[{key!r}]" if isinstance(key, (int, float, bytes)) else f"[{type(key).__name__}]"


def format_path(keys: Iterable[Any], root: str = "") -> str:
    """Join keys to a path: `("modules", 1)` → `modules[1]`, or `model.modules[1]` with a root."""
    return (root + "".join(map(path_step, keys))).removeprefix("." if not root else "")


def parse_path(path: str) -> list[Key]:
    """Split a path into its keys.

    Raises:
        T7Error: If the path is malformed; the message shows where.
    """
    keys: list[Key] = []
    position = 0
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None or (match["name"] and position and path[position] != "."):
            raise T7Error(
                f"expected a path such as model.modules[1].weight; {path!r} is malformed "
                f'at {path[position:]!r} (other names go in brackets: ["a b"])'
            )
        keys.append(match["name"] or _parse_key(match["key"], path))
        position = match.end()
    return keys


def follow(value: Any, path: str) -> Any:
    """Return the value at a path.

    Fields of instances and entries of tables are selected by their keys. `.body[1]` is the first
    object of an instance that wrote several; `.upvalues` belongs to a function, `.storage` to a
    tensor; `[1]` is also the first slice of a tensor. `.1` is another spelling of `[1]` where no
    entry has that name. A string that `torch.serialize` wrote is entered as what it holds. `value`
    and `model` at the start of a path stand for the value itself.

    Args:
        value: A value returned by `load`.
        path: The path; an empty one is the value itself.

    Raises:
        T7Error: If a step of the path does not exist; the message lists those that do.
    """
    keys = parse_path(path)
    if keys and keys[0] in ROOTS and not _has_key(value, keys[0]):
        root, keys = str(keys[0]), keys[1:]
    else:
        root = "value"
    for index, key in enumerate(keys):
        try:
            value = _child(value, key)
        except KeyError:
            problem = f"there is no {path_step(key)} here; {_available_steps(value, key)}"
            raise T7Error(problem, path=format_path(keys[:index], root)) from None
    return value


def children(value: Any) -> LuaTable:
    """Return what one step of a path can select in a table, instance or function."""
    if isinstance(value, LuaTable):
        return value
    if isinstance(value, LuaFunction):
        return LuaTable({"upvalues": value.upvalues, "bytecode": value.bytecode})
    if not isinstance(value, LuaObject):
        return LuaTable()
    if "body" in value or all(part is value.fields for part in value.body):
        return value.fields
    return LuaTable([*value.fields.items(), ("body", LuaTable.from_list(value.body))])


def _child(value: Any, key: Key) -> Any:
    """Follow one step of a path.

    Raises:
        KeyError: If the value has nothing under this key.
    """
    if key != "storage" and (inside := embedded_value(value)) is not None:
        value = inside
    if not isinstance(value, np.ndarray):
        entries = children(value)
        if key not in entries and isinstance(key, str) and key.isdecimal():
            key = int(key)
        return entries[key]
    if key == "storage" and isinstance(value, TorchArray) and value.storage is not None:
        return value.storage
    if type(key) is int and value.ndim and 1 <= key <= len(value):
        slice_ = value[key - 1]
        return slice_ if isinstance(slice_, np.ndarray) else slice_.item()
    raise KeyError(key)


def _has_key(value: Any, key: Key) -> bool:
    return not isinstance(value, np.ndarray) and key in children(value)


def _parse_key(text: str, path: str) -> Key:
    if text in _LUA_KEYS:
        return _LUA_KEYS[text]
    try:
        key = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        key = None
    if not isinstance(key, Key):
        raise T7Error(f"[{text}] in {path!r} is not a key: use a number, true, or a quoted name")
    return key


def _available_steps(value: Any, key: Key) -> str:
    """Describe the steps that exist where a key is missing, similar ones first."""
    if isinstance(value, np.ndarray):
        size = f"a tensor of size {'×'.join(map(str, value.shape))}" if value.ndim else "one number"
        slices = f"its slices are [1] to [{len(value)}]" if value.ndim and len(value) else ""
        return f"this is {size}" + (f"; {slices}" if slices else ", without slices")
    entries = children(value)
    if not entries:
        return f"this is {value!r}"
    if entries.is_list():
        return f"it is a list from [1] to [{len(entries)}]"
    steps = [path_step(name) for name in entries]
    similar = difflib.get_close_matches(path_step(key), steps, n=3, cutoff=0.6)
    others = [step for step in steps if step not in similar]
    shown = ", ".join(others[:12]) + (f" and {len(others) - 12:,} more" if len(others) > 12 else "")
    if not similar:
        return f"it has {shown}"
    return f"did you mean {' or '.join(similar)}?" + (f" It also has {shown}" if shown else "")
