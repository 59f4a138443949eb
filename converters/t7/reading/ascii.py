"""Decode an ASCII stream: Torch's `DiskFile` in ASCII mode (`THDiskFile.c`).

Each list of numbers is written with spaces in between and a line end after it. Strings and the
elements of Byte and Char storages are raw bytes with a line end after them. Tools such as Git may
have converted the line ends to CRLF.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any

import numpy as np

from ..errors import T7Error, TruncatedError
from ..scalars import FUNCTION, NIL, NUMBER, STRING, TABLE, lua_number, lua_string
from ..values import TorchArray
from .classes import Classes
from .decoder import Container, OpenTable, entries_of

_INTEGER = re.compile(rb"\s*([-+]?\d{1,20})(?:\r?\n|(?=\s)|\Z)")
_NUMBER = re.compile(rb"\s*([-+]?[\w.][-+\w.#]{0,60})(?:\r?\n|(?=\s)|\Z)")
_LINE_END = re.compile(rb"\r?\n")
_WHITESPACE = re.compile(rb"\s*")

# A run of table entries whose keys and values are both numbers: tag 1, number, tag 1, number.
_LINE = rb"[-+.\w#]++\r?\n"
_PAIRS = re.compile(rb"(?:1\r?\n" + _LINE + rb"1\r?\n" + _LINE + rb")++")

#: Upper limit on the characters of a printed number with the whitespace after it.
_MAX_PRINTED_LENGTH = 32


class AsciiDecoder:
    """A `Decoder` of an ASCII stream in a buffer.

    Attributes:
        buffer: The whole stream: a memory map, or bytes.
        position: Offset of the next byte to read.
        long_size: Bytes of a C long on the writer's machine; it does not affect printed numbers.
    """

    def __init__(self, buffer: Any, position: int = 0, long_size: int = 8) -> None:
        self.buffer = buffer
        self.size = len(buffer)
        self.position = position
        self.long_size = long_size

    def remaining(self) -> int:
        """Return the number of unread bytes; 0 if only whitespace is left."""
        whitespace = _WHITESPACE.match(self.buffer, self.position)
        assert whitespace is not None
        return 0 if whitespace.end() == self.size else self.size - self.position

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
        if count > self.size - self.position:
            left = self.size - self.position
            raise TruncatedError.of(what, count, left, self.position)

    def token(self) -> tuple[int, Any]:
        """Read the type tag of the next object and its operand."""
        start = self.position
        tag = self.integer()
        if tag == NUMBER:
            return tag, lua_number(self.double())
        if tag == STRING:
            return tag, self.string()
        if tag == NIL:
            return tag, None
        if TABLE <= tag <= FUNCTION:
            return tag, self.integer()
        raise self.error(
            f"expected a type tag from 0 to 8, found {tag}: "
            "this is not a .t7 file, or it is damaged",
            start,
        )

    def integer(self) -> int:
        """Read a C int."""
        match = _INTEGER.match(self.buffer, self.position)
        if match is None:
            raise self._unexpected("an integer")
        self.position = match.end()
        return int(match[1])

    def double(self) -> float:
        """Read a printed double, such as `0.5`, `-nan` or Microsoft's `-1.#INF` and `1.#QNAN`."""
        match = _NUMBER.match(self.buffer, self.position)
        if match is None:
            raise self._unexpected("a number")
        token = match[1]
        if b"#" in token:
            token = token[:1].replace(b"1", b"") + (b"inf" if b"INF" in token else b"nan")
        try:
            value = float(token)
        except ValueError:
            raise self._unexpected("a number") from None
        self.position = match.end()
        return value

    def longs(self, count: int) -> tuple[int, ...]:
        """Read `count` C longs."""
        self.need(count, "a list of sizes")
        return tuple(self._long() for _ in range(count))

    def string(self) -> str | bytes:
        """Read a Lua string, its length and its bytes; `str` if it is UTF-8."""
        return lua_string(self.raw(self.integer()))

    def raw(self, count: int) -> bytes:
        """Read `count` raw bytes, and the line end after them unless `count` is 0."""
        self.need(count, "a string")
        start = self.position
        self.position = end = start + count
        if count and (line_end := _LINE_END.match(self.buffer, end)):
            self.position = line_end.end()
        data: bytes = self.buffer[start:end]
        return data

    def array(self, dtype: np.dtype[Any], count: int, *, is_long: bool = False) -> TorchArray:
        """Parse `count` elements; one-byte elements are raw bytes."""
        if dtype.itemsize == 1:
            return np.frombuffer(bytearray(self.raw(count)), dtype).view(TorchArray)
        elements = self._numbers("i8" if dtype.kind == "i" else "f8", count)
        with np.errstate(over="ignore"):
            return elements.astype(dtype, copy=False).view(TorchArray)

    def number_pairs(self, limit: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Read the longest run of number-number table entries, at most `limit` of them."""
        run = _PAIRS.match(self.buffer, self.position)
        if run is None or b"#" in run[0]:
            return None
        count = min(limit, run[0].count(b"\n") // 4)
        end = run.end()
        if 4 * count < run[0].count(b"\n"):
            line_ends = np.flatnonzero(np.frombuffer(run[0], "u1") == ord("\n"))
            end = run.start() + int(line_ends[4 * count - 1]) + 1
        entries = self._numbers("f8", 4 * count, end).reshape(-1, 4)
        return entries[:, 1], entries[:, 3]

    def fast_tables(
        self, container: Container, count: int, memo: dict[int, Any], classes: Classes | None
    ) -> list[OpenTable]:
        """Leave all entries to the reader: a faster loop would not make parsing text faster."""
        return [(container, entries_of(container), count, None)]

    def _numbers(self, code: str, count: int, end: int | None = None) -> np.ndarray:
        """Parse `count` numbers from one line, or up to `end`.

        Args:
            code: numpy's code of the result's dtype: `f8` or `i8`.
            count: Number of elements.
            end: Offset after the last of them, if known.
        """
        self.need(max(2 * count - 1, count), f"a list of {count:,} numbers")
        start = self.position
        if end is None:
            end = self.buffer.find(b"\n", start, start + _MAX_PRINTED_LENGTH * count) + 1
        numbers = np.zeros(0, code)
        with contextlib.suppress(ValueError):
            numbers = np.fromstring(self.buffer[start:end], code, sep=" ")
        if len(numbers) == count and not (code == "f8" and np.isnan(numbers).any()):
            self.position = max(start, end)
            return numbers
        # One by one: a list over several lines, signed NaNs, and infinities of Microsoft's printf.
        read = self.double if code == "f8" else self._long
        return np.fromiter((read() for _ in range(count)), code, count)

    def _long(self) -> int:
        value = self.integer()
        if not -(2**63) <= value < 2**63:
            raise self.error(f"expected a 64-bit integer, found {value}")
        return value

    def _unexpected(self, what: str) -> T7Error:
        """Return the error for bytes that are not `what`."""
        if not self.remaining():
            return TruncatedError.of(what, 1, 0, self.position)
        found = self.buffer[self.position : self.position + 20]
        return self.error(f"expected {what}, found {found!r}")
