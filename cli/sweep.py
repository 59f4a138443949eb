"""`torchlift sweep`."""

from __future__ import annotations

import math
import sys
from argparse import ArgumentTypeError
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Group, RenderableType

from ..transfer.training.options import FREEZING
from .errors import UsageError
from .finetune import finetune
from .messages import for_command
from .parser import Command, build_arguments, flags_of, parse_command, run_command
from .result import CommandResult, table
from .runs_view import configurations_json, setting_of, text_table
from .signals import said_when_stopped
from .terminal import console
from .train import train
from .training import is_first_process
from .values import Count, CountOrZero, parse_list

if TYPE_CHECKING:
    from ..transfer.sweep import Choice

#: The commands whose options can be varied.
_COMMANDS: dict[str, Command] = {"train": train, "finetune": finetune}


def sweep(
    command: Literal["train", "finetune"],
    model: str,
    data: str,
    vary: list[str],
    *,
    output: str = "sweep",
    base: str | None = None,
    random: Count | None = None,
    seed: CountOrZero = 0,
) -> CommandResult:
    """Train once for each combination of options, and compare the results.

    Each option is given with its values, lr=0.1,0.01, or with one for all runs, epochs=5; all
    combinations are run, or some drawn with --random, where a range 1e-4..1e-1 may stand too.
    Flags take true and false. A run that diverges is a row of the table, and the others go on. A
    sweep that was stopped is resumed when the command is given again, and with more values or fewer
    only the runs that are new are done. Its folder holds a folder for each run, and the table
    results.csv and results.md, best first.

    Args:
        command: train or finetune.
        model: The network, as the command takes it.
        data: The dataset, as the command takes it.
        vary: Options with their values, such as lr=0.1,0.01 freeze=none,all-but-head.
        output: The folder of the sweep.
        base: A YAML file with options for all runs, such as another run's config.yaml.
        random: Draw so many combinations instead of all of them.
        seed: Seed of the draw; the runs have an option seed of their own, as in seed=1.
    """
    from ..transfer.errors import SweepError
    from ..transfer.runs import group_seeds, is_run, read_run
    from ..transfer.runs_table import configurations_table
    from ..transfer.sweep import Sweep, Trial, as_cells, plan_trials
    from ..transfer.training.run_folder import flat_options

    # Recorded with the sweep. What is not text is an error when a run's options are parsed.
    options = "" if base is None else Path(base).read_text(encoding="utf-8", errors="replace")
    try:
        trials = plan_trials([read_choice(text) for text in vary], random, seed)
    except SweepError as error:
        raise UsageError(str(error)) from None
    planned = Sweep(
        Path(output),
        trials,
        {"command": command, "model": model, "data": data, "base": options},
    )
    commands = tuple(_COMMANDS.values())
    fixed = [] if base is None else [f"--config={base}"]

    flags = flags_of(_COMMANDS[command])

    def parsed(trial: Trial, folder: Path) -> tuple[Command, dict[str, Any]]:
        given, absent = list[str](), dict[str, bool]()
        for name, value in trial.items():
            option = f"--{name.replace('_', '-')}"
            if value == "false" and option in flags:
                # Also one that the file for all runs sets.
                absent[name] = False
            else:
                given.append(option if value == "true" and option in flags else f"{option}={value}")
        words = [command, *fixed, model, data, *given, f"--output={folder}", "--resume=auto"]
        chosen, options = parse_command(commands, words)
        return chosen, {**options, **absent}

    def one(trial: Trial, folder: Path) -> None:
        if is_first_process():
            settings = " ".join(f"{name}={value}" for name, value in trial.items())
            last = max(each.path.name for each in planned.folders())
            position = f"run {folder.name} of {last}"
            console(stderr=True).print(f"{position}: {settings}")
        # Of several processes only the first has a report; the others exit.
        try:
            run_command(*parsed(trial, folder))
        except SystemExit as stopped:
            if stopped.code or is_first_process():
                raise

    # Whatever is wrong in an option is said before the first run.
    arguments = [build_arguments(*parsed(trial, Path(output))) for trial in planned.trials]
    if any(each["run"].repeats > 1 for each in arguments):
        raise UsageError("repeats is not for a sweep: vary the option seed instead")
    varied = {name for trial in planned.trials for name in trial}
    for name in sorted(varied & {"output", "resume", "overwrite"}):
        raise UsageError(f"{name} cannot be varied: the runs have folders in that of the sweep")
    if command == "finetune":
        check_freezing(model, arguments)
    with said_when_stopped(lambda: f"{output}: the same command again does the other runs"):
        planned.run(one)
    rows = planned.rows()
    if not is_first_process():
        sys.exit(0)  # One report for all.
    problems = planned.problems()
    options_of: dict[Any, dict[str, Any]] = {
        folder.path.name: flat_options(**each)
        for folder, each in zip(planned.folders(), arguments, strict=True)
    }
    view = table(*rows[0])
    for row in rows:
        view.add_row(*as_cells(row).values())
    folders = [folder for folder in planned.folders() if is_run(folder.path)]
    configurations = group_seeds([read_run(each.path, each.path.name) for each in folders])
    seeds = configurations_table(configurations)
    seeds_view: list[RenderableType] = [] if seeds is None else [text_table(seeds), ""]
    files = f"{planned.path / 'results.csv'} and results.md"
    results = {
        "files": [output],
        "runs": [
            {**_as_json(row, options_of[row["run"]]), **problems.get(str(row["run"]), {})}
            for row in rows
        ],
        "configurations": configurations_json(configurations),
    }
    notes = [
        f"run {name}: {for_command(entry['problem'], _COMMANDS[command], {})}"
        for name, entry in problems.items()
    ]
    only_diverged = all(entry["status"] == "diverged" for entry in problems.values())
    passed = only_diverged and len(rows) > len(problems)
    return CommandResult(results, Group(view, "", *seeds_view, *notes, files), passed)


def check_freezing(model: str, runs: list[dict[str, Any]]) -> None:
    """Check the rule for freezing layers of each run on the network.

    Args:
        model: The trained network.
        runs: The arguments of `finetune` for each run.

    Raises:
        TorchliftError: If a rule matches no layer, or the network cannot be opened.
    """
    from ..transfer.freezing import frozen_at

    if any(run["freezing"] != FREEZING for run in runs):
        network = runs[0]["model_options"].model(model).module
        for run in runs:
            frozen_at(network, run["freezing"], 1)


#: Columns of the table of results that are no options; numbers but for the last two.
_RESULTS = (
    *("train_accuracy", "val_accuracy", "val_loss", "val_f1", "val_recall", "val_precision"),
    *("test_accuracy", "epoch"),
    *("run", "status"),
)


def _as_json(row: dict[str, Any], parsed: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the table with the names of its options as values.

    Args:
        row: The row.
        parsed: All options of the run as what they are: numbers, text, true and false.
    """
    options = [
        {"option": name, "setting": setting_of(parsed.get(name, value))}
        for name, value in row.items()
        if name not in _RESULTS
    ]
    results = {name: row[name] for name in _RESULTS[:-2] if row.get(name, "") != ""}
    status = row.get("status", "finished")
    return {"run": row["run"], "options": options, "status": status, **results}


def read_choice(text: str) -> Choice:
    """Parse the values of an option, `lr=0.1,0.01` or `lr=1e-4..1e-1`.

    Raises:
        UsageError: If it is neither.

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
    if not 0 < bounds[0] < bounds[1] < math.inf:
        raise UsageError(f"{text!r}: a range from a positive number to a larger one was expected")
    return Choice(name, bounds=bounds, whole=low.isdigit() and high.isdigit())
