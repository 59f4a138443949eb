"""`probe --save`: the features of a layer and the best regression as one network."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import FIXTURES
from torch import nn

from torchlift.cli.main import main
from torchlift.converters.images import Preprocessing
from torchlift.converters.inference import TorchPredictor
from torchlift.converters.inference.prepare import prepare
from torchlift.converters.onnx import check, export
from torchlift.converters.saved import SavedModel, TorchvisionNetwork, UpToLayer, load, save
from torchlift.transfer.data import split
from torchlift.transfer.features.cut_network import cut_network
from torchlift.transfer.features.network import FeatureNetwork
from torchlift.transfer.features.store import open_store
from torchlift.transfer.find_layers import find_tap
from torchlift.transfer.probe_methods import METHODS

DIGITS = FIXTURES / "digits"


def network() -> nn.Module:
    """Return a small network whose features differ much from image to image."""
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU())
    layers = nn.Sequential(block, nn.Flatten(), nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 5))
    with torch.no_grad():
        for name, parameter in layers.named_parameters():
            parameter.mul_(0 if name.endswith("bias") else 3)
    return layers.eval()


def images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return gray images of three classes, brighter in three places, and noise."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    pixels = draw.integers(0, 180, (count, 1, 8, 8))
    for row, label in enumerate(labels):
        pixels[row, 0, :, 2 * label : 2 * label + 3] += 75
    return pixels.astype(np.uint8), labels


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model, its features of two sets of images, and the images."""
    folder = tmp_path_factory.mktemp("stores")
    scale = Preprocessing(color="gray", size=(8, 8), mean=(90.0,), std=(60.0,))
    save(SavedModel(network(), "logits", (1, 8, 8), preprocessing=scale), folder / "model")
    for name, count in (("train", 240), ("test", 300)):
        pixels, labels = images(count, seed=count)
        np.savez(folder / f"{name}.npz", images=pixels, labels=labels, classes=["x", "y", "z"])
        words = ["extract", folder / "model", folder / f"{name}.npz", folder / name]
        assert main([*map(str, words), "--layers", "0.1,0,penultimate"]) == 0
    return folder


def run(*words: Any) -> int:
    return main([*map(str, words)])


