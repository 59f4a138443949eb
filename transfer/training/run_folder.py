"""The folder of a run: its options, its results, and what is needed to resume it.

config.yaml       every option; `torchlift finetune … --config` reads it
run.json          versions, machine, fingerprints of model and data
metrics.csv       one row for each epoch; metrics.jsonl holds the same
classes.csv       the validation results of each class in each epoch
seconds.csv       the duration of each epoch, in a file of its own: it differs from run to run
lr_finder.csv     the learning rate range test, with lr: find; lr_finder.png draws it
checkpoints/      the last and the best epoch
model/            the saved model
network.json      of a network that cannot be saved as a model: labels, preprocessing, input size;
                  network.safetensors holds its weights
evaluation.json   its results on the test split, or else on the validation split
"""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import math
import os
import platform
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import yaml

from ... import __version__
from ...converters.files import atomic_path, check_output
from ...converters.overwriting import FolderKind, check_no_links, foreign_entries
from ...converters.saved.card import CARD, is_edited
from ...converters.saved.folder import SAVED_MODEL
from ...converters.validation import (
    anything,
    check_entries,
    mapping_of,
    number,
    optional,
    read_json,
    read_yaml,
    text,
)
from ..errors import TrainingError
from ..evaluation.results import ClassResult
from ..formatting import finite
from .checkpoints import saved_epochs
from .monitoring import Monitor, Row
from .resuming import CONFIG, FORMAT_VERSION, check_resumable

#: Everything in the folder of a run.
RUN = FolderKind(
    "a run",
    lambda path: _is_run(path),
    re.compile(
        r"config\.yaml|run\.json|evaluation\.json|metrics\.(csv|jsonl)|(seconds|classes)\.csv"
        r"|lr_finder\.(csv|png)"
        r"|checkpoints(/epoch-\d{4,}(/(model|average)\.safetensors|/state\.pt)?)?"
        rf"|model(/({SAVED_MODEL.files.pattern}))?"
        r"|network\.(json|safetensors)"
        r"|tensorboard(/.*)?"
    ),
    SAVED_MODEL.is_ours,
)

_PACKAGES = ("torch", "torchvision", "accelerate", "numpy", "safetensors")

#: The file that says with what a run was made, and, if it was, what ended it.
FACTS = "run.json"
#: What a run writes beside these two; nothing else in its folder is ever deleted. The file that
#: shows that a run is finished comes first: what is left when a deletion is killed is no such run.
_RESULTS = (
    *("evaluation.json", "metrics.csv", "metrics.jsonl", "classes.csv", "seconds.csv"),
    *("lr_finder.csv", "lr_finder.png"),
    *("checkpoints", "model", "network.json", "network.safetensors", "tensorboard"),
)


