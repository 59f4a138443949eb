"""Which images `calibrate` decides and measures on, and what it says before and after."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from torchlift.cli.calibrate import calibrate
from torchlift.converters.inference import TorchPredictor
from torchlift.converters.saved import SavedModel, load
from torchlift.transfer.calibration import with_temperature
from torchlift.transfer.data import Dataset
from torchlift.transfer.errors import DataError, HeadError
from torchlift.transfer.evaluation.temperature import fit_temperature

NAMES = ("cat", "dog", "owl")


def images(count: int, seed: int, splits: str = "", names: Any = NAMES) -> Dataset:
    """Return logits in place of images, three times as large as they should be."""
    draw = np.random.default_rng(seed)
    classes = np.arange(count) % 3
    logits = 3 * (np.eye(3)[classes] + draw.standard_normal((count, 3)))
    parts = np.resize(np.array(splits.split()), count) if splits else None
    pixels = logits.astype(np.float32)[:, None, None, :]
    return Dataset(pixels, classes, names, splits=parts, notes=(f"drawn by {seed}",))


def run(folder: Path, data: dict[str, Dataset], **options: Any) -> Any:
    """Calibrate a network that returns its inputs."""
    model = SavedModel(nn.Sequential(nn.Flatten()).eval(), "logits", (1, 1, 3), [*NAMES])
    model.notes.append("a note of the model")
    opened = SimpleNamespace(model=lambda name: model)
    match = options.pop("match_classes", "name")
    split = options.pop("split", None)
    given = SimpleNamespace(
        open=lambda name, as_test_data=False: data[f"{name} to test on" if as_test_data else name],
        match_classes=match,
        split=split,
    )
    chosen: Any = {"model_options": opened, "data_options": given, "provider": "cpu"}
    return calibrate("m", "data", str(folder / "out"), **chosen, **options)


def loss(data: Dataset, temperature: float = 1.0) -> float:
    logits = data.images[:, 0, 0].astype(np.float64) / temperature
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return float(-logs[np.arange(len(logits)), data.classes].mean())


def test_the_val_split_decides_and_val_and_test_are_measured(tmp_path: Path) -> None:
    data = images(90, 0, "train val test val val")
    result = run(tmp_path, {"data": data}).data
    val, test = (data.take(np.flatnonzero(data.splits == name)) for name in ("val", "test"))
    expected = fit_temperature(val.images[:, 0, 0], val.classes)
    assert result["temperature"] == pytest.approx(expected, rel=1e-5)
    assert [part["split"] for part in result["results"]] == ["val", "test"]
    for part, used in zip(result["results"], (val, test), strict=True):
        assert part["count"] == len(used)
        assert part["before"]["loss"] == pytest.approx(loss(used), rel=1e-4)
        assert part["after"]["loss"] == pytest.approx(loss(used, expected), rel=1e-4)
    assert result["notes"][0] == "drawn by 0"
    assert "a note of the model" in result["notes"]
    assert len(set(result["notes"])) == len(result["notes"])
    assert any(note.startswith("calibrated: ") for note in result["notes"])
    reopened = load(tmp_path / "out")
    assert not any(layer.training for layer in reopened.module.modules())


def test_other_images_are_measured_by_their_own_test_split(tmp_path: Path) -> None:
    others = images(60, 1, "train test")
    result = run(tmp_path, {"data": images(90, 0), "other to test on": others}, test_data="other")
    assert [part["count"] for part in result.data["results"]] == [90, 30]
    assert result.data["notes"][:2] == ["drawn by 0", "drawn by 1"]
    rows = list(zip(*(column.cells for column in result.view.renderables[2].columns), strict=True))
    before, after = (result.data["results"][1][when] for when in ("before", "after"))
    numbers = [after["accuracy"], before["loss"], after["loss"], before["ece"], after["ece"]]
    assert [str(cell) for cell in rows[1]] == ["test", "30", *(f"{one:.4f}" for one in numbers)]


def test_images_without_a_val_split_are_named_first(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="train and test, and no val"):
        run(tmp_path, {"data": images(60, 0, "train test")})
    assert not (tmp_path / "out").exists()
    # Of one split alone all images are meant, whatever it is called.
    for name in ("train", "val", "test"):
        alone = run(tmp_path, {"data": images(60, 0, name)}, overwrite=True)
        assert [(part["split"], part["count"]) for part in alone.data["results"]] == [("val", 60)]


def test_classes_are_matched_as_asked(tmp_path: Path) -> None:
    """Names that are the model's in another order, by name and by position."""
    data = {"data": images(90, 0, names=("dog", "owl", "cat"))}
    with pytest.raises(DataError, match="no better than guessing"):
        run(tmp_path, data)
    result = run(tmp_path, data, match_classes="position").data
    assert result["temperature"] > 1
    assert result["results"][0]["before"]["accuracy"] > 0.5


