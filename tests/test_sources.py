"""Models and images as Python code gives them: by name, as networks, as arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from torchlift.converters.saved import SavedModel
from torchlift.transfer import sources
from torchlift.transfer.data import Dataset
from torchlift.transfer.errors import NetworkError
from torchlift.transfer.sources import opened_data, opened_model, opened_predictor


@pytest.mark.parametrize("saved", [True, False])
def test_a_network_that_is_given_is_copied_and_at_rest(saved: bool) -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.Dropout(), nn.Softmax(1)).train()
    given = SavedModel(network, "probabilities", notes=["a note"]) if saved else network
    found = opened_model(given)
    assert not any(layer.training for layer in found.module.modules())
    assert found.output_kind == "probabilities"
    nn.init.zeros_(found.module.get_parameter("0.weight"))
    found.notes.append("of the copy")
    assert network[0].weight.any()
    assert all(layer.training for layer in network.modules())
    assert not saved or given.notes == ["a note"]  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["m.onnx", "M.ONNX", "m.pt2", "m.PT2"])
def test_an_exported_graph_is_no_network_to_change(name: str) -> None:
    for given in (name, Path(name)):
        with pytest.raises(NetworkError, match=rf"{name} is an exported graph: name the model"):
            opened_model(given)


@pytest.mark.parametrize("provider", ["auto", "cpu", "cuda"])
def test_a_predictor_runs_where_it_is_said(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that is given runs where it runs already."""
    asked: list[Any] = []

    class Stand:
        note = ""

        def __init__(self, *given: Any) -> None:
            asked.append(given[1])

    def opened(file: Any, where: str) -> Any:
        asked.append((file, where))
        return "a graph"

    model = SavedModel(nn.Flatten(), "features", notes=["one", "two"])
    monkeypatch.setattr(sources, "TorchPredictor", Stand)
    monkeypatch.setattr(sources, "open_predictor", opened)
    assert opened_predictor(model, provider).note == "one; two"
    assert opened_predictor("M.Onnx", provider) == "a graph"  # type: ignore[comparison-overlap]
    assert asked == [provider, ("M.Onnx", provider)]


def test_images_may_be_an_array_or_a_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 1, 2, 2)
    found = opened_data(pixels)
    assert isinstance(found, Dataset)
    assert found.images is pixels
    assert found.classes is None
    assert opened_data(found) is found
    monkeypatch.setattr(sources, "open_data", lambda name: [name])
    assert opened_data("d.npz") == ["d.npz"]  # type: ignore[comparison-overlap]


def test_a_predictor_that_is_given_is_taken_as_it_is() -> None:
    model = SavedModel(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), "logits", (1, 2, 2))
    predictor = opened_predictor(model, "cpu")
    assert opened_predictor(predictor, "cuda") is predictor
    images = np.random.default_rng(0).random((3, 1, 2, 2), np.float32)
    with torch.no_grad():
        expected = model.module(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(predictor(images), expected, rtol=1e-6)
