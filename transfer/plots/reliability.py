"""Reliability diagrams: the confidence of a classifier against its accuracy."""

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
    """Draw the accuracy of each bin of confidence, above the number of its images.

    Args:
        edges: The edges of the bins, one more than there are bins.
        counts: Number of images in each bin.
        confidence: Mean confidence in each bin.
        accuracy: Accuracy in each bin.
        title: The title.
    """
    figure = new_figure(5, 5.5)
    axes, count_axes = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    low, width = edges[:-1], edges[1] - edges[0]
    axes.bar(low, accuracy, width, align="edge", color=WEAK, edgecolor="white", label="accuracy")
    filled = [index for index, count in enumerate(counts) if count]
    axes.plot(
        [confidence[index] for index in filled],
        [accuracy[index] for index in filled],
        "o",
        color=STRONG,
        markersize=4,
        label="mean of the bin",
    )
    axes.plot([0, 1], [0, 1], "--", color="black", linewidth=1, label="perfect")
    axes.set(ylabel="accuracy", ylim=(0, 1.02))
    axes.set_title(title, loc="left")
    figure.legend(loc="outside lower center", ncols=3)
    count_axes.bar(low, counts, width, align="edge", color=WEAK, edgecolor="white")
    count_axes.set(xlabel="confidence", ylabel="images", xlim=(0, 1))
    return figure
