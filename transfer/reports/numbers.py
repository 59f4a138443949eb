"""Numbers of a table's column, rounded together so that they can be compared at a glance."""

from __future__ import annotations

import math
from collections.abc import Sequence

#: Digits of the largest number of a column.
_DIGITS = 4


def formatted(column: Sequence[int | float | None]) -> list[str]:
    """Whole numbers with commas; others with as many decimals as the largest needs for 4 digits.

    Numbers too small to be seen beside the largest are all written by themselves instead. None
    is empty; what is not finite is written as its name.
    """
    sizes = [
        abs(value)
        for value in column
        if isinstance(value, float) and math.isfinite(value) and value != 0
    ]
    if not sizes:
        return [_written(value, 0) for value in column]
    decimals = max(0, _DIGITS - 1 - math.floor(math.log10(max(sizes))))
    if min(sizes) < 0.5 * 10**-decimals:
        return [
            f"{value:.3g}" if isinstance(value, float) else _written(value, 0) for value in column
        ]
    while decimals and all(round(size, decimals) == round(size, decimals - 1) for size in sizes):
        decimals -= 1
    return [_written(value, decimals) for value in column]


def _written(value: int | float | None, decimals: int) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{decimals}f}"
