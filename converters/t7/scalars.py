"""What reading and writing agree on: forms of a stream, Lua's type tags, and plain values."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

Format = Literal["binary", "ascii"]
ByteOrder = Literal["little", "big"]

#: The type tags of `File.lua`.
NIL, NUMBER, STRING, TABLE, TORCH, BOOLEAN = range(6)
OLD_FUNCTION, LEGACY_FUNCTION, FUNCTION = 6, 7, 8

#: Tables shorter than this are not worth a look for a run of numbers.
RUN = 32

#: Doubles up to here are whole numbers exactly, and become `int`.
EXACT = 2.0**53


def number(value: float) -> int | float:
    """A Lua number: `int` where it is a whole number that a double holds exactly."""
    if value.is_integer() and -EXACT <= value <= EXACT:
        return int(value) or (0 if str(value) == "0.0" else value)
    return value


def numbers(values: np.ndarray) -> list[int | float]:
    """`number` of many doubles at once."""
    with np.errstate(invalid="ignore"):
        whole = (np.abs(values) <= EXACT) & (np.floor(values) == values)
    whole &= (values != 0) | ~np.signbit(values)
    if whole.all():
        return values.astype("i8").tolist()
    result: list[Any] = values.tolist()
    for index in np.flatnonzero(whole).tolist():
        result[index] = int(result[index])
    return result


def text(raw: bytes) -> str | bytes:
    """A Lua string: `str` where its bytes are UTF-8 text."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw
