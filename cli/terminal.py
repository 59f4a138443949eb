"""The one place where text reaches the terminal: as it is, and never as a control sequence.

Names, paths and notes are other people's text. No character of it is markup here, and none moves
the cursor, changes colors, or turns the direction of the text around it.
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType  # noqa: TID251  # the only one
from rich.segment import Segment
from rich.text import Text

#: Characters that may have to be spelled out; all others are shown.
_UNUSUAL = re.compile(r"[^\n -~]")

#: Characters of a table's cell that are shown.
_CELL = 300

#: The width of a page when the output is not a terminal, and COLUMNS does not say it.
_PAGE_WIDTH = 110


def printable(text: str) -> str:
    r"""Return a text in which what a terminal would obey is spelled out; line breaks are kept.

    Example:
        >>> print(printable("\x1b[2J, right to left: \u202e, café"))
        \x1b[2J, right to left: \u202e, café
    """
    return _UNUSUAL.sub(lambda found: _spelled(found[0], ascii(found[0])[1:-1]), text)


def cell(text: str) -> str:
    r"""Return a text as a table shows it: on one line, and the middle of a very long one left out.

    Example:
        >>> print(cell("black\nswan"), len(cell("x" * 5000)))
        black\nswan 301
    """
    line = text.replace("\n", r"\n")
    half = _CELL // 2
    return line if len(line) <= _CELL else f"{line[:half]}…{line[-half:]}"


def printable_json(document: str) -> str:
    r"""Return a JSON document in which such characters are escaped, as JSON escapes them.

    Example:
        >>> print(printable_json('{"label": "\x9b2J"}'))
        {"label": "\u009b2J"}
    """
    return _UNUSUAL.sub(lambda found: _spelled(found[0], _json_escape(found[0])), document)


def console(*, stderr: bool = False) -> Console:
    """Return a console; where stderr is no terminal, no line of text there is wrapped."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else page_width()
    return _PlainConsole(
        stderr=stderr,
        width=width,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=stderr and width is not None,
    )


def page_width() -> int:
    """Return the width of a page when the output is not a terminal: COLUMNS, if it is set."""
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and int(columns) else _PAGE_WIDTH


@contextmanager
def short_warnings() -> Iterator[None]:
    """Show a warning of Python or a library as a printable line, without a line of its source."""
    original = warnings.formatwarning

    def formatted(message: Warning | str, *_: Any, **__: Any) -> str:
        return f"torchlift: {printable(' '.join(str(message).split()))}\n"

    warnings.formatwarning = formatted
    try:
        yield
    finally:
        warnings.formatwarning = original


class _PlainConsole(Console):
    def render_str(self, text: str, **options: Any) -> Text:
        # Before it is measured, so that tables stay aligned.
        return super().render_str(printable(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            shown = segment.control or segment.text == (text := printable(segment.text))
            yield segment if shown else Segment(text, segment.style)


def _spelled(char: str, spelling: str) -> str:
    """Return a character, or its spelling if it is no letter, sign or blank."""
    return char if char.isprintable() or unicodedata.category(char) == "Zs" else spelling


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
