"""Many runs of one command that differ in some options, and one table of their results."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import SweepError
from .training.checkpoints import best_row
from .training.run_folder import RunFolder, write_text

#: What a sweep's folder says about its runs.
_PLAN = "sweep.json"

#: The options of one run, as words: `{"lr": "0.1", "freeze": "none"}`.
Trial = dict[str, str]


@dataclass(frozen=True)
class Choice:
    """The values that one option may have.

    Attributes:
        name: the option, such as `lr`.
        values: those that are tried; empty for a range.
        bounds: the smallest and the largest of a range, which is drawn from evenly by order of
            magnitude.
        whole: whether a range is of whole numbers.
    """

    name: str
    values: tuple[str, ...] = ()
    bounds: tuple[float, float] | None = None
    whole: bool = False

    def draw(self, random: np.random.Generator) -> str:
        """One value."""
        if self.bounds is None:
            return self.values[random.integers(len(self.values))]
        low, high = map(math.log, self.bounds)
        value = math.exp(random.uniform(low, high))
        return str(round(value)) if self.whole else f"{value:.4g}"


def read_choice(text: str) -> Choice:
    """What `lr=0.1,0.01` or `lr=1e-4..1e-1` means.

    Raises:
        SweepError: when it is neither.
    """
    name, equals, values = text.partition("=")
    name = name.strip().lstrip("-").replace("-", "_")
    if not equals or not name or not values:
        raise SweepError(f"{text!r}: lr=0.1,0.01 or lr=1e-4..1e-1 was expected")
    if ".." not in values:
        return Choice(name, tuple(value.strip() for value in values.split(",")))
    low, _, high = values.partition("..")
    try:
        bounds = float(low), float(high)
    except ValueError:
        raise SweepError(f"{text!r}: a range of numbers such as 1e-4..1e-1 was expected") from None
    if not 0 < bounds[0] < bounds[1]:
        raise SweepError(f"{text!r}: a range goes from a positive number to a larger one")
    return Choice(name, bounds=bounds, whole=low.isdigit() and high.isdigit())


def plan_trials(choices: Sequence[Choice], draws: int | None, seed: int) -> list[Trial]:
    """The runs of a sweep.

    Args:
        choices: of each option.
        draws: how many runs are drawn at random; None for all combinations.
        seed: of the draw. More draws with the same seed begin with the same runs.

    Raises:
        SweepError: when an option is named twice, or a range has no end of combinations.
    """
    names = [choice.name for choice in choices]
    if len(set(names)) != len(names):
        raise SweepError("each option can be varied once")
    if draws is not None:
        random = np.random.default_rng(seed)
        return [{choice.name: choice.draw(random) for choice in choices} for _ in range(draws)]
    if any(choice.bounds for choice in choices):
        raise SweepError("a range has no end of values: say how many runs with --random")
    grid = itertools.product(*(choice.values for choice in choices))
    return [dict(zip(names, values, strict=True)) for values in grid]


@dataclass(frozen=True)
class Sweep:
    """Runs in a folder, each in one of its own within.

    Attributes:
        path: the folder.
        trials: the options of each run.
        fixed: what is the same for all runs, such as the model.
    """

    path: Path
    trials: list[Trial]
    fixed: dict[str, str]

    def folder(self, index: int) -> RunFolder:
        """The folder of a run."""
        return RunFolder(self.path / f"{index + 1:03d}")

    def run(self, one: Callable[[Trial, Path], None]) -> None:
        """Do every run that has not come to its end yet; the table is written after each.

        Args:
            one: does one run in a folder, from where it was stopped.

        Raises:
            SweepError: when the folder holds a sweep of other runs; it may have more or fewer.
        """
        self._check_same()
        self.path.mkdir(parents=True, exist_ok=True)
        plan = {"fixed": self.fixed, "trials": self.trials}
        write_text(self.path / _PLAN, json.dumps(plan, indent=1) + "\n")
        for index, trial in enumerate(self.trials):
            folder = self.folder(index)
            if not folder.is_finished():
                one(trial, folder.path)
            self._write_table()

    def _check_same(self) -> None:
        file = self.path / _PLAN
        if not file.is_file():
            return
        before = json.loads(file.read_text(encoding="utf-8"))
        pairs = zip(before["trials"], self.trials, strict=False)
        if before["fixed"] != self.fixed or any(old != new for old, new in pairs):
            raise SweepError(f"{self.path} holds another sweep; name another folder")

    def rows(self) -> list[dict[str, str]]:
        """The finished runs, the best validation score first."""
        scored = []
        for index, trial in enumerate(self.trials):
            folder = self.folder(index)
            if folder.is_finished():
                evaluation = json.loads(folder.evaluation.read_text(encoding="utf-8"))
                best = best_row(folder.read_metrics())
                scores: dict[str, str] = {
                    str(name): f"{best[name]:.4f}"
                    for name in ("val_accuracy", "val_loss", "train_accuracy")
                    if name in best
                }
                if evaluation["split"] == "test":
                    scores["test_accuracy"] = f"{evaluation['accuracy']:.4f}"
                varied = {name: trial[name] for name in self._varied()}
                row = {**varied, **scores, "epoch": f"{best['epoch']:.0f}", "run": folder.path.name}
                scored.append((-best.get("val_accuracy", 0), best.get("val_loss", 0), index, row))
        return [row for *_, row in sorted(scored, key=lambda entry: entry[:3])]

    def _varied(self) -> list[str]:
        """The options that are not the same in all runs."""
        first = self.trials[0]
        return [name for name in first if any(trial[name] != first[name] for trial in self.trials)]

    def _write_table(self) -> None:
        """Write `results.csv` and `results.md`."""
        rows = self.rows()
        if not rows:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.path / "results.csv", text.getvalue())
        lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
        marked = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
        write_text(self.path / "results.md", marked)
