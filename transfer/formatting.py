"""Values in the form that JSON can hold, and numbers as people read them."""

from __future__ import annotations

import math
from typing import Any


def finite(value: Any) -> Any:
    """Return a JSON value in which null stands for NaN and infinity, which JSON does not have.

    Example:
        >>> finite({"loss": float("nan"), "accuracies": (0.5, float("inf"))})
        {'loss': None, 'accuracies': [0.5, None]}
    """
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def format_bytes(count: int) -> str:
    """Return a number of bytes with a unit.

    Example:
        >>> format_bytes(466_100_000), format_bytes(12)
        ('466.1 MB', '12 B')
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
