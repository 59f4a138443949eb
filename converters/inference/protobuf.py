"""The wire format of protobuf messages, in which `.onnx` files are written.

A file can be read in part, and changed in part, without the package onnx and without writing the
rest of it anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

#: A field of a message: its number, and its value, an integer or a memoryview.
Field = tuple[int, Any]

#: How many bytes a value of a wire type has; those of other types say it themselves.
_FIXED = {1: 8, 5: 4}
#: The wire type of texts, bytes and messages.
_BYTES = 2


def fields(message: memoryview) -> Iterator[Field]:
    """Yield the fields of a message.

    Raises:
        ValueError: If it is no message.
        IndexError: If it is cut.
    """
    position = 0
    while position < len(message):
        tag, position = varint(message, position)
        value, position = _value(message, position, tag & 7)
        yield tag >> 3, value


def spans(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    r"""Yield the number of each field of a message, and all of its bytes.

    Raises:
        ValueError: As `fields`.
        IndexError: As `fields`.

    Example:
        >>> [(number, bytes(span)) for number, span in spans(memoryview(b"\x08\x05\x12\x01a"))]
        [(1, b'\x08\x05'), (2, b'\x12\x01a')]
    """
    position = 0
    while position < len(message):
        tag, behind = varint(message, position)
        _, end = _value(message, behind, tag & 7)
        yield tag >> 3, message[position:end]
        position = end


def messages(message: memoryview, number: int) -> Iterator[memoryview]:
    """Yield the fields of a message that have a number, and are messages themselves."""
    for found, value in fields(message):
        if found == number and isinstance(value, memoryview):
            yield value


def varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return an integer, and the position behind it."""
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 127) << shift
        position += 1
        if byte < 128:
            return value, position
        shift += 7


def _value(message: memoryview, position: int, kind: int) -> tuple[Any, int]:
    """Return the value of a field, and the position behind it."""
    if kind == 0:
        return varint(message, position)
    length = _FIXED.get(kind)
    if kind == _BYTES:
        length, position = varint(message, position)
    if length is None:
        raise ValueError(f"wire type {kind}")
    if position + length > len(message):
        raise IndexError("a field is cut")
    return message[position : position + length], position + length
