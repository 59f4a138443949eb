"""Tables of runs and of their configurations, for people and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .runs import Configuration, RunSummary, configuration_options, differing_options, metrics_of
from .spread import fixed

#: The metrics that people see; CSV and JSON have all of them.
_SHOWN = ("val_accuracy", "val_loss", "val_f1", "test_accuracy")


@dataclass(frozen=True)
class TextTable:
    """A table whose cells are texts.

    Attributes:
        header: The names of the columns.
        rows: The cells.
        right: The columns that are aligned to the right.
    """

    header: list[str]
    rows: list[list[str]]
    right: list[str]

    @property
    def numeric(self) -> list[bool]:
        """For each column, whether it is aligned to the right."""
        return [name in self.right for name in self.header]


def runs_table(runs: Sequence[RunSummary], metric: str | None = None) -> TextTable:
    """Return a row for each run, with the options by which they differ.

    Args:
        runs: The runs, in the order of the rows.
        metric: A metric to show beside the usual ones.
    """
    # How many epochs were planned stands beside those that are done.
    options = [name for name in differing_options(runs) if name != "epochs"]
    seeds = ["seed"] if len({str(run.options.get("seed")) for run in runs}) > 1 else []
    metrics = _shown_metrics(runs, metric)
    rows = [
        [
            run.name,
            *(option_text(run.options.get(name)) for name in (*options, *seeds)),
            run.status,
            f"{run.epochs} of {run.planned_epochs}" if run.planned_epochs else str(run.epochs),
            *(_number(run.value(each)) for each in metrics),
            "" if run.epoch is None else str(run.epoch),
            _number(run.seconds, 1),
        ]
        for run in runs
    ]
    header = ["run", *options, *seeds, "status", "epochs", *metrics, "best epoch", "seconds"]
    return TextTable(header, rows, ["seed", *metrics, "best epoch", "seconds"])


def configurations_table(
    configurations: Sequence[Configuration], metric: str | None = None
) -> TextTable | None:
    """Return mean and deviation of the configurations with several seeds; None without any.

    Args:
        configurations: All of them.
        metric: A metric to show beside the usual ones.
    """
    several = [each for each in configurations if len(each.runs) > 1]
    if not several:
        return None
    options = differing_options([run for each in several for run in each.runs])
    metrics = [*_shown_metrics([run for each in several for run in each.runs], metric), "seconds"]
    rows = []
    for each in several:
        spreads = [(name, each.spread(name)) for name in metrics]
        rows.append(
            [
                str(each.number),
                *(option_text(each.options.get(name)) for name in options),
                ", ".join(option_text(run.options.get("seed")) for run in each.runs),
                f"{len(each.finished)} of {len(each.runs)}",
                *(
                    "" if spread is None else spread.text(1 if name == "seconds" else 4)
                    for name, spread in spreads
                ),
            ]
        )
    header = ["configuration", *options, "seeds", "finished", *metrics]
    return TextTable(header, rows, metrics)


def metrics_table(configuration: Configuration) -> TextTable:
    """Return mean, deviation, lowest and highest value of every metric of a configuration."""
    metrics = metrics_of(configuration.finished)
    rows = []
    for metric in (*metrics, "seconds"):
        spread = configuration.spread(metric)
        if spread is not None:
            known = configuration.values(metric)
            numbers = (spread.average, spread.deviation, min(known), max(known))
            rows.append([metric, *(_number(each) for each in numbers)])
    header = ["metric", "mean", "deviation", "lowest", "highest"]
    return TextTable(header, rows, header[1:])


def runs_csv(configurations: Sequence[Configuration], runs: Sequence[RunSummary]) -> str:
    """Return a line for each run, with mean and deviation of its configuration's seeds.

    Args:
        configurations: The configurations of all runs.
        runs: The runs, in the order of the lines.
    """
    of_run = {run.name: each for each in configurations for run in each.runs}
    options = list(dict.fromkeys(name for run in runs for name in configuration_options(run)))
    metrics = metrics_of(runs)
    text = io.StringIO()
    spreads = [f"{metric}_{kind}" for metric in metrics for kind in ("mean", "deviation")]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        [
            *("run", "configuration", "seed", "status", "epochs", "epoch", "seconds"),
            *metrics,
            *("seeds", *spreads, "problem"),
            *("planned_epochs" if name == "epochs" else name for name in options),
        ]
    )
    for run in runs:
        configuration = of_run[run.name]
        cells: list[Any] = [run.name, configuration.number, run.options.get("seed"), run.status]
        cells += [run.epochs, run.epoch, run.seconds]
        cells += [run.metrics.get(metric) for metric in metrics]
        cells.append(len(configuration.finished))
        for metric in metrics:
            spread = configuration.spread(metric)
            cells += [None, None] if spread is None else [spread.average, spread.deviation]
        cells.append(run.problem)
        cells += [option_text(run.options.get(name)) for name in options]
        writer.writerow(cells)
    return text.getvalue()


def option_text(value: Any) -> str:
    """Return the value of an option as it is typed; an option that is not set is empty.

    Example:
        >>> option_text(["cat", "dog"]), option_text(True), option_text(None), option_text(1e-05)
        ('cat,dog', 'true', '', '1e-05')
    """
    if isinstance(value, list):
        return ",".join(map(option_text, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _shown_metrics(runs: Sequence[RunSummary], metric: str | None) -> list[str]:
    known = metrics_of(runs)
    decided = {f"val_{run.options.get('monitor')}" for run in runs}
    return [name for name in known if name in _SHOWN or name in decided or name == metric]


def _number(value: float | None, decimals: int = 4) -> str:
    return "" if value is None else fixed(value, decimals)
