"""`--repeats` of `train` and `finetune`: the same training with several seeds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group

from ..converters.errors import WriteError
from ..transfer.errors import TrainingError
from ..transfer.training.options import RUN, Run
from ..transfer.training.status import Failure
from .data_options import ALL_DATA
from .result import CommandResult
from .runs_view import as_json, problem_notes, text_table, with_typed_options
from .signals import said_when_stopped
from .terminal import console
from .training import default_run, is_first_process

if TYPE_CHECKING:
    from ..transfer.runs import RunSummary


def repeatable(command: Callable[..., CommandResult]) -> Callable[..., CommandResult]:
    """Let a training do its own repeats: each seed is a run in a folder of its own.

    Args:
        command: Has the arguments `data`, `data_options` and `run`, and one for its network.
    """

    @wraps(command)
    def repeated(**arguments: Any) -> CommandResult:
        run = arguments.get("run", RUN)
        if run.repeats == 1:
            return command(**arguments)
        words = _network(arguments), arguments["data"]
        path = Path(run.output or default_run(command.__name__, *words))
        first = arguments.get("data_options", ALL_DATA).seed
        seeds = range(first, first + run.repeats)
        return _repeat(command, arguments, path, {f"seed-{seed}": seed for seed in seeds})

    return repeated


def _repeat(
    command: Callable[..., CommandResult],
    arguments: dict[str, Any],
    path: Path,
    seeds: dict[str, int],
) -> CommandResult:
    """Train with each seed, and return means and deviations.

    A run that diverges is a row of the table, and the others go on. So is one that fails, unless it
    is the first: then the options are wrong.

    Args:
        command: The training.
        arguments: Its arguments, but for the seed and the folder.
        path: The folder that holds those of the runs.
        seeds: The seed of each run, by the name of its folder.
    """
    from ..transfer.runs import Configuration
    from ..transfer.runs_table import metrics_table, runs_table

    if is_first_process():
        _check_folder(path, list(seeds), arguments.get("run", RUN))
    problems: dict[str, Failure] = {}
    hint = f"{path}: the same command with --resume auto goes on"
    with said_when_stopped(lambda: hint if path.is_dir() and is_first_process() else ""):
        for place, (name, seed) in enumerate(seeds.items(), 1):
            if is_first_process():
                console(stderr=True).print(f"run {place} of {len(seeds)}: seed {seed}")
            try:
                _run_once(command, arguments, path / name, seed)
            except (WriteError, OSError, ImportError):
                raise
            except Exception as error:
                problems[name] = Failure.of(error)
                if place == 1 and problems[name].status == "failed":
                    raise
    if not is_first_process():
        sys.exit(0)  # One report for all.
    found = [_summary(path / name, seed, problems.get(name)) for name, seed in seeds.items()]
    found = with_typed_options(found)
    together = Configuration(1, found)
    notes = problem_notes(found)
    data = {
        "run": str(path),
        "model": _network(arguments),
        "data": arguments["data"],
        **as_json(found, [together]),
        "notes": notes,
    }
    view = Group(
        text_table(runs_table(found)),
        "",
        text_table(metrics_table(together)),
        "",
        *(f"note: {note}" for note in notes),
        f"{path}: {len(together.finished)} of {len(found)} runs are finished",
    )
    failed = any(problem.status == "failed" for problem in problems.values())
    return CommandResult(data, view, passed=bool(together.finished) and not failed)


def _network(arguments: dict[str, Any]) -> str:
    """Return the network as it was typed, which is the model of `finetune`."""
    return str(arguments["network"] if "network" in arguments else arguments["model"])


def _summary(path: Path, seed: int, problem: Failure | None) -> RunSummary:
    """Return what is known of a run; of one that was refused there is no folder."""
    from ..transfer.runs import RunSummary, is_run, read_run

    options = {"seed": seed}
    run = read_run(path, path.name) if is_run(path) else RunSummary(path.name, "failed", options)
    return run if problem is None else replace(run, status=problem.status, problem=problem.problem)


def _run_once(
    command: Callable[..., CommandResult], arguments: dict[str, Any], path: Path, seed: int
) -> None:
    changed = {
        "data_options": replace(arguments.get("data_options", ALL_DATA), seed=seed),
        "run": replace(arguments.get("run", RUN), output=str(path), repeats=1),
    }
    # Of several processes only the first has a report; the others exit.
    try:
        command(**{**arguments, **changed})
    except SystemExit as stopped:
        if stopped.code or is_first_process():
            raise


def _check_folder(path: Path, names: list[str], run: Run) -> None:
    """Check, before the first of several runs, that their folder may hold them.

    Raises:
        TrainingError: If it holds something else, or runs that are neither resumed nor replaced.
    """
    from ..transfer.runs import is_run

    if path.exists() and not path.is_dir():
        raise TrainingError(f"{path} is a file; the runs need a folder: output=…")
    if not path.is_dir():
        return
    if is_run(path):
        raise TrainingError(f"{path} holds a single run: name another folder with output=…")
    there = [each.name for each in path.iterdir() if not each.name.startswith(".")]
    if there and not any(is_run(path / name) for name in there):
        raise TrainingError(f"{path} exists and holds something else than runs")
    begun = [name for name in names if name in there]
    if begun and run.resume == "never" and not run.overwrite:
        raise TrainingError(
            f"{path / begun[0]} holds a run: resume='auto' resumes it, overwrite=True starts again"
        )
