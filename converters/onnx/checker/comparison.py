"""Comparing the outputs of two networks: errors, predicted classes and ties."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

#: How many of the most probable classes are compared as a set.
TOP = 5

#: Whatever the tolerance, classes only tie this close together, relative to the largest output.
_TIE = 1e-3


@dataclass(frozen=True)
class Tie:
    """An example for which two networks predict different classes whose scores are equal.

    Attributes:
        example: Index of the example in all the data.
        first: The predicted class of the first network.
        second: The predicted class of the second network.
    """

    example: int
    first: int
    second: int


@dataclass(frozen=True)
class Comparison:
    """The outputs of two networks for one batch, compared.

    Attributes:
        batch: How many examples the batch holds.
        input_shape: (C, H, W) of one input.
        not_finite: How many outputs of the first and of the second network are NaN or infinite.
        error: Largest difference, relative to the largest output of the first network; NaN if
            no output is finite in both.
        above: How many outputs differ by more than the tolerance.
        count: How many outputs there are.
        where: Index (example, class, …) of the largest difference; the example is its index in
            all the data.
        values: The output there, of the first and of the second network.
        agreeing: How many examples have the same predicted class, or a tie; None without classes.
        top5: How many of the five most probable classes of each example agree, ties included, of
            5 · `batch`; None without classes, or with no more than five.
        ties: Examples whose predicted classes differ only because of rounding.
    """

    batch: int
    input_shape: tuple[int, ...]
    not_finite: tuple[int, int]
    error: float
    above: int
    count: int
    where: tuple[int, ...]
    values: tuple[float, float]
    agreeing: int | None
    top5: int | None
    ties: list[Tie]


def compare(
    expected: np.ndarray,
    actual: np.ndarray,
    examples: np.ndarray,
    tolerance: float,
    is_classifier: bool,
    input_shape: tuple[int, ...] = (),
    floor: float = 1e-12,
) -> Comparison:
    """Compare the outputs (N, …) of two networks for one batch.

    Two classes tie if the first network's scores for them differ by no more than rounding does:
    which of them is predicted is then chance.

    Args:
        expected: Outputs of the first network.
        actual: Outputs of the second network, of the same shape.
        examples: Index of each example in all the data.
        tolerance: Largest error, relative to the largest output; for ties a thousandth at most.
        is_classifier: Whether the outputs are scores of classes.
        floor: What the error is relative to at least, where all outputs are smaller.
        input_shape: (C, H, W) of one input.
    """
    expected, actual = expected.astype(np.float64), actual.astype(np.float64)
    finite = np.isfinite(expected) & np.isfinite(actual)
    difference = np.abs(np.where(finite, expected, 0) - np.where(finite, actual, 0))
    scale = max(float(np.abs(expected, where=finite, out=np.zeros_like(expected)).max()), floor)
    example, *place = np.unravel_index(int(difference.argmax()), difference.shape)
    worst, margin = (example, *place), min(tolerance, _TIE) * scale
    agreeing: int | None = None
    ties: list[Tie] = []
    top5: int | None = None
    if is_classifier and expected.ndim > 1:
        agreeing, ties = _predicted_classes(expected, actual, examples, margin)
        top5 = _top5(expected, actual, margin) if expected.shape[1] > TOP else None
    return Comparison(
        batch=len(expected),
        input_shape=input_shape,
        not_finite=(_not_finite(expected), _not_finite(actual)),
        error=float(difference[worst]) / scale if finite.any() else math.nan,
        above=int((difference > tolerance * scale).sum()),
        count=difference.size,
        where=(int(examples[example]), *map(int, place)),
        values=(float(expected[worst]), float(actual[worst])),
        agreeing=agreeing,
        top5=top5,
        ties=ties,
    )


def _not_finite(outputs: np.ndarray) -> int:
    return int((~np.isfinite(outputs)).sum())


def _predicted_classes(
    expected: np.ndarray, actual: np.ndarray, examples: np.ndarray, margin: float
) -> tuple[int, list[Tie]]:
    """Return how many examples have the same predicted class, and the ties.

    Classes are the second axis.
    """
    first, second = expected.argmax(axis=1), actual.argmax(axis=1)
    score_of_second = np.take_along_axis(expected, np.expand_dims(second, 1), axis=1).squeeze(1)
    tied = (first != second) & (expected.max(axis=1) - score_of_second <= margin)
    agreeing = ((first == second) | tied).reshape(len(expected), -1).all(axis=1)
    ties = [
        Tie(int(examples[place[0]]), int(first[tuple(place)]), int(second[tuple(place)]))
        for place in np.argwhere(tied)
    ]
    return int(agreeing.sum()), ties


def _top5(expected: np.ndarray, actual: np.ndarray, margin: float) -> int:
    """Return how many of the second's top-5 classes are in the first's too, or tie with them."""
    fifth = np.sort(expected, axis=1)[:, -TOP : -TOP + 1]
    chosen = np.argsort(actual, axis=1)[:, -TOP:]
    agrees = np.take_along_axis(expected, chosen, axis=1) >= fifth - margin
    return int(agrees.reshape(len(expected), TOP, -1).all(axis=2).sum())