def scikit_learn_scores(stores: Path, layer: str, strength: float) -> np.ndarray:
    """Return what scikit-learn's regression, fitted as docs/features.md says, gives for `test`."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    splits = split(open_store(stores / "train").read(layer), 0.2, 0.2, 0)
    scaler = StandardScaler().fit(splits.train.images)
    features = np.concatenate([splits.train.images, splits.val.images]).astype(np.float64)
    classes = np.concatenate([splits.train.classes, splits.val.classes])
    model = LogisticRegression(C=strength, max_iter=10_000, tol=1e-9)
    model.fit(scaler.transform(features), classes)
    tested = open_store(stores / "test").read(layer)
    scores: np.ndarray = model.predict_proba(scaler.transform(tested.images.astype(float)))
    return scores


@pytest.mark.parametrize("layer", ["penultimate", "0", "0.1"])
def test_the_saved_network_predicts_what_scikit_learn_does(
    layer: str, stores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "probe"
    words = ["probe", stores / "train", "--layers", layer, "--methods", "logistic"]
    assert run(*words, "--save", target, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["saved"] == {"layer": layer, "method": "logistic", "file": str(target)}
    strength = float(document["results"][0]["setting"].removeprefix("C="))
    expected = scikit_learn_scores(stores, layer, strength)
    model = load(target)
    assert model.labels == ["x", "y", "z"]
    with np.load(stores / "test.npz") as data:
        scores = TorchPredictor(model, "cpu")(prepare(data["images"], model.preprocessing))
    best = np.sort(expected, axis=1)[:, -2:]
    clear = best[:, 1] - best[:, 0] >= 1e-5
    assert clear.sum() > 290
    assert (scores.argmax(1) == expected.argmax(1))[clear].all()
    # Features have seven digits, and what is common to all images takes one or two of them.
    softmax = torch.from_numpy(scores).softmax(1).numpy()
    np.testing.assert_allclose(softmax, expected, atol=1e-5)


def test_what_is_saved_ends_at_the_layer(stores: Path, tmp_path: Path) -> None:
    words = ["probe", stores / "train", "--layers", "0.1", "--methods", "logistic"]
    assert run(*words, "--save", tmp_path / "probe") == 0
    module = load(tmp_path / "probe").module
    names = [type(layer).__name__ for layer in module.modules() if not [*layer.children()]]
    assert names == ["Conv2d", "ReLU", "Flatten", "Add", "CMul", "Linear"]


@pytest.mark.parametrize("pool", ["avg", "max"])
def test_pooled_features_are_pooled_in_the_network(
    pool: str, stores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = ["--layers", "0,penultimate", "--pool", pool]
    for name in ("train", "test"):
        words = ["extract", stores / "model", stores / f"{name}.npz", tmp_path / name]
        assert run(*words, *layers) == 0
    for layer in ("0", "penultimate"):
        options = ["--layers", layer, "--methods", "logistic", "--save", tmp_path / layer]
        capsys.readouterr()
        assert (
            run("probe", tmp_path / "train", "--test", tmp_path / "test", *options, "--json") == 0
        )
        tested = json.loads(capsys.readouterr().out)["results"][0]["evaluation"]["confusion"]
        assert run("evaluate", tmp_path / layer, stores / "test.npz", "--json") == 0
        assert json.loads(capsys.readouterr().out)["confusion"] == tested


def test_the_best_regression_is_saved_where_another_probe_is_best(
    stores: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    knn = METHODS["knn"]
    monkeypatch.setitem(METHODS, "knn", lambda *words: replace(knn(*words), val_accuracy=2.0))
    words = ["probe", stores / "train", "--methods", "knn,logistic", "--layers", "0.1"]
    assert run(*words, "--save", tmp_path / "probe") == 0
    said = "saved was 0.1 with logistic, the best regression: knn is not saved"
    assert said in capsys.readouterr().out
    assert (tmp_path / "probe" / "config.json").exists()


def test_another_network_is_refused(
    stores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = network()
    with torch.no_grad():
        other[2].bias[0] += 1e-3  # type: ignore[index,union-attr,operator]  # a Linear
    save(SavedModel(other, "logits", (1, 8, 8)), tmp_path / "other")
    words = ["probe", stores / "train", "--methods", "logistic", "--save", tmp_path / "probe"]
    assert run(*words, "--model", tmp_path / "other") == 1
    assert "is another network than the one that" in capsys.readouterr().err
    assert not (tmp_path / "probe").exists()
    shutil.copytree(stores, tmp_path / "moved")
    shutil.move(tmp_path / "moved" / "model", tmp_path / "elsewhere")
    assert run(*words, "--model", tmp_path / "elsewhere", "--layers", "0.1") == 0


def test_a_model_that_is_gone_or_code_is_not_looked_for(
    stores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = tmp_path / "copy"
    shutil.copytree(stores / "train", copied)
    words = ["probe", copied, "--methods", "logistic", "--save", tmp_path / "probe"]
    for place, message in (
        (str(tmp_path / "gone.t7"), "gone.t7 is not there, from which .* say .* with --model"),
        ("python:os:getcwd", "names python:os:getcwd, and a store runs no code: .* with --model"),
        ("hf:org/name", "names hf:org/name, and a store downloads nothing: .* with --model"),
        (str(stores / "x.onnx"), "x.onnx, which has no layers|is not there"),
    ):
        text = json.loads((copied / "zarr.json").read_text(encoding="utf-8"))
        text["attributes"]["torchlift_features"]["source"]["model"] = place
        (copied / "zarr.json").write_text(json.dumps(text), encoding="utf-8")
        assert run(*words) == 1
        error = capsys.readouterr().err
        assert re.search(message, error), error
        assert not (tmp_path / "probe").exists()
    # Whoever names it knows it.
    assert run(*words, "--model", stores / "model") == 0


def test_a_store_that_does_not_say_where_its_model_is_asks_for_it(
    stores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As torchlift 0.1.0 wrote them."""
    copied = tmp_path / "copy"
    shutil.copytree(stores / "train", copied)
    text = json.loads((copied / "zarr.json").read_text(encoding="utf-8"))
    del text["attributes"]["torchlift_features"]["source"]
    (copied / "zarr.json").write_text(json.dumps(text), encoding="utf-8")
    words = ["probe", copied, "--methods", "logistic", "--save", tmp_path / "probe"]
    assert run(*words) == 1
    assert "copy does not say where its model is: name it with --model" in capsys.readouterr().err
    assert not (tmp_path / "probe").exists()
    assert run(*words, "--model", stores / "model") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--methods knn --save s", "--methods must hold logistic"),
        ("--model m", "--model is for --save"),
        ("--plugin m.py", "--plugin is for --save"),
        ("other --save s --model m", "--model names one model"),
    ],
)
def test_words_that_do_not_fit_together(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("probe", "features", *words.split()) == 2
    assert message in capsys.readouterr().err


def test_files_without_a_model_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "f.npz", data=np.eye(8, dtype=np.float32), labels=np.arange(8) % 2)
    assert run("probe", tmp_path / "f.npz", "--save", tmp_path / "s") == 1
    assert "--save takes the folders that extract writes" in capsys.readouterr().err


