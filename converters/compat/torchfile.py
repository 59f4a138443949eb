"""The names of torchfile 0.1.0 over `converters.t7`: a script changes its import and nothing else.

Values are torchfile's: strings are bytes, tables lists or `hashable_uniq_dict`s, instances
`TorchObject`s, tensors numpy arrays that share memory where Torch's do. Needs numpy alone. Beyond
torchfile, it reads ASCII files, files of other machines, compressed files, half precision, 4-byte
longs and tables of any depth.

Example:
    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> from torchlift.compat import torchfile
    >>> from torchlift.converters import t7
    >>> file = Path(mkdtemp()) / "options.t7"
    >>> t7.save({"epoch": 3}, file)
    >>> torchfile.load(str(file))
    {b'epoch': 3}
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple, NoReturn, TypeAlias

import numpy as np

from ..t7 import LuaObject, load_all
from ..t7 import T7Error as T7ReaderException
from ..t7 import load as _load
from ..t7.class_layouts import TDS_HASHES, TDS_VECS
from ..t7.types import STORAGE_DTYPES, TENSOR_DTYPES
from .building import Steps, ValueBuilder

__all__ = [
    "LuaFunction",
    "T7Reader",
    "T7ReaderException",
    "TorchObject",
    "add_storage_reader",
    "add_tensor_reader",
    "hashable_uniq_dict",
    "load",
    "register_handler",
    "type_handlers",
]

#: Reads the body of an instance; the second argument is the class's version, such as `b"V 1"`.
Handler: TypeAlias = Callable[[Any, bytes], Any]

#: What `register_handler` added: class name → handler. Tensors, storages and tds need none.
type_handlers: dict[bytes, Handler] = {}


class LuaFunction(NamedTuple):
    """A Lua function, never run."""

    size: int
    dumped: bytes
    upvalues: Any


class hashable_uniq_dict(dict[Any, Any]):  # noqa: N801 - torchfile's name
    """A Lua table: compared by reference as in Lua, with its entries as attributes too.

    Example:
        >>> table = hashable_uniq_dict({b"epoch": 3})
        >>> table.epoch, table[b"epoch"], table.missing
        (3, 3, None)
    """

    def __hash__(self) -> int:  # type: ignore[override]  # a dict has none
        return id(self)

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__") and key.endswith("__"):
            # Asked for by copy, pickle and numpy, to which None is an answer.
            raise AttributeError(key)
        return _entry(self, key)

    def __eq__(self, other: object) -> bool:
        return self is other

    def _disabled_binop(self, other: object) -> NoReturn:
        raise TypeError("hashable_uniq_dict does not support these comparisons")

    __ne__ = __le__ = __gt__ = __lt__ = _disabled_binop


class TorchObject:
    """An instance of a Torch class; its fields are attributes and items, None where absent.

    Args:
        typename: The class: bytes here, a `str` in what `load_lua` returns.
        obj: The fields.
        version_number: The class's version; 0 for one written before versions existed.

    Example:
        >>> layer = TorchObject(b"nn.Linear", hashable_uniq_dict({b"train": False}))
        >>> layer.train, layer["train"], layer[b"train"], layer.torch_typename()
        (False, False, False, b'nn.Linear')
    """

    def __init__(self, typename: bytes | str, obj: Any = None, version_number: int = 0) -> None:
        self._typename = typename
        self._obj = obj
        self._version_number = version_number

    def __getattr__(self, k: str) -> Any:
        if k == "_obj" or (k.startswith("__") and k.endswith("__")):
            raise AttributeError(k)
        return _entry(self._obj, k)

    def __getitem__(self, k: Any) -> Any:
        return _entry(self._obj, k)

    def torch_typename(self) -> bytes | str:
        """Return the class's name."""
        return self._typename

    def __repr__(self) -> str:
        return f"TorchObject({self._typename!s}, {self._obj!r})"

    def __dir__(self) -> list[str]:
        keys = self._obj if isinstance(self._obj, dict) else ()
        names = [key.decode(errors="replace") if isinstance(key, bytes) else key for key in keys]
        return [*(name for name in names if isinstance(name, str)), "torch_typename"]


def _entry(entries: Any, key: Any) -> Any:
    """Return an entry by its key, a `str` in bytes too; None if there is none."""
    if not isinstance(entries, dict):
        return None
    if key in entries:
        return entries[key]
    return entries.get(key.encode()) if isinstance(key, str) else None


def register_handler(typename: bytes) -> Callable[[Handler], None]:
    """Return a decorator for a function that makes the value of each instance of a class.

    The function takes a reader with `read_obj`, `read_int`, `read_long` and `read_double`, which
    give the instance's parts in order, and the class's version.

    Args:
        typename: The class, as bytes.

    Example:
        >>> @register_handler(b"my.Counter")
        ... def read_counter(reader, version):
        ...     return reader.read_obj()
    """

    def register(handler: Handler) -> None:
        type_handlers[typename] = handler

    return register


def add_tensor_reader(typename: bytes, dtype: Any) -> None:
    """Do nothing for a tensor class, of which all are read: for scripts that add one.

    Raises:
        ValueError: If it is no tensor class of Torch7's, or one of another dtype.
    """
    _check_known(typename, dtype, TENSOR_DTYPES)


def add_storage_reader(typename: bytes, dtype: Any) -> None:
    """Do nothing for a storage class, of which all are read: for scripts that add one.

    Raises:
        ValueError: If it is no storage class of Torch7's, or one of another dtype.
    """
    _check_known(typename, dtype, STORAGE_DTYPES)


