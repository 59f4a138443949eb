"""Rules of features: what makes another network, what is no feature, what a store says."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from torchlift.converters.errors import TorchliftError
from torchlift.converters.saved import SavedModel
from torchlift.transfer.data import Dataset
from torchlift.transfer.errors import LayerError, StoreError
from torchlift.transfer.features import extraction
from torchlift.transfer.features.extraction import extract, plan_extraction
from torchlift.transfer.features.extractors import TorchExtractor, build_extractor, network_digest
from torchlift.transfer.features.files import read_features
from torchlift.transfer.features.manifest import check_readable
from torchlift.transfer.features.model_source import reopen
from torchlift.transfer.features.network import FeatureNetwork
from torchlift.transfer.features.settings import Settings
from torchlift.transfer.features.store import (
    FeatureStore,
    create_store,
    describe_store,
    open_store,
)
from torchlift.transfer.find_layers import find_taps

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


def test_another_structure_is_another_network_though_its_weights_are_the_same() -> None:
    layers = nn.Linear(2, 2), nn.Linear(2, 2)
    digests = {
        network_digest(nn.Sequential(layers[0], between, layers[1]))
        for between in (nn.ReLU(), nn.Tanh(), nn.LeakyReLU(0.1), nn.LeakyReLU(0.2))
    }
    assert len(digests) == 4


def test_a_layer_that_runs_again_behind_the_last_features_is_found_at_the_start() -> None:
    """Its name would be ambiguous, though a pass that ends at the first of them shows nothing."""
    relu = nn.ReLU()
    network = nn.Sequential(nn.Linear(2, 2), relu, nn.Linear(2, 2), relu).eval()
    with pytest.raises(LayerError, match="more than once"):
        build_extractor(SavedModel(network, "logits"), ["1"], np.zeros((2, 2), np.float32))


def test_features_have_one_row_for_each_example() -> None:
    class Halves(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(-1, 2)

    network = nn.Sequential(Halves(), nn.Flatten(0), nn.Unflatten(0, (-1, 4)))
    taps = find_taps(network, ["0"])
    with pytest.raises(LayerError, match="has the shape 6×2 for 3 examples: not one row each"):
        FeatureNetwork(network, taps)(torch.zeros(3, 4))


def test_only_arrays_called_data_are_features(tmp_path: Path) -> None:
    """Whatever else a file holds, such as a description of its dataset."""
    file = tmp_path / "f.npz"
    np.savez(file, **{"data/a": VALUES, "data/b/c": VALUES, "dataset": VALUES, "database": VALUES})  # type: ignore[arg-type]
    assert list(read_features(file)) == ["a", "b/c"]


def manifest(**changes: Any) -> dict[str, Any]:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    extractor = TorchExtractor(SavedModel(network, "logits"), ["1", "penultimate"], "cpu")
    data = Dataset(np.zeros((5, 1, 2, 2), np.float32), np.array([0, 1, 0, 1, 1]))
    return {**plan_extraction(extractor, data, Settings(chunk=2)).manifest, **changes}


def test_a_manifest_describes_the_layers_that_it_has_and_no_others() -> None:
    whole = manifest()
    check_readable(whole)
    for layers in (
        {**whole["layers"], "more": "of another"},
        {name: text for name, text in whole["layers"].items() if name != "1"},
    ):
        with pytest.raises(StoreError, match="layers does not describe the layers of features"):
            check_readable({**whole, "layers": layers})


@pytest.mark.parametrize("version", [1, 2])
def test_the_splits_of_0_1_0_are_parts(version: int, tmp_path: Path) -> None:
    """Each version reads its own column, and not one that stands there by accident."""
    given = manifest(format_version=version)
    if version == 1:
        del given["format_version"]
    splits = np.array(["train", "val", "test", "train", "test"])
    other = np.array(["val"] * 5)
    names = ("parts", "splits") if version == 1 else ("splits", "parts")
    labels = np.array([0, 1, 0, 1, 1])
    columns = {names[0]: splits, names[1]: other, "labels": labels}
    create_store(tmp_path / "store", given, columns)
    store = open_store(tmp_path / "store")
    with store.writer() as write:
        for chunk, rows in enumerate(store.chunks):
            ones = [np.ones((len(rows), *shape), np.float32) for shape in store.layers.values()]
            write(chunk, ones)
    read = store.read("1").splits
    assert read is not None
    assert read.tolist() == splits.tolist()
    assert describe_store(tmp_path / "store")["format_version"] == version


@pytest.mark.parametrize(("dtype", "width"), [("float32", 4), ("float16", 2)])
def test_a_store_says_what_it_holds(dtype: Any, width: int, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    extractor = TorchExtractor(SavedModel(network, "logits"), ["1", "penultimate"], "cpu")
    data = Dataset(np.zeros((5, 1, 2, 2), np.float32), np.array([0, 1, 0, 1, 1]), ("cat", "dog"))
    plan = plan_extraction(extractor, data, Settings(dtype=dtype, chunk=2, batch_size=3))
    store = extract(plan, tmp_path / "store")
    said = describe_store(tmp_path / "store")
    assert said["bytes"] == plan.bytes == 5 * (3 + 3) * width
    assert (said["count"], said["labels"], said["dtype"]) == (5, ["cat", "dog"], dtype)
    assert (said["chunk_count"], said["chunks_done"], said["complete"]) == (3, 3, True)
    assert (said["pool"], said["flatten"], said["batch_size"]) == ("none", False, 3)
    assert said["features"] == [
        {"layer": "1", "shape": [3], "description": "1"},
        {"layer": "penultimate", "shape": [3], "description": "the input of 3"},
    ]
    assert said["model"] is None
    assert said["model_fingerprint"] == network_digest(network)
    store._chunk_file("1", (3,), 1).unlink()
    said = describe_store(tmp_path / "store")
    assert (said["chunks_done"], said["complete"]) == (2, False)
    assert FeatureStore(store.path, store.manifest).missing() == [1]
    assert json.loads(json.dumps(said)) == said


@pytest.mark.parametrize(("labels", "fits"), [([1, 0, 1], True), ([0.5, 1, 1], False)])
def test_what_is_wrong_with_labels_of_features_names_the_file(
    labels: Any, fits: bool, tmp_path: Path
) -> None:
    file = tmp_path / "f.npz"
    np.savez(file, data=VALUES, labels=np.array(labels))
    if fits:
        (data,) = read_features(file).values()
        assert data.classes is not None
        assert data.classes.tolist() == labels
    else:
        with pytest.raises(StoreError, match=r"f\.npz: the labels are not integers"):
            read_features(file)


@pytest.mark.parametrize("name", ["m.onnx", "M.ONNX", "m.t7"])
def test_an_exported_graph_has_no_layers_to_save(name: str, tmp_path: Path) -> None:
    """Whoever names the file: the store, or the caller."""
    store: Any = SimpleNamespace(path=tmp_path / "s", manifest={})
    said = "has no layers to save: extract from the model that it was exported from"
    if name == "m.t7":
        with pytest.raises(TorchliftError) as error:
            reopen(store, str(tmp_path / name))
        assert said not in str(error.value)
    else:
        with pytest.raises(StoreError, match=said):
            reopen(store, str(tmp_path / name))


@pytest.mark.parametrize(("parallel", "asked", "threads"), [(True, 3, 3), (False, 3, 2)])
def test_a_network_that_runs_once_at_a_time_has_two_threads(
    parallel: bool, asked: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU: one computes, the other prepares the next batch. The features are the same."""
    used: list[int] = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, workers: int) -> None:
            used.append(workers)
            super().__init__(workers)

    monkeypatch.setattr(extraction, "ThreadPoolExecutor", Pool)
    extractor = TorchExtractor(
        SavedModel(nn.Sequential(nn.Flatten()).eval(), "features"), ["0"], "cpu"
    )
    extractor.parallel = parallel
    data = Dataset(VALUES.reshape(3, 1, 2, 2))
    settings = Settings(batch_size=2)
    (found,) = extraction.features_in_memory(extractor, data, settings, workers=asked)
    assert np.array_equal(found, VALUES)
    assert used == [threads]
