"""Unpack the integers and doubles of a binary stream, in either byte order."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from ..scalars import ByteOrder

Unpack = Callable[[Any, int], tuple[Any, ...]]


class Unpackers(NamedTuple):
    """Functions that unpack groups of values at an offset of a buffer.

    Attributes:
        order_char: The byte order, as `struct` and numpy write it.
        is_native: Whether it is this machine's byte order.
        int: A C int.
        two_ints: Two ints: a type tag and its operand.
        three_ints: Three ints: a type tag, an index and a count.
        double: A C double.
        after_number: A double and three ints, which follow the type tag of a number used as a key.
        pair: dtype of a table entry whose key and value are both numbers: (tag 1, double) twice.
    """

    order_char: Literal["<", ">"]
    is_native: bool
    int: Unpack
    two_ints: Unpack
    three_ints: Unpack
    double: Unpack
    after_number: Unpack
    pair: np.dtype[Any]


def _unpackers(byte_order: ByteOrder) -> Unpackers:
    order_char: Literal["<", ">"] = "<" if byte_order == "little" else ">"
    fields = (("key_tag", "i4"), ("key", "f8"), ("value_tag", "i4"), ("value", "f8"))
    return Unpackers(
        order_char,
        byte_order == sys.byteorder,
        int=struct.Struct(f"{order_char}i").unpack_from,
        two_ints=struct.Struct(f"{order_char}ii").unpack_from,
        three_ints=struct.Struct(f"{order_char}iii").unpack_from,
        double=struct.Struct(f"{order_char}d").unpack_from,
        after_number=struct.Struct(f"{order_char}diii").unpack_from,
        pair=np.dtype([(name, order_char + code) for name, code in fields]),
    )


#: Made at import: to read a short stream takes less time than to make these.
UNPACKERS: dict[ByteOrder, Unpackers] = {
    "little": _unpackers("little"),
    "big": _unpackers("big"),
}
