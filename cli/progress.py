"""How far a long command is: a bar on stderr, where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TimeRemainingColumn,
)
from rich.text import Text

from .result import console


@contextmanager
def progress(total: int, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """A bar with the rate; calling what this gives moves it on by so many examples.

    Args:
        total: how many examples there are.
        shown: whether to draw it; never where stderr is no terminal.
    """
    columns = (BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    hidden = not (shown and sys.stderr.isatty())
    with Progress(*columns, console=console(stderr=True), disable=hidden) as bar:
        task = bar.add_task("", total=total)
        yield lambda examples: bar.update(task, advance=examples)


class _Rate(ProgressColumn):
    """Examples a second, of late."""

    def render(self, task: Task) -> Text:
        """The rate; what an earlier run had done does not count."""
        return Text(f"{task.speed or 0:,.0f}/s")
