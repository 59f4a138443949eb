"""The outcome of each image: enough to count everything, and small for any number of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from ...converters.inference.scores import log_probabilities
from ..errors import DataError


@dataclass(frozen=True)
class Outcomes:
    """The outcomes of images, one entry per image.

    Attributes:
        classes: (N,) int64, the true class.
        predicted: (N,) int64, the predicted class; of equal scores the first. A score that is
            not a number counts as the highest, as in argmax.
        rank: (N,) int64, how many classes rank before the true class.
        confidence: (N,) float64, the probability of the predicted class; NaN if a score is not a
            number.
        log_probability: (N,) float64, of the true class, in nats.
    """

    classes: np.ndarray
    predicted: np.ndarray
    rank: np.ndarray
    confidence: np.ndarray
    log_probability: np.ndarray

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def correct(self) -> np.ndarray:
        """(N,) bool: whether the predicted class is the true class."""
        correct: np.ndarray = self.rank == 0
        return correct


def outcomes(scores: np.ndarray, output_kind: str, classes: np.ndarray) -> Outcomes:
    """Return the outcomes of a batch.

    Args:
        scores: (N, classes), the output of a network.
        output_kind: What the scores are: `logits`, `log_probabilities` or `probabilities`.
        classes: (N,) the true classes, from 0.

    Raises:
        DataError: If the network has no output for a class.
        InferenceError: If the output is not scores of classes.

    Example:
        >>> import numpy as np
        >>> from torchlift.transfer.evaluation import outcomes
        >>> batch = outcomes(np.array([[2.0, 1.0], [0.0, 3.0]]), "logits", np.array([0, 0]))
        >>> batch.predicted.tolist(), batch.correct.tolist()
        ([0, 1], [True, False])
    """
    log_scores = log_probabilities(scores, output_kind)
    count = check_outputs(scores, classes)
    rows = np.arange(len(classes))
    scores = np.where(np.isnan(scores), np.inf, scores)
    true_scores = scores[rows, classes][:, None]
    # Equal scores rank in their order, as in argmax.
    before = np.arange(count) < classes[:, None]
    predicted = scores.argmax(axis=1)
    return Outcomes(
        classes=classes.astype(np.int64),
        predicted=predicted,
        rank=((scores > true_scores) | ((scores == true_scores) & before)).sum(axis=1),
        confidence=np.exp(log_scores[rows, predicted], dtype=np.float64),
        log_probability=log_scores[rows, classes].astype(np.float64),
    )


def check_outputs(scores: np.ndarray, classes: np.ndarray) -> int:
    """Return the number of outputs of a network, after checking that there is one for each class.

    Args:
        scores: (N, outputs) of any examples.
        classes: The true classes, from 0; also those of other examples.

    Raises:
        DataError: If the network has no output for a class.
    """
    count: int = scores.shape[1]
    invalid = classes[(classes < 0) | (classes >= count)]
    if len(invalid):
        raise DataError(
            f"the data has class {invalid[0] + 1} (counted from 1), the model {count} outputs"
        )
    return count


def concatenate_outcomes(batches: Sequence[Outcomes]) -> Outcomes:
    """Return the outcomes of several batches as one.

    Example:
        >>> scores = np.log([[0.9, 0.1], [0.4, 0.6]])
        >>> one = outcomes(scores, "log_probabilities", np.array([0, 1]))
        >>> concatenate_outcomes([one, one]).correct.tolist()
        [True, True, True, True]
    """
    return Outcomes(
        *(
            np.concatenate([getattr(batch, field.name) for batch in batches])
            for field in fields(Outcomes)
        )
    )