class Branches(nn.Module):
    """A network of other people's code: its layers are not in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 3), nn.Linear(4, 3)
        self.join, self.last = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, 4) to (N, 2)."""
        joined: torch.Tensor = self.join((self.first(input) + self.second(input)).relu_())
        return self.last(joined.relu_())  # type: ignore[no-any-return]  # nn.Module returns Any


@pytest.mark.parametrize("layer", ["first", "second", "join", "penultimate", "input"])
def test_a_cut_network_gives_the_features_of_the_whole_one(layer: str) -> None:
    torch.manual_seed(1)
    whole, inputs = Branches().eval(), torch.rand(6, 4)
    tap = find_tap(whole, layer)
    expected = FeatureNetwork(whole, [tap])(inputs)[0]
    cut = cut_network(whole, tap, inputs[:2])
    assert torch.equal(cut(inputs), expected)
    if layer in ("join", "penultimate"):
        assert isinstance(cut, UpToLayer)
        assert cut.unused == ["last"]


class ByHand(nn.Module):
    """A network that uses the weights of a layer without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, 4) to (N, 2)."""
        return self.first(input).relu() @ self.last.weight.T  # type: ignore[no-any-return]


def test_layers_without_which_a_network_does_not_run_are_kept() -> None:
    """An exporter runs it to its end."""
    whole, inputs = ByHand().eval(), torch.rand(6, 4)
    expected = whole.first(inputs)
    cut = cut_network(whole, find_tap(whole, "first"), inputs[:2])
    assert isinstance(cut, UpToLayer)
    assert not cut.unused
    assert torch.equal(cut(inputs), expected)
    assert cut.network(inputs).shape == (6, 2)


