"""Decode a binary stream: Torch's `DiskFile` in binary mode (`THDiskFile.c`)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import T7Error, TruncatedError
from ..scalars import (
    FUNCTION,
    MAX_EXACT_INTEGER,
    NIL,
    NUMBER,
    STRING,
    TABLE,
    ByteOrder,
    lua_number,
    lua_string,
)
from ..values import TorchArray
from .classes import Classes
from .decoder import Container, OpenTable
from .fast_tables import FastTables
from .primitives import UNPACKERS

#: Entries checked first when searching for the end of a run of numbers; each further check covers
#: 8 times more.
_FIRST_WINDOW = 64


class BinaryDecoder:
    """A `Decoder` of a binary stream in a buffer.

    Attributes:
        buffer: The whole stream: a memory map, or bytes.
        position: Offset of the next byte to read.
        long_size: Bytes of a C long in the stream, 8 or 4.
    """

    def __init__(
        self,
        buffer: Any,
        position: int = 0,
        long_size: int = 8,
        byte_order: ByteOrder = "little",
    ) -> None:
        unpackers = UNPACKERS[byte_order]
        self.buffer = buffer
        self.size = len(buffer)
        self.position = position
        self.long_size = long_size
        self._unpackers = unpackers
        self._int, self._double = unpackers.int, unpackers.double
        self._two_ints = unpackers.two_ints
        self._stored_dtypes: dict[tuple[np.dtype[Any], bool], np.dtype[Any]] = {}
        self._unpack_longs: dict[int, Callable[..., tuple[int, ...]]] = {}
        self._fast_tables = FastTables(buffer, unpackers, long_size)

    def remaining(self) -> int:
        """Return the number of unread bytes."""
        return self.size - self.position

    def error(self, problem: str, offset: int | None = None) -> T7Error:
        """Return an error at the current byte, or at `offset`."""
        return T7Error(problem, offset=self.position if offset is None else offset)

    def need(self, count: int, what: str) -> None:
        """Check that `count` bytes are left.

        Raises:
            T7Error: If fewer are left, or `count` is negative.
        """
        if count < 0:
            raise self.error(f"{what} has a negative size")
        if count > self.remaining():
            raise TruncatedError.of(what, count, self.remaining(), self.position)

    def token(self) -> tuple[int, Any]:
        """Read the type tag of the next object and its operand."""
        position = self.position
        try:
            tag, operand = self._two_ints(self.buffer, position)
            if tag == NUMBER:
                (value,) = self._double(self.buffer, position + 4)
                self.position = position + 12
                if value.is_integer() and -MAX_EXACT_INTEGER <= value <= MAX_EXACT_INTEGER:
                    return tag, int(value) or lua_number(value)
                return tag, value
        except struct.error:
            tag, operand = self.integer(), None  # Only a nil fits into fewer than 8 bytes.
        if TABLE <= tag <= FUNCTION and operand is not None:
            self.position = position + 8
            return tag, operand
        if tag == STRING and operand is not None:
            start = position + 8
            end = start + operand
            if start <= end <= self.size:
                self.position = end
                return tag, lua_string(self.buffer[start:end])
        self.position = position + 4
        if tag == NIL:
            return tag, None
        if tag == STRING:
            return tag, self.string()  # Raises the error: the string is longer than the stream.
        if NIL < tag <= FUNCTION:
            self.need(8, "an object")
        raise self.error(
            f"expected a type tag from 0 to 8, found {tag}: "
            "this is not a .t7 file, or it is damaged",
            position,
        )

    def integer(self) -> int:
        """Read a C int of 4 bytes."""
        position = self.position
        value: int
        try:
            (value,) = self._int(self.buffer, position)
        except struct.error:
            self.need(4, "an integer")
            raise
        self.position = position + 4
        return value

    def double(self) -> float:
        """Read a C double."""
        self.need(8, "a number")
        value: float
        (value,) = self._double(self.buffer, self.position)
        self.position += 8
        return value

    def longs(self, count: int) -> tuple[int, ...]:
        """Read `count` C longs of the writer's machine."""
        end = self.position + count * self.long_size
        if end > self.size:
            self.need(count * self.long_size, "a list of sizes")
        unpack = self._unpack_longs.get(count)
        if unpack is None:
            code = "q" if self.long_size == 8 else "i"
            layout = struct.Struct(f"{self._unpackers.order_char}{count}{code}")
            unpack = self._unpack_longs[count] = layout.unpack_from
        values = unpack(self.buffer, self.position)
        self.position = end
        return values

    def string(self) -> str | bytes:
        """Read a Lua string, its length and its bytes; `str` if it is UTF-8."""
        start = self.position + 4
        try:
            end = start + self._int(self.buffer, self.position)[0]
        except struct.error:
            self.need(4, "a string's length")
            raise
        if not start <= end <= self.size:
            self.position = start
            self.need(end - start, "a string")
        self.position = end
        return lua_string(self.buffer[start:end])

    def raw(self, count: int) -> bytes:
        """Read `count` raw bytes."""
        self.need(count, "a string")
        start = self.position
        self.position = start + count
        data: bytes = self.buffer[start : self.position]
        return data

    def array(self, dtype: np.dtype[Any], count: int, *, is_long: bool = False) -> TorchArray:
        """Read `count` elements, as a view of the buffer if its encoding is the native one."""
        stored_dtype = self._stored_dtypes.get((dtype, is_long))
        if stored_dtype is None:
            stored_dtype = np.dtype(f"i{self.long_size}") if is_long else dtype
            stored_dtype = stored_dtype.newbyteorder(self._unpackers.order_char)
            self._stored_dtypes[dtype, is_long] = stored_dtype
        start = self.position
        end = start + count * stored_dtype.itemsize
        if not start <= end <= self.size:
            self.need(end - start, f"a storage of {count:,} elements")
        self.position = end
        view = TorchArray((count,), stored_dtype, self.buffer, start)
        return view if stored_dtype == dtype else view.astype(dtype).view(TorchArray)

    def number_pairs(self, limit: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Read the longest run of number-number table entries, at most `limit` of them."""
        pair = self._unpackers.pair
        limit = min(limit, self.remaining() // pair.itemsize)
        run, window = 0, _FIRST_WINDOW
        while run < limit:
            count = min(window, limit - run)
            offset = self.position + run * pair.itemsize
            pairs = np.ndarray((count,), pair, self.buffer, offset)
            other = np.flatnonzero((pairs["key_tag"] != NUMBER) | (pairs["value_tag"] != NUMBER))
            if len(other):
                run += int(other[0])
                break
            run, window = run + count, window * 8
        if run == 0:
            return None
        pairs = np.ndarray((run,), pair, self.buffer, self.position)
        self.position += run * pair.itemsize
        return pairs["key"], pairs["value"]

    def fast_tables(
        self, container: Container, count: int, memo: dict[int, Any], classes: Classes | None
    ) -> list[OpenTable]:
        """Read a table, and those inside it, on the fast path as far as that goes."""
        incomplete, self.position = self._fast_tables.read(
            self.position, container, count, memo, classes
        )
        return incomplete
