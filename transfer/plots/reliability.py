"""How sure a classifier is, against how often it is right."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from .figures import STRONG, WEAK, new_figure, styled


@styled
def draw_reliability(
    edges: Sequence[float],
    counts: Sequence[int],
    confidence: Sequence[float],
    accuracy: Sequence[float],
    title: str,
) -> Figure:
    """Accuracy against confidence, above how many pictures had it.

    Args:
        edges: of the bins of confidence, one more than there are bins.
        counts: pictures in each bin.
        confidence: their mean confidence.
        accuracy: the share of them that is right.
        title: stands above it.
    """
    figure = new_figure(5, 5.5)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    low, width = edges[:-1], edges[1] - edges[0]
    bars = {"width": width, "align": "edge", "color": WEAK, "edgecolor": "white"}
    axes.bar(low, accuracy, label="accuracy", **bars)
    filled = [place for place, count in enumerate(counts) if count]
    axes.plot(
        [confidence[place] for place in filled],
        [accuracy[place] for place in filled],
        "o",
        color=STRONG,
        markersize=4,
        label="mean of the bin",
    )
    axes.plot([0, 1], [0, 1], "--", color="black", linewidth=1, label="perfect")
    axes.set(ylabel="accuracy", ylim=(0, 1.02))
    axes.set_title(title, loc="left")
    figure.legend(loc="outside lower center", ncols=3)
    below.bar(low, counts, **bars)
    below.set(xlabel="confidence", ylabel="pictures", xlim=(0, 1))
    return figure
