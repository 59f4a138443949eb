"""Runs as JSON and as tables for people, of `runs`, `sweep` and `--repeats`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table

from .messages import for_command
from .result import table
from .values import as_text

if TYPE_CHECKING:
    from ..transfer.runs import Configuration, RunSummary
    from ..transfer.runs_table import TextTable


def as_json(found: Sequence[RunSummary], configurations: Sequence[Configuration]) -> dict[str, Any]:
    """Return runs and their configurations as JSON values.

    Args:
        found: The runs.
        configurations: The configurations of all of them.
    """
    number = {run.name: each.number for each in configurations for run in each.runs}
    listed = []
    for run in found:
        problem = {} if run.problem is None else {"problem": run.problem}
        options = [
            {"option": name, "setting": setting_of(value)} for name, value in run.options.items()
        ]
        listed.append(
            {
                "run": run.name,
                "status": run.status,
                **problem,
                "configuration": number[run.name],
                "seed": run.options.get("seed"),
                "epochs": run.epochs,
                "planned_epochs": run.planned_epochs,
                **({} if run.epoch is None else {"epoch": run.epoch}),
                "seconds": run.seconds,
                **run.metrics,
                "options": options,
            }
        )
    return {"runs": listed, "configurations": configurations_json(configurations)}


def configurations_json(configurations: Sequence[Configuration]) -> list[dict[str, Any]]:
    """Return configurations with mean and deviation of every metric as JSON values."""
    from ..transfer.runs import metrics_of

    return [
        {
            "configuration": each.number,
            "runs": [run.name for run in each.runs],
            "seeds": [run.options.get("seed") for run in each.runs],
            "finished": len(each.finished),
            "metrics": [
                spread.to_json(metric)
                for metric in (*metrics_of(each.finished), "seconds")
                if (spread := each.spread(metric)) is not None
            ],
        }
        for each in configurations
    ]


def setting_of(value: Any) -> Any:
    """Return an option's value as JSON: a list as it is typed, what no option can be as text."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    plain = as_text(value)
    return plain if isinstance(plain, str | float | int | None) else str(plain)


def tables_view(
    found: Sequence[RunSummary],
    configurations: Sequence[Configuration],
    metric: str | None = None,
) -> list[RenderableType]:
    """Return the tables for people: the runs, and the configurations with several seeds.

    Args:
        found: The runs, in the order of the rows.
        configurations: The configurations of all of them, in the order of the rows.
        metric: A metric to show beside the usual ones.
    """
    from ..transfer.runs_table import configurations_table, runs_table

    view: list[RenderableType] = [text_table(runs_table(found, metric))]
    if (seeds := configurations_table(configurations, metric)) is not None:
        view += ["", text_table(seeds)]
    return view


def text_table(cells: TextTable) -> Table:
    """Return a table for people."""
    view = table(*cells.header, right=tuple(cells.right))
    for row in cells.rows:
        view.add_row(*row)
    return view


def problem_notes(found: Sequence[RunSummary]) -> list[str]:
    """Return a sentence for each run that came to no result, or cannot be read."""
    return [f"run {run.name}: {run.problem}" for run in found if run.problem is not None]


def with_typed_options(found: Sequence[RunSummary]) -> list[RunSummary]:
    """Return runs whose problems name options as they are typed."""
    # They import this file.
    from .finetune import finetune
    from .train import train

    return [
        run
        if run.problem is None
        else replace(
            run,
            problem=for_command(
                run.problem, train if "network" in run.options else finetune, run.options
            ),
        )
        for run in found
    ]
