"""`torchlift lab`."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Group

from ..converters.errors import TorchliftError
from ..converters.requirements import require
from ..transfer.labs.options import LabOptions
from .commands import FILE_COMMANDS, load_commands
from .errors import UsageError
from .messages import for_command
from .parser import parse_command, run_command
from .result import CommandResult
from .signals import Terminated, said_when_stopped
from .terminal import console

#: Small settings, scikit-learn's digits.
_OPTIONS = LabOptions()


def lab(
    name: str,
    *,
    output: str | None = None,
    overwrite: bool = False,
    options: LabOptions = _OPTIONS,
) -> CommandResult:
    """Run one of the five labs, and write its report.

    A lab is a sequence of ordinary torchlift commands; the report lists them, so that each can be
    run by itself. Small settings take minutes on two CPU cores. A lab that was stopped is resumed
    when the command is given again.

    Args:
        name: torch7-convnets, lenet-pytorch, blitz, mnist-features or cifar2.
        output: The lab's folder; by default labs/NAME.
        overwrite: Replace the lab that the folder holds.
        options: The data, the models and the size of the lab.
    """
    # The report, which needs them, is written last.
    require("lab", "jinja2", "markdown_it")
    from ..transfer.labs.run import LABS, do_lab, settings_of
    from ..transfer.labs.steps import Steps
    from ..transfer.reports import write_lab_report

    if name not in LABS:
        raise UsageError(f"no lab {name!r}; there are {', '.join(LABS)}")
    chosen, folder = LABS[name], Path(output or f"labs/{name}")
    aside, given = console(stderr=True), {"output": output, **asdict(options)}
    steps = Steps(
        folder,
        _run_command,
        settings_of(chosen, options),
        say=lambda text: aside.print(for_command(text, lab, given), soft_wrap=True),
        overwrite=overwrite,
    )
    with said_when_stopped(lambda: f"{folder}: the same command again goes on"):
        page = do_lab(chosen, steps, options)
    page = replace(page, notes=[for_command(note, lab, given) for note in page.notes])
    files = write_lab_report(page, folder)
    facts = {
        "lab": name,
        "files": [str(file) for file in files],
        "notes": page.notes,
        "steps": [vars(step) | {"command": step.command} for step in page.steps],
    }
    view = Group(
        f"{page.title}: {len(page.steps)} commands, {page.facts['seconds']} seconds",
        *(f"note: {note}" for note in page.notes),
        *(f"wrote {file}" for file in files),
    )
    return CommandResult(facts, view)


def _run_command(words: list[str]) -> Any:
    """Run a command and return its data; a command that does not pass is an error."""
    try:
        command, options = parse_command(load_commands(words, FILE_COMMANDS), words)
        try:
            report = run_command(command, options)
        except TorchliftError as error:
            raise TorchliftError(for_command(str(error), command, options)) from error
    except Terminated:
        raise
    except SystemExit as stopped:
        raise TorchliftError(f"stopped with exit code {stopped.code}") from None
    if not report.passed:
        raise TorchliftError("its verdict is bad; run it by itself to see why")
    return report.data
