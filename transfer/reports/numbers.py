"""Formats the numbers of a table column with one precision, so that they are easy to compare."""

from __future__ import annotations

import math
from collections.abc import Sequence

#: Significant digits of the largest number of a column.
_DIGITS = 4


def formatted(column: Sequence[int | float | None]) -> list[str]:
    """Format the numbers of one column.

    Integers get thousands separators. Floats get as many decimals as the largest of them needs
    for four significant digits. Where that would round a nonzero value to zero, every float gets
    three significant digits of its own. None becomes an empty text, and a value that is not
    finite its name.

    Example:
        >>> formatted([0.9, 0.98765, None])
        ['0.9000', '0.9877', '']
        >>> formatted([61_119_528, 156])
        ['61,119,528', '156']
    """
    magnitudes = [
        abs(value)
        for value in column
        if isinstance(value, float) and math.isfinite(value) and value != 0
    ]
    if not magnitudes:
        return [_fixed(value, 0) for value in column]
    decimals = max(0, _DIGITS - 1 - math.floor(math.log10(max(magnitudes))))
    if min(magnitudes) < 0.5 * 10**-decimals:
        return [
            f"{value:.3g}" if isinstance(value, float) else _fixed(value, 0) for value in column
        ]
    while decimals and all(
        round(value, decimals) == round(value, decimals - 1) for value in magnitudes
    ):
        decimals -= 1
    return [_fixed(value, decimals) for value in column]


def _fixed(value: int | float | None, decimals: int) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{decimals}f}"
