"""Definitions that reading and writing share: stream options, Lua's type tags, scalar values."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

Format = Literal["binary", "ascii"]
ByteOrder = Literal["little", "big"]

#: The type tags of `File.lua`. Tag 7 is a function too, with upvalues in an older form.
NIL, NUMBER, STRING, TABLE, TORCH, BOOLEAN = range(6)
OLD_FUNCTION, FUNCTION = 6, 8

#: Tables with fewer entries are not searched for a run of number-number entries.
MIN_NUMBER_RUN = 32

#: A double holds every whole number up to this one exactly, so these become `int`.
MAX_EXACT_INTEGER = 2.0**53


def lua_number(value: float) -> int | float:
    """Convert a double to `int` if it is a whole number that a double holds exactly."""
    if value.is_integer() and -MAX_EXACT_INTEGER <= value <= MAX_EXACT_INTEGER:
        return int(value) or (0 if str(value) == "0.0" else value)
    return value


def lua_numbers(values: np.ndarray) -> list[int | float]:
    """Apply `lua_number` to an array (N,) of float64."""
    with np.errstate(invalid="ignore"):
        is_whole = (np.abs(values) <= MAX_EXACT_INTEGER) & (np.floor(values) == values)
    is_whole &= (values != 0) | ~np.signbit(values)
    result: list[Any]
    if is_whole.all():
        result = values.astype("i8").tolist()
        return result
    result = values.tolist()
    for index in np.flatnonzero(is_whole).tolist():
        result[index] = int(result[index])
    return result


def lua_string(raw: bytes) -> str | bytes:
    """Decode a Lua string to `str` if its bytes are valid UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw
