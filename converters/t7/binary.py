"""Reading numbers and strings from a binary stream.

This is the binary form of `decoder.Decoder`.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from .decoder import ClassHeader, OpenTable, read_class_header
from .errors import T7Error, TruncatedError
from .plain_arrays import read_plain_array
from .scalars import BOOLEAN, EXACT, FUNCTION, NIL, NUMBER, RUN, STRING, TABLE, TORCH, number, text
from .values import LuaTable, TorchArray

ByteOrder = Literal["little", "big"]

#: Characters of a class name from which on nobody looks whether it came before.
_LONG_NAME = 100

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
        mark: Literal["<", ">"] = "<" if byte_order == "little" else ">"
        self.buffer = buffer
        self.size = len(buffer)
        self.position = position
        self.long_size = long_size
        self.byte_order = byte_order
        self._mark = mark
        self._is_native = byte_order == sys.byteorder and long_size == 8
        self._int = struct.Struct(f"{mark}i").unpack_from
        self._two_ints = struct.Struct(f"{mark}ii").unpack_from
        self._double = struct.Struct(f"{mark}d").unpack_from
        self._three_ints = struct.Struct(f"{mark}iii").unpack_from
        self._after_number = struct.Struct(f"{mark}diii").unpack_from
        self._long_code = "q" if long_size == 8 else "i"
        # A table's entry whose key and value are both numbers: (tag 1, double) twice.
        self._pair = np.dtype(
            [
                ("key_tag", f"{mark}i4"),
                ("key", f"{mark}f8"),
                ("value_tag", f"{mark}i4"),
                ("value", f"{mark}f8"),
            ]
        )
        self._header = struct.Struct(f"{mark}i3si").unpack_from
        self._headers: dict[bytes, ClassHeader] = {}
        self._names: dict[bytes, str] = {}
        self._stored: dict[tuple[np.dtype, bool], np.dtype] = {}
        self._unpack_longs: dict[int, Callable[..., tuple[int, ...]]] = {}

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
            layout = struct.Struct(f"{self._mark}{count}{self._long_code}")
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

    def class_header(self) -> ClassHeader:
        """The version and the name of a class, or its name alone."""
        # Many instances have few classes, and a version of one digit.
        start = self.position
        try:
            version_size, _, name_size = self._header(self.buffer, start)
        except struct.error:
            return read_class_header(self)
        end = start + 11 + name_size if version_size == 3 and 0 < name_size < _LONG_NAME else start
        raw = self.buffer[start:end]
        header = self._headers.get(raw)
        if header is not None:
            self.position = end
            return header
        header = read_class_header(self)
        if self.position == end:
            self._headers[raw] = header
        return header

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
            stored = self._stored[dtype, is_long] = stored.newbyteorder(self._mark)
        start = self.position
        end = start + count * stored.itemsize
        if not start <= end <= self.size:
            self.need(end - start, f"a storage of {count:,} elements")
        self.position = end
        view = TorchArray((count,), stored, self.buffer, start)
        return view if stored == dtype else view.astype(dtype).view(TorchArray)

    def number_pairs(self, limit: int) -> tuple[np.ndarray, np.ndarray] | None:
        """The longest run of number-number table entries from here, at most `limit` of them."""
        limit = min(limit, self.remaining() // self._pair.itemsize)
        run, window = 0, _FIRST_RUN
        while run < limit:
            count = min(window, limit - run)
            offset = self.position + run * self._pair.itemsize
            pairs = np.ndarray((count,), self._pair, self.buffer, offset)
            other = np.flatnonzero((pairs["key_tag"] != NUMBER) | (pairs["value_tag"] != NUMBER))
            if len(other):
                run += int(other[0])
                break
            run, window = run + count, window * 8
        if run == 0:
            return None
        pairs = np.ndarray((run,), self._pair, self.buffer, self.position)
        self.position += run * self._pair.itemsize
        return pairs["key"], pairs["value"]

    def plain_tables(self, table: LuaTable, count: int, memo: dict[int, Any]) -> list[OpenTable]:
        """Read a table, and those inside it, for as long as all is plain and short."""
        # One loop, hardly a call: nearly all the time of a file of many small tables goes here.
        buffer, size, names = self.buffer, self.size, self._names
        two_ints, three_ints, double = self._two_ints, self._three_ints, self._double
        after_number = self._after_number
        new, position, exact = LuaTable.__new__, self.position, EXACT
        native = self._is_native
        outer: list[OpenTable] = []
        entries, left = table._entries, count
        key: Any = None
        value: Any
        try:
            while True:
                key = None
                tag, word = two_ints(buffer, position)
                if tag == STRING:
                    start = position + 8
                    end = start + word
                    if word < 0 or end > size:
                        break
                    name = buffer[start:end]
                    key = names.get(name)
                    if key is None:
                        key = names[name] = name.decode()
                    position = end
                    tag, word, inner = three_ints(buffer, position)
                elif tag == NUMBER:
                    key, tag, word, inner = after_number(buffer, position + 4)
                    position += 12
                    if key.is_integer() and -exact <= key <= exact:
                        key = int(key) or number(key)
                else:
                    break
                if tag == NUMBER:
                    (value,) = double(buffer, position + 4)
                    end = position + 12
                    if value.is_integer() and -exact <= value <= exact:
                        value = int(value) or number(value)
                elif tag == STRING:
                    start = position + 8
                    end = start + word
                    if word < 0 or end > size:
                        break
                    value = buffer[start:end].decode()
                elif tag == TORCH and native and key not in entries:
                    value = memo.get(word)
                    end = position + 8
                    if value is None:
                        array = read_plain_array(buffer, end, word, memo)
                        if array is None:
                            break
                        value, end = array
                elif tag == TABLE and word not in memo:
                    if not 0 <= inner < RUN:
                        break
                    end = position + 12
                    value = memo[word] = new(LuaTable)
                    value._entries = {}
                    if inner:
                        outer.append((table, left, key))
                        table, entries, left = value, value._entries, inner
                        position = end
                        continue
                elif tag == TABLE:
                    value = memo[word]
                    end = position + 8
                elif tag == BOOLEAN:
                    value = word == 1
                    end = position + 8
                else:
                    break
                entries[key] = value
                position = end
                left -= 1
                while not left:
                    if not outer:
                        self.position = position
                        return []
                    value = table
                    table, left, key = outer.pop()
                    entries = table._entries
                    entries[key] = value
                    left -= 1
        except (struct.error, UnicodeDecodeError):
            pass
        self.position = position
        return [*outer, (table, left, key)]
