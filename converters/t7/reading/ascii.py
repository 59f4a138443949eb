"""Reading numbers and strings from an ASCII stream, as `binary` does from a binary one.

Torch's `DiskFile` writes each list of numbers with spaces between and a line end after; strings
and the elements of Char and Byte storages are raw bytes, with a line end after
(`THDiskFile.c`). Line ends may have become CRLF on the way (Git does that).
"""

from __future__ import annotations

import contextlib
import re
from typing import Any

import numpy as np

from ..errors import T7Error, TruncatedError
from ..scalars import FUNCTION, NIL, NUMBER, STRING, TABLE, number, text
from ..values import TorchArray
from .classes import Classes
from .decoder import Container, OpenTable, entries_of

_INTEGER = re.compile(rb"\s*([-+]?\d{1,20})(?:\r?\n|(?=\s)|\Z)")
_NUMBER = re.compile(rb"\s*([-+]?[\w.][-+\w.#]{0,60})(?:\r?\n|(?=\s)|\Z)")
_LINE_END = re.compile(rb"\r?\n")
_BLANKS = re.compile(rb"\s*")

# A run of table entries whose keys and values are both numbers: tag 1, number, tag 1, number.
_LINE = rb"[-+.\w#]++\r?\n"
_PAIRS = re.compile(rb"(?:1\r?\n" + _LINE + rb"1\r?\n" + _LINE + rb")++")


#: Characters of the longest printed number, and some blanks.
_LONGEST = 32


class AsciiDecoder:
    """Reads Torch's `DiskFile` in ASCII mode (`THDiskFile.c`) from a buffer.

    Attributes:
        buffer: the whole stream: a memory map, or bytes.
        position: offset of the next byte to read.
        long_size: bytes of a C long on the writer's machine; numbers are text whatever it is.
    """

    def __init__(self, buffer: Any, position: int = 0, long_size: int = 8) -> None:
        self.buffer = buffer
        self.size = len(buffer)
        self.position = position
        self.long_size = long_size

    def remaining(self) -> int:
        """Bytes that have not been read; blanks at the end do not count."""
        blanks = _BLANKS.match(self.buffer, self.position)
        assert blanks is not None
        return 0 if blanks.end() == self.size else self.size - self.position

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
        if count > self.size - self.position:
            left = self.size - self.position
            raise TruncatedError.of(what, count, left, self.position)

    def token(self) -> tuple[int, Any]:
        """The type tag of the next object, and what follows it directly."""
        start = self.position
        tag = self.integer()
        if tag == NUMBER:
            return tag, number(self.double())
        if tag == STRING:
            return tag, self.string()
        if tag == NIL:
            return tag, None
        if TABLE <= tag <= FUNCTION:
            return tag, self.integer()
        raise self.error(
            f"a type tag from 0 to 8 was expected, not {tag}: "
            "this is no .t7, or the reader lost its place in it",
            start,
        )

    def integer(self) -> int:
        """A C int."""
        match = _INTEGER.match(self.buffer, self.position)
        if match is None:
            raise self._unexpected("an integer")
        self.position = match.end()
        return int(match[1])

    def double(self) -> float:
        """A printed double, such as `0.5`, `-nan` or Microsoft's `-1.#INF` and `1.#QNAN`."""
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
        """`count` C longs."""
        self.need(count, "a list of sizes")
        return tuple(self._long() for _ in range(count))

    def string(self) -> str | bytes:
        """A C int and as many bytes, as a Lua string."""
        return text(self.raw(self.integer()))

    def raw(self, count: int) -> bytes:
        """`count` raw bytes, and the line end that follows any."""
        self.need(count, "a string")
        start = self.position
        self.position = end = start + count
        if count and (line_end := _LINE_END.match(self.buffer, end)):
            self.position = line_end.end()
        return self.buffer[start:end]

    def array(self, dtype: np.dtype, count: int, *, is_long: bool = False) -> TorchArray:
        """`count` elements, decoded; raw bytes where an element is one byte."""
        if dtype.itemsize == 1:
            return np.frombuffer(bytearray(self.raw(count)), dtype).view(TorchArray)
        numbers = self._numbers("i8" if dtype.kind == "i" else "f8", count)
        with np.errstate(over="ignore"):
            return numbers.astype(dtype, copy=False).view(TorchArray)

    def number_pairs(self, limit: int) -> tuple[np.ndarray, np.ndarray] | None:
        """The longest run of number-number table entries from here, at most `limit` of them."""
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

    def plain_tables(
        self, container: Container, count: int, memo: dict[int, Any], classes: Classes | None
    ) -> list[OpenTable]:
        """Leave all entries to `token`: text is slow to read whatever the loop."""
        return [(container, entries_of(container), count, None)]

    def _numbers(self, code: str, count: int, end: int | None = None) -> np.ndarray:
        """`count` numbers, as float64 or int64, from one line or up to `end`."""
        self.need(max(2 * count - 1, count), f"a list of {count:,} numbers")
        start = self.position
        if end is None:
            end = self.buffer.find(b"\n", start, start + _LONGEST * count) + 1
        numbers = np.zeros(0, code)
        with contextlib.suppress(ValueError):
            numbers = np.fromstring(self.buffer[start:end], code, sep=" ")
        if len(numbers) == count and not (code == "f8" and np.isnan(numbers).any()):
            self.position = max(start, end)
            return numbers
        # Numbers over several lines, signed NaNs, and the infinities of Microsoft's printf.
        read = self.double if code == "f8" else self._long
        return np.fromiter((read() for _ in range(count)), code, count)

    def _long(self) -> int:
        value = self.integer()
        if not -(2**63) <= value < 2**63:
            raise self.error(f"a number of 64 bits was expected, not {value}")
        return value

    def _unexpected(self, what: str) -> T7Error:
        if not self.remaining():
            return TruncatedError.of(what, 1, 0, self.position)
        found = self.buffer[self.position : self.position + 20]
        return self.error(f"{what} was expected, not {found!r}")
