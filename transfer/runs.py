"""Runs under a folder: their options, results and status, and the seeds of a configuration."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar, get_args

from ..converters.requirements import require

require("torchlift.transfer.runs", "torch")

from ..converters.errors import TorchliftError, first_line
from ..converters.validation import Kind, entries, number, optional, read_json, text
from .errors import RunsError
from .evaluation.results import SCORES
from .spread import Spread
from .sweep import failed_trials
from .training.monitoring import Row, best_epoch, is_over
from .training.options import RENAMED_OPTIONS
from .training.resuming import CONFIG
from .training.run_folder import FACTS, RunFolder, read_facts
from .training.status import Status

#: Options by which the runs of one configuration may differ: the seed, and what changes no result.
_OF_NO_CONFIGURATION = (
    *("seed", "output", "tracker", "device", "threads", "workers"),
    *("save_every", "keep_best"),
)


@dataclass(frozen=True)
class RunSummary:
    """What is known of a run from its folder.

    Attributes:
        name: Its folder, relative to the one that was looked through.
        status: What became of it.
        options: Its options by name; `model` is also the network of `train`.
        metrics: The results of the best epoch (`val_accuracy`) and of the test split
            (`test_accuracy`); what is not finite is NaN.
        epoch: The best epoch, from 1; None without epochs.
        epochs: How many epochs are done.
        seconds: What they took together; None where that is not recorded.
        history: The results of each epoch.
        problem: Why it failed, diverged or cannot be read.
    """

    name: str
    status: Status
    options: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    epoch: int | None = None
    epochs: int = 0
    seconds: float | None = None
    history: list[Row] = field(default_factory=list)
    problem: str | None = None

    @property
    def planned_epochs(self) -> int | None:
        """How many epochs it was to have."""
        epochs = self.options.get("epochs")
        return epochs if isinstance(epochs, int) else None

    def value(self, metric: str) -> float | None:
        """Return a metric, `seconds` or `epochs`; None where there is none."""
        own = {"seconds": self.seconds, "epochs": float(self.epochs)}
        return own[metric] if metric in own else self.metrics.get(metric)


@dataclass(frozen=True)
class Configuration:
    """The runs that differ in their seed alone.

    Attributes:
        number: Its place among the configurations, from 1.
        runs: Its runs.
    """

    number: int
    runs: Sequence[RunSummary]

    @property
    def options(self) -> dict[str, Any]:
        """The options that its runs have in common."""
        return configuration_options(self.runs[0])

    @property
    def finished(self) -> list[RunSummary]:
        """The runs that its results are of."""
        return [run for run in self.runs if run.status == "finished"]

    def value(self, metric: str) -> float | None:
        """Return the mean of a metric over the finished runs; None where there is none."""
        spread = self.spread(metric)
        return None if spread is None else spread.average

    def values(self, metric: str) -> list[float]:
        """Return a metric of the finished runs that have it, of each seed once.

        A seed that was used again gives the same numbers again.
        """
        of_seed: dict[str, float] = {}
        for run in self.finished:
            value = run.value(metric)
            if value is not None:
                of_seed.setdefault(str(run.options.get("seed")), value)
        return [*of_seed.values()]

    def spread(self, metric: str) -> Spread | None:
        """Return mean and deviation of a metric over the seeds of the finished runs."""
        values = self.values(metric)
        return Spread.of(values) if values else None


def find_runs(folder: str | os.PathLike[str]) -> list[RunSummary]:
    """Read every run in a folder and the folders in it, in the order of their names.

    Links are not followed. A run of a sweep that came to no result and has no folder is one too.

    Raises:
        RunsError: If there is no such folder, or no run in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise RunsError(f"{root}: no such folder")
    found: dict[str, RunSummary] = {}
    for path in _folders(root):
        name = _name(path, root)
        if is_run(path):
            found[name] = read_run(path, name)
        for trial in failed_trials(path):
            own = (name, trial.name) if path != root else (trial.name,)
            # Its own folder, which comes later, says more.
            summary = RunSummary("/".join(own), trial.status, trial.options, problem=trial.problem)
            found[summary.name] = summary
    if not found:
        raise RunsError(
            f"{root} holds no run: a folder with {CONFIG} and {FACTS}, as train, finetune and "
            "sweep write it, was expected"
        )
    return sorted(found.values(), key=lambda run: run.name)


def read_run(path: Path, name: str) -> RunSummary:
    """Read the folder of a run; one whose files are damaged says so in its status.

    Args:
        path: The folder.
        name: What the run is called.
    """
    folder = RunFolder(path)
    stored = {key: value for key, value in folder.options().items() if isinstance(key, str)}
    options = {RENAMED_OPTIONS.get(key, key): value for key, value in stored.items()}
    options |= {"model": options["network"]} if "network" in options else {}
    try:
        if not options:
            raise RunsError(f"{path / CONFIG}: damaged: there are no options")
        facts = read_facts(path)
        failed = facts.get("failure")
        # Written before the first epoch is done.
        history = folder.read_metrics() if (path / "metrics.jsonl").is_file() else []
        evaluation = _read_evaluation(folder.evaluation)
        seconds = _read_seconds(path / "seconds.csv")
        failure = {} if failed is None else _checked(_FAILURE, failed, path / FACTS)
    except (OSError, TorchliftError) as error:
        return RunSummary(name, "damaged", options, problem=str(error))
    best = best_epoch(history, folder.monitor())
    row = history[best - 1] if history else {}
    metrics = {key: value for key, value in row.items() if key.startswith(("train_", "val_"))}
    if evaluation is not None and evaluation.get("split") == "test":
        metrics |= {
            f"test_{score}": math.nan if evaluation[score] is None else evaluation[score]
            for score in SCORES
            if score in evaluation
        }
    status: Status = "interrupted"
    if failure:
        status = next((one for one in get_args(Status) if one == failure["status"]), "failed")
    elif evaluation is not None and (
        facts.get("ended_after") == len(history) or _is_whole(folder, history, options)
    ):
        status = "finished"
    return RunSummary(
        name,
        status,
        options,
        metrics,
        best or None,
        len(history),
        sum(seconds) if seconds is not None else None,
        history,
        failure.get("problem"),
    )


