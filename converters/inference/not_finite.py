"""Scores that are not numbers: no answer is made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import NotFiniteError
from ..finite import first_not_finite


def require_finite_scores(
    scores: np.ndarray, output_kind: str, name: str, explain: Callable[[], str] = lambda: ""
) -> None:
    """Check that every score of a batch is a number.

    A log-probability or a logit may be -infinity, which is a probability of 0.

    Args:
        scores: (N, …), the output of a network.
        output_kind: What they are (`Predictor.output_kind`).
        name: What the message calls the network.
        explain: Returns more about the network, if a score is no number.

    Raises:
        NotFiniteError: If a score is NaN or infinite; the message names the first.
    """
    if output_kind in ("logits", "log_probabilities"):
        scores = np.where(scores == -np.inf, 0, scores) if np.isneginf(scores).any() else scores
    if not (place := first_not_finite(scores)):
        return
    damaged = ~np.isfinite(scores.reshape(len(scores), -1)).all(axis=1)
    count = f"the outputs of {int(damaged.sum()):,} of {len(scores):,} examples are not numbers"
    cause = explain() or "its training diverged, or the inputs are outside of what it can take"
    raise NotFiniteError(f"{name}: {count}: output{place}; {cause}")


def describe_weights(file: Path) -> str:
    """Return which constant of an `.onnx` file is not a number, and where; empty if none is.

    This needs the package onnx; without it nothing is found.
    """
    try:
        import onnx
        from onnx import numpy_helper

        model = onnx.load(file)
    except Exception:  # The error that is about to be raised says what matters.
        return ""
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor, str(file.parent))
        # An infinity may be there on purpose, as in a mask.
        if values.dtype.kind == "f" and np.isnan(values).any():
            place = first_not_finite(np.where(np.isnan(values), values, 0))
            return f"{tensor.name}{place}"
    return ""
