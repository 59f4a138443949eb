"""Running a classifier on labelled images."""

from __future__ import annotations

import numpy as np

from ...converters.inference.classifier import class_name
from ...converters.inference.predictors import Predictor, prepare
from ..data import Dataset, ImageFiles
from ..errors import DataError
from .matching import matched
from .outcomes import outcomes, together
from .results import Evaluation, summarized


def evaluate(predictor: Predictor, data: Dataset | ImageFiles, batch_size: int = 64) -> Evaluation:
    """Run a dataset through a classifier and count; one batch is in memory at a time.

    Args:
        predictor: the classifier (see `open_predictor`).
        data: labelled images.
        batch_size: how many are run together.

    Raises:
        DataError: when the dataset has no labels, or labels that the classifier does not have.
        OnnxError: when the model is no classifier, or the images do not fit it.
    """
    if data.classes is None or not len(data):
        raise DataError("no labels: only labelled images can be evaluated")
    data, notes = matched(data, predictor.labels)
    parts, count = [], 0
    for images, classes in data.batches(batch_size):
        scores = predictor(prepare(images, predictor.preprocessing))
        count = scores.shape[1]
        parts.append(outcomes(scores, predictor.output_kind, np.asarray(classes)))
    labels = [class_name(predictor.labels, index) for index in range(count)]
    return summarized(together(parts), labels, data.ids, notes)
