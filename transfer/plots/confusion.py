"""Confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from .figures import FRACTIONS, new_figure, short, styled

#: The largest number of classes whose names fit beside a matrix, and whose counts fit into it.
_NAMED, _COUNTED = 120, 25
_POINTS_PER_INCH = 72


@styled
def draw_confusion(counts: np.ndarray, labels: Sequence[str], title: str) -> Figure:
    """Draw a confusion matrix: the fractions of each row as shades, its counts as numbers.

    Args:
        counts: (classes, classes), a row for each true class, a column for each predicted class.
        labels: The names of the classes.
        title: The title.
    """
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.45 * len(labels), 2.2, 10))
    figure = new_figure(side + 2.4, side + 1.4)
    axes = figure.subplots()
    image = axes.imshow(fractions, cmap=FRACTIONS, vmin=0, vmax=1)
    bar = figure.colorbar(image, label="fraction of the true class", shrink=min(1, 2.5 / side))
    bar.outline.set_visible(False)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(short(title, int((side + 1) / 0.085)), loc="left")
    axes.set_xticks([])
    axes.set_yticks([])
    cell = side / len(labels)
    if len(labels) <= _NAMED:
        # The names are one cell apart, and need half of their size between them.
        size = min(9.0, cell * _POINTS_PER_INCH / 1.5)
        names = [short(label) for label in labels]
        widest = max(map(len, names)) * size / _POINTS_PER_INCH
        rotation = 0 if widest < cell else 90
        axes.set_xticks(range(len(labels)), names, rotation=rotation, size=size)
        axes.set_yticks(range(len(labels)), names, size=size)
        axes.tick_params(length=0)
    if len(labels) <= _COUNTED:
        digits = len(str(counts.max()))
        size = min(8.0, cell * _POINTS_PER_INCH / (0.8 * digits))
        for (row, column), count in np.ndenumerate(counts):
            if count:
                color = "white" if fractions[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=color, size=size)
    return figure
