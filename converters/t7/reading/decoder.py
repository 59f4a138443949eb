"""What the reader asks of a stream, whatever its form: `binary` and `ascii` give it."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np

from ..errors import T7Error
from ..values import LuaObject, LuaTable, TorchArray
from .classes import Classes, ClassHeader

#: A table, or an instance whose body is one.
Container: TypeAlias = LuaTable | LuaObject

#: A container that is being filled, its entries, how many are left, and the key that waits for its
#: value (`None` where a key comes next).
OpenTable: TypeAlias = tuple[Container, dict[Any, Any], int, Any]


class Decoder(Protocol):
    """Reads numbers and strings, and knows nothing of what they mean.

    Attributes:
        long_size: bytes of a C long on the writer's machine.
        position: offset of the next byte to read.
    """

    long_size: int
    position: int

    def remaining(self) -> int:
        """Bytes that have not been read."""

    def error(self, problem: str, offset: int | None = None) -> T7Error:
        """An error at the current byte, or at `offset`."""

    def token(self) -> tuple[int, Any]:
        """The type tag of the next object, and what follows it directly.

        That is the object itself for nil, a number or a string, and an int for all others.

        Raises:
            T7Error: when there is no object here.
        """

    def integer(self) -> int:
        """A C int."""

    def double(self) -> float:
        """A C double."""

    def longs(self, count: int) -> tuple[int, ...]:
        """`count` C longs of the writer's machine."""

    def string(self) -> str | bytes:
        """A Lua string: its size and its bytes; `str` where they are text."""

    def raw(self, count: int) -> bytes:
        """`count` raw bytes.

        Raises:
            T7Error: when fewer are left, or `count` is negative; so do the other methods.
        """

    def array(self, dtype: np.dtype, count: int, *, is_long: bool = False) -> TorchArray:
        """`count` elements, as a view of the stream where its form is the native one.

        Args:
            dtype: the native dtype of the result.
            count: number of elements.
            is_long: the file holds C longs, whatever the size of `dtype`.
        """

    def number_pairs(self, limit: int) -> tuple[np.ndarray, np.ndarray] | None:
        """The longest run of number-number table entries from here, at most `limit` of them.

        Returns:
            keys and values (N,) of float64, or None where the next entry is of another kind.
        """

    def plain_tables(
        self, container: Container, count: int, memo: dict[int, Any], classes: Classes | None
    ) -> list[OpenTable]:
        """Read a table, and those inside it, for as long as all is plain and short.

        Plain are names and numbers as keys; numbers, strings, booleans and tables as values; and
        objects that came before, tensors, storages and instances that are a table, where the
        stream has the form of this machine. Whatever else comes (another instance, a damaged
        string, the end of the stream) is left to `token`; the key before it is not.

        Args:
            container: the table to fill, or an instance with the fields to fill.
            count: how many entries it has, at least one.
            memo: index → object that was read; what is read is added.
            classes: those of the stream; `None` where instances are left to `token`.

        Returns:
            the containers that are not complete, the outermost first; none if all are.
        """


def read_class_header(decoder: Decoder) -> ClassHeader:
    """The version and the name of a class, or its name alone, string by string."""
    first = decoder.string()
    versioned = isinstance(first, str) and first.startswith("V ")
    return first, decoder.string() if versioned else None


def entries_of(container: Container) -> dict[Any, Any]:
    """Where the entries of a table, or the fields of an instance, are kept."""
    return (container if isinstance(container, LuaTable) else container.fields)._entries
