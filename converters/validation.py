"""Checks of what a file says of itself: JSON or YAML values, entry by entry.

A `Kind` checks one value. `check_entries` checks all entries of a JSON object and names the first
that does not fit. Everything that torchlift reads about models, features and runs passes through
here once, when it is opened. (pydantic would do it too, but saved models are described in the base
install, which does not have it.)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any

import yaml

#: Checks a value, given where it stands: returns it, or raises a ValueError that says what was
#: expected there.
Kind = Callable[[Any, str], Any]

#: How much of a value a message quotes.
_QUOTED = 40


def read_json(text: str | bytes) -> Any:
    """Return the value of a JSON document from somebody else.

    Raises:
        ValueError: If it is no JSON, or too deeply nested.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_yaml(text: str) -> Any:
    """Return the value of a YAML document from somebody else.

    Its tags make plain values only. Aliases, with which a few bytes become gigabytes, are refused.

    Raises:
        ValueError: If it is no such document, or too deeply nested.
    """
    try:
        return yaml.load(text, _PlainLoader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except RecursionError:
        raise ValueError("nested too deeply") from None


class _PlainLoader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not taken")
        return super().compose_node(parent, index)


def check_entries(
    values: Any, kinds: Mapping[str, Kind], where: str = "", optional: Collection[str] = ()
) -> dict[str, Any]:
    """Check the entries of a JSON object; entries without a kind are not checked.

    Args:
        values: The object.
        kinds: The kind of each entry.
        where: What messages call the object; by default they name only the entry.
        optional: Entries that may be missing.

    Returns:
        The object.

    Raises:
        ValueError: If it is no object, lacks an entry, or an entry has another kind.

    Example:
        >>> check_entries({"labels": ["cat", 5]}, {"labels": list_of(text)})
        Traceback (most recent call last):
            ...
        ValueError: labels[1] is 5; a text was expected
    """
    if not isinstance(values, dict):
        raise refusal(where or "it", values, "an object")
    for name, kind in kinds.items():
        inner = f"{where}.{name}" if where else name
        if name in values:
            kind(values[name], inner)
        elif name not in optional:
            raise ValueError(f"no entry {inner!r}")
    return values


def refusal(where: str, value: Any, expected: str) -> ValueError:
    """Return the error for a value of another kind."""
    quoted = repr(value) if isinstance(value, (str, int, float, type(None))) else _name(value)
    if len(quoted) > _QUOTED:
        quoted = f"{quoted[:_QUOTED]}…"
    return ValueError(f"{where} is {quoted}; {expected} was expected")


def text(value: Any, where: str) -> str:
    """Check a text that every file and output can hold."""
    if not isinstance(value, str):
        raise refusal(where, value, "a text")
    if not is_writable(value):
        raise refusal(where, ascii(value), "a text of whole Unicode characters")
    return value


def is_writable(value: str) -> bool:
    r"""Return whether a text can be written: half of a surrogate pair is no character.

    Example:
        >>> is_writable("café"), is_writable("\ud800")
        (True, False)
    """
    return not any("\ud800" <= char <= "\udfff" for char in value)


def flag(value: Any, where: str) -> bool:
    """Check a truth value."""
    if not isinstance(value, bool):
        raise refusal(where, value, "true or false")
    return value


def number(value: Any, where: str) -> float:
    """Check a finite number."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # Not true of NaN, nor of integers that no float can hold.
    if not is_number or not abs(value) <= sys.float_info.max:
        raise refusal(where, value, "a number")
    checked: float = value
    return checked


def whole(lowest: int = 0, highest: int | None = None) -> Kind:
    """Return the kind of integers in a range."""
    limits = f"of at least {lowest}" if highest is None else f"from {lowest} to {highest}"

    def check(value: Any, where: str) -> int:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not is_whole or value < lowest or (highest is not None and value > highest):
            raise refusal(where, value, f"a whole number {limits}")
        return int(value)

    return check


def one_of(*choices: Any) -> Kind:
    """Return the kind of some texts or numbers."""

    def check(value: Any, where: str) -> Any:
        # `True == 1`, and lists cannot be looked up in a set.
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise refusal(where, value, f"one of {', '.join(map(str, choices))}")
        return value

    return check


def optional(kind: Kind) -> Kind:
    """Return the kind of values that may be null."""
    return lambda value, where: None if value is None else kind(value, where)


def list_of(kind: Kind, length: int | None = None) -> Kind:
    """Return the kind of lists (in Python tuples too), of a length if one is given."""

    def check(value: Any, where: str) -> list[Any]:
        if not isinstance(value, (list, tuple)) or (length is not None and len(value) != length):
            count = "" if length is None else f" of {length}"
            raise refusal(where, value, f"a list{count}")
        return [kind(item, f"{where}[{index}]") for index, item in enumerate(value)]

    return check


def mapping_of(kind: Kind) -> Kind:
    """Return the kind of objects whose entries are all of one kind."""

    def check(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise refusal(where, value, "an object")
        return {name: kind(item, f"{where}.{name}") for name, item in value.items()}

    return check


def entries(kinds: Mapping[str, Kind], optional: Collection[str] = ()) -> Kind:
    """Return the kind of objects with these entries (see `check_entries`)."""
    return lambda value, where: check_entries(value, kinds, where, optional)


def anything(value: Any, where: str) -> Any:
    """Accept every value: it is checked elsewhere."""
    return value


def _name(value: Any) -> str:
    """Return what a list or an object is, instead of its possibly endless content."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "an object" if isinstance(value, dict) else f"of the type {type(value).__name__}"