def test_a_saved_model_is_replaced_on_demand_only(tmp_path: Path) -> None:
    data = {"data": images(90, 0)}
    run(tmp_path, data)
    with pytest.raises(Exception, match="already exists"):
        run(tmp_path, {})
    assert run(tmp_path, data, overwrite=True).data["files"] == [str(tmp_path / "out")]


def test_a_calibrated_network_is_in_evaluation_mode() -> None:
    model = SavedModel(nn.Sequential(nn.Flatten(), nn.Linear(3, 3)).eval(), "logits", (1, 1, 3))
    calibrated = with_temperature(model, 2.0)
    assert not any(layer.training for layer in calibrated.module.modules())


def test_impossible_classes_have_no_part_in_a_temperature() -> None:
    logits = np.array([[4.0, 0.0, -np.inf]] * 4)
    found = fit_temperature(logits, np.array([0, 0, 0, 1]))
    assert 1 / (1 + np.exp(-4.0 / found)) == pytest.approx(0.75)


def test_what_a_network_of_ones_own_does_beside_its_layers_stays() -> None:
    """A class that is derived from nn.Sequential may run its layers in another way."""

    class Twice(nn.Sequential):
        def forward(self, input: Any) -> Any:
            return super().forward(super().forward(input))

    network = Twice(nn.Linear(3, 3)).eval()
    inputs = torch.rand(5, 3)
    expected = network(inputs) / 4
    found = with_temperature(SavedModel(network, "logits", (1, 1, 3)), 4.0)
    torch.testing.assert_close(found.module(inputs), expected)


def test_outputs_mean_what_the_model_says_and_not_what_its_last_layer_looks_like() -> None:
    """Layers may be defined in another order than they run in, as in many published networks."""
    network = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    network.forward = lambda x: network[0](network[1](x))  # type: ignore[method-assign]
    model = SavedModel(network.eval(), "logits", (1, 1, 3))
    assert with_temperature(model, 1.2345678).notes[-1].endswith("the temperature 1.235")


@pytest.mark.parametrize(
    ("kind", "last", "said"),
    [
        ("features", nn.ReLU(), "the model gives features; a temperature"),
        ("probabilities", nn.Sigmoid(), "gives independent probabilities of its classes; a temp"),
    ],
)
def test_why_a_model_is_not_calibrated_is_said(kind: str, last: nn.Module, said: str) -> None:
    model = SavedModel(nn.Sequential(nn.Linear(4, 2), last).eval(), kind)
    with pytest.raises(HeadError, match=said):
        with_temperature(model, 2.0)


def test_the_images_are_run_in_batches_of_the_size_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    call = TorchPredictor.__call__

    def counted(self: TorchPredictor, batch: Any) -> Any:
        sizes.append(len(batch))
        return call(self, batch)

    monkeypatch.setattr(TorchPredictor, "__call__", counted)
    run(tmp_path, {"data": images(30, 0)}, batch_size=20)
    # Before, for the temperature, and after.
    assert sizes == [20, 10] * 3


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_a_temperature_is_found_in_double_precision(kind: Any) -> None:
    """And to each image's scores any number may be added, as to its logits."""
    classes = np.arange(300) % 3
    scores = (3 * np.random.default_rng(0).standard_normal((300, 3))).astype(kind)
    scores[np.arange(300), classes] += kind(1)
    exact = fit_temperature(scores.astype(np.float64), classes)
    assert fit_temperature(scores, classes) == exact
    shifted = scores.astype(np.float64) + 1000.0 * (np.arange(300)[:, None] - 150)
    assert fit_temperature(shifted, classes) == pytest.approx(exact, rel=1e-6)
