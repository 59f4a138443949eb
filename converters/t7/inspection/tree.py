"""Build the tree of values in a file, with a short description of every value."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..embedded import embedded_value
from ..model import is_module, root_path
from ..paths import children, path_step
from ..values import LuaFunction, LuaObject, LuaTable, TorchArray
from .settings import settings

#: Deeper trees are not readable, and exceed the recursion limit of JSON writers.
MAX_DEPTH = 100

_SHOWN_ELEMENTS = 4
_SHOWN_CHARACTERS = 60


@dataclass
class Node:
    """One value in the tree.

    Attributes:
        path: Its path, such as `model.modules[1].weight`; `value` or `model` for the root.
        name: The last step of the path.
        kind: nil, boolean, number, string, bytes, table, object, function, tensor or storage.
        text: A short description.
        same_as: For a repeated table or tensor, the path of its first occurrence.
        children: The entries inside that are shown.
        hidden: Number of entries inside that are not shown.
    """

    path: str
    name: str
    kind: str
    text: str
    same_as: str | None = None
    children: list[Node] = field(default_factory=list)
    hidden: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the node, and those below it, as dicts, lists, strings and numbers."""
        return {
            "lua_path": self.path,
            "name": self.name,
            "value_kind": self.kind,
            "text": self.text,
            "same_as": self.same_as,
            "hidden": self.hidden,
            "children": [child.to_json() for child in self.children],
        }


def value_tree(value: Any, depth: int = 4, entries: int = 20, path: str = "") -> Node:
    """Build the tree of a value.

    A list of numbers is one node, however long. A repeated table, instance or tensor refers to its
    first occurrence, so cycles end.

    Args:
        value: A value returned by `load`.
        depth: Levels below the value itself, at most 100.
        entries: Entries of a table that are shown.
        path: Path of the value.

    Example:
        >>> tree = value_tree(LuaTable({"epoch": 12, "opt": LuaTable({"lr": 0.1})}))
        >>> [(node.path, node.text) for node in tree.children]
        [('epoch', '12'), ('opt', 'table of 1')]
    """
    prefix = path or root_path(value)
    root = _node(value, prefix or "value", prefix or "value")
    # By id; keeping the values makes sure that no id is used twice.
    first_paths: dict[int, tuple[Any, str]] = {}
    stack: list[tuple[Node, Any, int]] = [(root, value, min(depth, MAX_DEPTH))]
    while stack:
        node, value, levels = stack.pop()
        if isinstance(value, (LuaTable, LuaObject, LuaFunction, np.ndarray)):
            if id(value) in first_paths:
                node.same_as = first_paths[id(value)][1]
                continue
            first_paths[id(value)] = value, node.path
        inner = LuaTable() if _is_leaf(value) else children(value)
        shown = min(len(inner), entries) if levels else 0
        node.hidden = len(inner) - shown
        below = []
        for key in itertools.islice(inner, shown):
            step = path_step(key)
            inner_path = ((prefix if node is root else node.path) + step).removeprefix(".")
            below.append((_node(inner[key], inner_path, step), inner[key], levels - 1))
        node.children = [entry[0] for entry in below]
        stack += reversed(below)
    return root


def describe(value: Any) -> str:
    """Describe a value briefly: class, shape, first elements.

    Example:
        >>> describe("cat"), describe(None), describe(LuaTable({"epoch": 12}))
        ("'cat'", 'nil', 'table of 1')
    """
    if value is None or isinstance(value, bool):
        return {None: "nil", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return repr(value)
    if (inside := embedded_value(value)) is not None:
        return f"{describe(inside)}, which torch.serialize wrote into a {_kind(value)}"
    if isinstance(value, str):
        if len(value) <= _SHOWN_CHARACTERS:
            return repr(value)
        return f"{value[:_SHOWN_CHARACTERS]!r}… ({len(value):,} characters)"
    if isinstance(value, bytes):
        return f"{value[:16]!r}{'…' if len(value) > 16 else ''} ({len(value):,} bytes, not text)"
    if isinstance(value, np.ndarray):
        return _describe_array(value)
    if isinstance(value, LuaObject):
        summary = settings(value) if is_module(value) else ""
        return f"{value.class_name} {summary}".rstrip()
    if isinstance(value, LuaFunction):
        return f"function ({len(value.bytecode):,} bytes of bytecode, never run)"
    return _describe_table(value)


def _kind(value: Any) -> str:
    """Return the kind of a value for `Node.kind`."""
    if value is None:
        return "nil"
    if isinstance(value, TorchArray) and (value.torch_class or "").endswith("Storage"):
        return "storage"
    kinds = {
        bool: "boolean",
        int: "number",
        float: "number",
        str: "string",
        bytes: "bytes",
        LuaTable: "table",
        LuaObject: "object",
        LuaFunction: "function",
    }
    return kinds.get(type(value), "tensor")


def _node(value: Any, path: str, name: str) -> Node:
    return Node(path, name, _kind(value), describe(value))


def _is_leaf(value: Any) -> bool:
    """Return whether a value has no nodes below it; a list of numbers has none."""
    if not isinstance(value, LuaTable):
        return not isinstance(value, (LuaObject, LuaFunction))
    return value.is_list() and {*map(type, value.values())} <= {int, float}


def _describe_table(table: LuaTable) -> str:
    if not table:
        return "empty table"
    if not table.is_list():
        return f"table of {len(table):,}"
    if not _is_leaf(table):
        return f"list of {len(table):,}"
    first = ", ".join(map(repr, table.to_list()[:_SHOWN_ELEMENTS]))
    more = ", …" if len(table) > _SHOWN_ELEMENTS else ""
    return f"list of {len(table):,}: {first}{more}"


def _describe_array(array: np.ndarray) -> str:
    name = getattr(array, "torch_class", None) or f"{array.dtype} array"
    if array.size == 0:
        return f"{name}, empty"
    shape = "×".join(f"{size}" for size in array.shape) or "scalar"
    # Index the first elements, in Lua's order, one by one: nothing else is read from disk.
    indices = range(min(array.size, _SHOWN_ELEMENTS))
    first = ", ".join(f"{array[np.unravel_index(i, array.shape)]:.4g}" for i in indices)
    more = ", …" if array.size > _SHOWN_ELEMENTS else ""
    storage = array.storage if isinstance(array, TorchArray) else None
    larger_storage = ""
    if storage is not None and len(storage) != array.size:
        larger_storage = f" of a storage of {len(storage):,}"
    return f"{name} {shape}{larger_storage}: {first}{more}"
