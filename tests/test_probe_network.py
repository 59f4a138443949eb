"""The network of a store's features: its layer, its pooling, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from torchlift.converters.images import Preprocessing
from torchlift.converters.saved import SavedModel
from torchlift.transfer.errors import ProbeError
from torchlift.transfer.probe_methods import LinearLayer, Scale
from torchlift.transfer.probe_network import feature_network, probe_network

GRAY = Preprocessing("gray", mean=(0.5,), std=(0.25,))


def features(pool: str = "none", size: tuple[int, ...] = (2, 5, 6), **manifest: Any) -> SavedModel:
    """Return the network of the features of a convolution of two channels."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(60, 3)).eval()
    model = SavedModel(network, "logits", (1, 6, 7), preprocessing=GRAY, notes=["a note"])
    given = {"pool": pool, "preprocessing": None, "dtype": "float32", **manifest}
    store: Any = SimpleNamespace(manifest=given, layers={"1": size}, path=Path("store"))
    return feature_network(model, store, "1")


def expected(images: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(0)
    with torch.no_grad():
        return nn.Conv2d(1, 2, 2)(images).relu()


def test_features_are_pooled_as_the_store_says() -> None:
    images = torch.randn(3, 1, 6, 7)
    whole = expected(images)
    for pool, size, values in (
        ("none", (2, 5, 6), whole.flatten(1)),
        ("avg", (2,), whole.mean((2, 3))),
        ("max", (2,), whole.amax((2, 3))),
    ):
        found = features(pool, size)
        assert not any(layer.training for layer in found.module.modules())
        torch.testing.assert_close(found.module(images).detach(), values)
        assert (found.output_kind, found.input_shape) == ("features", (1, 6, 7))
    with pytest.raises(ProbeError, match="has 60 numbers an example, in the store 59"):
        features(size=(59,))


def test_a_mean_that_float32_rounds_shifts_no_output() -> None:
    """A third is 0.0208 more than the nearest float32 of a million: 2.08 times the weight."""
    body = SavedModel(nn.Sequential(nn.Flatten()), "features", (1, 1, 2))
    scale = Scale(np.array([1e6 + 1 / 3, -2.0]), np.array([1.0, 0.5]))
    linear = LinearLayer(np.array([[100.0, 1.0], [-50.0, 2.0]]), np.array([1.0, -1.0]))
    inputs = np.array([[1e6, 0.0], [1e6 + 2, -3.0]])
    expected = ((inputs - scale.mean) / scale.std) @ linear.weight.T + linear.bias
    model = probe_network(body, scale, linear, None)
    outputs = model.module(torch.from_numpy(inputs).float()[:, None, None])
    np.testing.assert_allclose(outputs.numpy(), expected, atol=1e-3)


def test_preprocessing_and_rounding_are_those_of_the_store() -> None:
    other = Preprocessing("gray", mean=(0.1,), std=(0.9,))
    assert features().preprocessing == GRAY
    assert features(preprocessing=other.to_json()).preprocessing == other
    assert features().notes == ["a note"]
    assert features(dtype="float16").notes == [
        "a note",
        "the probe was fitted on features rounded to float16",
    ]
    source = {"input_shape": [1, 6, 7]}
    assert features(source=source).input_shape == (1, 6, 7)


def test_what_is_said_of_a_probe_is_not_said_of_the_network_that_it_is_made_from() -> None:
    body = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten(), nn.Linear(60, 3))
    model = SavedModel(body, "logits", (1, 6, 7), preprocessing=GRAY, notes=["a note"])
    given = {"pool": "none", "preprocessing": None, "dtype": "float16"}
    store: Any = SimpleNamespace(manifest=given, layers={"0": (2, 5, 6)}, path=Path("store"))
    found = feature_network(model, store, "0")
    linear = LinearLayer(np.zeros((2, 60)), np.zeros(2))
    classifier = probe_network(found, Scale(np.zeros(60), np.ones(60)), linear, None)
    classifier.notes.append("of the classifier")
    assert (model.notes, len(found.notes), len(classifier.notes)) == (["a note"], 2, 3)


def test_features_without_height_and_width_are_not_pooled() -> None:
    """Of all layers of a store some may have them, and some not."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    model = SavedModel(network, "logits", (1, 2, 3), preprocessing=GRAY)
    manifest = {"pool": "avg", "preprocessing": None, "dtype": "float32"}
    store: Any = SimpleNamespace(manifest=manifest, layers={"2": (4,)}, path=Path("store"))
    found = feature_network(model, store, "2").module
    images = torch.randn(3, 1, 2, 3)
    torch.testing.assert_close(found(images), network[:3](images))


def test_a_saved_probe_is_complete_and_at_rest() -> None:
    scale = Scale(np.zeros(60), np.ones(60))
    linear = LinearLayer(np.ones((2, 60)), np.zeros(2))
    body = features()
    model = probe_network(body, scale, linear, ["cat", "dog"])
    assert not any(parameter.requires_grad for parameter in model.module.parameters())
    assert not any(layer.training for layer in model.module.modules())
    assert (model.output_kind, model.labels) == ("logits", ["cat", "dog"])
    assert (model.input_shape, model.preprocessing) == ((1, 6, 7), GRAY)
    assert (model.inputs, model.source) == (body.inputs, body.source)
    assert model.notes == ["a note"]
    model.notes.append("of the probe alone")
    assert body.notes == ["a note"]


def test_what_a_network_takes_is_said_by_the_store_or_the_model() -> None:
    """Stores of torchlift 0.1.0 do not say it, and neither does a network of any size."""
    network = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU()).eval()
    given = {"pool": "none", "preprocessing": None, "dtype": "float32", "source": None}
    store: Any = SimpleNamespace(manifest=given, layers={"1": (2, 5, 6)}, path=Path("store"))
    with pytest.raises(ProbeError, match=r"^store does not say what its network takes: extract it"):
        feature_network(SavedModel(network, "features"), store, "1")
    found = feature_network(SavedModel(network, "features", (1, 6, 7)), store, "1")
    assert found.input_shape == (1, 6, 7)
    given["source"] = {"input_shape": [1, 6, 7]}
    assert feature_network(SavedModel(network, "features"), store, "1").input_shape == (1, 6, 7)
