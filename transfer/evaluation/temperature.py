"""Temperature scaling: dividing a classifier's logits by the number that suits its confidence.

Guo et al., On Calibration of Modern Neural Networks, 2017. One number for all images and classes:
the order of an image's classes, and so the accuracy, stays as it is.
"""

from __future__ import annotations

import numpy as np

from ..errors import DataError

#: The temperatures that are considered: those that scikit-learn considers.
_LOWEST, _HIGHEST = float(np.exp(-10)), float(np.exp(10))
#: Halvings of an interval of logarithms 20 wide, after which nothing is left of it.
_STEPS = 60


def fit_temperature(scores: np.ndarray, classes: np.ndarray) -> float:
    """Return the temperature with the smallest loss (`ClassNLLCriterion`) on labeled images.

    The loss is convex in the inverse of the temperature, so that there is one smallest.

    Args:
        scores: (N, classes) logits or log-probabilities.
        classes: (N,) the true classes, from 0.

    Raises:
        DataError: If the loss only ever falls: all images are right, or guessing is as good.

    Example:
        Three of four images of equal confidence are right, which is a probability of 3/4.

        >>> scores = np.array([[4.0, 0.0]] * 4)
        >>> temperature = fit_temperature(scores, np.array([0, 0, 0, 1]))
        >>> round(float(1 / (1 + np.exp(-4.0 / temperature))), 6)
        0.75
    """
    values = np.asarray(scores, np.float64)
    values = values - values.max(axis=1, keepdims=True)
    right = values[np.arange(len(classes)), classes].mean()
    # An impossible class has no part in a mean: 0 times minus infinity would be no number.
    finite = np.where(np.isfinite(values), values, 0)

    def slope(inverse: float) -> float:
        """Return how the loss changes with the inverse temperature."""
        weights = np.exp(inverse * values)
        expected = (weights * finite).sum(axis=1) / weights.sum(axis=1)
        return float(expected.mean() - right)

    if slope(1 / _LOWEST) <= 0:
        raise DataError(
            f"the model classifies all {len(classes):,} images right, so that no confidence is too "
            "high: give images that it was not trained on, some of which it gets wrong"
        )
    if slope(1 / _HIGHEST) >= 0:
        raise DataError(
            "the model is no better than guessing on these images, so that no confidence is low "
            "enough: are their classes those of the model?"
        )
    low, high = np.log(_LOWEST), np.log(_HIGHEST)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        # The loss still falls towards larger inverses, which are lower temperatures.
        low, high = (low, middle) if slope(float(np.exp(-middle))) < 0 else (middle, high)
    return float(np.exp((low + high) / 2))
