"""Running a classifier on labeled images."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from ...converters.inference.classifier import class_name
from ...converters.inference.predictors import Predictor
from ...converters.inference.prepare import prepare_all
from ..data import test_split
from ..data.class_matching import MatchBy
from ..data.class_matching import match_classes as matched
from ..data.selection import conversion_note, labelled
from ..errors import DataError
from ..sources import opened_data, opened_predictor
from .outcomes import check_outputs, concatenate_outcomes, outcomes
from .results import Evaluation, summarize

if TYPE_CHECKING:
    from ..sources import Images, Model


def evaluate(
    model: Model | Predictor,
    data: Images,
    batch_size: int = 64,
    match_classes: MatchBy = "name",
    provider: str = "auto",
) -> Evaluation:
    """Evaluate a classifier on labeled images; one batch is in memory at a time.

    Args:
        model: The classifier: its name, as `torchlift evaluate` takes it, a network, or a predictor
            (see `open_predictor`).
        data: Labeled images; their classes are matched with the classifier's (see
            `match_classes`). Of a dataset given by name, the test split, if it has one.
        batch_size: The number of images that are run together.
        match_classes: How they are matched.
        provider: What a model that is no predictor runs on (see `open_predictor`).

    Raises:
        DataError: If the data has no labels, classes that the classifier lacks, or other names for
            all of them.
        InferenceError: If the model is not a classifier, or the images do not fit it.
        TorchliftError: If model or data cannot be opened.

    Example:
        >>> import numpy as np
        >>> from torch import nn
        >>> from torchlift.converters.saved import SavedModel
        >>> from torchlift.transfer.data import Dataset
        >>> from torchlift.transfer.evaluation import evaluate
        >>> model = SavedModel(nn.Flatten(), "logits", (2, 1, 1), ["cat", "dog"])
        >>> inputs = np.array([[3, 0], [0, 1], [2, 1]], np.float32).reshape(3, 2, 1, 1)
        >>> data = Dataset(inputs, np.array([0, 1, 1]), names=("cat", "dog"))
        >>> result = evaluate(model, data, provider="cpu")
        >>> result.correct, result.count, result.confusion
        (2, 3, [[1, 0], [1, 1]])
        >>> [mistake.predicted_label for mistake in result.mistakes]
        ['cat']
    """
    predictor = opened_predictor(model, provider)
    own = opened_data(data)
    by_name = isinstance(data, (str, os.PathLike))
    given = test_split(own) if by_name else own
    if given.classes is None or not len(given):
        raise DataError("no labels: only labeled images can be evaluated")
    labeled, matching = matched(given, predictor.labels, match_classes)
    notes = [*(own.notes if by_name else ()), *matching]
    if predictor.preprocessing is not None:
        notes += conversion_note(labeled, predictor.preprocessing.channels)
    if predictor is not model and predictor.note:
        notes.append(predictor.note)
    batches, count = [], 0
    for images, classes in labeled.batches(batch_size):
        scores = predictor(prepare_all(images, predictor.preprocessing))
        batches.append(outcomes(scores, predictor.output_kind, np.asarray(classes)))
        if len(batches) == 1:
            count = check_outputs(scores, labelled(labeled))
    labels = [class_name(predictor.labels, index) for index in range(count)]
    return summarize(concatenate_outcomes(batches), labels, labeled.ids, notes)