@dataclass(frozen=True)
class RunFolder:
    """The files of a run.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """The folder of the saved model, once the run is finished."""
        return self.path / "model"

    @property
    def evaluation(self) -> Path:
        """The results of the saved model; the last file that a run writes."""
        return self.path / "evaluation.json"

    def is_finished(self) -> bool:
        """Return whether the run is finished."""
        return self.evaluation.is_file()

    def write_metrics(
        self, history: list[Row], seconds: list[float], durable: bool = False
    ) -> None:
        """Write the results of all epochs so far, as CSV and as lines of JSON.

        Args:
            history: The results; without epochs the files have no rows.
            seconds: The duration of each epoch.
            durable: Whether to wait until the disk has them, which after each epoch would slow
                small runs; the checkpoints hold the results too.
        """
        table = io.StringIO()
        columns = list(history[-1] if history else ["epoch"])
        writer = csv.DictWriter(table, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        _write_text(self.path / "metrics.csv", table.getvalue(), durable)
        lines = "".join(json.dumps(finite(row)) + "\n" for row in history)
        _write_text(self.path / "metrics.jsonl", lines, durable)
        rows = (f"{epoch},{value:.3f}\n" for epoch, value in enumerate(seconds, 1))
        _write_text(self.path / "seconds.csv", "".join(["epoch,seconds\n", *rows]), durable)

    def write_class_metrics(
        self, results: Mapping[int, Sequence[ClassResult]], durable: bool = False
    ) -> None:
        """Write the validation results of each class in each epoch, as CSV.

        Args:
            results: The results of all classes, by epoch.
            durable: As for `write_metrics`.
        """
        names = [field.name for field in fields(ClassResult)]
        rows = (
            [epoch, *(getattr(each, name) for name in names)]
            for epoch, classes in results.items()
            for each in classes
        )
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([["epoch", *names], *rows])
        _write_text(self.path / "classes.csv", table.getvalue(), durable)

    def read_metrics(self) -> list[Row]:
        """Return the results of all epochs so far; null is read as NaN.

        Raises:
            TrainingError: If they are missing or damaged.
        """
        file, kind = self.path / "metrics.jsonl", mapping_of(optional(number))
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
            rows = [kind(read_json(line), f"line {index}") for index, line in enumerate(lines, 1)]
            if not all("epoch" in row for row in rows):
                raise ValueError("a line has no epoch")
        except FileNotFoundError:
            raise TrainingError(f"{file}: no such file: {self.path} is no run") from None
        except ValueError as error:
            raise TrainingError(f"{file}: damaged: {error}") from None
        return [
            {name: math.nan if value is None else value for name, value in row.items()}
            for row in rows
        ]

    def write_range_test(
        self, rates: Sequence[float], losses: Sequence[float], found: float
    ) -> None:
        """Write the learning rate and the loss of each update of a range test, and what it found.

        Args:
            rates: The learning rate of each update.
            losses: Its loss.
            found: The learning rate that was chosen, which `found_rate` returns.
        """
        rows = (f"{rate:.6g},{loss:.6g}\n" for rate, loss in zip(rates, losses, strict=True))
        _write_text(self.path / "lr_finder.csv", "".join(["lr,loss\n", *rows]))
        self.add_facts(lr=found)

    def add_facts(self, **facts: Any) -> None:
        """Add entries to `run.json`; those of the same names are replaced."""
        both = {**read_facts(self.path), **facts}
        _write_text(self.path / FACTS, json.dumps(both, indent=1) + "\n")

    def found_rate(self) -> float | None:
        """Return the learning rate that a range test of this run found, if there was one."""
        rate = read_facts(self.path).get("lr")
        return rate if isinstance(rate, float) else None

    def options(self) -> dict[str, Any]:
        """Return every option of the run; nothing without a run, or if config.yaml is damaged."""
        with suppress(OSError, ValueError):
            return check_entries(read_yaml((self.path / CONFIG).read_text(encoding="utf-8")), {})
        return {}

    def planned_epochs(self) -> int | None:
        """Return how many epochs the run in the folder was to have so far; None without a run."""
        epochs = self.options().get("epochs")
        return epochs if isinstance(epochs, int) else None

    def monitor(self) -> Monitor:
        """Return the metric that decided which epoch is the best; `accuracy` without a run."""
        found = self.options().get("monitor")
        return next((name for name in get_args(Monitor) if name == found), "accuracy")

    def processes(self) -> int | None:
        """Return how many processes trained the run in the folder; None without a run."""
        with suppress(OSError, TrainingError):
            count = read_facts(self.path).get("processes", 1)
            return count if isinstance(count, int) else None
        return None

    def remove_unstarted(self) -> None:
        """Remove the files of a run without an epoch, and its folder if nothing else is in it."""
        if saved_epochs(self.checkpoints):
            return
        for name in (*_RESULTS, CONFIG, FACTS):
            entry = self.path / name
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()

    def write_evaluation(self, result: dict[str, Any]) -> None:
        """Write the results of the saved model."""
        _write_text(self.evaluation, json.dumps(finite(result), indent=1) + "\n")


def open_run(
    path: str | os.PathLike[str],
    config: dict[str, Any],
    inputs: dict[str, Any],
    resume: bool,
    overwrite: bool,
    processes: int = 1,
) -> RunFolder:
    """Create the folder of a run, or open that of a run to resume.

    Args:
        path: The folder; it is created if it does not exist.
        config: Every option.
        inputs: Fingerprints of the model and of the data.
        resume: Resume the run in the folder, if there is one.
        overwrite: Delete the run in the folder, if there is one.
        processes: How many processes train together.

    Raises:
        TrainingError: The folder holds a run with other options, another model or other data, or
            something that is no run.
    """
    folder = RunFolder(Path(path))
    folder.path.parent.mkdir(parents=True, exist_ok=True)
    if folder.path.exists():
        check_output(folder.path, overwrite=True, folder=True)
    # Other processes have to see the folder whole: with both files, or not at all.
    if not folder.path.exists() or (folder.path.is_dir() and not any(folder.path.iterdir())):
        with atomic_path(folder.path) as new:
            new.mkdir()
            _write_config(new, config, inputs, processes)
        return folder
    if not _is_run(folder.path):
        raise TrainingError(f"{path} exists and holds something else than a run, or a damaged one")
    _check_contents(folder.path, overwrite)
    lr = None
    if overwrite:
        _delete_results(folder.path)
    elif resume:
        if is_edited(card := folder.model / CARD):
            raise TrainingError(
                f"{card} was edited, and a run that goes on writes a new one: move it elsewhere"
            )
        check_resumable(folder.path, read_facts(folder.path), config, inputs)
        lr = folder.found_rate()
    else:
        raise TrainingError(
            f"{path} holds a run: resume='auto' resumes it, overwrite=True starts again"
        )
    _write_config(folder.path, config, inputs, processes, lr)
    return folder


def flat_options(**groups: Any) -> dict[str, Any]:
    """Return options by name: the fields of dataclasses, and all other arguments.

    `resume`, `overwrite`, `download` and `repeats` are left out: they apply to one call, not to the
    run.
    """
    flat: dict[str, Any] = {}
    for name, value in groups.items():
        if is_dataclass(value) and not isinstance(value, type):
            flat |= {field.name: getattr(value, field.name) for field in fields(value)}
        else:
            flat[name] = value
    return {
        # numpy's numbers, as of a loop over np.logspace, are no YAML; shapes are as they are typed.
        name: value.item()
        if isinstance(value, np.generic)
        else (str(value) if is_dataclass(value) else value)
        for name, value in flat.items()
        if name not in ("resume", "overwrite", "download", "repeats")
    }


def _is_run(path: Path) -> bool:
    """Return whether a folder holds a run: another program may have a config.yaml too."""
    if not (path / CONFIG).is_file():
        return False
    with suppress(OSError, TrainingError):
        return bool(read_facts(path))
    return False


def read_facts(path: Path) -> dict[str, Any]:
    """Return what `run.json` says.

    Raises:
        TrainingError: If it is damaged, or not of a run.
    """
    file = path / FACTS
    try:
        facts = read_json(file.read_text(encoding="utf-8"))
        return check_entries(facts, {"torchlift": text, "inputs": mapping_of(anything)})
    except ValueError as error:
        raise TrainingError(f"{file}: damaged: {error}") from None


def _check_contents(path: Path, overwrite: bool) -> None:
    """Check that nothing of a run leads elsewhere, and that deleting it deletes nothing else.

    Files of others beside those of the run stay where they are. A link among the run's own entries
    is not followed: a run that goes on refuses it, and one that is replaced removes the link.

    Raises:
        WriteError: If something of the run is a link.
        TrainingError: If something else stands in one of the run's own folders.
    """
    if not overwrite:
        for name in (CONFIG, FACTS, *_RESULTS):
            check_no_links(path / name)
        return
    entries = foreign_entries(path, RUN)
    others = [name for name in entries if "/" in name and name.partition("/")[0] in _RESULTS]
    if others:
        raise TrainingError(
            f"{path} is not replaced: it also contains {', '.join(others[:3])}; move the other "
            "files or choose another name"
        )


def _delete_results(path: Path) -> None:
    """Delete what a run wrote, but for the two files by which it is recognized."""
    for name in _RESULTS:
        entry = path / name
        if entry.is_dir() and not entry.is_symlink():
            # The folder is moved aside in one step and then deleted: a kill leaves no half of it.
            with atomic_path(entry, durable=False) as empty:
                empty.mkdir()
            entry.rmdir()
        else:
            entry.unlink(missing_ok=True)


def _write_config(
    path: Path,
    config: dict[str, Any],
    inputs: dict[str, Any],
    processes: int,
    lr: float | None = None,
) -> None:
    facts: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "torchlift": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
        "machine": platform.platform(),
        "processes": processes,
        "inputs": inputs,
    }
    if lr is not None:
        facts["lr"] = lr
    _write_text(path / FACTS, json.dumps(facts, indent=1) + "\n")
    _write_text(path / CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


def _write_text(file: Path, text: str, durable: bool = True) -> None:
    with atomic_path(file, durable=durable) as path:
        path.write_text(text, encoding="utf-8")
