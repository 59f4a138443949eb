"""`calibrate`: one temperature, inside the model, that makes its confidence right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import FIXTURES, SHARED
from torch import nn

from torchlift.cli.main import main
from torchlift.converters.inference import TorchPredictor
from torchlift.converters.onnx import check, export
from torchlift.converters.saved import SavedModel, load, save
from torchlift.transfer.calibration import find_temperature, with_temperature
from torchlift.transfer.data import Dataset
from torchlift.transfer.errors import DataError, HeadError
from torchlift.transfer.evaluation.temperature import fit_temperature
from torchlift.transfer.training.classifiers import adapted_classifier

DIGITS, CIFAR = FIXTURES / "digits", FIXTURES / "cifar"


def too_sure(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return logits that are three times what the classes were drawn by, and the classes."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 1.5, (count, 5))
    odds = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    classes = (odds.cumsum(1) > draw.random((count, 1))).argmax(1)
    return (3 * logits).astype(np.float32), classes


def scikit_learn_temperature(logits: np.ndarray, classes: np.ndarray) -> float:
    """Return what scikit-learn 1.8's temperature scaling finds, or skip where it is older."""
    calibration = pytest.importorskip("sklearn.calibration")
    if not hasattr(calibration, "_TemperatureScaling"):
        pytest.skip("scikit-learn has no temperature scaling before 1.8")
    fitted = calibration._TemperatureScaling().fit(logits.astype(np.float64), classes)
    return float(1 / fitted.beta_)


def test_the_temperature_is_scikit_learns() -> None:
    logits, classes = too_sure(2000, seed=0)
    found = fit_temperature(logits, classes)
    assert found == pytest.approx(3, abs=0.2)
    assert found == pytest.approx(scikit_learn_temperature(logits, classes), rel=1e-5)
    shifted = logits - torch.from_numpy(logits).logsumexp(1, keepdim=True).numpy()
    assert found == pytest.approx(fit_temperature(shifted, classes), rel=1e-5)


def test_a_temperature_is_found_on_labeled_images_alone() -> None:
    logits, classes = too_sure(200, seed=0)
    predictor = TorchPredictor(SavedModel(nn.Flatten(), "logits", (5, 1, 1)), "cpu")
    images = logits[:, :, None, None]
    for data in (Dataset(images), Dataset(images[:0], classes[:0])):
        with pytest.raises(DataError, match="no labels: a model is calibrated on labeled images"):
            find_temperature(predictor, data)
    found = find_temperature(predictor, Dataset(images, classes))
    assert found == pytest.approx(fit_temperature(logits, classes), rel=1e-5)


def test_where_no_temperature_is_the_best_an_error_says_why() -> None:
    logits, classes = too_sure(50, seed=0)
    with pytest.raises(DataError, match="all 50 images right, so that no confidence is too high"):
        fit_temperature(logits, logits.argmax(1))
    with pytest.raises(DataError, match="no better than guessing on these images"):
        fit_temperature(logits, logits.argmin(1))
    impossible = np.where(np.arange(5) == (classes[:, None] + 1) % 5, -np.inf, logits)
    assert np.isfinite(fit_temperature(impossible, classes))


@pytest.mark.parametrize(
    ("kind", "last"),
    [("logits", None), ("log_probabilities", nn.LogSoftmax), ("probabilities", nn.Softmax)],
)
def test_outputs_mean_what_they_meant(kind: str, last: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(8, 5), *([last(1)] if last else [])]
    inputs = torch.rand(6, 1, 2, 4) * 9
    logits = layers[1](inputs.flatten(1)) / 1.7
    expected = last(1)(logits) if last else logits
    model = SavedModel(nn.Sequential(*layers).eval(), kind, (1, 2, 4))
    save(with_temperature(model, 1.7), tmp_path / "saved")
    opened = load(tmp_path / "saved")
    assert opened.output_kind == kind
    assert "calibrated: the logits are divided by the temperature 1.7" in opened.notes
    # The division is a product with the inverse, and rounds once more.
    torch.testing.assert_close(opened.module(inputs), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["features", "probabilities"])
def test_only_a_choice_among_classes_is_calibrated(kind: str) -> None:
    last = nn.Sigmoid() if kind == "probabilities" else nn.ReLU()
    model = SavedModel(nn.Sequential(nn.Linear(4, 2), last).eval(), kind)
    with pytest.raises(HeadError, match="a temperature is for a choice among classes"):
        with_temperature(model, 2.0)


def document(capsys: pytest.CaptureFixture[str], *words: Any, code: int = 0) -> Any:
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == code
    out, error = capsys.readouterr()
    return json.loads(out) if code == 0 else error


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a folder with a model that is too sure, and images with a val and a test split."""
    linear = nn.Linear(5, 5, bias=False)
    nn.init.eye_(linear.weight)
    save(
        SavedModel(nn.Sequential(nn.Flatten(), linear).eval(), "logits", (1, 1, 5)),
        tmp_path / "model",
    )
    parts = {name: too_sure(300, seed) for seed, name in enumerate(("train", "val", "test"))}
    images = {name: logits[:, None, None, :] for name, (logits, _) in parts.items()}
    save_splits(tmp_path / "data.npz", {name: (images[name], parts[name][1]) for name in parts})
    train, test = (images["train"], parts["train"][1]), (images["test"], parts["test"][1])
    save_splits(tmp_path / "two.npz", {"train": train, "test": test})
    np.savez(tmp_path / "val.npz", images=images["val"], labels=parts["val"][1])
    return tmp_path


def save_splits(file: Path, parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Write images and labels of several splits to a .npz."""
    arrays = {f"{name}_images": images for name, (images, _) in parts.items()}
    np.savez(file, **arrays, **{f"{name}_labels": labels for name, (_, labels) in parts.items()})