def group_seeds(runs: Sequence[RunSummary]) -> list[Configuration]:
    """Return the configurations of runs, each with its runs, in the order of the first ones."""
    groups: dict[str, list[RunSummary]] = {}
    for run in runs:
        key = sorted(configuration_options(run).items())
        groups.setdefault(repr(key), []).append(run)
    return [Configuration(number, group) for number, group in enumerate(groups.values(), 1)]


class _Measured(Protocol):
    def value(self, metric: str) -> float | None: ...


_M = TypeVar("_M", bound=_Measured)


def best_first(measured: Sequence[_M], metric: str) -> list[_M]:
    """Return runs or configurations, of losses, calibration errors and times the lowest first.

    Of all other metrics the highest is first; what has no such number is last.

    Args:
        measured: The runs or configurations.
        metric: A metric of a run, `seconds` or `epochs`.
    """
    sign = 1 if metric.endswith(("loss", "ece", "seconds")) else -1

    def place(each: _M) -> tuple[bool, float]:
        value = each.value(metric)
        return (True, 0.0) if value is None or math.isnan(value) else (False, sign * value)

    return sorted(measured, key=place)


def check_metric(runs: Sequence[RunSummary], metric: str) -> None:
    """Check that runs can be sorted by a metric.

    Raises:
        RunsError: If no run has it.
    """
    if all(run.value(metric) is None for run in runs):
        known = ", ".join([*metrics_of(runs), "seconds"])
        raise RunsError(f"sort={metric!r}: no run has it; there are {known} and epochs")


def metrics_of(runs: Sequence[RunSummary]) -> list[str]:
    """Return the metrics that some run has, in their order."""
    return list(dict.fromkeys(metric for run in runs for metric in run.metrics))


def configuration_options(run: RunSummary) -> dict[str, Any]:
    """Return the options of a run that its configuration is made of."""
    left_out = (*_OF_NO_CONFIGURATION, "network")
    return {name: value for name, value in run.options.items() if name not in left_out}


def differing_options(runs: Sequence[RunSummary]) -> list[str]:
    """Return the options by which the configurations of runs differ, in their order."""
    options = [configuration_options(run) for run in runs if run.status != "damaged"]
    names = dict.fromkeys(name for each in options for name in each)
    return [
        name for name in names if len({repr(each[name]) for each in options if name in each}) > 1
    ]


#: What `runs` takes from the evaluation of a run, and from its record of a failure.
_EVALUATION = entries(
    {"split": optional(text), **{score: optional(number) for score in SCORES}}, ("split", *SCORES)
)
_FAILURE = entries({"status": text, "problem": text})


def _read_evaluation(file: Path) -> dict[str, Any] | None:
    """Return the results in `evaluation.json`, or None if there are none yet."""
    if not file.is_file():
        return None
    try:
        content = read_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunsError(f"{file}: damaged: {error}") from None
    return _checked(_EVALUATION, content, file)


def _checked(kind: Kind, value: Any, file: Path) -> dict[str, Any]:
    """Return what a file holds, if it is of the right kind."""
    try:
        found: dict[str, Any] = kind(value, "it")
    except ValueError as error:
        raise RunsError(f"{file}: damaged: {error}") from None
    return found


def _read_seconds(file: Path) -> list[float] | None:
    """Return the duration of each epoch, or None where it is not recorded."""
    if not file.is_file():
        return None
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            return [float(row["seconds"]) for row in csv.DictReader(stream)]
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise RunsError(f"{file}: damaged: {first_line(error)}") from None


def _is_whole(folder: RunFolder, history: list[Row], options: dict[str, Any]) -> bool:
    """Return whether a run has all its epochs: one that is lengthened has its old evaluation."""
    planned, patience = folder.planned_epochs(), options.get("patience")
    if planned is None or len(history) >= planned:
        return True
    return isinstance(patience, int) and is_over(history, patience, folder.monitor())


def _folders(root: Path) -> Iterator[Path]:
    """Yield a folder and those in it that are neither hidden nor in a run, each before its own."""
    for path, names, _ in os.walk(root):
        yield Path(path)
        inner = [] if is_run(Path(path)) else names
        names[:] = sorted(name for name in inner if not name.startswith("."))


def is_run(path: Path) -> bool:
    """Return whether a folder looks like that of a run, which may be damaged."""
    return (path / CONFIG).is_file() and (path / FACTS).is_file()


def _name(path: Path, root: Path) -> str:
    """Return the name of a folder as a text that every file can hold."""
    name = path.resolve().name if path == root else path.relative_to(root).as_posix()
    return name.encode("utf-8", "replace").decode("utf-8")
