"""Running a classifier on labeled images."""

from __future__ import annotations

import numpy as np

from ...converters.inference.classifier import class_name
from ...converters.inference.predictors import Predictor
from ...converters.inference.prepare import prepare_all
from ..data import Dataset, ImageFiles
from ..data.class_matching import MatchBy
from ..data.class_matching import match_classes as matched
from ..data.selection import conversion_note, labelled
from ..errors import DataError
from .outcomes import check_outputs, concatenate_outcomes, outcomes
from .results import Evaluation, summarize


def evaluate(
    predictor: Predictor,
    data: Dataset | ImageFiles,
    batch_size: int = 64,
    match_classes: MatchBy = "name",
) -> Evaluation:
    """Evaluate a classifier on labeled images; one batch is in memory at a time.

    Args:
        predictor: The classifier (see `open_predictor`).
        data: Labeled images; their classes are matched with the classifier's (see
            `match_classes`).
        batch_size: The number of images that are run together.
        match_classes: How they are matched.

    Raises:
        DataError: If the data has no labels, classes that the classifier lacks, or other names for
            all of them.
        InferenceError: If the model is not a classifier, or the images do not fit it.

    Example:
        >>> import numpy as np
        >>> from torch import nn
        >>> from torchlift.converters.inference import TorchPredictor
        >>> from torchlift.converters.saved import SavedModel
        >>> from torchlift.transfer.data import Dataset
        >>> from torchlift.transfer.evaluation import evaluate
        >>> model = SavedModel(nn.Flatten(), "logits", (2, 1, 1), ["cat", "dog"])
        >>> inputs = np.array([[3, 0], [0, 1], [2, 1]], np.float32).reshape(3, 2, 1, 1)
        >>> data = Dataset(inputs, np.array([0, 1, 1]), names=("cat", "dog"))
        >>> result = evaluate(TorchPredictor(model, "cpu"), data)
        >>> result.correct, result.count, result.confusion
        (2, 3, [[1, 0], [1, 1]])
        >>> [mistake.predicted_label for mistake in result.mistakes]
        ['cat']
    """
    if data.classes is None or not len(data):
        raise DataError("no labels: only labeled images can be evaluated")
    data, notes = matched(data, predictor.labels, match_classes)
    if predictor.preprocessing is not None:
        notes = [*notes, *conversion_note(data, predictor.preprocessing.channels)]
    batches, count = [], 0
    for images, classes in data.batches(batch_size):
        scores = predictor(prepare_all(images, predictor.preprocessing))
        batches.append(outcomes(scores, predictor.output_kind, np.asarray(classes)))
        if len(batches) == 1:
            count = check_outputs(scores, labelled(data))
    labels = [class_name(predictor.labels, index) for index in range(count)]
    return summarize(concatenate_outcomes(batches), labels, data.ids, notes)
