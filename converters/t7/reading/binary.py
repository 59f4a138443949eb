"""Reading numbers and strings from a binary stream.

This is the binary form of `decoder.Decoder`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import T7Error, TruncatedError
from ..scalars import EXACT, FUNCTION, NIL, NUMBER, STRING, TABLE, ByteOrder, number, text
from ..values import TorchArray
from .classes import Classes
from .decoder import Container, OpenTable
from .fast_tables import FastTables
from .primitives import WORDS

#: Elements looked at first when a run of numbers is sought; each further look takes 8 times more.
_FIRST_RUN = 64


class BinaryDecoder:
    """Reads Torch's `DiskFile` in binary mode (`THDiskFile.c`) from a buffer.

    Attributes:
        buffer: the whole stream: a memory map, or bytes.
        position: offset of the next byte to read.
        long_size: bytes of a C long in the file, 8 or 4.
        byte_order: the writer's byte order.
    """

    def __init__(
        self,
        buffer: Any,
        position: int = 0,
        long_size: int = 8,
        byte_order: ByteOrder = "little",
    ) -> None:
        words = WORDS[byte_order]
        self.buffer = buffer
        self.size = len(buffer)
        self.position = position
        self.long_size = long_size
        self.byte_order = byte_order
        self._words = words
        self._int, self._two_ints, self._double = words.int, words.two_ints, words.double
        self._stored: dict[tuple[np.dtype, bool], np.dtype] = {}
        self._unpack_longs: dict[int, Callable[..., tuple[int, ...]]] = {}
        self._plain = FastTables(buffer, words, long_size)

    def remaining(self) -> int:
        """Bytes that have not been read."""
        return self.size - self.position

    def error(self, problem: str, offset: int | None = None) -> T7Error:
        """An error at the current byte, or at `offset`."""
        return T7Error(problem, offset=self.position if offset is None else offset)

    def need(self, count: int, what: str) -> None:
        """Check that `count` bytes are there.

        Raises:
            T7Error: when fewer are left, or `count` is negative.
        """
        if count < 0:
            raise self.error(f"{what} has a negative size")
        if count > self.remaining():
            raise TruncatedError.of(what, count, self.remaining(), self.position)

    def token(self) -> tuple[int, Any]:
        """The type tag of the next object, and what follows it directly."""
        position = self.position
        try:
            tag, word = self._two_ints(self.buffer, position)
            if tag == NUMBER:
                (value,) = self._double(self.buffer, position + 4)
                self.position = position + 12
                if value.is_integer() and -EXACT <= value <= EXACT:
                    return tag, int(value) or number(value)
                return tag, value
        except struct.error:
            tag, word = self.integer(), None  # Only a nil can stand in the last bytes.
        if TABLE <= tag <= FUNCTION and word is not None:
            self.position = position + 8
            return tag, word
        if tag == STRING and word is not None:
            start = position + 8
            end = start + word
            if start <= end <= self.size:
                self.position = end
                return tag, text(self.buffer[start:end])
        self.position = position + 4
        if tag == NIL:
            return tag, None
        if tag == STRING:
            return tag, self.string()  # It does not fit: says so.
        if NIL < tag <= FUNCTION:
            self.need(8, "an object")
        raise self.error(
            f"a type tag from 0 to 8 was expected, not {tag}: "
            "this is no .t7, or the reader lost its place in it",
            position,
        )

    def integer(self) -> int:
        """A C int of 4 bytes."""
        position = self.position
        try:
            (value,) = self._int(self.buffer, position)
        except struct.error:
            self.need(4, "an integer")
            raise
        self.position = position + 4
        return value

    def double(self) -> float:
        """A C double."""
        self.need(8, "a number")
        (value,) = self._double(self.buffer, self.position)
        self.position += 8
        return value

    def longs(self, count: int) -> tuple[int, ...]:
        """`count` C longs of the writer's machine."""
        end = self.position + count * self.long_size
        if end > self.size:
            self.need(count * self.long_size, "a list of sizes")
        unpack = self._unpack_longs.get(count)
        if unpack is None:
            code = "q" if self.long_size == 8 else "i"
            layout = struct.Struct(f"{self._words.mark}{count}{code}")
            unpack = self._unpack_longs[count] = layout.unpack_from
        values = unpack(self.buffer, self.position)
        self.position = end
        return values

    def string(self) -> str | bytes:
        """A C int and as many bytes, as a Lua string."""
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
        return text(self.buffer[start:end])

    def raw(self, count: int) -> bytes:
        """`count` raw bytes."""
        self.need(count, "a string")
        start = self.position
        self.position = start + count
        return self.buffer[start : self.position]

    def array(self, dtype: np.dtype, count: int, *, is_long: bool = False) -> TorchArray:
        """`count` elements: a view of the buffer where the file's form is the native one."""
        stored = self._stored.get((dtype, is_long))
        if stored is None:
            stored = np.dtype(f"i{self.long_size}") if is_long else dtype
            stored = self._stored[dtype, is_long] = stored.newbyteorder(self._words.mark)
        start = self.position
        end = start + count * stored.itemsize
        if not start <= end <= self.size:
            self.need(end - start, f"a storage of {count:,} elements")
        self.position = end
        view = TorchArray((count,), stored, self.buffer, start)
        return view if stored == dtype else view.astype(dtype).view(TorchArray)

    def number_pairs(self, limit: int) -> tuple[np.ndarray, np.ndarray] | None:
        """The longest run of number-number table entries from here, at most `limit` of them."""
        pair = self._words.pair
        limit = min(limit, self.remaining() // pair.itemsize)
        run, window = 0, _FIRST_RUN
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

    def plain_tables(
        self, container: Container, count: int, memo: dict[int, Any], classes: Classes | None
    ) -> list[OpenTable]:
        """Read a table, and those inside it, for as long as all is plain and short."""
        waiting, self.position = self._plain.read(self.position, container, count, memo, classes)
        return waiting
