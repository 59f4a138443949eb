"""The learning rate range test of a run: its loss by learning rate, and the rate that was found."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from .figures import STRONG, WEAK, new_figure, styled


@styled
def draw_range_test(rates: Sequence[float], losses: Sequence[float], found: float) -> Figure:
    """Draw the loss of a range test by learning rate, and the rate that was found.

    Args:
        rates: The learning rate of each update.
        losses: Its loss.
        found: The rate that was found.
    """
    figure = new_figure(5.2, 3.4)
    axes = figure.subplots()
    axes.plot(rates, losses, color=STRONG, linewidth=1.5)
    axes.axvline(found, color=WEAK, linestyle="--", linewidth=1.2)
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss", title=f"found: {found:g}")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y")
    return figure
