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
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from .terminal import console


@contextmanager
def progress(total: int, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """Show a bar with the rate; call what this yields with the number of examples that are done.

    Args:
        total: how many examples there are.
        shown: whether to draw it; never where stderr is no terminal.
    """
    with progress_bar(Rate(), shown=shown) as bar:
        task = bar.add_task("", total=total)
        yield lambda examples: bar.update(task, advance=examples)


@contextmanager
def phases() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar for one phase after another.

    Call what this yields with the name of the phase, how much of it is done, and how much it is.
    """
    with progress_bar(TextColumn("{task.description}", markup=False)) as bar:
        task = bar.add_task("", total=None)
        yield lambda phase, done, total: bar.update(
            task, description=phase, completed=done, total=total
        )


def progress_bar(*columns: ProgressColumn, shown: bool = True) -> Progress:
    """Return a bar on stderr behind columns; it draws nothing where that is no terminal."""
    return _Bar(
        *columns,
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console(stderr=True),
        disable=not (shown and sys.stderr.isatty()),
        transient=True,
    )


class _Bar(Progress):
    def stop(self) -> None:
        # Older versions of rich write an empty line after a bar that was not drawn.
        if not self.disable:
            super().stop()


class Rate(ProgressColumn):
    """Examples per second, of late."""

    def render(self, task: Task) -> Text:
        """Return the rate; what an earlier run had done does not count."""
        return Text(f"{task.speed or 0:,.0f}/s")
