"""Writing numbers and strings: the counterparts of `binary` and `ascii`."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import BinaryIO, Protocol

import numpy as np

from ..errors import T7Error

#: Elements of a storage that are turned into text at a time.
_CHUNK = 2**16


class Encoder(Protocol):
    """Writes numbers and strings, and knows nothing of what they mean."""

    long_size: int

    def integers(self, *values: int) -> None:
        """C ints, each by itself.

        Raises:
            T7Error: when one does not fit; so do `longs` and `array`.
        """

    def double(self, value: float) -> None:
        """A C double."""

    def longs(self, values: Sequence[int]) -> None:
        """C longs, as one list."""

    def raw(self, data: bytes) -> None:
        """Raw bytes."""

    def array(self, elements: np.ndarray, *, is_long: bool = False) -> None:
        """The elements of a storage (N,), which are C longs where `is_long`."""


class BinaryEncoder:
    """Writes as Torch's `DiskFile` in binary mode does on a little-endian machine.

    Attributes:
        long_size: bytes of a C long in the file, 8 or 4.
    """

    def __init__(self, stream: BinaryIO, long_size: int = 8) -> None:
        self.long_size = long_size
        self._write = stream.write
        self._long_code = "q" if long_size == 8 else "i"

    def integers(self, *values: int) -> None:
        """C ints, each by itself."""
        self._pack(f"<{len(values)}i", values)

    def double(self, value: float) -> None:
        """A C double."""
        self._write(struct.pack("<d", value))

    def longs(self, values: Sequence[int]) -> None:
        """C longs, as one list."""
        self._pack(f"<{len(values)}{self._long_code}", values)

    def raw(self, data: bytes) -> None:
        """Raw bytes."""
        self._write(data)

    def array(self, elements: np.ndarray, *, is_long: bool = False) -> None:
        """The elements of a storage, straight from memory where they can be."""
        if is_long:
            _check_longs(elements, self.long_size)
        stored = np.dtype(f"i{self.long_size}") if is_long else elements.dtype
        self._write(np.ascontiguousarray(elements, stored.newbyteorder("<")).data.cast("B"))

    def _pack(self, form: str, values: Sequence[int]) -> None:
        try:
            self._write(struct.pack(form, *values))
        except struct.error:
            raise T7Error(f"{max(values, key=abs):,} does not fit where Torch7 counts") from None


class AsciiEncoder:
    """Writes as Torch's `DiskFile` in ASCII mode does.

    Attributes:
        long_size: bytes of a C long on the reader's machine, which bounds longs.
    """

    def __init__(self, stream: BinaryIO, long_size: int = 8) -> None:
        self.long_size = long_size
        self._write = stream.write

    def integers(self, *values: int) -> None:
        """C ints, each by itself."""
        self._write(b"".join(b"%d\n" % value for value in values))

    def double(self, value: float) -> None:
        """A C double."""
        self._write(_printed(b"%.17g", value) + b"\n")

    def longs(self, values: Sequence[int]) -> None:
        """C longs, as one list."""
        self._list(b"%d" % value for value in values)

    def raw(self, data: bytes) -> None:
        """Raw bytes, and a line end after any."""
        if data:
            self._write(data)
            self._write(b"\n")

    def array(self, elements: np.ndarray, *, is_long: bool = False) -> None:
        """The elements of a storage; raw bytes where an element is one byte."""
        if is_long:
            _check_longs(elements, self.long_size)
        if elements.dtype.itemsize == 1:
            self.raw(elements.tobytes())
            return
        form = {"f8": b"%.17g", "f4": b"%.9g", "f2": b"%.9g"}.get(elements.dtype.str[1:], b"%d")
        for start in range(0, len(elements), _CHUNK):
            chunk = elements[start : start + _CHUNK].tolist()
            self._write(b" " if start else b"")
            self._write(b" ".join(_printed(form, value) for value in chunk))
        self._write(b"\n" if len(elements) else b"")

    def _list(self, numbers: Iterable[bytes]) -> None:
        line = b" ".join(numbers)
        self._write(line + b"\n" if line else b"")


def _printed(form: bytes, value: float) -> bytes:
    """A number as C prints it, which shows the sign of a NaN."""
    sign = b"-" if value != value and np.signbit(value) else b""
    return sign + form % value


def _check_longs(elements: np.ndarray, long_size: int) -> None:
    if long_size == 4 and elements.size:
        largest = max(int(elements.max()), -int(elements.min()) - 1)
        if largest >= 2**31:
            raise T7Error(f"{largest:,} does not fit a long of 4 bytes; write 8-byte longs")
