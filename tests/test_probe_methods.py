"""The probes by the formulas of scikit-learn and of a plain loop of PyTorch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from torch.nn import functional

from torchlift.transfer import probe_methods
from torchlift.transfer.data import Dataset
from torchlift.transfer.errors import DataError, ProbeError
from torchlift.transfer.probe import ProbeOptions, best_of, match_test_features, probe
from torchlift.transfer.probe_methods import (
    METHODS,
    Examples,
    Fitted,
    Regression,
    Scale,
    fit_knn,
    fit_network,
)


def noisy(count: int, seed: int, noise: float = 1.5) -> Examples:
    """Return three overlapping classes in four dimensions."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    values = np.eye(3, 4)[labels] * 2 + noise * draw.standard_normal((count, 4))
    return Examples(values.astype(np.float32), labels)


TRAIN, VAL, TEST = noisy(60, 0), noisy(45, 1), noisy(50, 2)
BOTH = Examples(
    np.concatenate([TRAIN.features, VAL.features]), np.concatenate([TRAIN.classes, VAL.classes])
)


def test_the_chosen_regression_is_fitted_on_training_and_validation_examples() -> None:
    fitted = METHODS["logistic"](TRAIN, VAL, 0)
    strength = float(fitted.setting.removeprefix("C="))
    expected = LogisticRegression(C=strength, max_iter=1000).fit(BOTH.features, BOTH.classes)
    # Both stop once the gradient is small; one starts from the weights of the strength before.
    np.testing.assert_allclose(
        fitted.classify(TEST.features), expected.predict_proba(TEST.features), atol=2e-3
    )


def test_neighbors_vote_by_their_distance_and_their_number_is_chosen_by_validation() -> None:
    def model(count: int, examples: Examples) -> KNeighborsClassifier:
        found = KNeighborsClassifier(count, weights="distance")
        return found.fit(examples.features, examples.classes)

    fitted = METHODS["knn"](TRAIN, VAL, 0)
    scores = {
        count: model(count, TRAIN).score(VAL.features, VAL.classes) for count in (1, 3, 5, 10, 20)
    }
    count = int(fitted.setting.removeprefix("k="))
    assert count > 1
    assert scores[count] == max(scores.values()) == fitted.val_accuracy
    np.testing.assert_allclose(
        fitted.classify(TEST.features), model(count, BOTH).predict_proba(TEST.features), atol=1e-5
    )


def test_more_neighbors_than_examples_are_not_tried() -> None:
    few = Examples(TRAIN.features[:4], np.array([0, 1, 2, 0]))
    assert METHODS["knn"](few, VAL, 0).setting in ("k=1", "k=3")
    # As many as there are examples: the two that are farther away outvote the nearest one.
    three = Examples(np.array([[0.0], [1.0], [1.0]], np.float32), np.array([0, 1, 1]))
    between = Examples(np.array([[0.45]], np.float32), np.array([1]))
    assert METHODS["knn"](three, between, 0).setting == "k=3"


def test_the_network_is_that_of_the_epoch_with_the_smallest_validation_loss() -> None:
    """A plain loop with the same seed; validation labels at random make the loss rise soon."""
    val = Examples(VAL.features, np.random.default_rng(0).permutation(VAL.classes))
    fitted = METHODS["network"](TRAIN, val, 3)
    x, y = torch.from_numpy(TRAIN.features), torch.from_numpy(TRAIN.classes)
    torch.manual_seed(3)
    network = nn.Sequential(nn.Linear(4, 100), nn.ReLU(), nn.Linear(100, 3))
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    losses, outputs = [], []
    for _ in range(30):
        for batch in torch.randperm(60).split(64):
            optimizer.zero_grad()
            functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            logits = network(torch.from_numpy(val.features))
            losses.append(float(functional.cross_entropy(logits, torch.from_numpy(val.classes))))
            outputs.append(network(torch.from_numpy(TEST.features)).softmax(1).numpy())
    best = int(np.argmin(losses))
    assert 0 < best < 15
    assert fitted.setting == f"{best + 1} epochs"
    np.testing.assert_allclose(fitted.classify(TEST.features), outputs[best], atol=1e-5)


