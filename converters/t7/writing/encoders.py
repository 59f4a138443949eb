"""Encode numbers and strings: the counterparts of `reading.binary` and `reading.ascii`."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import BinaryIO, Protocol

import numpy as np

from ..errors import T7Error

#: Number of elements of a storage to print at a time.
_CHUNK = 2**16


class Encoder(Protocol):
    """Encodes values and strings without knowledge of the objects they belong to.

    Attributes:
        long_size: Bytes of a C long on the machine that will read the stream.
    """

    long_size: int

    def integers(self, *values: int) -> None:
        """Write C ints, each on its own.

        Raises:
            T7Error: If a value does not fit. `longs` and `array` raise it too.
        """

    def double(self, value: float) -> None:
        """Write a C double."""

    def longs(self, values: Sequence[int]) -> None:
        """Write C longs as one list."""

    def raw(self, data: bytes) -> None:
        """Write raw bytes."""

    def array(self, elements: np.ndarray, *, is_long: bool = False) -> None:
        """Write the elements of a storage (N,), as C longs if `is_long`."""


class BinaryEncoder:
    """An `Encoder` like Torch's `DiskFile` in binary mode on a little-endian machine.

    Attributes:
        long_size: Bytes of a C long in the stream, 8 or 4.
    """

    def __init__(self, stream: BinaryIO, long_size: int = 8) -> None:
        self.long_size = long_size
        self._write = stream.write
        self._long_code = "q" if long_size == 8 else "i"

    def integers(self, *values: int) -> None:
        """Write C ints, each on its own."""
        self._pack(f"<{len(values)}i", values)

    def double(self, value: float) -> None:
        """Write a C double."""
        self._write(struct.pack("<d", value))

    def longs(self, values: Sequence[int]) -> None:
        """Write C longs as one list."""
        self._pack(f"<{len(values)}{self._long_code}", values)

    def raw(self, data: bytes) -> None:
        """Write raw bytes."""
        self._write(data)

    def array(self, elements: np.ndarray, *, is_long: bool = False) -> None:
        """Write the elements of a storage, without a copy if they have the stored dtype."""
        if is_long:
            _check_longs(elements, self.long_size)
        stored_dtype = np.dtype(f"i{self.long_size}") if is_long else elements.dtype
        self._write(np.ascontiguousarray(elements, stored_dtype.newbyteorder("<")).data.cast("B"))

    def _pack(self, layout: str, values: Sequence[int]) -> None:
        try:
            self._write(struct.pack(layout, *values))
        except struct.error:
            raise T7Error(f"{max(values, key=abs):,} does not fit Torch7's integers") from None


class AsciiEncoder:
    """An `Encoder` like Torch's `DiskFile` in ASCII mode.

    Attributes:
        long_size: Bytes of a C long on the machine that will read the stream; larger values raise.
    """

    def __init__(self, stream: BinaryIO, long_size: int = 8) -> None:
        self.long_size = long_size
        self._write = stream.write

    def integers(self, *values: int) -> None:
        """Write C ints, each on its own."""
        self._write(b"".join(b"%d\n" % value for value in values))

    def double(self, value: float) -> None:
        """Write a C double."""
        self._write(_print_number(b"%.17g", value) + b"\n")

    def longs(self, values: Sequence[int]) -> None:
        """Write C longs as one list."""
        line = b" ".join(b"%d" % value for value in values)
        self._write(line + b"\n" if line else b"")

    def raw(self, data: bytes) -> None:
        """Write raw bytes, and a line end after them unless there are none."""
        if data:
            self._write(data)
            self._write(b"\n")

    def array(self, elements: np.ndarray, *, is_long: bool = False) -> None:
        """Print the elements of a storage; one-byte elements are raw bytes."""
        if is_long:
            _check_longs(elements, self.long_size)
        if elements.dtype.itemsize == 1:
            self.raw(elements.tobytes())
            return
        template = {"f8": b"%.17g", "f4": b"%.9g", "f2": b"%.9g"}.get(elements.dtype.str[1:], b"%d")
        for start in range(0, len(elements), _CHUNK):
            chunk = elements[start : start + _CHUNK].tolist()
            self._write(b" " if start else b"")
            self._write(b" ".join(_print_number(template, value) for value in chunk))
        self._write(b"\n" if len(elements) else b"")


def _print_number(template: bytes, value: float) -> bytes:
    """Print a number as C does, with the sign of a NaN."""
    sign = b"-" if value != value and np.signbit(value) else b""
    return sign + template % value


def _check_longs(elements: np.ndarray, long_size: int) -> None:
    if long_size == 4 and elements.size:
        largest = max(int(elements.max()), -int(elements.min()) - 1)
        if largest >= 2**31:
            raise T7Error(f"{largest:,} does not fit a long of 4 bytes; use long_size=8")