class Borrowing(nn.Module):
    """A layer that uses the weights of its child without calling it, as attention does."""

    def __init__(self) -> None:
        super().__init__()
        self.child = nn.Linear(4, 3)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, 4) to (N, 3)."""
        return input @ self.child.weight.T


class Behind(nn.Module):
    """A network that is no row, with such a layer at its beginning."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = Borrowing(), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, 4) to (N, 2)."""
        return self.last(self.middle(self.first(input)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("layer", "unused"), [("first", ["middle", "last"]), ("middle", ["last"])])
def test_weights_that_a_layer_borrows_are_kept_and_what_is_behind_is_not(
    layer: str, unused: list[str]
) -> None:
    whole, inputs = Behind().eval(), torch.rand(6, 4)
    tap = find_tap(whole, layer)
    cut = cut_network(whole, tap, inputs[:2])
    assert isinstance(cut, UpToLayer)
    assert cut.unused == unused
    assert torch.equal(cut(inputs), FeatureNetwork(whole, [tap])(inputs)[0])


@pytest.mark.slow
@pytest.mark.parametrize(("layer", "left_out"), [("layer3", "layer4"), ("penultimate", "fc")])
def test_a_torchvision_network_is_saved_up_to_a_layer_and_exported(
    layer: str, left_out: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    whole = TorchvisionNetwork("resnet18", 10).eval()
    inputs = torch.rand(3, 3, 64, 64)
    tap = find_tap(whole, layer)
    expected = FeatureNetwork(whole, [tap])(inputs)[0]
    cut = cut_network(whole, tap, inputs[:2])
    assert torch.equal(cut(inputs), expected)
    assert not [name for name in cut.state_dict() if left_out in name]
    model = SavedModel(nn.Sequential(cut, nn.Flatten()).eval(), "features", (3, 64, 64))
    save(model, tmp_path / "saved")
    opened = load(tmp_path / "saved")
    assert torch.equal(opened.module(inputs), expected.flatten(1))
    export(opened, tmp_path / "saved.onnx")
    assert check(opened, tmp_path / "saved.onnx").passed


@pytest.mark.slow
def test_a_probe_of_torch7s_network_is_exported_and_passes_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, scale = DIGITS / "digits-lenet5-bn.t7", DIGITS / "digits_meanStd.t7"
    for name in ("train", "test"):
        source = DIGITS / f"digits-{name}.t7"
        words = ["extract", model, source, tmp_path / name, "--mean-std", scale]
        assert run(*words, "--layers", "get(8)") == 0
    words = ["probe", tmp_path / "train", "--test", tmp_path / "test", "--methods", "logistic"]
    capsys.readouterr()
    assert run(*words, "--save", tmp_path / "probe", "--json") == 0
    tested = json.loads(capsys.readouterr().out)["results"][0]["evaluation"]
    assert run("export", tmp_path / "probe", tmp_path / "probe.onnx") == 0
    assert run("check", tmp_path / "probe", tmp_path / "probe.onnx") == 0
    for name in ("probe", "probe.onnx"):
        capsys.readouterr()
        assert run("evaluate", tmp_path / name, DIGITS / "digits-test.t7", "--json") == 0
        evaluated = json.loads(capsys.readouterr().out)
        assert evaluated["confusion"] == tested["confusion"]
        assert evaluated["loss"] == pytest.approx(tested["loss"], abs=1e-5)


class Nested(nn.Module):
    """Its first layer is a module of several; the features are those of one in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Branches()
        self.last = nn.Linear(2, 2)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, 4) to (N, 2)."""
        return self.last(self.body(input))  # type: ignore[no-any-return]  # nn.Module returns Any


@pytest.mark.parametrize(
    ("layer", "unused"),
    [
        # Without the second the sum is of other sizes: the network would not run to its end.
        ("body.first", []),
        ("body.join", ["body.last", "last"]),
        ("body", ["last"]),
    ],
)
def test_layers_within_a_layer_that_has_not_ended_are_left_out(
    layer: str, unused: list[str]
) -> None:
    torch.manual_seed(1)
    whole, inputs = Nested().eval(), torch.rand(6, 4)
    tap = find_tap(whole, layer)
    expected = FeatureNetwork(whole, [tap])(inputs)[0]
    cut = cut_network(whole, tap, inputs[:2])
    assert isinstance(cut, UpToLayer)
    assert sorted(cut.unused) == unused
    assert torch.equal(cut(inputs), expected)