def test_the_network_stops_ten_epochs_after_the_best_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    orders, permutation = list[int](), torch.randperm

    def counted(count: int) -> torch.Tensor:
        orders.append(count)
        return permutation(count)

    monkeypatch.setattr(torch, "randperm", counted)
    val = Examples(VAL.features, np.random.default_rng(0).permutation(VAL.classes))
    fitted = METHODS["network"](TRAIN, val, 3)
    assert f"{len(orders) - 10} epochs" == fitted.setting


def test_the_best_of_several_layers_is_chosen_by_validation_and_not_by_the_test() -> None:
    data = Dataset(TRAIN.features, TRAIN.classes, ("a", "b", "c"))
    results = [probe(str(seed), data, "knn", None, ProbeOptions(seed=seed)) for seed in range(8)]
    best = best_of(results)
    assert best.val_accuracy == max(result.val_accuracy for result in results)
    assert best.test_accuracy < max(result.test_accuracy for result in results)


def test_test_features_are_scaled_like_the_training_features() -> None:
    """A test split far away must not move the mean: that would be looking at it."""
    data = Dataset(TRAIN.features, TRAIN.classes, ("a", "b", "c"))
    near, far = (
        probe("x", data, "knn", Dataset(TEST.features + shift, TEST.classes, ("a", "b", "c")))
        for shift in (0, 1000)
    )
    assert near.val_accuracy == far.val_accuracy
    assert far.test_accuracy < near.test_accuracy


def test_features_are_scaled_by_the_training_split_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Examples] = []

    def spy(train: Examples, val: Examples, seed: int) -> Fitted:
        seen.append(train)
        return fit_knn(train, val, seed)

    monkeypatch.setitem(METHODS, "knn", spy)
    probe("x", Dataset(TRAIN.features, TRAIN.classes), "knn")
    np.testing.assert_allclose(seen[0].features.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(seen[0].features.std(0), 1, atol=1e-6)


def test_mistakes_have_the_names_of_their_images() -> None:
    names = np.array([f"{index}.png" for index in range(len(TEST.classes))])
    data = Dataset(TRAIN.features, TRAIN.classes, ("a", "b", "c"))
    test = Dataset(TEST.features, TEST.classes, ("a", "b", "c"), ids=names)
    mistakes = probe("x", data, "knn", test).evaluation.mistakes
    assert len(mistakes) > 1
    for mistake in mistakes:
        assert mistake.input == f"{mistake.image_index}.png"
        assert mistake.label == "abc"[TEST.classes[mistake.image_index]]


def test_classes_of_the_test_features_are_matched_by_name() -> None:
    data = Dataset(TRAIN.features, TRAIN.classes, ("a", "b", "c"))
    turned = Dataset(TEST.features, (TEST.classes + 1) % 3, ("c", "a", "b"))
    plain = probe("x", data, "knn", Dataset(TEST.features, TEST.classes, ("a", "b", "c")))
    assert probe("x", data, "knn", turned).test_accuracy == plain.test_accuracy > 0.5


def test_a_feature_that_is_not_finite_is_an_error() -> None:
    broken = TRAIN.features.copy()
    broken[5, 2] = np.nan
    with pytest.raises(ProbeError, match=r"1 of .* examples have features that are not finite"):
        probe("x", Dataset(broken, TRAIN.classes), "knn", None, ProbeOptions(seed=1))


@pytest.mark.parametrize("value", [3.0, -3.0])
def test_rounding_of_a_constant_feature_is_not_made_large(value: float) -> None:
    column = np.full(6, value, np.float32)
    column[::2] = np.nextafter(column[0], np.float32(0))
    scale = Scale.of(np.stack([column, np.arange(6, dtype=np.float32)], axis=1))
    assert scale.std.tolist() == [1.0, np.arange(6).std()]


@pytest.mark.parametrize("count", [2, 3])
def test_the_linear_layer_of_a_regression_has_its_probabilities(count: int) -> None:
    """Of two classes scikit-learn keeps one row, and a shifted boundary needs a bias."""
    chosen = TRAIN.classes < count
    examples = Examples(TRAIN.features[chosen] + 3, TRAIN.classes[chosen])
    regression = Regression(exact=True)
    classify, layer = regression.fit(examples, 1.0), regression.linear
    logits = examples.features @ layer.weight.T + layer.bias
    assert layer.weight.shape == (count, 4)
    assert abs(layer.bias).max() > 0.1
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(classify(examples.features), expected, atol=1e-6)


def test_a_regression_that_was_stopped_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    finished = Regression(exact=True)
    finished.fit(TRAIN, 1.0)
    assert finished.note == ""
    monkeypatch.setattr(probe_methods, "_ITERATIONS", 1)
    stopped = Regression()
    stopped.fit(TRAIN, 10.0)
    assert stopped.note == "C=10 was stopped after 1 iterations"
    assert "was stopped after 10 iterations" in METHODS["logistic"](TRAIN, VAL, 0).note


def test_a_network_has_an_output_for_a_class_of_the_validation_examples_alone() -> None:
    features = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32)
    train = Examples(features, np.arange(12) % 2)
    fitted = fit_network(train, Examples(features[:3], np.array([0, 1, 2])), seed=0)
    assert fitted.classify(features).shape == (12, 3)


