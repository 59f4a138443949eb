"""What the scores of a classifier mean, as probabilities."""

from __future__ import annotations

import numpy as np

from ..saved.probabilities import sum_problem
from .errors import InferenceError

#: How much a probability or its logarithm may exceed its range.
_TOLERANCE = 0.01


def probabilities(scores: np.ndarray, output_kind: str) -> np.ndarray:
    """Convert scores (N, classes) to probabilities.

    Args:
        scores: Outputs of a network.
        output_kind: What they mean (`Predictor.output_kind`).

    Raises:
        InferenceError: If they are not scores of classes.
    """
    if output_kind == "probabilities":
        _check_classes(scores, output_kind)
        return scores
    result: np.ndarray = np.exp(log_probabilities(scores, output_kind))
    return result


def log_probabilities(scores: np.ndarray, output_kind: str) -> np.ndarray:
    """Convert scores (N, classes) to log probabilities.

    Args:
        scores: Outputs of a network.
        output_kind: What they mean (`Predictor.output_kind`).

    Raises:
        InferenceError: If they are not scores of classes.
    """
    _check_classes(scores, output_kind)
    if output_kind == "log_probabilities":
        return scores
    result: np.ndarray
    if output_kind == "probabilities":
        result = np.log(np.maximum(scores, np.finfo(scores.dtype).tiny))
    else:
        # Log-softmax. Subtracting the largest score keeps exp from overflowing.
        shifted = scores - scores.max(axis=1, keepdims=True)
        result = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def _check_classes(scores: np.ndarray, output_kind: str) -> None:
    if output_kind == "features" or scores.ndim != 2:
        shape = "×".join(map(str, scores.shape[1:]))
        raise InferenceError(
            f"not a classifier: the outputs are {output_kind} of shape {shape} for each example"
        )
    _check_range(scores, output_kind)
    if problem := sum_problem(scores, output_kind):
        raise InferenceError(problem)


def _check_range(scores: np.ndarray, output_kind: str) -> None:
    """Check that scores can be what they are said to be; half precision rounds them."""
    highest = {"probabilities": 1, "log_probabilities": 0}.get(output_kind, np.inf)
    lowest = 0 if output_kind == "probabilities" else -np.inf
    # NaN is neither, and another matter.
    if ((scores > highest + _TOLERANCE) | (scores < lowest - _TOLERANCE)).any():
        raise InferenceError(
            f"the outputs are no {output_kind.replace('_', ' ')}, as the model says: they reach "
            f"from {scores.min():.4g} to {scores.max():.4g}"
        )
