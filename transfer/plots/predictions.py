"""Pictures of a dataset as samples, with what a classifier makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...converters.inference.classifier import class_name
from ...converters.inference.predictors import Predictor, prepare, probabilities
from ..data import Dataset, ImageFiles
from ..evaluation.matching import matched
from .samples import Sample, images_of

#: Classes of a distribution that are named.
_TOP = 5


def samples_of(
    data: Dataset | ImageFiles, predictor: Predictor | None = None
) -> tuple[list[Sample], list[str]]:
    """Every picture of a dataset as a sample, and what was assumed.

    Args:
        data: few pictures; those without labels are called by their ids.
        predictor: a classifier, or none.

    Raises:
        DataError: when the classifier knows some of the classes only.
        OnnxError: when the model is no classifier, or the pictures do not fit it.
    """
    notes: list[str] = []
    if predictor is not None and data.classes is not None:
        data, notes = matched(data, predictor.labels)
    images = images_of(data)
    labels = predictor.labels if predictor is not None and predictor.labels else data.names
    if data.classes is None:
        captions = [str(name) for name in (range(len(data)) if data.ids is None else data.ids)]
    else:
        captions = [class_name(labels, index) for index in data.classes.tolist()]
    if predictor is None:
        predictions: Sequence[Sequence[tuple[str, float]]] = [()] * len(images)
    else:
        given, _ = next(data.batches(len(data)))
        scores = predictor(prepare(given, predictor.preprocessing))
        predictions = [_top_classes(row, labels) for row in probabilities(scores, predictor.output_kind)]
    samples = [
        Sample(image, [caption], top_classes, caption)
        for image, caption, top_classes in zip(images, captions, predictions, strict=True)
    ]
    return samples, notes


def _top_classes(row: np.ndarray, labels: Sequence[str] | None) -> list[tuple[str, float]]:
    """The names and probabilities of the top_classes classes."""
    order = np.argsort(-row, kind="stable")[:_TOP]
    return [(class_name(labels, index), float(row[index])) for index in order.tolist()]
