"""The process's own streams: closed ones, and terminals that cannot show every character."""

from __future__ import annotations

import codecs
import io
import os
import sys
from contextlib import suppress
from typing import Any

#: What torchlift itself writes beside ASCII, and what stands for it where it cannot be shown.
_PLAIN = dict(
    pair.split(" ")
    for pair in (
        *(
            "× x",
            "– -",
            "— -",
            "− -",
            "… ...",
            "→ ->",
            "← <-",
            "· *",
            "• *",
            "± +-",
            "≤ <=",
            "≥ >=",
        ),
        *("⌊ floor(", "⌋ )", "├ |", "└ `", "│ |", "─ -", "━ -", '“ "', '” "', "‘ '", "’ '"),
    )
)


def prepare_streams() -> None:
    """Make stdin, stdout and stderr usable, however the process was started.

    A closed one, as after `>&-`, is replaced by the null device: a file that is opened later would
    get its number otherwise, and what libraries print would stand in it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # The system gives the smallest number that is free.
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 – for as long as the process runs
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="torchlift")


def can_show(text: str, stream: Any) -> bool:
    """Return whether the encoding of a stream has all characters of a text.

    Example:
        >>> import io
        >>> can_show("3×32", io.TextIOWrapper(io.BytesIO(), "ascii"))
        False
    """
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def discard_stdout() -> None:
    """Forget what is still to be written to stdout, whose reader has gone."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Stand in for characters that an encoding lacks: plain ones for ours, escapes for others."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    escaped = (
        _PLAIN.get(one) or one.encode("ascii", "backslashreplace").decode() for one in lacking
    )
    return "".join(escaped), error.end


codecs.register_error("torchlift", _replace)
