"""The images of a dataset as samples, with the predictions of a classifier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...converters.inference.classifier import class_name
from ...converters.inference.predictors import Predictor
from ...converters.inference.prepare import prepare_all
from ...converters.inference.scores import probabilities
from ..data import Dataset, ImageFiles
from ..data.class_matching import MatchBy
from ..data.class_matching import match_classes as matched
from .samples import Sample, images_of

#: The number of classes that are shown of a prediction.
_TOP = 5


def samples_of(
    data: Dataset | ImageFiles,
    predictor: Predictor | None = None,
    match_classes: MatchBy = "name",
) -> tuple[list[Sample], list[str]]:
    """Return every image of a dataset as a sample, and notes on what was assumed.

    Args:
        data: A few images. Without labels, the captions are their ids.
        predictor: A classifier, or None.
        match_classes: How the classes of data and classifier are matched.

    Raises:
        DataError: The classifier lacks some of the classes.
        OnnxError: The model is no classifier, or the images do not fit it.
    """
    notes: list[str] = []
    if predictor is not None and data.classes is not None:
        data, notes = matched(data, predictor.labels, match_classes)
    images = images_of(data)
    labels = predictor.labels if predictor is not None and predictor.labels else data.names
    if data.classes is None:
        captions = [str(name) for name in (range(len(data)) if data.ids is None else data.ids)]
    else:
        captions = [class_name(labels, index) for index in data.classes.tolist()]
    predictions: list[list[tuple[str, float]]] = [[] for _ in images]
    if predictor is not None:
        batch, _ = next(data.batches(len(data)))
        scores = predictor(prepare_all(batch, predictor.preprocessing))
        rows = probabilities(scores, predictor.output_kind)
        predictions = [_top_classes(row, labels) for row in rows]
    samples = [
        Sample(image, [caption], top_classes, caption)
        for image, caption, top_classes in zip(images, captions, predictions, strict=True)
    ]
    return samples, notes


def _top_classes(row: np.ndarray, labels: Sequence[str] | None) -> list[tuple[str, float]]:
    """Return the names and probabilities of the most probable classes."""
    order = np.argsort(-row, kind="stable")[:_TOP]
    return [(class_name(labels, index), float(row[index])) for index in order.tolist()]
