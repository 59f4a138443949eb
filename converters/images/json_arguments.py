"""JSON that describes how images are prepared or made, as the arguments of a class."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..validation import Kind, check_entries
from .errors import PreprocessingError


def checked_arguments(
    values: Any, entries: Mapping[str, Kind], optional: Collection[str], what: str
) -> dict[str, Any]:
    """Return entries of JSON as the arguments of the class that they describe.

    Args:
        values: The JSON object.
        entries: What each entry must be.
        optional: Those that may be missing.
        what: What the entries describe, in messages.

    Raises:
        PreprocessingError: If an entry is unknown, missing or invalid.
    """
    try:
        check_entries(values, entries, optional=optional)
    except ValueError as error:
        raise PreprocessingError(f"not {what} of torchlift: {error}") from None
    unknown = [name for name in values if name not in entries]
    if unknown:
        raise PreprocessingError(f"not {what} of torchlift: {unknown[0]!r} is unknown")
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
