"""From the words of the library to those of the command line.

Errors of the library name Python arguments, as `overwrite=True`, `input_size=(H, W)` or
`lr=0`. On the command line the same arguments are options.
"""

from __future__ import annotations

import re
from collections.abc import Collection

#: An argument in a message: its name, and its value unless that is an ellipsis.
_ARGUMENT = re.compile(r"\b([a-z][a-z0-9_]*)=(\([^)]*\)|\[[^\]]*\]|'[^']*'|[\w.+-]+|…)?")


def as_options(message: str, options: Collection[str]) -> str:
    """Return a message of the library in which arguments are options.

    Args:
        message: names arguments as `name=value`.
        options: the arguments that the command has as options; others stay as they are.

    Example:
        >>> as_options("x.onnx already exists; overwrite=True replaces it", {"overwrite"})
        'x.onnx already exists; --overwrite replaces it'
        >>> as_options("give input_size=(H, W), or keep=[…]", {"input_size", "keep"})
        'give --input-size HxW, or --keep …'
    """

    def option(found: re.Match[str]) -> str:
        name, value = found[1], found[2] or ""
        if name not in options:
            return found[0]
        flag = f"--{name.replace('_', '-')}"
        return flag if value in ("", "True", "…") else f"{flag} {_typed(value)}"

    return _ARGUMENT.sub(option, message)


def _typed(value: str) -> str:
    """Return a Python value as it is typed: `(H, W)` is `HxW`, `['a', 'b']` is `a,b`."""
    if value.startswith("("):
        return "x".join(part.strip() for part in value.strip("()").split(",") if part.strip())
    if value.startswith("["):
        return ",".join(part.strip().strip("'") for part in value.strip("[]").split(","))
    return value.strip("'")
