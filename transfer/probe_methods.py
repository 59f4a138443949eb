"""Small classifiers on frozen features; validation data choose their settings.

All of them see features that are standardized by the training part's mean and deviation.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

#: Features (N, D) → probabilities (N, classes).
Classifier = Callable[[np.ndarray], np.ndarray]

#: Inverse strengths of regularization that are tried; the first of equals is kept, the strongest.
_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
_ITERATIONS = 300

#: Numbers of neighbours that are tried.
_NEIGHBOURS = (1, 3, 5, 10, 20)

_HIDDEN = 100
_BATCH = 64
_EPOCHS = 100
_PATIENCE = 10
_LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Examples:
    """Features and their classes.

    Attributes:
        features: (N, D) float32, standardized.
        classes: (N,) int64, counted from 0.
    """

    features: np.ndarray
    classes: np.ndarray

    def accuracy(self, classify: Classifier) -> float:
        """How often a classifier is right here."""
        return float((classify(self.features).argmax(axis=1) == self.classes).mean())


@dataclass(frozen=True)
class Scale:
    """What standardizes features.

    Attributes:
        mean: (D,) of the training part.
        std: (D,) of the training part; 1 for a feature that never changes.
    """

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Scale:
        """The scale of features (N, D)."""
        std = features.std(axis=0, dtype=np.float64)
        mean = features.mean(axis=0, dtype=np.float64)
        # What rounding leaves of a constant is no deviation.
        return cls(mean, np.where(std > 1e-6 * np.maximum(abs(mean), 1e-30), std, 1.0))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Features (N, D) with mean 0 and deviation 1, as float32."""
        return ((features - self.mean) / self.std).astype(np.float32)


@dataclass(frozen=True)
class Fitted:
    """A probe that was fitted.

    Attributes:
        classify: the classifier, of standardized features.
        setting: what validation chose, such as `C=0.1`.
        val_accuracy: with that setting, before anything was learnt from the validation part.
        note: what is worth saying of the fit; empty for nothing.
    """

    classify: Classifier
    setting: str
    val_accuracy: float
    note: str = ""


class Regression:
    """Multinomial logistic regression; each fit begins where the one before it ended."""

    def __init__(self) -> None:
        from sklearn.linear_model import LogisticRegression

        self._model = LogisticRegression(max_iter=_ITERATIONS, warm_start=True)

    def fit(self, examples: Examples, strength: float) -> Classifier:
        """The classifier that fits examples best.

        Args:
            examples: to learn from.
            strength: C, the inverse strength of regularization.
        """
        from sklearn.exceptions import ConvergenceWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._model.set_params(C=strength).fit(examples.features, examples.classes)
        return self._model.predict_proba

    @property
    def note(self) -> str:
        """What is worth saying of the last fit; empty for nothing."""
        stopped = int(np.max(self._model.n_iter_)) >= _ITERATIONS
        return f"C={self._model.C:g} was stopped after {_ITERATIONS} iterations" if stopped else ""

    def linear(self, scale: Scale) -> tuple[np.ndarray, np.ndarray]:
        """The last fit as a linear layer on features as they were before they were scaled.

        Returns:
            weight (classes, D) and bias (classes,) of logits.
        """
        weight, bias = self._model.coef_, self._model.intercept_
        if len(weight) == 1:
            # For two classes it keeps the difference of their logits.
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        weight = weight / scale.std
        return weight, bias - weight @ scale.mean


def fit_logistic(train: Examples, val: Examples, seed: int) -> Fitted:
    """Logistic regression; C is chosen by validation, then all of both parts are learnt from.

    Args:
        train: to learn from.
        val: to choose by.
        seed: is not used: there is one optimum.
    """
    # Each fit begins where the one with a stronger regularization ended.
    regression = Regression()
    scores = {strength: val.accuracy(regression.fit(train, strength)) for strength in _STRENGTHS}
    best = max(scores, key=lambda strength: scores[strength])
    classify = regression.fit(_together(train, val), best)
    return Fitted(classify, f"C={best:g}", scores[best], regression.note)


def fit_knn(train: Examples, val: Examples, seed: int) -> Fitted:
    """The nearest neighbours by Euclidean distance; their number is chosen by validation.

    Args:
        train: to learn from.
        val: to choose by; then it is learnt from too.
        seed: is not used: nothing is drawn.
    """
    from sklearn.neighbors import KNeighborsClassifier

    def fit(neighbours: int, examples: Examples) -> Classifier:
        model = KNeighborsClassifier(neighbours, weights="distance", algorithm="brute")
        return model.fit(examples.features, examples.classes).predict_proba

    tried = [count for count in _NEIGHBOURS if count <= len(train.classes)]
    scores = {count: val.accuracy(fit(count, train)) for count in tried}
    best = max(scores, key=lambda count: scores[count])
    return Fitted(fit(best, _together(train, val)), f"k={best}", scores[best])


def fit_network(train: Examples, val: Examples, seed: int) -> Fitted:
    """The lab's network of two layers (Linear, ReLU, Linear), with 100 hidden units.

    AdamW; the weights of the epoch with the least validation loss are kept.

    Args:
        train: to learn from.
        val: to stop by.
        seed: of the first weights and the order of the examples.
    """
    count = int(max(train.classes.max(), val.classes.max())) + 1
    x, y = torch.from_numpy(train.features), torch.from_numpy(train.classes)
    val_x, val_y = torch.from_numpy(val.features), torch.from_numpy(val.classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(x.shape[1], _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, count)
        )
        optimizer = torch.optim.AdamW(network.parameters(), _LEARNING_RATE)
        best, kept, kept_epoch = float("inf"), network.state_dict(), 0
        for epoch in range(1, _EPOCHS + 1):
            for batch in torch.randperm(len(x)).split(_BATCH):
                optimizer.zero_grad()
                functional.cross_entropy(network(x[batch]), y[batch]).backward()
                optimizer.step()
            with torch.no_grad():
                loss = float(functional.cross_entropy(network(val_x), val_y))
            if loss < best:
                best, kept_epoch = loss, epoch
                kept = {name: value.clone() for name, value in network.state_dict().items()}
            elif epoch - kept_epoch >= _PATIENCE:
                break
    network.load_state_dict(kept)

    def classify(features: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.from_numpy(features)).softmax(1).numpy()

    return Fitted(classify, f"{kept_epoch} epochs", val.accuracy(classify))


#: The probes, by name.
METHODS: dict[str, Callable[[Examples, Examples, int], Fitted]] = {
    "logistic": fit_logistic,
    "knn": fit_knn,
    "network": fit_network,
}


def _together(first: Examples, second: Examples) -> Examples:
    return Examples(
        np.concatenate([first.features, second.features]),
        np.concatenate([first.classes, second.classes]),
    )
