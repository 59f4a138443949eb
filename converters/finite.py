"""Numbers that are not numbers: finding the first NaN or infinity, and spelling them in JSON."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .errors import NotFiniteError
from .expanded import expanded_elements, memory_of, without_repeats

#: Elements that are looked at together, which bounds the memory.
_CHUNK = 2**20


def first_not_finite(values: np.ndarray) -> str:
    """Return where the first NaN or infinity of an array is; empty if there is none.

    Args:
        values: An array of any dtype; integers are always finite.

    Example:
        >>> first_not_finite(np.array([[1.0, 2.0], [np.nan, np.inf]]))
        '[1, 0] is nan (2 of 4 numbers are NaN or infinite)'
    """
    if values.dtype.kind not in "fc":
        return ""
    size = values.size
    if expanded_elements(values):
        # What repeats is looked at once.
        values = without_repeats(values)
        values = memory_of(values) if expanded_elements(values) else values
    flat = np.asarray(values).reshape(-1)
    # The common case in one pass, without an array of places.
    if all(np.isfinite(flat[at : at + _CHUNK]).all() for at in range(0, flat.size, _CHUNK)):
        return ""
    first, count = -1, 0
    for start in range(0, flat.size, _CHUNK):
        bad = np.flatnonzero(~np.isfinite(flat[start : start + _CHUNK]))
        if bad.size and first < 0:
            first = start + int(bad[0])
        count += bad.size * (size // flat.size)
    index = ", ".join(str(int(i)) for i in np.unravel_index(first, values.shape))
    place = f"[{index}] is" if index else "is"
    return f"{place} {flat[first]} ({count:,} of {size:,} numbers are NaN or infinite)"


def require_finite(values: np.ndarray, name: str) -> None:
    """Check that an array has no NaN and no infinity.

    Args:
        values: The array.
        name: What the message calls it.

    Raises:
        NotFiniteError: If it has one; the message names the first.

    Example:
        >>> require_finite(np.zeros(3), "the mean")
    """
    if place := first_not_finite(values):
        raise NotFiniteError(f"{name}{'' if place.startswith('[') else ' '}{place}")


def spelled(value: Any) -> Any:
    """Return a value, or lists of values, with NaN and infinities as strings, for JSON.

    Example:
        >>> spelled([1.5, [float("-inf"), float("nan")]])
        [1.5, ['-inf', 'nan']]
    """
    if isinstance(value, list):
        return [spelled(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value
