"""The interface between the reader and a stream, implemented by `binary` and `ascii`."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np

from ..errors import T7Error
from ..values import LuaObject, LuaTable, TorchArray
from .classes import Classes, ClassHeader

#: A table, or an instance whose body is one.
Container: TypeAlias = LuaTable | LuaObject

#: An incomplete container, its entries, the number of entries left, and the key whose value comes
#: next (None if a key comes next).
OpenTable: TypeAlias = tuple[Container, dict[Any, Any], int, Any]


class Decoder(Protocol):
    """Decodes values and strings without knowledge of the objects they belong to.

    Attributes:
        long_size: Bytes of a C long on the writer's machine.
        position: Offset of the next byte to read.
    """

    long_size: int
    position: int

    def remaining(self) -> int:
        """Return the number of unread bytes."""

    def error(self, problem: str, offset: int | None = None) -> T7Error:
        """Return an error at the current byte, or at `offset`."""

    def token(self) -> tuple[int, Any]:
        """Read the type tag of the next object and its operand.

        The operand is the object itself for nil, a number or a string, and an int for the others.

        Raises:
            T7Error: If there is no object at this position.
        """

    def integer(self) -> int:
        """Read a C int."""

    def double(self) -> float:
        """Read a C double."""

    def longs(self, count: int) -> tuple[int, ...]:
        """Read `count` C longs of the writer's machine."""

    def string(self) -> str | bytes:
        """Read a Lua string, its length and its bytes; `str` if it is UTF-8."""

    def raw(self, count: int) -> bytes:
        """Read `count` raw bytes.

        Raises:
            T7Error: If fewer are left, or `count` is negative. The other methods raise it too.
        """

    def array(self, dtype: np.dtype[Any], count: int, *, is_long: bool = False) -> TorchArray:
        """Read `count` elements, as a view of the stream if its encoding is the native one.

        Args:
            dtype: The native dtype of the result.
            count: Number of elements.
            is_long: The stream holds C longs, whatever the size of `dtype`.
        """

    def number_pairs(self, limit: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Read the longest run of number-number table entries, at most `limit` of them.

        Returns:
            Keys and values (N,) of float64, or None if the next entry is of another kind.
        """

    def fast_tables(
        self, container: Container, count: int, memo: dict[int, Any], classes: Classes | None
    ) -> list[OpenTable]:
        """Read a table, and those inside it, on the fast path as far as that goes.

        The fast path handles keys that are strings or numbers, and values that are numbers,
        strings, booleans, short tables or tables read before. In a stream with 8-byte longs and
        this machine's byte order it also handles tensors, storages, instances that are a table, and
        any of these read before. It stops at the first other value (another instance, a damaged
        string, the end of the stream), after reading that value's key.

        Args:
            container: The table to fill, or the instance whose fields to fill.
            count: Number of its entries, at least one.
            memo: Index → object read before; new objects are added.
            classes: Those of the stream; None to leave instances to the reader.

        Returns:
            The incomplete containers, outermost first; an empty list if all are complete.
        """


def read_class_header(decoder: Decoder) -> ClassHeader:
    """Read the version and the name of a class, or its name alone, one string at a time."""
    first = decoder.string()
    has_version = isinstance(first, str) and first.startswith("V ")
    return first, decoder.string() if has_version else None


def entries_of(container: Container) -> dict[Any, Any]:
    """Return the dict with the entries of a table or the fields of an instance."""
    return (container if isinstance(container, LuaTable) else container.fields)._entries
