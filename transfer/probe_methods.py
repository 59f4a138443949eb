"""Small classifiers on frozen features, whose settings are chosen on the validation split.

All of them take features standardized by the mean and standard deviation of the training split.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..converters.finite import first_not_finite
from .errors import ProbeError

#: Features (N, D) → probabilities (N, classes).
Classifier = Callable[[np.ndarray], np.ndarray]

#: The inverse strengths of regularization to try, the strongest first, which is kept on a tie.
_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
_ITERATIONS = 300

#: The numbers of neighbors to try.
_NEIGHBORS = (1, 3, 5, 10, 20)

#: The hidden units and the training of the two-layer network.
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
        classes: (N,) int64 class indices, counted from 0.
    """

    features: np.ndarray
    classes: np.ndarray

    def accuracy(self, classify: Classifier) -> float:
        """Return the accuracy of a classifier on these examples."""
        return float((classify(self.features).argmax(axis=1) == self.classes).mean())


@dataclass(frozen=True)
class Scale:
    """The standardization of features.

    Attributes:
        mean: (D,) of the training split.
        std: (D,) of the training split; 1 for a constant feature.
    """

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Scale:
        """Return the standardization of features (N, D).

        Raises:
            ProbeError: If a feature is not a finite number.
        """
        _check_finite(features)
        std = features.std(axis=0, dtype=np.float64)
        mean = features.mean(axis=0, dtype=np.float64)
        # Rounding may leave a tiny deviation of a constant feature.
        return cls(mean, np.where(std > 1e-6 * np.maximum(abs(mean), 1e-30), std, 1.0))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return features (N, D) with mean 0 and standard deviation 1, as float32.

        Raises:
            ProbeError: If a feature is not a finite number.
        """
        _check_finite(features)
        scaled: np.ndarray = (features - self.mean) / self.std
        return scaled.astype(np.float32)


@dataclass(frozen=True)
class LinearLayer:
    """The logits of a logistic regression.

    Attributes:
        weight: (classes, D), of features.
        bias: (classes,).
    """

    weight: np.ndarray
    bias: np.ndarray

    def unscaled(self, scale: Scale) -> LinearLayer:
        """Return the layer that does the same to features before they are standardized."""
        weight = self.weight / scale.std
        return LinearLayer(weight, self.bias - weight @ scale.mean)


@dataclass(frozen=True)
class Fitted:
    """A fitted probe.

    Attributes:
        classify: The classifier of standardized features.
        setting: What validation chose, such as `C=0.1`.
        val_accuracy: The accuracy with this setting, before training on the validation split.
        note: A note on the fit; empty for none.
        linear: The classifier as a linear layer, if it is one.
    """

    classify: Classifier
    setting: str
    val_accuracy: float
    note: str = ""
    linear: LinearLayer | None = None


class Regression:
    """Multinomial logistic regression; each fit starts from the result of the one before it.

    Args:
        exact: Fit until nothing changes, in double precision. Otherwise until the accuracy does not
            change, which is enough to choose a setting.
    """

    def __init__(self, exact: bool = False) -> None:
        from sklearn.linear_model import LogisticRegression

        self._dtype = np.float64 if exact else np.float32
        self._iterations = 10 * _ITERATIONS if exact else _ITERATIONS
        self._model = LogisticRegression(
            tol=1e-7 if exact else 1e-4, max_iter=self._iterations, warm_start=True
        )

    def fit(self, examples: Examples, strength: float) -> Classifier:
        """Fit the regression and return it as a classifier.

        Args:
            examples: The examples to fit.
            strength: C, the inverse strength of regularization.

        Raises:
            ProbeError: If there is only one class.
        """
        from sklearn.exceptions import ConvergenceWarning

        if len(np.unique(examples.classes)) < 2:
            raise ProbeError("a logistic regression needs examples of at least two classes")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            features = examples.features.astype(self._dtype, copy=False)
            self._model.set_params(C=strength).fit(features, examples.classes)
        classify: Classifier = self._model.predict_proba
        return classify

    @property
    def note(self) -> str:
        """A note on the last fit; empty if it converged."""
        if int(np.max(self._model.n_iter_)) < self._iterations:
            return ""
        return f"C={self._model.C:g} was stopped after {self._iterations} iterations"

    @property
    def linear(self) -> LinearLayer:
        """The last fit as a linear layer on standardized features."""
        weight, bias = self._model.coef_, self._model.intercept_
        if len(weight) == 1:
            # For two classes, scikit-learn keeps only the difference of their logits.
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        return LinearLayer(weight, bias)


def fit_logistic(train: Examples, val: Examples, seed: int) -> Fitted:
    """Fit a logistic regression; C is chosen on `val`, then both splits are fitted.

    Args:
        train: The training examples.
        val: The validation examples.
        seed: Unused, since there is a single optimum.
    """
    regression = Regression()
    scores = {strength: val.accuracy(regression.fit(train, strength)) for strength in _STRENGTHS}
    best = max(scores, key=lambda strength: scores[strength])
    last = Regression(exact=True)
    classify = last.fit(_concatenate(train, val), best)
    return Fitted(classify, f"C={best:g}", scores[best], last.note, last.linear)


def fit_knn(train: Examples, val: Examples, seed: int) -> Fitted:
    """Fit nearest neighbors by Euclidean distance; k is chosen on `val`, then both are fitted.

    Args:
        train: The training examples.
        val: The validation examples.
        seed: Unused, since nothing is random.
    """
    from sklearn.neighbors import KNeighborsClassifier

    def fit(neighbors: int, examples: Examples) -> Classifier:
        model = KNeighborsClassifier(neighbors, weights="distance", algorithm="brute")
        classify: Classifier = model.fit(examples.features, examples.classes).predict_proba
        return classify

    counts = [count for count in _NEIGHBORS if count <= len(train.classes)]
    scores = {count: val.accuracy(fit(count, train)) for count in counts}
    best = max(scores, key=lambda count: scores[count])
    return Fitted(fit(best, _concatenate(train, val)), f"k={best}", scores[best])


def fit_network(train: Examples, val: Examples, seed: int) -> Fitted:
    """Train a network of two layers (Linear, ReLU, Linear) with 100 hidden units.

    AdamW with early stopping; the weights of the epoch with the smallest validation loss are kept.

    Args:
        train: The training examples.
        val: The validation examples, which are not trained on.
        seed: The seed of the initial weights and of the order of the examples.
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
        best_loss, best_weights, best_epoch = float("inf"), network.state_dict(), 0
        for epoch in range(1, _EPOCHS + 1):
            for batch in torch.randperm(len(x)).split(_BATCH):
                optimizer.zero_grad()
                functional.cross_entropy(network(x[batch]), y[batch]).backward()
                optimizer.step()
            with torch.no_grad():
                loss = float(functional.cross_entropy(network(val_x), val_y))
            if loss < best_loss:
                best_loss, best_epoch = loss, epoch
                best_weights = {name: value.clone() for name, value in network.state_dict().items()}
            elif epoch - best_epoch >= _PATIENCE:
                break
    network.load_state_dict(best_weights)

    def classify(features: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            probabilities: np.ndarray = network(torch.from_numpy(features)).softmax(1).numpy()
        return probabilities

    return Fitted(classify, f"{best_epoch} epochs", val.accuracy(classify))


#: The probes, by name.
METHODS: dict[str, Callable[[Examples, Examples, int], Fitted]] = {
    "logistic": fit_logistic,
    "knn": fit_knn,
    "network": fit_network,
}


def _check_finite(features: np.ndarray) -> None:
    bad = int((~np.isfinite(features)).any(axis=1).sum())
    if bad:
        raise ProbeError(
            f"{bad:,} of {len(features):,} examples have features that are not finite numbers: "
            f"features{first_not_finite(features)}"
        )


def _concatenate(first: Examples, second: Examples) -> Examples:
    return Examples(
        np.concatenate([first.features, second.features]),
        np.concatenate([first.classes, second.classes]),
    )