def test_the_val_split_decides_and_the_test_split_measures(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(capsys, "calibrate", files / "model", files / "data.npz", files / "a")
    with np.load(files / "val.npz") as val:
        expected = fit_temperature(val["images"][:, 0, 0], val["labels"])
    assert found["temperature"] == pytest.approx(expected, rel=1e-5)
    assert [(part["split"], part["count"]) for part in found["results"]] == [
        ("val", 300),
        ("test", 300),
    ]
    for part in found["results"]:
        assert part["before"]["accuracy"] == part["after"]["accuracy"]
        assert part["after"]["ece"] < part["before"]["ece"] / 2
        assert part["after"]["loss"] < part["before"]["loss"]
    evaluated = document(capsys, "evaluate", files / "a", files / "data.npz")
    assert evaluated["ece"] == found["results"][1]["after"]["ece"]
    words = ["calibrate", files / "model", files / "val.npz", files / "b"]
    alone = document(capsys, *words)
    assert alone["temperature"] == pytest.approx(found["temperature"], rel=1e-9)
    assert [part["split"] for part in alone["results"]] == ["val"]
    assert "already exists" in document(capsys, *words, code=1)


def test_data_without_a_val_split_does_not_decide_by_itself(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["calibrate", files / "model", files / "two.npz", files / "c"]
    assert "has the splits train and test, and no val: name" in document(capsys, *words, code=1)
    assert not (files / "c").exists()
    assert document(capsys, *words, "--split", "test")["results"][0]["count"] == 300


@pytest.mark.parametrize("kind", ["logits", "log_probabilities", "probabilities"])
def test_a_calibrated_classifier_is_calibrated_and_trained_like_any_other(kind: str) -> None:
    """A new head has no temperature; one that is kept has it; a second one divides once more."""
    layers: dict[str, list[nn.Module]] = {
        "logits": [],
        "log_probabilities": [nn.LogSoftmax(1)],
        "probabilities": [nn.Softmax(1)],
    }

    def calibrated() -> SavedModel:
        network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), *layers[kind])
        return with_temperature(SavedModel(network, kind, (1, 2, 2)), 2.0)

    def linear(model: SavedModel) -> nn.Linear:
        return next(layer for layer in model.module.modules() if isinstance(layer, nn.Linear))

    data = Dataset(np.arange(16, dtype=np.uint8).reshape(4, 1, 2, 2), np.array([0, 1, 2, 1]))
    inputs = torch.randn(5, 1, 2, 2)
    model = calibrated()
    logits = linear(model)(inputs.flatten(1)) / 2
    kept = adapted_classifier(model, data, "keep")
    torch.testing.assert_close(kept.module(inputs), logits)
    twice = with_temperature(calibrated(), 3.0)
    expected = linear(twice)(inputs.flatten(1)) / 6
    found = twice.module(inputs).softmax(1) if kind == "logits" else twice.module(inputs)
    found = found.exp() if kind == "log_probabilities" else found
    torch.testing.assert_close(found, expected.softmax(1))
    new = adapted_classifier(calibrated(), data, "zeros")
    nn.init.normal_(linear(new).weight)
    torch.testing.assert_close(new.module(inputs), linear(new)(inputs.flatten(1)))
    assert not [note for note in new.notes if "temperature" in note]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits-lenet5", "digits-lenet5-bn", "cifar-convnet-bn"])
def test_torch7s_networks_are_as_well_calibrated_as_by_scikit_learn(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of the test images decide, the others measure; also in the exported file."""
    from torchlift.converters.inference.prepare import prepare_all
    from torchlift.converters.saved import open_model
    from torchlift.transfer.data import open_data
    from torchlift.transfer.evaluation import outcomes, summarize

    if name.startswith("cifar"):
        source, scale = SHARED / "data" / "cifar10-small-test.t7", CIFAR / "cifar_meanStd.t7"
        if not source.exists():
            pytest.skip("needs CIFAR-10")
        file = CIFAR / f"{name}.t7"
    else:
        source, scale = DIGITS / "digits-test.t7", DIGITS / "digits_meanStd.t7"
        file = DIGITS / f"{name}.t7"
    data = open_data(source)
    half = len(data) // 2
    target = tmp_path / "halves.npz"
    images, classes = data.images, np.asarray(data.classes)  # type: ignore[union-attr]
    parts = {"val": (images[:half], classes[:half]), "test": (images[half:], classes[half:])}
    save_splits(target, parts)
    found = document(capsys, "calibrate", file, target, tmp_path / "model", "--mean-std", scale)
    model = open_model(file, mean_std=scale)
    scores = TorchPredictor(model, "cpu")(prepare_all(images, model.preprocessing))
    temperature = scikit_learn_temperature(scores[:half], classes[:half])
    assert found["temperature"] == pytest.approx(temperature, rel=1e-3)
    scaled = outcomes(scores[half:] / temperature, "logits", classes[half:])
    theirs = summarize(scaled, [str(i) for i in range(10)])
    tested = found["results"][1]
    assert tested["after"]["ece"] <= theirs.ece + 1e-3
    assert tested["after"]["accuracy"] == tested["before"]["accuracy"] == theirs.accuracy
    opened = load(tmp_path / "model")
    export(opened, tmp_path / "model.onnx")
    assert check(opened, tmp_path / "model.onnx").passed
    evaluated = document(capsys, "evaluate", tmp_path / "model.onnx", target)
    assert evaluated["ece"] == pytest.approx(tested["after"]["ece"], abs=1e-4)
    assert evaluated["accuracy"] == tested["after"]["accuracy"]
