"""How well frozen features separate classes: small classifiers (probes) on several layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from ..converters.inference.classifier import class_name
from .data import Dataset, split
from .data.class_matching import MatchBy
from .data.class_matching import match_classes as matched
from .data.selection import class_count, labelled
from .errors import ProbeError
from .evaluation import Evaluation, outcomes, summarize
from .evaluation.results import SCORES
from .probe_methods import METHODS, Examples, Fitted, LinearLayer, Scale
from .spread import Spread


@dataclass(frozen=True)
class ProbeResult:
    """The result of one probe of one layer.

    Attributes:
        layer: The layer's name, preceded by its store's where there are several.
        dimensions: The number of features of an example.
        method: A name in `METHODS`.
        setting: What validation chose, for the first seed.
        val_accuracy: The mean over the seeds.
        test_accuracy: The mean over the seeds.
        test_std: The sample standard deviation over the seeds; 0 for one seed.
        test_accuracies: The accuracy of each seed.
        metrics: Mean and deviation over the seeds of `val_accuracy` and of every metric of the test
            split, such as `test_f1`.
        evaluation: The evaluation on the test split, for the first seed.
        notes: How the classes of the test features were matched, and notes on the fits.
        class_names: The names of the classes, or None.
        scale: The standardization of the features, for the first seed.
        linear: The probe as a layer on standardized features, if it is a logistic regression, for
            the first seed.
    """

    layer: str
    dimensions: int
    method: str
    setting: str
    val_accuracy: float
    test_accuracy: float
    test_std: float
    test_accuracies: list[float]
    metrics: dict[str, Spread]
    evaluation: Evaluation
    notes: list[str]
    class_names: list[str] | None
    scale: Scale = field(repr=False, compare=False)
    linear: LinearLayer | None = field(repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        for name in ("class_names", "scale", "linear"):
            del values[name]
        spreads = [spread.to_json(metric) for metric, spread in self.metrics.items()]
        return {**values, "metrics": spreads, "evaluation": self.evaluation.to_json()}


@dataclass(frozen=True)
class ProbeOptions:
    """How examples are split, where the data has no splits, and how often.

    Attributes:
        val_fraction: The fraction of the examples that settings are chosen by.
        test_fraction: The fraction of the examples that probes are tested on.
        seed: The seed of the splits and of the probes.
        repeats: The number of seeds, counted from `seed`.
        match_classes: How the classes of other features to test on are matched.
    """

    val_fraction: float = 0.2
    test_fraction: float = 0.2
    seed: int = 0
    repeats: int = 1
    match_classes: MatchBy = "name"


def probe(
    name: str,
    data: Dataset,
    method: str,
    test_data: Dataset | None = None,
    options: ProbeOptions = ProbeOptions(),
) -> ProbeResult:
    """Fit one probe on one layer's features, and test it.

    Args:
        name: The name of the features.
        data: Features (N, D) in place of images; the source's own splits are kept.
        method: A name in `METHODS`.
        test_data: The features to test on, if they are another dataset; its classes are matched
            with those of `data` (see `match_classes`).
        options: How the other examples are split.

    Raises:
        ProbeError: If there is no such method, a split or a class has no examples, or a feature
            is not a finite number.
        DataError: If there are no labels, or `data` lacks a class of `test_data`.

    Example:
        >>> import numpy as np
        >>> from torchlift.transfer.data import Dataset
        >>> from torchlift.transfer.probe import probe
        >>> classes = np.arange(60) % 2
        >>> features = np.stack([classes, -classes], axis=1).astype(np.float32)
        >>> result = probe("penultimate", Dataset(features, classes), "knn")
        >>> result.setting, result.test_accuracy
        ('k=1', 1.0)
    """
    if method not in METHODS:
        raise ProbeError(f"method={method!r}: expected one of {', '.join(METHODS)}")
    if options.repeats < 1:
        raise ProbeError(f"repeats={options.repeats}: expected at least 1")
    notes: list[str] = []
    if test_data is not None:
        test_data, matching = match_test_features(test_data, data, options.match_classes)
        notes += matching
    runs = [
        _run(data, method, test_data, options, seed)
        for seed in range(options.seed, options.seed + options.repeats)
    ]
    metrics = {"val_accuracy": Spread.of(run.fitted.val_accuracy for run in runs)}
    for score in SCORES:
        metrics[f"test_{score}"] = Spread.of(getattr(run.evaluation, score) for run in runs)
    return ProbeResult(
        layer=name,
        dimensions=data.images.shape[1],
        method=method,
        setting=runs[0].fitted.setting,
        val_accuracy=metrics["val_accuracy"].average,
        test_accuracy=metrics["test_accuracy"].average,
        test_std=metrics["test_accuracy"].deviation or 0.0,
        test_accuracies=[run.evaluation.accuracy for run in runs],
        metrics=metrics,
        evaluation=runs[0].evaluation,
        notes=[*notes, *dict.fromkeys(run.fitted.note for run in runs if run.fitted.note)],
        class_names=None if data.names is None else list(data.names),
        scale=runs[0].scale,
        linear=runs[0].fitted.linear,
    )


def match_test_features(
    test: Dataset, train: Dataset, match_classes: MatchBy = "name"
) -> tuple[Dataset, list[str]]:
    """Return features to test on with the classes of those to train on, and notes on both.

    Raises:
        DataError: If there are no labels, or `train` lacks a class of `test`.
    """
    sides = ("the test set", "the training set")
    return matched(test, train.names, match_classes, sides, class_count(train))


def best_of(results: Sequence[ProbeResult], method: str | None = None) -> ProbeResult:
    """Return the result with the best validation accuracy; test results must not decide.

    Args:
        results: One or more.
        method: Only of these probes.
    """
    chosen = (result for result in results if method in (None, result.method))
    return max(chosen, key=lambda result: result.val_accuracy)


@dataclass(frozen=True)
class _Run:
    fitted: Fitted
    scale: Scale
    evaluation: Evaluation


def _run(
    data: Dataset, method: str, test_data: Dataset | None, options: ProbeOptions, seed: int
) -> _Run:
    splits = split(
        data, options.val_fraction, options.test_fraction, seed, test_data, options.match_classes
    )
    for name, images in (("val", splits.val), ("test", splits.test)):
        if not len(images):
            raise ProbeError(f"the {name} split has no examples: use a larger {name}_fraction=…")
    scale = _scale(splits.train)
    train, val, test = (
        Examples(scale(each.images), labelled(each))
        for each in (splits.train, splits.val, splits.test)
    )
    fitted = METHODS[method](train, val, seed)
    tested = outcomes(fitted.classify(test.features), "probabilities", test.classes)
    labels = [class_name(data.names, index) for index in range(class_count(splits.train))]
    return _Run(fitted, scale, summarize(tested, labels, splits.test.ids))


def _scale(train: Dataset) -> Scale:
    missing = np.flatnonzero(np.bincount(labelled(train), minlength=class_count(train)) == 0)
    if len(missing):
        names = ", ".join(class_name(train.names, int(index)) for index in missing)
        raise ProbeError(f"no training examples of class {names}")
    return Scale.of(train.images)
