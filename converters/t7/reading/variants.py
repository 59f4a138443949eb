"""The forms that a stream may have, and what its first bytes tell of them."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from ..class_layouts import ClassLayout
from ..errors import T7Error
from ..scalars import ByteOrder, Format
from .ascii import AsciiDecoder
from .binary import BinaryDecoder
from .decoder import Decoder

_ASCII_START = re.compile(rb"\s*[0-8]\s")


class Interpretation(NamedTuple):
    """One way to read a stream.

    Attributes:
        format: `binary` or `ascii`.
        long_size: bytes of a C long.
        byte_order: of binary numbers.
        bodies: classes with the layouts of their bodies, where these are not the likeliest.
        restarts: the numbering of objects starts anew with each outermost object.
    """

    format: Format
    long_size: int
    byte_order: ByteOrder = "little"
    bodies: frozenset[tuple[str, ClassLayout]] = frozenset()
    restarts: bool = False

    def decoder(self, buffer: Any, start: int) -> Decoder:
        """A decoder at the start of the stream."""
        if self.format == "ascii":
            return AsciiDecoder(buffer, start, self.long_size)
        return BinaryDecoder(buffer, start, self.long_size, self.byte_order)


def likely_interpretations(
    head: bytes,
    long_size: int | None = None,
    format: Format | None = None,
    byte_order: ByteOrder | None = None,
) -> list[Interpretation]:
    """The ways in which a stream may be read, the likeliest first; none if it is no `.t7`.

    Args:
        head: its first bytes.
        long_size: bytes of a C long, where known.
        format: `binary` or `ascii`, where known.
        byte_order: of a binary stream, where known.

    Raises:
        T7Error: when what is said to be known cannot be.
    """
    for name, value, allowed in (
        ("long_size", long_size, (8, 4)),
        ("format", format, ("binary", "ascii")),
        ("byte_order", byte_order, ("little", "big")),
    ):
        if value is not None and value not in allowed:
            raise T7Error(f"{name} is {allowed[0]!r} or {allowed[1]!r}, not {value!r}")
    sizes = (8, 4) if long_size is None else (long_size,)
    orders: tuple[ByteOrder, ...] = ("little", "big") if byte_order is None else (byte_order,)
    tag = head[:4]
    return [
        Interpretation("binary", size, order)
        for order in orders
        for size in sizes
        if format == "binary" or (format is None and _is_tag(tag, order))
    ] + [
        Interpretation("ascii", size)
        for size in sizes[:1]
        if format == "ascii" or (format is None and _ASCII_START.match(head))
    ]


def _is_tag(tag: bytes, order: ByteOrder) -> bool:
    """Whether bytes are an int from 0 to 8, or the beginning of one."""
    return bool(tag) and int.from_bytes(tag.ljust(4, b"\0"), order) <= 8
