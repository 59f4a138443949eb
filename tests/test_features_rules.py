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
from torchlift.transfer.features import extraction, in_memory, model_source
from torchlift.transfer.features.extraction import extract, plan_extraction
from torchlift.transfer.features.extractors import TorchExtractor, build_extractor, network_digest
from torchlift.transfer.features.files import read_features
from torchlift.transfer.features.in_memory import Features, extract_features
from torchlift.transfer.features.manifest import check_readable, differences, read_manifest
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


def test_a_single_number_is_no_feature_of_several_examples() -> None:
    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean()

    network = nn.Sequential(Mean())
    with pytest.raises(LayerError, match="for 3 examples: not one row each"):
        FeatureNetwork(network, find_taps(network, ["0"]))(torch.zeros(3, 4))


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


@pytest.mark.parametrize(
    "content",
    ["{}", '{"attributes": {}}', '{"attributes": 3}', "[]", "{", "\xff",
     '{"attributes": {"torchlift_features": []}}'],
)  # fmt: skip
def test_a_folder_without_a_manifest_is_no_store(content: str, tmp_path: Path) -> None:
    (tmp_path / "zarr.json").write_bytes(content.encode("latin-1"))
    assert read_manifest(tmp_path) is None
    with pytest.raises(StoreError, match="not a feature store"):
        open_store(tmp_path)
    with pytest.raises(StoreError, match="no such feature store"):
        open_store(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="already exists and is not a feature store"):
        create_store(tmp_path, manifest(), {})


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


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("timm:resnet18", ""),
        ("torchvision:resnet18", ""),
        ("python:nets:make", "a store runs no code: name it yourself with model=…"),
        ("hf:org/name", "a store downloads nothing: name it yourself with model=…"),
        ("/nowhere/net.t7", "/nowhere/net.t7 is not there, from which s was computed"),
        (None, "s does not say where its model is: name it with model=…"),
    ],
)
def test_what_only_a_store_names_is_opened_if_it_is_here(
    model: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models of other libraries are; code is not run, and nothing is downloaded."""
    network = nn.Linear(2, 2)
    monkeypatch.setattr(
        model_source, "load_network", lambda *_, **__: SavedModel(network, "features")
    )
    manifest: dict[str, Any] = {"model": network_digest(network)}
    if model is not None:
        manifest["source"] = {"model": model, "weights": None, "at": None}
    store: Any = SimpleNamespace(path="s", manifest=manifest)
    if said:
        with pytest.raises(StoreError, match=said):
            reopen(store)
    else:
        assert reopen(store).module is network
    assert reopen(store, "python:mine").module is network


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


@pytest.mark.parametrize("pool", ["none", "avg", "max"])
def test_features_in_memory_are_pooled_and_counted_as_asked(pool: Any) -> None:
    """Of 130 images in batches of 64; the values are those of all, in their order."""
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU())
    images = np.random.default_rng(0).normal(size=(130, 1, 3, 4)).astype(np.float32)
    counted: list[int] = []
    found = extract_features(network, images, "0", pool=pool, progress=counted.append)
    with torch.no_grad():
        maps = network[0](torch.from_numpy(images)).numpy()
    expected = {"none": maps, "avg": maps.mean((2, 3)), "max": maps.max((2, 3))}[pool]
    np.testing.assert_allclose(found.arrays["0"], expected, atol=1e-6)
    assert sorted(counted) == [2, 64, 64]
    assert (found.classes, found.names, found.ids, found.splits) == (None, None, None, None)
    assert len(found.columns()) == found.to_numpy().shape[1] == expected[0].size


def test_features_are_computed_where_and_by_what_was_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []

    def build(model: Any, layers: Any, example: Any, backend: str, provider: str) -> Any:
        asked.append((list(layers), example.shape, backend, provider))
        return SimpleNamespace(names=["0"])

    def compute(extractor: Any, data: Any, settings: Any, **options: Any) -> Any:
        asked.append((len(data), options["workers"]))
        return [np.zeros((len(data), 2), np.float32)]

    monkeypatch.setattr(in_memory, "build_extractor", build)
    monkeypatch.setattr(in_memory, "features_in_memory", compute)
    images = np.zeros((3, 1, 2, 2), np.float32)
    extract_features(nn.Flatten(), images, ["0"], provider="cuda", workers=3)
    extract_features(nn.Flatten(), images, backend="onnxruntime")
    assert asked == [
        (["0"], (2, 1, 2, 2), "torch", "cuda"), (3, 3),
        (["penultimate"], (2, 1, 2, 2), "onnxruntime", "auto"), (3, None),
    ]  # fmt: skip


def test_a_data_frame_of_images_without_names_has_their_numbers() -> None:
    pytest.importorskip("pandas")
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    table = Features({"a": values[:, :1], "b": values[:, 1:]}, np.array([4, 2])).to_pandas()
    assert table.columns.tolist() == ["label", "a_0", "b_0", "b_1"]
    assert (table.index.tolist(), table.index.name) == ([0, 1], "image")
    assert table["label"].tolist() == [4, 2]
    assert table.iloc[:, 1:].to_numpy().tolist() == values.tolist()
    assert Features({"a": values}).to_pandas().columns.tolist() == ["a_0", "a_1", "a_2"]


def test_names_of_features_that_are_none_are_said_with_the_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", data=VALUES, labels=np.array([0, 1, 1]), classes=np.ones(2) / 2)
    with pytest.raises(StoreError, match=r"f\.npz: class 1 of the list is not a name"):
        read_features(tmp_path / "f.npz")


def test_what_is_a_tuple_here_and_a_list_in_json_is_no_difference() -> None:
    stored = {"features": {"a": [2, 3], "b": [4]}, "preprocessing": None}
    assert differences(stored, {"features": {"a": (2, 3), "b": [4]}, "preprocessing": None}) == []
    assert differences(stored, {**stored, "features": {"a": [2, 3], "b": [5]}}) == [
        "features b was [4], now [5]"
    ]
    # What is long is shown by its beginning, and layers by their names.
    assert differences({"model": "0" * 61, "x": {}}, {"model": "1" * 60, "x": {"y": 1}}) == [
        f"model was {'0' * 12}…, now {'1' * 60}",
        "x was , now y",
    ]


def test_a_network_is_opened_again_with_its_weights_and_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where another file is named: a `.t7` that was moved has the same places."""
    network = nn.Linear(2, 2)
    asked: list[Any] = []

    def load(model: str, weights: str | None, *, at: str | None) -> SavedModel:
        asked.append((model, weights, at))
        return SavedModel(network, "features")

    monkeypatch.setattr(model_source, "load_network", load)
    (tmp_path / "net.t7").touch()
    place = str(tmp_path / "net.t7")
    source = {"model": place, "weights": "w.pth", "at": "a.b"}
    digest = network_digest(network)
    store: Any = SimpleNamespace(path="s", manifest={"source": source, "model": digest})
    assert reopen(store).module is network
    assert reopen(store, "moved.t7").module is network
    assert asked == [(place, "w.pth", "a.b"), ("moved.t7", "w.pth", "a.b")]
    store.manifest["model"] = "0" * 64
    with pytest.raises(
        StoreError, match=r"another network than the one that s was .* 000000000000"
    ):
        reopen(store)


def test_where_a_network_was_and_what_wrote_the_store_are_no_part_of_its_features(
    tmp_path: Path,
) -> None:
    """A store of a model that was moved, or that an older torchlift began, is continued."""
    plain = manifest()
    source = {"model": "a.t7", "weights": None, "at": None, "input_shape": [1, 2, 2]}
    create_store(tmp_path / "store", {**plain, "source": source, "torchlift": "0.1.0"}, {})
    store = open_store(tmp_path / "store")
    moved = {**plain, "source": {**source, "model": "moved/a.t7"}}
    for same in (plain, moved, {**plain, "format_version": 1}):
        store.check(same)
    with pytest.raises(StoreError, match=r"holds other features: pool was none, now avg\. Choose"):
        store.check({**plain, "source": source, "pool": "avg"})
