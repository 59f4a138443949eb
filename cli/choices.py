"""The values of an option of a sweep, from the text that is typed for them."""

from __future__ import annotations

from argparse import ArgumentTypeError
from typing import TYPE_CHECKING

from .errors import UsageError
from .values import parse_list

if TYPE_CHECKING:
    from ..transfer.sweep import Choice


def read_choice(text: str) -> Choice:
    """Parse `lr=0.1,0.01` or `lr=1e-4..1e-1`.

    Raises:
        UsageError: when it is neither.

    Example:
        >>> read_choice("--batch-size=16, 32").name, read_choice("--batch-size=16, 32").values
        ('batch_size', ('16', '32'))
    """
    from ..transfer.sweep import Choice

    name, equals, values = text.partition("=")
    name = name.strip().lstrip("-").replace("-", "_")
    if not equals or not name or not values:
        raise UsageError(f"{text!r}: lr=0.1,0.01 or lr=1e-4..1e-1 was expected")
    if ".." not in values:
        try:
            return Choice(name, tuple(parse_list(values)))
        except ArgumentTypeError:
            raise UsageError(f"{text!r}: values with commas between were expected") from None
    low, _, high = values.partition("..")
    try:
        bounds = float(low), float(high)
    except ValueError:
        raise UsageError(f"{text!r}: a range of numbers such as 1e-4..1e-1 was expected") from None
    if not 0 < bounds[0] < bounds[1]:
        raise UsageError(f"{text!r}: a range from a positive number to a larger one was expected")
    return Choice(name, bounds=bounds, whole=low.isdigit() and high.isdigit())
