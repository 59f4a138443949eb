"""What a command gives back: data for programs, a view for people."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from ..transfer.formatting import finite
from .streams import can_show
from .terminal import cell, console, page_width, printable, printable_json

#: Columns of the widest table where the output is not a terminal.
_WIDEST = 1000


@dataclass
class CommandResult:
    """The result of a command.

    Attributes:
        data: what `--json` prints: dicts, lists, strings, numbers (docs/json.md); or a function
            that returns it, where it is large.
        view: what people see.
        stream: a text that is printed as it is made, in place of the view.
        passed: whether the command's own verdict is good; the exit code is 1 when it is not.
    """

    data: Any
    view: RenderableType = field(default_factory=Group)
    passed: bool = True
    stream: Iterable[str] | None = None


def show(result: CommandResult, *, as_json: bool) -> None:
    """Print a result on stdout: one JSON document, or the view for people."""
    if as_json:
        data = result.data() if callable(result.data) else result.data
        text = json_text(data)
        if not can_show(text, sys.stdout):
            text = json_text(data, ascii_only=True)
        sys.stdout.write(printable_json(text))
        return
    if result.stream is not None:
        for piece in result.stream:
            sys.stdout.write(_as_shown(piece) if sys.stdout.isatty() else piece)
            sys.stdout.flush()
        return
    page = console()
    if not sys.stdout.isatty():
        # Other programs read lines: a row of a table stays one, however wide.
        natural = page.measure(result.view, options=page.options.update(max_width=_WIDEST)).maximum
        page.width = max(page_width(), natural)
    page.print(result.view)


def json_text(data: Any, *, ascii_only: bool = False) -> str:
    """Return a document of `--json`; what is not finite is null."""
    text = json.dumps(finite(data), indent=2, ensure_ascii=ascii_only, allow_nan=False)
    return text + "\n"


def _as_shown(text: str) -> str:
    """Return a text without what a terminal would obey, but for line breaks and tabs."""
    return "\t".join(map(printable, text.split("\t")))


def as_number(value: float | None, form: str) -> str:
    """Return a number as text; None, which stands for one that is not finite, is `nan`.

    Example:
        >>> as_number(0.5, ".4f"), as_number(None, ".4f")
        ('0.5000', 'nan')
    """
    return format(math.nan if value is None else value, form)


class _OneLineTable(Table):
    """A table whose texts, which may be other people's, are one line each (see `cell`)."""

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        shown = (cell(each) if isinstance(each, str) else each for each in cells)
        super().add_row(*shown, **options)


def table(*columns: str, title: str | None = None, right: tuple[str, ...] = ()) -> Table:
    """Return an empty table with these columns; those in `right` are aligned to the right."""
    empty = _OneLineTable(
        title=title, title_justify="left", box=None, pad_edge=False, header_style="bold"
    )
    for column in columns:
        empty.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return empty
