"""How far two networks' outputs are apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: How many of the likeliest classes are compared as a set.
_TOP = 5

#: However much may be off, classes tie only this close together, relative to the largest output.
_TIE = 1e-3


@dataclass(frozen=True)
class Tie:
    """An example for which two networks name different classes of the same score.

    Attributes:
        example: its index in all the data.
        first: the likeliest class of the first network.
        second: that of the second.
    """

    example: int
    first: int
    second: int


@dataclass(frozen=True)
class Comparison:
    """The outputs of two networks for one batch.

    Attributes:
        batch: how many examples.
        size: what one input was: (C, H, W).
        not_finite: how many outputs are NaN or infinite, in the first and in the second network.
        error: the largest difference, relative to the largest output of the first network.
        above: how many outputs differ by more than the tolerance.
        count: how many outputs there are.
        where: index of the worst output (example, class, …); the example counts in all the data.
        values: that output in the first and in the second network.
        agreeing: examples whose likeliest class is the same, or a tie; None for no classifier.
        top5: share of the five likeliest classes that are the same, ties included; None for no
            classifier, or for one of five classes or fewer.
        ties: where the likeliest class is another one by chance.
    """

    batch: int
    size: tuple[int, ...]
    not_finite: tuple[int, int]
    error: float
    above: int
    count: int
    where: tuple[int, ...]
    values: tuple[float, float]
    agreeing: int | None
    top5: float | None
    ties: list[Tie]


def compare(
    expected: np.ndarray,
    actual: np.ndarray,
    examples: np.ndarray,
    tolerance: float,
    classes: bool,
    size: tuple[int, ...] = (),
) -> Comparison:
    """Compare two networks' outputs (N, …) for one batch.

    Two classes tie where the first network's scores for them differ by no more than rounding
    does: which of them is called the likeliest is chance then.

    Args:
        expected: of the first network.
        actual: of the second, in the same shape.
        examples: index in all the data of each example.
        tolerance: of the error, relative to the largest output; for ties a thousandth at most.
        classes: whether the outputs are scores of classes.
        size: what one input was.
    """
    expected, actual = expected.astype(np.float64), actual.astype(np.float64)
    finite = np.isfinite(expected) & np.isfinite(actual)
    difference = np.abs(np.where(finite, expected, 0) - np.where(finite, actual, 0))
    scale = max(float(np.abs(expected, where=finite, out=np.zeros_like(expected)).max()), 1e-12)
    example, *place = np.unravel_index(int(difference.argmax()), difference.shape)
    worst, margin = (example, *place), min(tolerance, _TIE) * scale
    agreeing: int | None = None
    ties: list[Tie] = []
    top5: float | None = None
    if classes and expected.ndim > 1:
        agreeing, ties = _predicted_classes(expected, actual, examples, margin)
        top5 = _top5(expected, actual, margin) if expected.shape[1] > _TOP else None
    return Comparison(
        batch=len(expected),
        size=size,
        not_finite=(_not_finite(expected), _not_finite(actual)),
        error=float(difference[worst]) / scale,
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
    """Examples whose likeliest class is the same, and the ties; classes are the second axis."""
    ours, theirs = expected.argmax(axis=1), actual.argmax(axis=1)
    lost = expected.max(axis=1) - np.take_along_axis(
        expected, np.expand_dims(theirs, 1), axis=1
    ).squeeze(1)
    tied = (ours != theirs) & (lost <= margin)
    agreeing = ((ours == theirs) | tied).reshape(len(expected), -1).all(axis=1)
    ties = [
        Tie(int(examples[place[0]]), int(ours[tuple(place)]), int(theirs[tuple(place)]))
        for place in np.argwhere(tied)
    ]
    return int(agreeing.sum()), ties


def _top5(expected: np.ndarray, actual: np.ndarray, margin: float) -> float:
    """The share of the second's five likeliest that are the first's too, or tie with them."""
    fifth = np.sort(expected, axis=1)[:, -_TOP : -_TOP + 1]
    chosen = np.argsort(actual, axis=1)[:, -_TOP:]
    return float((np.take_along_axis(expected, chosen, axis=1) >= fifth - margin).mean())
