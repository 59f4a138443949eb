"""Whether outputs that are said to be probabilities are those of one classifier."""

from __future__ import annotations

import numpy as np

#: How far the probabilities of an example may add up to something else than 1. float16 rounds each
#: by 5e-4 and its logarithm by up to 4e-3.
_SUM_TOLERANCE = 0.05


def sum_problem(scores: np.ndarray, output_kind: str) -> str:
    """Return why scores are not the probabilities of one classifier; empty if they are.

    Those of an example add up to 1; those of two classifiers side by side add up to 2.

    Args:
        scores: Outputs of a network (N, classes).
        output_kind: What they are said to mean (`Predictor.output_kind`).

    Example:
        >>> sum_problem(np.array([[0.2, 0.8]]), "probabilities")
        ''
        >>> sum_problem(np.array([[0.2, 0.8, 0.5, 0.5]]), "probabilities")[:61]
        'the probabilities of an example add up to 2, not to 1: these '
    """
    if output_kind not in ("probabilities", "log_probabilities") or scores.ndim != 2:
        return ""
    values = np.asarray(scores, np.float64)
    sums = (np.exp(values) if output_kind == "log_probabilities" else values).sum(axis=1)
    wrong = sums[np.abs(sums - 1) > _SUM_TOLERANCE]
    if not wrong.size:
        return ""
    total = float(wrong[0])
    count = round(total)
    kind = "are not those of one choice among the classes"
    if count > 1 and abs(total - count) <= count * _SUM_TOLERANCE:
        kind = f"are {count} classifiers side by side in one output"
    return f"the probabilities of an example add up to {total:.3g}, not to 1: these {kind}"
