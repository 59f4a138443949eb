"""What a `.t7` file holds, as Python values.

Strings are `str` (or `bytes` where they are not text), numbers `int` or `float`, `nil` is `None`.
Tables, class instances, functions, tensors and storages are the classes below.
All of them compare by identity, as in Lua.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from .class_layouts import ClassLayout
from .scalars import numbers


class _Key:
    """Stands for a key that Python's dict would confuse with another or cannot hash.

    `True` equals 1 in Python, and arrays have no hash; in Lua they are keys like any other.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.value is other.value


_TRUE, _FALSE = _Key(True), _Key(False)


def wrap(key: Any) -> Any:
    """What stands for a key inside a `LuaTable`."""
    if key is True:
        return _TRUE
    if key is False:
        return _FALSE
    return _Key(key) if isinstance(key, np.ndarray) else key


def unwrap(key: Any) -> Any:
    """The key for which something stands inside a `LuaTable`."""
    return key.value if type(key) is _Key else key


class LuaTable:
    """A Lua table: a mapping whose keys may be anything but `None`, in the file's order.

    Indices count from 1, as in Lua: `table[1]` is the first entry of a list. 1 and 1.0 are the
    same key, 1 and `True` are not.
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
        """A table with the keys 1..n."""
        return cls(enumerate(values, 1))

    @classmethod
    def from_numbers(cls, keys: np.ndarray, values: np.ndarray) -> LuaTable:
        """A table whose keys and values are all numbers: they stay arrays until one is looked at.

        Args:
            keys: (N,) of float64.
            values: (N,) of float64.
        """
        table = cls.__new__(cls)
        table._pairs = (keys, values)
        return table

    def __getattr__(self, name: str) -> Any:
        """The entries of a table of numbers, the first time that they are asked for."""
        if name != "_entries":
            raise AttributeError(f"a LuaTable has no attribute {name!r}")
        keys, values = self._pairs
        self._entries = dict(zip(numbers(keys), numbers(values), strict=True))
        return self._entries

    def __getitem__(self, key: Any) -> Any:
        try:
            return self._entries[wrap(key)]
        except KeyError:
            raise KeyError(key) from None

    def __setitem__(self, key: Any, value: Any) -> None:
        """Set an entry; as in Lua, `None` removes it."""
        if key is None:
            raise KeyError("a Lua table cannot have nil as a key")
        if value is None:
            self._entries.pop(wrap(key), None)
        else:
            self._entries[wrap(key)] = value

    def __contains__(self, key: Any) -> bool:
        return wrap(key) in self._entries

    def __len__(self) -> int:
        """Number of entries, of every kind of key."""
        return len(self._entries)

    def __iter__(self) -> Iterator[Any]:
        yield from map(unwrap, self._entries)

    def get(self, key: Any, default: Any = None) -> Any:
        """The entry of a key, or `default` where there is none."""
        return self._entries.get(wrap(key), default)

    def keys(self) -> list[Any]:
        """All keys, in the file's order."""
        return list(self)

    def values(self) -> list[Any]:
        """All values, in the file's order."""
        return list(self._entries.values())

    def items(self) -> list[tuple[Any, Any]]:
        """All pairs, in the file's order."""
        return list(zip(self, self._entries.values(), strict=True))

    def is_list(self) -> bool:
        """Whether the keys are exactly 1..n (true of an empty table)."""
        entries = self._entries
        return all(index in entries for index in range(1, len(entries) + 1))

    def to_list(self) -> list[Any]:
        """The values of the keys 1, 2, … up to the first that is missing, as Lua's `ipairs`."""
        entries, values = self._entries, list[Any]()
        while (index := len(values) + 1) in entries:
            values.append(entries[index])
        return values

    def __repr__(self) -> str:
        return f"<LuaTable of {len(self)}{_listed(self)}>"


def _listed(table: LuaTable) -> str:
    """The first keys of a table; keys that are tables are not looked into: they may be cycles."""
    plain = (str, bytes, bool, int, float)
    first = itertools.islice(table, 6)
    names = [repr(key) if isinstance(key, plain) else f"<{type(key).__name__}>" for key in first]
    return f": {', '.join(names)}{', …' if len(table) > 6 else ''}" if names else ""


class LuaObject:
    """An instance of a Torch class, known or not: `nn.Linear`, `tds.Hash`, `my.Layer`.

    Attributes:
        class_name: the Lua class, such as `nn.SpatialConvolution`.
        version: the class version that the file names (0 where it names none).
        body: the objects that the instance wrote; nearly always one table.
        fields: the instance's fields (the last table of its body).
        layout: how the body stands in the file, where the class does not tell (see `bodies`).
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
        """A field, or `default` where there is none."""
        return self.fields.get(key, default)

    def __repr__(self) -> str:
        return f"<{self.class_name}{_listed(self.fields)}>"


class LuaFunction:
    """A Lua function: bytecode that is kept and never run.

    Attributes:
        tag: the type tag that it was written with (6, 7 or 8).
        bytecode: what `string.dump` gave.
        upvalues: the table of its upvalues, in the form that the tag has.
    """

    __slots__ = ("__weakref__", "bytecode", "tag", "upvalues")

    def __init__(self, bytecode: bytes, upvalues: Any = None, tag: int = 8) -> None:
        self.tag = tag
        self.bytecode = bytecode
        self.upvalues = upvalues

    def __repr__(self) -> str:
        return f"<LuaFunction of {len(self.bytecode)} bytes, never run>"


class TorchArray(np.ndarray):
    """A tensor or storage of the file: a numpy array that remembers its Torch class.

    Attributes:
        torch_class: `torch.FloatTensor`, `torch.CudaLongStorage`, …; `None` on derived arrays.
        storage: the storage that a tensor is a view of (`None` for an empty tensor, and for
            storages themselves). Tensors that share memory in Torch share it here.
        storage_offset: index of the tensor's first element in its storage, from 0.
        stored_bytes: what a storage's numbers take in the file (text in ASCII files).
    """

    # Slots, for a file has many arrays: they take half the time of a dict for each.
    __slots__ = ("storage", "storage_offset", "stored_bytes", "torch_class")

    torch_class: str | None
    storage: TorchArray | None
    storage_offset: int
    stored_bytes: int

    def __getattr__(self, name: str) -> Any:
        """What an attribute is that was never set."""
        if name in ("torch_class", "storage"):
            return None
        if name in ("storage_offset", "stored_bytes"):
            return 0
        raise AttributeError(f"a TorchArray has no attribute {name!r}")
