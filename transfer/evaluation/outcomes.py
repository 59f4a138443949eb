"""What became of each image: enough to count everything, small enough for any number of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from ...converters.inference.predictors import log_probabilities
from ..errors import DataError


@dataclass(frozen=True)
class Outcomes:
    """One entry an image.

    Attributes:
        classes: (N,) int64, the right class.
        predicted: (N,) int64, the likeliest class; of equal ones the first.
        rank: (N,) int64, how many classes were held to be likelier than the right one.
        confidence: (N,) float64, the probability of the likeliest class.
        log_probability: (N,) float64, of the right class, in nats.
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
        """(N,) bool: whether the likeliest class is the right one."""
        return self.rank == 0


def outcomes(scores: np.ndarray, output_kind: str, classes: np.ndarray) -> Outcomes:
    """What became of a batch.

    Args:
        scores: (N, classes), what a network gave.
        output_kind: what they mean: `logits`, `log_probabilities` or `probabilities`.
        classes: (N,) the right ones, from 0.

    Raises:
        DataError: when a class is in the data that has no output.
        OnnxError: when they are no scores of classes.
    """
    logs = log_probabilities(scores, output_kind)
    count = scores.shape[1]
    wrong = classes[(classes < 0) | (classes >= count)]
    if len(wrong):
        raise DataError(f"class {wrong[0] + 1} in the data, {count} in the model (from 1 on)")
    each = np.arange(len(classes))
    own = scores[each, classes][:, None]
    # Equal scores count in their order, as in argmax.
    before = np.arange(count) < classes[:, None]
    predicted = scores.argmax(axis=1)
    return Outcomes(
        classes=classes.astype(np.int64),
        predicted=predicted,
        rank=((scores > own) | ((scores == own) & before)).sum(axis=1),
        confidence=np.exp(logs[each, predicted], dtype=np.float64),
        log_probability=logs[each, classes].astype(np.float64),
    )


def together(parts: Sequence[Outcomes]) -> Outcomes:
    """The outcomes of several batches, one after another."""
    return Outcomes(
        *(
            np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(Outcomes)
        )
    )
