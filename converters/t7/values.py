"""The contents of a `.t7` file as Python values.

Strings are `str` (`bytes` if they are not UTF-8), numbers `int` or `float`, `nil` is None. Tables,
class instances, functions, tensors and storages are instances of the classes below. All of these
compare by identity, as in Lua.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from .class_layouts import ClassLayout
from .scalars import lua_numbers


def is_true(value: Any) -> bool:
    """Return whether a value is true in Lua: everything but nil and false is, 0 too."""
    return value is not None and value is not False


class _Key:
    """A wrapper for a key that a Python dict confuses with another one or cannot hash.

    `True` equals 1 in Python, and arrays have no hash; in Lua both are ordinary keys.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.value is other.value


_TRUE, _FALSE = _Key(True), _Key(False)


def wrap_key(key: Any) -> Any:
    """Return the key to use in the dict inside a `LuaTable`."""
    if key is True:
        return _TRUE
    if key is False:
        return _FALSE
    return _Key(key) if isinstance(key, np.ndarray) else key


def unwrap_key(key: Any) -> Any:
    """Return the Lua key for a key of the dict inside a `LuaTable`."""
    return key.value if type(key) is _Key else key


class LuaTable:
    """A Lua table: a mapping with any keys but None, in the file's order.

    Indices count from 1, as in Lua: `table[1]` is the first entry of a list. 1 and 1.0 are the
    same key; 1 and `True` are different keys.

    Example:
        >>> table = LuaTable([("name", "LeNet"), (1, "first"), (True, "yes")])
        >>> table["name"], table[1], table[True], table.get("missing")
        ('LeNet', 'first', 'yes', None)
        >>> LuaTable.from_list(["cat", "dog"]).to_list()
        ['cat', 'dog']
    """

    __slots__ = ("__weakref__", "_entries", "_pairs")

    _entries: dict[Any, Any]
    _pairs: tuple[np.ndarray, np.ndarray]

    def __init__(self, entries: Any = ()) -> None:
        self._entries = {}
        if entries:
            for key, value in entries.items() if hasattr(entries, "items") else entries:
                self[key] = value

    @classmethod
    def from_list(cls, values: Any) -> LuaTable:
        """Return a table with the keys 1..n."""
        return cls(enumerate(values, 1))

    @classmethod
    def from_numbers(cls, keys: np.ndarray, values: np.ndarray) -> LuaTable:
        """Return a table of numbers; keys and values stay arrays until the first access.

        Args:
            keys: (N,) of float64.
            values: (N,) of float64.
        """
        table = cls.__new__(cls)
        table._pairs = (keys, values)
        return table

    def __getattr__(self, name: str) -> Any:
        """Decode the entries of a table of numbers at the first access."""
        if name != "_entries":
            raise AttributeError(f"a LuaTable has no attribute {name!r}")
        keys, values = self._pairs
        self._entries = dict(zip(lua_numbers(keys), lua_numbers(values), strict=True))
        return self._entries

    def __getitem__(self, key: Any) -> Any:
        try:
            return self._entries[wrap_key(key)]
        except KeyError:
            raise KeyError(key) from None

    def __setitem__(self, key: Any, value: Any) -> None:
        """Set an entry; as in Lua, None removes it."""
        if key is None:
            raise KeyError("a Lua table cannot have nil as a key")
        if value is None:
            self._entries.pop(wrap_key(key), None)
        else:
            self._entries[wrap_key(key)] = value

    def __contains__(self, key: Any) -> bool:
        return wrap_key(key) in self._entries

    def __len__(self) -> int:
        """Return the number of entries, including those with keys other than 1..n."""
        return len(self._entries)

    def __iter__(self) -> Iterator[Any]:
        yield from map(unwrap_key, self._entries)

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of a key, or `default` if there is no such key."""
        return self._entries.get(wrap_key(key), default)

    def keys(self) -> list[Any]:
        """Return all keys, in the file's order."""
        return list(self)

    def values(self) -> list[Any]:
        """Return all values, in the file's order."""
        return list(self._entries.values())

    def items(self) -> list[tuple[Any, Any]]:
        """Return all (key, value) pairs, in the file's order."""
        return list(zip(self, self._entries.values(), strict=True))

    def is_list(self) -> bool:
        """Return whether the keys are exactly 1..n; an empty table is a list."""
        entries = self._entries
        return all(index in entries for index in range(1, len(entries) + 1))

    def to_list(self) -> list[Any]:
        """Return the values of the keys 1, 2, … up to the first missing one, as Lua's `ipairs`."""
        entries, values = self._entries, list[Any]()
        while (index := len(values) + 1) in entries:
            values.append(entries[index])
        return values

    def __repr__(self) -> str:
        return f"<LuaTable of {len(self)}{_first_keys(self)}>"

    def _repr_html_(self) -> str:
        from .inspection.notebook import value_html

        return value_html(self)


