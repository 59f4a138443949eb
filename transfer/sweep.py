"""Sweeps: runs of one command with different options, and one table of their results."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..converters.requirements import require

require("torchlift.transfer.sweep", "torch")

from ..converters.errors import WriteError
from ..converters.files import atomic_path, remove_abandoned
from ..converters.validation import (
    Kind,
    entries,
    list_of,
    mapping_of,
    number,
    optional,
    read_json,
    text,
)
from .errors import SweepError
from .reports.markdown import markdown_table
from .training.monitoring import best_row, validation_score
from .training.run_folder import RunFolder
from .training.status import Failure, Status

#: The files in which a sweep's folder describes its runs, and those that came to no result.
_PLAN, _PROBLEMS = "sweep.json", "problems.json"

#: The options of one run, as text: `{"lr": "0.1", "freeze": "none"}`.
Trial = dict[str, str]

#: A row of the table of results: options as text, results as numbers.
Result = dict[str, str | float]


@dataclass(frozen=True)
class Choice:
    """The values that one option may have.

    Attributes:
        name: The option, such as `lr`.
        values: The values; empty for a range.
        bounds: The smallest and the largest value of a range, which is sampled uniformly on a
            logarithmic scale.
        whole: Whether the values of a range are integers.
    """

    name: str
    values: tuple[str, ...] = ()
    bounds: tuple[float, float] | None = None
    whole: bool = False

    def draw(self, generator: np.random.Generator) -> str:
        """Return a random value."""
        if self.bounds is None:
            return self.values[generator.integers(len(self.values))]
        low, high = map(math.log, self.bounds)
        value = math.exp(generator.uniform(low, high))
        return str(round(value)) if self.whole else f"{value:.4g}"


def plan_trials(choices: Sequence[Choice], random: int | None, seed: int) -> list[Trial]:
    """Return the runs of a sweep.

    Args:
        choices: The values of each option.
        random: How many runs to draw at random; None for all combinations.
        seed: Seed of the draw. A larger draw with the same seed begins with the same runs.

    Raises:
        SweepError: An option or a value is named twice, or a range has no number of random runs.
    """
    names = [choice.name for choice in choices]
    if len(set(names)) != len(names):
        raise SweepError("each option can be varied once")
    for choice in choices:
        if len(set(choice.values)) != len(choice.values):
            raise SweepError(f"{choice.name} has a value twice: {', '.join(choice.values)}")
    if random is not None:
        generator = np.random.default_rng(seed)
        return [{choice.name: choice.draw(generator) for choice in choices} for _ in range(random)]
    if any(choice.bounds for choice in choices):
        raise SweepError("a range has infinitely many values; set the number of runs with random=…")
    grid = itertools.product(*(choice.values for choice in choices))
    return [dict(zip(names, values, strict=True)) for values in grid]


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep, each in its own folder within one.

    Attributes:
        path: The folder of the sweep.
        trials: The options of each run.
        fixed: What all runs have in common, such as the model.
    """

    path: Path
    trials: list[Trial]
    fixed: dict[str, str]

    def folders(self) -> list[RunFolder]:
        """Return the folder of each run; a run that is in the sweep's folder keeps its number."""
        return [self._folder(number) for number in self._numbers(self._all_trials())]

    def run(self, run_trial: Callable[[Trial, Path], None]) -> None:
        """Do every run that is not finished, and write the table after each.

        A run that diverges or fails is a row of the table, and the others go on. One that diverged
        is not repeated when the sweep is resumed. A full disk ends the sweep, and so does a package
        that is missing.

        Args:
            run_trial: Does one run in a folder, and resumes it if it was stopped.

        Raises:
            SweepError: The folder holds a sweep without any of these runs.
            WriteError: The folder cannot be written to.
        """
        self._check_resumable()
        self.path.mkdir(parents=True, exist_ok=True)
        plan = {"fixed": self.fixed, "trials": self._all_trials()}
        self._write(_PLAN, json.dumps(plan, indent=1) + "\n")
        for trial, folder in zip(self.trials, self.folders(), strict=True):
            problems = self._stored_problems()
            name = folder.path.name
            # What a kill left in a run that had ended; one that goes on removes it itself.
            remove_abandoned(folder.path)
            if folder.is_finished() or problems.pop(name, {}).get("status") == "diverged":
                continue
            try:
                run_trial(trial, folder.path)
            except (WriteError, OSError, ImportError):
                raise
            except Exception as error:  # Whatever the code of a network or of a library raises.
                problems[name] = asdict(Failure.of(error))
            self._write(_PROBLEMS, json.dumps(problems, indent=1) + "\n")
            self._write_tables()
        # Also of runs that ended before, if what ended them then did not let the tables be written.
        self._write_tables()

    def problems(self) -> dict[str, dict[str, str]]:
        """Return `{"status", "problem"}` of each run that came to no result, by its name."""
        names = {folder.path.name for folder in self.folders()}
        return {name: entry for name, entry in self._stored_problems().items() if name in names}

    def rows(self) -> list[Result]:
        """Return the results of the runs, the best validation results first; all of one form.

        Runs that came to no result are last, with their status and without numbers.
        """
        scored = []
        problems = self.problems()
        folders = self.folders()
        monitors = {folder.monitor() for folder in folders if folder.is_finished()}
        # Runs that were decided by different metrics are compared by their accuracy.
        common = monitors.pop() if len(monitors) == 1 else "accuracy"
        shown = dict.fromkeys((f"val_{common}", "val_accuracy", "val_loss", "train_accuracy"))
        for trial, folder in zip(self.trials, folders, strict=True):
            if folder.is_finished():
                evaluation = _read_object(folder.evaluation, _EVALUATION)
                best = best_row(folder.read_metrics(), folder.monitor())
                scores = {name: best[name] for name in shown if name in best}
                if evaluation.get("split") == "test" and evaluation.get("accuracy") is not None:
                    scores["test_accuracy"] = evaluation["accuracy"]
                varied = {name: trial[name] for name in self._varied()}
                row: Result = {**varied, **scores}
                row |= {"epoch": int(best["epoch"]), "run": folder.path.name}
                scored.append((validation_score(best, common), row))
        scored.sort(key=lambda entry: entry[0], reverse=True)
        # Runs may have other splits, and so other results: all have the same columns.
        names = (*self._varied(), *shown, "test_accuracy", "epoch", "run")
        columns = [name for name in names if any(name in row for _, row in scored)]
        rows: list[Result] = [{name: row.get(name, "") for name in columns} for _, row in scored]
        failed: list[Result] = [
            {**{key: trial[key] for key in self._varied()}, "run": name, "status": status}
            for trial, folder in zip(self.trials, folders, strict=True)
            if (name := folder.path.name) in problems and (status := problems[name]["status"])
        ]
        if not failed:
            return rows
        rows = [{**row, "status": "finished"} for row in rows]
        blank: Result = dict.fromkeys(columns or failed[0], "")
        return [*rows, *({**blank, **row} for row in failed)]

    def _check_resumable(self) -> None:
        file = self.path / _PLAN
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return
        before = _read_plan(file)
        if before is None:
            raise SweepError(f"{self.path} exists and holds something else than a sweep")
        if before["fixed"] != self.fixed:
            raise SweepError(f"{self.path} holds another sweep; name another folder")
        if not any(trial in before["trials"] for trial in self.trials):
            raise SweepError(
                f"{self.path} holds another sweep, which has none of these runs; name another "
                "folder, or the options of that sweep, with the old values beside the new ones"
            )

    def _all_trials(self) -> list[Trial]:
        """Return the runs of the sweep's folder, and behind them those that are new."""
        before = _read_plan(self.path / _PLAN)
        trials: list[Trial] = [] if before is None else before["trials"]
        left = list(trials)
        for trial in self.trials:
            if trial in left:
                left.remove(trial)
            else:
                trials.append(trial)
        return trials

    def _numbers(self, trials: list[Trial]) -> list[int]:
        """Return the place of each run of this sweep among all; random runs may be equal."""
        places = [(place, trial) for place, trial in enumerate(trials)]
        numbers = []
        for trial in self.trials:
            found = next(entry for entry in places if entry[1] == trial)
            places.remove(found)
            numbers.append(found[0])
        return numbers

    def _folder(self, number: int) -> RunFolder:
        return RunFolder(self.path / f"{number + 1:03d}")

    def _stored_problems(self) -> dict[str, dict[str, str]]:
        file = self.path / _PROBLEMS
        if not file.is_file():
            return {}
        return _read_object(file, mapping_of(entries({"status": text, "problem": text})))

    def _varied(self) -> list[str]:
        """Return the options that differ between the runs."""
        first = self.trials[0]
        return [name for name in first if any(trial[name] != first[name] for trial in self.trials)]

    def _write_tables(self) -> None:
        """Write `results.csv` and `results.md`."""
        rows = [as_cells(row) for row in self.rows()]
        if not rows:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self._write("results.csv", text.getvalue())
        table = markdown_table(list(rows[0]), [list(row.values()) for row in rows])
        self._write("results.md", table + "\n")

    def _write(self, name: str, text: str) -> None:
        with atomic_path(self.path / name) as path:
            path.write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class FailedTrial:
    """A run of a sweep that came to no result.

    Attributes:
        name: Its folder within that of the sweep; it exists if the training had begun.
        options: Its model, its data and the options of the sweep.
        status: What became of it.
        problem: Why.
    """

    name: str
    options: dict[str, Any]
    status: Status
    problem: str