def _check_known(typename: bytes, dtype: Any, dtypes: dict[str, np.dtype[Any]]) -> None:
    if dtypes.get(typename.decode()) != np.dtype(dtype):
        raise ValueError(f"{typename!r} of {np.dtype(dtype)} is not in Torch7: register_handler")


def load(filename: str | os.PathLike[str], **kwargs: Any) -> Any:
    """Load the object of a `.t7` file as torchfile does.

    Args:
        filename: The file.
        **kwargs: The options of `T7Reader`.

    Raises:
        OSError: If the file cannot be opened.
        T7ReaderException: If it is not a `.t7`, or is damaged.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from torchlift.compat import torchfile
        >>> from torchlift.converters import t7
        >>> path = Path(tempfile.mkdtemp()) / "checkpoint.t7"
        >>> t7.save({"epoch": 12, "classes": ["cat", "dog"]}, path)
        >>> torchfile.load(path)
        {b'epoch': 12, b'classes': [b'cat', b'dog']}
    """
    with open(filename, "rb") as f:  # noqa: PTH123 - its errors are torchfile's
        reader = T7Reader(f, **kwargs)
        return reader.python_value(_load(f, long_size=reader.long_size))


class T7Reader:
    """Reads the objects of a file one after the other.

    Args:
        fileobj: A file opened with "rb".
        use_list_heuristic: Whether tables with the keys 1..n become lists.
        use_int_heuristic: Whether whole numbers become ints.
        utf8_decode_strings: Whether strings are `str`; else bytes. Class names are bytes always.
        force_deserialize_classes: Refused, as by torchfile.
        force_8bytes_long: Whether longs have 8 bytes; by default what fits the file.

    Raises:
        DeprecationWarning: If `force_deserialize_classes` is given.
    """

    def __init__(
        self,
        fileobj: BinaryIO,
        use_list_heuristic: bool = True,
        use_int_heuristic: bool = True,
        utf8_decode_strings: bool = False,
        force_deserialize_classes: bool | None = None,
        force_8bytes_long: bool = False,
    ) -> None:
        if force_deserialize_classes is not None:
            raise DeprecationWarning(
                "force_deserialize_classes is now always forced to be true, so no longer required"
            )
        self.f = fileobj
        self.use_list_heuristic = use_list_heuristic
        self.use_int_heuristic = use_int_heuristic
        self.utf8_decode_strings = utf8_decode_strings
        self.long_size = 8 if force_8bytes_long else None
        self._waiting: list[Any] | None = None
        self._builder = ValueBuilder(
            table_type=hashable_uniq_dict,
            scalar=self._scalar,
            array=lambda plain, source: plain,
            instance=self._instance,
            function=lambda source, upvalues: LuaFunction(
                len(source.bytecode), source.bytecode, upvalues
            ),
            use_lists=use_list_heuristic,
        )

    def read_obj(self) -> Any:
        """Return the next object of the file.

        Raises:
            EOFError: If there is no further object.
            T7ReaderException: If the file is not a `.t7`, or is damaged.
        """
        if self._waiting is None:
            self._waiting = load_all(self.f, long_size=self.long_size)[::-1]
        if not self._waiting:
            raise EOFError("no further object in the file")
        return self.python_value(self._waiting.pop())

    def python_value(self, value: Any) -> Any:
        """Return what torchfile makes of a value of `converters.t7`.

        What is shared in the value is shared in the result, also between calls.
        """
        return self._builder.build(value)

    def _instance(self, item: LuaObject) -> Steps:
        typename = item.class_name.encode()
        if typename in type_handlers:
            parts = []
            for part in _parts(item):
                parts.append((yield part))  # noqa: PERF401 - it yields
            return type_handlers[typename](_Parts(parts, typename), f"V {item.version}".encode())
        if item.class_name in TDS_VECS:
            vector: list[Any] = []
            self._builder.remember(item, vector)
            for lua_value in item.fields.values():
                vector.append((yield lua_value))  # noqa: PERF401 - it yields
            return vector
        if item.class_name in TDS_HASHES:
            table = hashable_uniq_dict()
            self._builder.remember(item, table)
            for lua_key, lua_value in item.fields.items():
                key = yield lua_key
                table[key] = yield lua_value
            return table
        version = item.version if isinstance(item.version, int) else 0
        instance = TorchObject(typename, version_number=version)
        self._builder.remember(item, instance)
        instance._obj = yield item.body[0] if len(item.body) == 1 else item.fields
        return instance

    def _scalar(self, value: Any) -> Any:
        if isinstance(value, str):
            return value if self.utf8_decode_strings else value.encode()
        if isinstance(value, bytes):
            return value.decode() if self.utf8_decode_strings else value
        if value is None or isinstance(value, bool):
            return value
        if not self.use_int_heuristic:
            return float(value)
        return int(value) if float(value).is_integer() else value


class _Parts:
    """The parts of an instance's body, for a handler."""

    def __init__(self, parts: list[Any], typename: bytes) -> None:
        self._left = parts[::-1]
        self._typename = typename

    def read_obj(self) -> Any:
        """Return the next part.

        Raises:
            T7ReaderException: If there is none.
        """
        if not self._left:
            raise T7ReaderException(f"the handler of {self._typename!r} reads more than there is")
        return self._left.pop()

    read_int = read_long = read_double = read_obj


def _parts(item: LuaObject) -> list[Any]:
    """Return the parts of a body in order; tds's counts were read as an int and a nil."""
    if item.class_name in TDS_VECS:
        return [len(item.fields), None, *item.fields.values()]
    if item.class_name in TDS_HASHES:
        entries = [part for pair in item.fields.items() for part in pair]
        return [len(item.fields), None, *entries]
    return item.body
