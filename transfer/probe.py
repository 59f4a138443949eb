"""How well frozen features tell classes apart: probes of several layers, compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..converters.inference.classifier import class_name
from .data import Dataset, split
from .data.selection import class_count, labelled
from .errors import ProbeError
from .evaluation import Evaluation, outcomes, summarized
from .probe_methods import METHODS, Examples, Fitted, Scale


@dataclass(frozen=True)
class ProbeResult:
    """What one probe made of one layer.

    Attributes:
        features: which features: the layer's name, after its store's where there are several.
        dimensions: how many numbers an example has.
        method: a name of `METHODS`.
        setting: what validation chose, with the first seed.
        val_accuracy: mean over the seeds.
        test_accuracy: mean over the seeds.
        test_std: standard deviation over the seeds; 0 for one.
        test_accuracies: of each seed.
        evaluation: of the test part, with the first seed.
        notes: what is worth saying of the fits.
    """

    features: str
    dimensions: int
    method: str
    setting: str
    val_accuracy: float
    test_accuracy: float
    test_std: float
    test_accuracies: list[float]
    evaluation: Evaluation
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {**asdict(self), "evaluation": self.evaluation.to_json()}


@dataclass(frozen=True)
class ProbeOptions:
    """Which part of the examples is what, where the data does not say it.

    Attributes:
        val_fraction: fraction of the examples that settings are chosen by.
        test_fraction: fraction that is tested on.
        seed: of the draw and of what a probe draws.
        repeats: how many seeds are used, one after the other.
    """

    val_fraction: float = 0.2
    test_fraction: float = 0.2
    seed: int = 0
    repeats: int = 1


def probe(
    name: str,
    data: Dataset,
    method: str,
    test_data: Dataset | None = None,
    options: ProbeOptions = ProbeOptions(),
) -> ProbeResult:
    """Fit one probe on one layer's features, and test it.

    Args:
        name: what the features are called.
        data: features (N, D) in the place of images; parts of the source's own are kept.
        method: a name of `METHODS`.
        test_data: the features that are tested on, if they stand elsewhere.
        options: the parts that are drawn otherwise.

    Raises:
        ProbeError: when there is no such method, or a class cannot be learnt.
        DataError: when there are no labels.
    """
    if method not in METHODS:
        raise ProbeError(f"no method {method!r}: choose {', '.join(METHODS)}")
    if options.repeats < 1:
        raise ProbeError("repeats must be at least 1")
    runs = [
        _run(data, method, test_data, options, seed)
        for seed in range(options.seed, options.seed + options.repeats)
    ]
    accuracies = [run.evaluation.accuracy for run in runs]
    return ProbeResult(
        features=name,
        dimensions=data.images.shape[1],
        method=method,
        setting=runs[0].fitted.setting,
        val_accuracy=float(np.mean([run.fitted.val_accuracy for run in runs])),
        test_accuracy=float(np.mean(accuracies)),
        test_std=float(np.std(accuracies)),
        test_accuracies=accuracies,
        evaluation=runs[0].evaluation,
        notes=list(dict.fromkeys(run.fitted.note for run in runs if run.fitted.note)),
    )


def best_of(results: Sequence[ProbeResult]) -> ProbeResult:
    """The result with the best validation accuracy: what one would choose without the test."""
    return max(results, key=lambda result: result.val_accuracy)


@dataclass(frozen=True)
class _Run:
    fitted: Fitted
    evaluation: Evaluation


def _run(
    data: Dataset, method: str, test_data: Dataset | None, options: ProbeOptions, seed: int
) -> _Run:
    parts = split(data, options.val_fraction, options.test_fraction, seed, test_data)
    for part, images in (("validation", parts.val), ("test", parts.test)):
        if not len(images):
            raise ProbeError(f"no examples are left for {part}: give it a larger share")
    scale = _scale(parts.train)
    train, val, test = (_examples(part, scale) for part in (parts.train, parts.val, parts.test))
    fitted = METHODS[method](train, val, seed)
    found = outcomes(fitted.classify(test.features), "probabilities", test.classes)
    labels = [class_name(data.names, index) for index in range(class_count(parts.train))]
    return _Run(fitted, summarized(found, labels, parts.test.ids))


def _scale(train: Dataset) -> Scale:
    missing = np.flatnonzero(np.bincount(labelled(train), minlength=class_count(train)) == 0)
    if len(missing):
        names = ", ".join(class_name(train.names, int(index)) for index in missing)
        raise ProbeError(f"no training examples of class {names}")
    return Scale.of(train.images)


def _examples(data: Dataset, scale: Scale) -> Examples:
    return Examples(scale(data.images), labelled(data))
