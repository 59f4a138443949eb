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

#: The line style and the name of each split.
_STYLES = {"train": "--", "val": "-"}
_NAMES = {"train": "training", "val": "validation"}
#: The titles of panels, where they are not the metric's name.
_TITLES = {"f1": "F1, mean of the classes"}


@dataclass(frozen=True)
class Curve:
    """The results of one run.

    Attributes:
        name: The name of the run.
        rows: A row for each epoch: `epoch`, `train_loss`, `train_accuracy`, and `val_…` if there
            is a validation split.
    """

    name: str
    rows: Sequence[dict[str, float]]


def read_curve(run: str | os.PathLike[str], name: str | None = None) -> Curve:
    """Read the results of a run.

    Args:
        run: The folder of the run, or its `metrics.csv`.
        name: The name of the run; by default that of its folder.

    Raises:
        PlotError: There are no results, or the file is not a table of numbers.
    """
    path = Path(run)
    file = path / "metrics.csv" if path.is_dir() else path
    if not file.is_file():
        raise PlotError(f"{path}: not the folder of a training (it has no metrics.csv)")
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            rows = [
                {key: float(value) for key, value in row.items() if value}
                for row in csv.DictReader(stream)
            ]
    except (ValueError, TypeError, AttributeError) as error:
        raise PlotError(
            f"{file}: not a table of numbers; a run's folder or its metrics.csv was expected"
        ) from error
    if not rows or not {"epoch", "train_loss"} <= rows[0].keys():
        raise PlotError(f"{file}: a row for each epoch was expected, with epoch and train_loss")
    return Curve(name or file.parent.name or str(file), rows)


@styled
def draw_curves(curves: Sequence[Curve]) -> Figure:
    """Draw loss and accuracy by epoch: a color and a marker for each run, dashed for training.

    Where a run has it, the mean F1 of the classes is a third panel.

    Args:
        curves: One or more runs.
    """
    legend_lines = math.ceil(len(curves) / 2) + 1
    has_f1 = any("val_f1" in row for curve in curves for row in curve.rows)
    quantities = ("loss", "accuracy", *(("f1",) if has_f1 else ()))
    figure = new_figure(4.25 * len(quantities), 3.4 + 0.2 * legend_lines)
    panels = dict(zip(quantities, figure.subplots(1, len(quantities)), strict=True))
    colors = line_colors(len(curves))
    for index, (curve, color) in enumerate(zip(curves, colors, strict=True)):
        for quantity, axes in panels.items():
            for split, style in _STYLES.items():
                points = [
                    (row["epoch"], row[f"{split}_{quantity}"])
                    for row in curve.rows
                    if f"{split}_{quantity}" in row
                ]
                axes.plot(
                    *zip(*points, strict=True) if points else ([], []),
                    style,
                    color=color,
                    marker=marker(index),
                    markersize=4,
                    markerfacecolor=color if split == "val" else "white",
                    markevery=max(1, len(points) // 12),
                    linewidth=1.5,
                )
    for quantity, axes in panels.items():
        axes.set(xlabel="epoch", title=_TITLES.get(quantity, quantity))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        axes.grid(axis="y")
    runs = [
        Line2D([], [], color=color, marker=marker(index), markersize=4, label=short(curve.name, 44))
        for index, (curve, color) in enumerate(zip(curves, colors, strict=True))
    ]
    splits = [
        Line2D([], [], color="black", ls=style, label=_NAMES[split])
        for split, style in _STYLES.items()
        if any(f"{split}_loss" in curve.rows[0] for curve in curves)
    ]
    figure.legend(handles=[*runs, *splits], loc="outside lower center", ncols=2)
    return figure