def _first_keys(table: LuaTable) -> str:
    """List the first keys of a table for repr(); keys that are tables, possibly cyclic, by type."""
    scalars = (str, bytes, bool, int, float)
    first = itertools.islice(table, 6)
    names = [repr(key) if isinstance(key, scalars) else f"<{type(key).__name__}>" for key in first]
    return f": {', '.join(names)}{', …' if len(table) > 6 else ''}" if names else ""


class LuaObject:
    """An instance of any Torch class: `nn.Linear`, `tds.Hash`, `my.Layer`.

    Attributes:
        class_name: The Lua class, such as `nn.SpatialConvolution`.
        version: The class version in the file (0 if the file has none).
        body: The objects that the instance wrote; nearly always a single table.
        fields: The instance's fields (the last table of its body).
        layout: How the body is stored, if that differs from the usual layout of the class (see
            `class_layouts`).

    Example:
        >>> layer = LuaObject("nn.Linear", LuaTable({"bias": 0.5}))
        >>> layer.class_name, layer["bias"], "weight" in layer
        ('nn.Linear', 0.5, False)
        >>> layer
        <nn.Linear: 'bias'>
    """

    __slots__ = ("__weakref__", "body", "class_name", "fields", "layout", "version")

    def __init__(
        self, class_name: str, fields: LuaTable | None = None, version: int | str = 1
    ) -> None:
        self.class_name = class_name
        self.version = version
        self.fields = LuaTable() if fields is None else fields
        self.body: list[Any] = [self.fields]
        self.layout: ClassLayout | None = None

    def __getitem__(self, key: Any) -> Any:
        return self.fields[key]

    def __contains__(self, key: Any) -> bool:
        return key in self.fields

    def get(self, key: Any, default: Any = None) -> Any:
        """Return a field, or `default` if there is no such field."""
        return self.fields.get(key, default)

    def __repr__(self) -> str:
        return f"<{self.class_name}{_first_keys(self.fields)}>"

    def _repr_html_(self) -> str:
        from .inspection.notebook import value_html

        return value_html(self)


class LuaFunction:
    """A Lua function: bytecode that is kept and never run.

    Attributes:
        tag: The function's type tag in the file (6, 7 or 8).
        bytecode: The output of `string.dump`.
        upvalues: The table of its upvalues, in the form that the tag has.

    Example:
        >>> LuaFunction(b"bytecode").tag
        8
    """

    __slots__ = ("__weakref__", "bytecode", "tag", "upvalues")

    def __init__(self, bytecode: bytes, upvalues: Any = None, tag: int = 8) -> None:
        self.tag = tag
        self.bytecode = bytecode
        self.upvalues = upvalues

    def __repr__(self) -> str:
        return f"<LuaFunction of {len(self.bytecode)} bytes, never run>"


class TorchArray(np.ndarray):
    """A tensor or storage of the file: a numpy array with its Torch class.

    Attributes:
        torch_class: `torch.FloatTensor`, `torch.CudaLongStorage`, …; None for derived arrays.
        storage: The storage that a tensor is a view of (None for an empty tensor, and for storages
            themselves). Tensors that share memory in Torch share it here.
        storage_offset: Index of the tensor's first element in its storage, from 0.
        stored_bytes: Bytes that a storage's elements occupy in the file (as text in ASCII files).

    Example:
        >>> from torchlift.converters import t7
        >>> array = t7.loads(t7.dumps(np.arange(4, dtype=np.float32)))
        >>> array.torch_class, array.storage.torch_class
        ('torch.FloatTensor', 'torch.FloatStorage')
    """

    # A file can hold many arrays: setting slots takes half the time of filling a dict for each.
    __slots__ = ("storage", "storage_offset", "stored_bytes", "torch_class")

    torch_class: str | None
    storage: TorchArray | None
    storage_offset: int
    stored_bytes: int

    def __getattr__(self, name: str) -> Any:
        """Return the default of an attribute that was never set."""
        if name in ("torch_class", "storage"):
            return None
        if name in ("storage_offset", "stored_bytes"):
            return 0
        raise AttributeError(f"a TorchArray has no attribute {name!r}")
