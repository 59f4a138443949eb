"""Loss and accuracy of runs, epoch by epoch."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ..errors import PlotError
from .figures import line_colors, marker, new_figure, short, styled

#: The parts of the data, and how their lines are drawn.
_PARTS = {"train": "--", "val": "-"}
_SAID = {"train": "training part", "val": "validation part"}


@dataclass(frozen=True)
class Curve:
    """The results of one run.

    Attributes:
        name: what it is called.
        rows: a row an epoch: `epoch`, `train_loss`, `train_accuracy`, and `val_…` where there is a
            validation part.
    """

    name: str
    rows: Sequence[dict[str, float]]


def read_curve(run: str | os.PathLike[str], name: str | None = None) -> Curve:
    """The results of a run.

    Args:
        run: its folder, or its `metrics.csv`.
        name: what it is called; by default as the folder is.

    Raises:
        PlotError: when there are none, or they are no table of numbers.
    """
    path = Path(run)
    file = path / "metrics.csv" if path.is_dir() else path
    if not file.is_file():
        raise PlotError(f"{path}: no run (a folder with metrics.csv, which training writes)")
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            rows = [
                {key: float(value) for key, value in row.items() if value}
                for row in csv.DictReader(stream)
            ]
    except (ValueError, TypeError, AttributeError) as error:
        raise PlotError(
            f"{file}: a run's folder or its metrics.csv was expected, this is no table of numbers"
        ) from error
    if not rows or not {"epoch", "train_loss"} <= rows[0].keys():
        raise PlotError(f"{file}: a row for each epoch was expected, with epoch and train_loss")
    return Curve(name or file.parent.name or str(file), rows)


@styled
def draw_curves(curves: Sequence[Curve]) -> Figure:
    """Loss and accuracy by epoch: a colour and a marker for each run, dashed for the training part.

    Args:
        curves: one or more runs.
    """
    lines = math.ceil(len(curves) / 2) + 1
    figure = new_figure(8.5, 3.4 + 0.2 * lines)
    loss, accuracy = figure.subplots(1, 2)
    colors = line_colors(len(curves))
    for index, (curve, color) in enumerate(zip(curves, colors, strict=True)):
        for axes, quantity in ((loss, "loss"), (accuracy, "accuracy")):
            for part, dashes in _PARTS.items():
                points = [
                    (row["epoch"], row[f"{part}_{quantity}"])
                    for row in curve.rows
                    if f"{part}_{quantity}" in row
                ]
                axes.plot(
                    *zip(*points, strict=True) if points else ([], []),
                    dashes,
                    color=color,
                    marker=marker(index),
                    markersize=4,
                    markerfacecolor=color if part == "val" else "white",
                    markevery=max(1, len(points) // 12),
                    linewidth=1.5,
                )
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        axes.set(xlabel="epoch", title=name)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.grid(axis="y")
    runs = [
        Line2D([], [], color=color, marker=marker(index), markersize=4, label=short(curve.name, 44))
        for index, (curve, color) in enumerate(zip(curves, colors, strict=True))
    ]
    there = {part for part in _PARTS for curve in curves if f"{part}_loss" in curve.rows[0]}
    parts = [
        Line2D([], [], color="black", ls=dashes, label=_SAID[part])
        for part, dashes in _PARTS.items()
        if part in there
    ]
    figure.legend(handles=[*runs, *parts], loc="outside lower center", ncols=2)
    return figure
