"""The formats that a stream can have, and those that its first bytes allow."""

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


class StreamFormat(NamedTuple):
    """Everything that a reader has to know about a stream and the file does not store.

    Attributes:
        encoding: `binary` or `ascii`.
        long_size: Bytes of a C long.
        byte_order: Byte order of a binary stream.
        layouts: Classes with their layouts, where these are not the most probable ones.
        indices_restart: Whether the indices of objects restart with each outermost object.
    """

    encoding: Format
    long_size: int
    byte_order: ByteOrder = "little"
    layouts: frozenset[tuple[str, ClassLayout]] = frozenset()
    indices_restart: bool = False

    def decoder(self, buffer: Any, start: int) -> Decoder:
        """Return a decoder at the start of a stream."""
        if self.encoding == "ascii":
            return AsciiDecoder(buffer, start, self.long_size)
        return BinaryDecoder(buffer, start, self.long_size, self.byte_order)


def possible_formats(
    head: bytes,
    long_size: int | None = None,
    format: Format | None = None,
    byte_order: ByteOrder | None = None,
) -> list[StreamFormat]:
    """Return the formats that a stream may have, most probable first; none if it is no `.t7`.

    Args:
        head: The first bytes of the stream.
        long_size: Bytes of a C long, if known.
        format: `binary` or `ascii`, if known.
        byte_order: Byte order of a binary stream, if known.

    Raises:
        T7Error: If an argument has an invalid value.
    """
    for name, value, allowed in (
        ("long_size", long_size, (8, 4)),
        ("format", format, ("binary", "ascii")),
        ("byte_order", byte_order, ("little", "big")),
    ):
        if value is not None and value not in allowed:
            raise T7Error(f"{name} must be {allowed[0]!r} or {allowed[1]!r}, not {value!r}")
    sizes = (8, 4) if long_size is None else (long_size,)
    orders: tuple[ByteOrder, ...] = ("little", "big") if byte_order is None else (byte_order,)
    tag = head[:4]
    return [
        StreamFormat("binary", size, order)
        for order in orders
        for size in sizes
        if format == "binary" or (format is None and _is_tag(tag, order))
    ] + [
        StreamFormat("ascii", size)
        for size in sizes[:1]
        if format == "ascii" or (format is None and _ASCII_START.match(head))
    ]


def _is_tag(tag: bytes, order: ByteOrder) -> bool:
    """Return whether bytes are an int from 0 to 8, or the beginning of one."""
    return bool(tag) and int.from_bytes(tag.ljust(4, b"\0"), order) <= 8
