"""The numbers of a binary stream, in each byte order."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from ..scalars import ByteOrder

Unpack = Callable[[Any, int], tuple[Any, ...]]


class Unpackers(NamedTuple):
    """How numbers that often stand together are unpacked.

    Attributes:
        mark: the byte order, as `struct` and numpy name it.
        is_native: it is that of this machine.
        int: a C int.
        two_ints: two of them: a type tag and what follows it.
        three_ints: three of them: a type tag, an index and what follows it.
        double: a C double.
        after_number: a double and three ints: what follows the type tag of a key that is a number.
        pair: an entry of a table whose key and value are both numbers: (tag 1, double) twice.
    """

    mark: Literal["<", ">"]
    is_native: bool
    int: Unpack
    two_ints: Unpack
    three_ints: Unpack
    double: Unpack
    after_number: Unpack
    pair: np.dtype


def _words(byte_order: ByteOrder) -> Unpackers:
    mark: Literal["<", ">"] = "<" if byte_order == "little" else ">"
    fields = (("key_tag", "i4"), ("key", "f8"), ("value_tag", "i4"), ("value", "f8"))
    return Unpackers(
        mark,
        byte_order == sys.byteorder,
        int=struct.Struct(f"{mark}i").unpack_from,
        two_ints=struct.Struct(f"{mark}ii").unpack_from,
        three_ints=struct.Struct(f"{mark}iii").unpack_from,
        double=struct.Struct(f"{mark}d").unpack_from,
        after_number=struct.Struct(f"{mark}diii").unpack_from,
        pair=np.dtype([(name, mark + code) for name, code in fields]),
    )


#: Made once: a stream that is short is read faster than they are made.
WORDS: dict[ByteOrder, Unpackers] = {"little": _words("little"), "big": _words("big")}