def test_of_equally_good_settings_the_simplest_is_kept() -> None:
    """The strongest regularization; and one neighbor, which needs no others."""
    classes = np.arange(40) % 2
    features = np.stack([classes * 8.0 - 4, classes * 0.0], axis=1).astype(np.float32)
    apart = Examples(features, classes)
    assert METHODS["logistic"](apart, apart, 0).setting == "C=0.0001"
    assert METHODS["knn"](apart, apart, 0).setting == "k=1"


def test_mean_and_deviation_are_summed_in_double_precision() -> None:
    """In float32 the mean of a hundred thousand numbers near a million is off by several units."""
    column = (1e6 + np.arange(100_000) % 7).astype(np.float32)
    scale = Scale.of(column[:, None])
    assert (scale.mean.dtype, scale.std.dtype) == (np.float64, np.float64)
    assert scale.mean[0] == pytest.approx(column.mean(dtype=np.float64), abs=1e-9)
    assert scale.std[0] == pytest.approx(2.0, abs=1e-3)


def test_a_test_split_without_examples_is_named() -> None:
    data = Dataset(TRAIN.features, TRAIN.classes)
    with pytest.raises(ProbeError, match=r"the test split has no examples: .* test_fraction=…"):
        probe("x", data, "knn", None, ProbeOptions(test_fraction=0))


def test_a_regression_tells_at_least_two_classes_apart() -> None:
    """The examples of a class may all be left out by a split."""
    examples = Examples(TRAIN.features[:4], np.array([2, 2, 2, 2]))
    for fit in (
        lambda: METHODS["logistic"](examples, VAL, 0),
        lambda: Regression().fit(examples, 1),
    ):
        with pytest.raises(ProbeError, match="needs examples of at least two classes"):
            fit()
    two = Examples(TRAIN.features[:4], np.array([2, 2, 2, 0]))
    assert Regression().fit(two, 1)(two.features).shape == (4, 2)


def test_a_network_that_gets_better_is_trained_for_100_epochs_and_draws_for_itself() -> None:
    """The random numbers of the process are as before."""
    classes = np.arange(30) % 3
    apart = Examples(np.eye(3, 4, dtype=np.float32)[classes], classes)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert fit_network(apart, apart, seed=0).setting == "100 epochs"
    assert torch.equal(torch.get_rng_state(), before)


def test_a_small_deviation_of_a_large_feature_is_one() -> None:
    """Not rounding: the column is standardized like any other."""
    column = np.array([1000.0, 1000.5, 1001.0, 999.5])
    scale = Scale.of(column[:, None])
    np.testing.assert_allclose(scale(column[:, None])[:, 0].std(), 1, rtol=1e-5)
    assert scale.std[0] == pytest.approx(column.std())


def test_what_is_not_finite_is_refused_in_features_of_any_split() -> None:
    scale = Scale.of(TRAIN.features)
    broken = TEST.features.copy()
    broken[[3, 7], 1] = np.inf
    for refusing in (Scale.of, scale):
        with pytest.raises(ProbeError, match=r"2 of 50 examples .*: features\[4,2\]|\[3, ?1\]"):
            refusing(broken)