def failed_trials(folder: Path) -> list[FailedTrial]:
    """Return the runs of a sweep that came to no result; none if the folder holds no sweep.

    Raises:
        SweepError: If the files of the sweep are damaged.
    """
    plan = _read_plan(folder / _PLAN)
    if plan is None:
        return []
    sweep = Sweep(folder, plan["trials"], plan["fixed"])
    problems = sweep.problems()
    common = {name: plan["fixed"].get(name) for name in ("model", "data")}
    return [
        FailedTrial(
            name,
            {**common, **{key: _as_value(value) for key, value in trial.items()}},
            "diverged" if problems[name]["status"] == "diverged" else "failed",
            problems[name]["problem"],
        )
        for trial, run in zip(sweep.trials, sweep.folders(), strict=True)
        if (name := run.path.name) in problems
    ]


def _as_value(text: str) -> Any:
    """Return the value of an option as a run's config.yaml has it: numbers are no texts."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def as_cells(row: Result) -> dict[str, str]:
    """Return a row of results as the table shows it.

    Example:
        >>> as_cells({"lr": "0.1", "val_accuracy": 0.98765, "epoch": 3, "run": "001"})
        {'lr': '0.1', 'val_accuracy': '0.9877', 'epoch': '3', 'run': '001'}
    """
    return {
        name: f"{value:.4f}" if isinstance(value, float) else str(value)
        for name, value in row.items()
    }


#: What the table takes from the results of a run.
_EVALUATION = entries(
    {"split": optional(text), "accuracy": optional(number)}, ("split", "accuracy")
)


def _read_object(file: Path, kind: Kind) -> dict[str, Any]:
    """Return the JSON object in a file of a sweep.

    Raises:
        SweepError: If it is damaged.
    """
    try:
        value: dict[str, Any] = kind(read_json(file.read_text(encoding="utf-8")), "it")
    except ValueError as error:
        raise SweepError(f"{file}: damaged: {error}") from None
    return value


#: What `sweep.json` holds.
_PLANNED = entries({"fixed": mapping_of(text), "trials": list_of(mapping_of(text))})


def _read_plan(file: Path) -> dict[str, Any] | None:
    """Return the runs of the sweep in a folder, or None if it holds no sweep."""
    try:
        plan: dict[str, Any] = _PLANNED(read_json(file.read_text(encoding="utf-8")), "it")
    except (OSError, ValueError):
        return None
    return plan
