"""Scores that are not numbers: no answer is made of them."""

from __future__ import annotations

import numpy as np

from ..errors import NotFiniteError
from ..finite import first_not_finite


def require_finite_scores(scores: np.ndarray, output_kind: str, name: str) -> None:
    """Check that every score of a batch is a number.

    A log-probability or a logit may be -infinity, which is a probability of 0.

    Args:
        scores: (N, …), the output of a network.
        output_kind: What they are (`Predictor.output_kind`).
        name: What the message calls the network.

    Raises:
        NotFiniteError: If a score is NaN or infinite; the message names the first.
    """
    if output_kind in ("logits", "log_probabilities"):
        scores = np.where(scores == -np.inf, 0, scores) if np.isneginf(scores).any() else scores
    if not (place := first_not_finite(scores)):
        return
    damaged = ~np.isfinite(scores.reshape(len(scores), -1)).all(axis=1)
    count = f"the outputs of {int(damaged.sum()):,} of {len(scores):,} examples are not numbers"
    raise NotFiniteError(
        f"{name}: {count}: output{place}; its training diverged, or the inputs are outside of what "
        "it can take"
    )
