"""`torchlift lab`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Group
from rich.markup import escape

from ..converters.errors import TorchliftError
from ..transfer.labs import LABS, LabError, LabOptions, Steps, do_lab, settings_of
from ..transfer.reports import write_lab_report
from .commands import FILE_COMMANDS, load_commands
from .parser import parse_command, run_command
from .result import CommandResult, console

#: Small settings, the digits.
_OPTIONS = LabOptions()


def lab(
    name: str,
    *,
    output: str | None = None,
    overwrite: bool = False,
    options: LabOptions = _OPTIONS,
) -> CommandResult:
    """Do one of the five labs, and write its report.

    A lab is a chain of ordinary torchlift commands; the report lists them, so that each can be
    typed by itself. Small settings take minutes on two CPU cores. A lab that was stopped goes on
    where it was when it is run again.

    Args:
        name: torch7-convnets, lenet-pytorch, blitz, mnist-features or cifar2.
        output: The lab's folder; by default labs/NAME.
        overwrite: Start anew in a folder that holds a lab.
        options: What it is done with.
    """
    if name not in LABS:
        raise LabError(f"no lab {name!r}; there are {', '.join(LABS)}")
    chosen, folder = LABS[name], Path(output or f"labs/{name}")
    aside = console(stderr=True)
    steps = Steps(
        folder,
        _run_command,
        settings_of(chosen, options),
        say=lambda text: aside.print(escape(text), soft_wrap=True),
        overwrite=overwrite,
    )
    page = do_lab(chosen, steps, options)
    files = write_lab_report(page, folder)
    facts = {
        "lab": name,
        "files": [str(file) for file in files],
        "notes": page.notes,
        "steps": [vars(step) | {"command": step.command} for step in page.steps],
    }
    view = Group(
        escape(f"{page.title}: {len(page.steps)} commands, {page.facts['seconds']} seconds"),
        *(escape(f"note: {note}") for note in page.notes),
        *(escape(f"wrote {file}") for file in files),
    )
    return CommandResult(facts, view)


def _run_command(words: list[str]) -> Any:
    """What a command gives; an error where its own verdict is bad."""
    try:
        report = run_command(*parse_command(load_commands(words, FILE_COMMANDS), words))
    except SystemExit as stopped:
        raise TorchliftError(f"stopped with exit code {stopped.code}") from None
    if not report.passed:
        raise TorchliftError("its verdict is bad; run it by itself to see why")
    return report.data
