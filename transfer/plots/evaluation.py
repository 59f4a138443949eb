"""An evaluation as pictures."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from ..data import Dataset, ImageFiles
from ..evaluation.results import Evaluation
from .confusion import draw_confusion
from .reliability import draw_reliability
from .samples import Sample, draw_samples, images_of


def confusion_of(result: Evaluation) -> Figure:
    """The confusion matrix."""
    labels = [part.label for part in result.classes]
    return draw_confusion(np.array(result.confusion), labels, f"accuracy {result.accuracy:.4g}")


def reliability_of(result: Evaluation) -> Figure:
    """Accuracy against confidence."""
    bins = result.bins
    return draw_reliability(
        [bins[0].low, *(each.high for each in bins)],
        [each.count for each in bins],
        [each.confidence for each in bins],
        [each.accuracy for each in bins],
        f"calibration error {result.ece:.4f}",
    )


def mistakes_of(result: Evaluation, data: Dataset | ImageFiles) -> Figure:
    """The pictures that were most confidently wrong, with what they are and were called."""
    chosen = data.take(np.array([mistake.index for mistake in result.mistakes]))
    return draw_samples(
        [
            Sample(
                image,
                (
                    f"{mistake.predicted} {mistake.confidence:.2f}",
                    f"is {mistake.label} {mistake.probability:.2f}",
                ),
            )
            for mistake, image in zip(result.mistakes, images_of(chosen), strict=True)
        ]
    )