def of_the_first_class(features: np.ndarray) -> np.ndarray:
    return np.tile([1.0, 0.0, 0.0], (len(features), 1))


def test_a_probe_says_once_what_each_of_its_runs_says(monkeypatch: pytest.MonkeyPatch) -> None:
    notes = iter(["slow", "slow", "", "slower"])

    def fit(train: Examples, val: Examples, seed: int) -> Fitted:
        return Fitted(
            lambda features: np.eye(3)[np.zeros(len(features), int)], "s", 0.5, next(notes)
        )

    monkeypatch.setitem(METHODS, "knn", fit)
    data = Dataset(TRAIN.features, TRAIN.classes, ("a", "b", "c"))
    test = Dataset(TEST.features, TEST.classes, ("a", "b", "c"))
    result = probe("x", data, "knn", test, ProbeOptions(repeats=4, match_classes="position"))
    assert result.notes[-2:] == ["slow", "slower"]
    assert len(result.notes) == 3
    assert "by position" in result.notes[0]
    assert result.class_names == ["a", "b", "c"]
    assert not {"class_names", "scale", "linear"} & set(result.to_json())
    # The scale is that of the first seed, as are the setting and the evaluation.
    first = probe("x", data, "network", test, ProbeOptions(seed=2)).scale
    both = probe("x", data, "network", test, ProbeOptions(seed=2, repeats=2)).scale
    assert np.array_equal(first.mean, both.mean)


def test_a_fifth_of_the_examples_chooses_and_a_fifth_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def fit(train: Examples, val: Examples, seed: int) -> Fitted:
        sizes.extend([len(train.classes), len(val.classes), seed])
        return Fitted(of_the_first_class, "s", 0.5)

    monkeypatch.setitem(METHODS, "knn", fit)
    result = probe("x", Dataset(TRAIN.features, TRAIN.classes), "knn")
    assert (sizes, result.evaluation.count) == ([36, 12, 0], 12)


def test_test_features_have_no_class_that_was_not_learned() -> None:
    """Also where nobody has names: the fourth of three."""
    train = Dataset(TRAIN.features, TRAIN.classes)
    beyond = Dataset(TEST.features, np.where(np.arange(50) == 7, 3, TEST.classes))
    with pytest.raises(DataError, match=r"the training set"):
        match_test_features(beyond, train)
    _, (note,) = match_test_features(Dataset(TEST.features, TEST.classes), train)
    assert "by position, because neither the test set nor the training set names them" in note


def test_examples_and_not_numbers_are_counted_that_are_not_finite() -> None:
    features = np.zeros((5, 3), np.float32)
    scale = Scale.of(features)
    features[1, [0, 2]], features[3, 1] = np.nan, -np.inf
    said = r"^2 of 5 examples have features that are not finite numbers: features\[1, 0\] is nan"
    for check in (Scale.of, scale):
        with pytest.raises(ProbeError, match=said):
            check(features)


def test_the_best_may_be_asked_for_among_the_probes_of_one_method() -> None:
    """Only a logistic one becomes a network; of equal ones the first is taken."""
    given: Any = [
        SimpleNamespace(method=method, val_accuracy=val, test_accuracy=test)
        for method, val, test in (
            ("knn", 0.9, 0.1), ("logistic", 0.5, 0.9), ("logistic", 0.7, 0.2), ("logistic", 0.7, 1),
        )
    ]  # fmt: skip
    assert best_of(given) is given[0]
    assert best_of(given, "knn") is given[0]
    assert best_of(given, "logistic") is given[2]


def test_the_deviation_of_a_probe_is_that_of_its_tests() -> None:
    """The sample deviation over its seeds, of which each splits the examples in another way."""
    data = Dataset(BOTH.features, BOTH.classes, ("a", "b", "c"))
    found = probe("x", data, "knn", None, ProbeOptions(repeats=3))
    assert found.test_std == pytest.approx(np.std(found.test_accuracies, ddof=1))
    assert found.test_accuracy == pytest.approx(np.mean(found.test_accuracies))
    assert found.metrics["val_accuracy"].deviation != pytest.approx(found.test_std)
    assert probe("x", data, "knn").test_std == 0
