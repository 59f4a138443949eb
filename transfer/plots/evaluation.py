"""Figures of an evaluation."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..data import Dataset, ImageFiles
from ..evaluation.results import Evaluation
from .confusion import draw_confusion
from .figures import save_figure
from .reliability import draw_reliability
from .samples import Sample, draw_samples, images_of


def save_evaluation_figures(
    result: Evaluation, folder: str | os.PathLike[str], data: Dataset | ImageFiles
) -> list[Path]:
    """Write `confusion.png`, `reliability.png` and, if there are mistakes, `mistakes.png`.

    Args:
        result: The evaluation.
        folder: Created if it does not exist; existing files are replaced.
        data: The evaluated images.

    Returns:
        The files.
    """
    target = Path(folder)
    files = [
        save_figure(confusion_of(result), target / "confusion.png"),
        save_figure(reliability_of(result), target / "reliability.png"),
    ]
    if result.mistakes:
        files.append(save_figure(mistakes_of(result, data), target / "mistakes.png"))
    return files


def confusion_of(result: Evaluation) -> Figure:
    """Draw the confusion matrix."""
    labels = [each.label for each in result.classes]
    return draw_confusion(np.array(result.confusion), labels, f"accuracy {result.accuracy:.4g}")


def reliability_of(result: Evaluation) -> Figure:
    """Draw accuracy against confidence."""
    bins = result.bins
    return draw_reliability(
        [bins[0].low, *(each.high for each in bins)],
        [each.count for each in bins],
        [each.confidence for each in bins],
        [each.accuracy for each in bins],
        f"calibration error {result.ece:.4f}",
    )


def mistakes_of(result: Evaluation, data: Dataset | ImageFiles) -> Figure:
    """Draw the images of the most confident mistakes, with their predicted and true classes."""
    images = images_of(data.take(np.array([mistake.image_index for mistake in result.mistakes])))
    return draw_samples(
        [
            Sample(
                image,
                (
                    f"{mistake.predicted_label} {mistake.confidence:.2f}",
                    f"true: {mistake.label} {mistake.probability:.2f}",
                ),
            )
            for mistake, image in zip(result.mistakes, images, strict=True)
        ]
    )
