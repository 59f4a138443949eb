"""Features in memory: their columns and tables, and what computes them for which model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from torchlift.converters import t7
from torchlift.converters.errors import WriteError
from torchlift.converters.saved import SavedModel
from torchlift.transfer.data import Dataset
from torchlift.transfer.errors import LayerError, StoreError
from torchlift.transfer.features import in_memory
from torchlift.transfer.features.extraction import extract, plan_extraction
from torchlift.transfer.features.extractors import TorchExtractor
from torchlift.transfer.features.files import read_features, write_features
from torchlift.transfer.features.in_memory import Features, extract_features
from torchlift.transfer.features.settings import Settings
from torchlift.transfer.features.store import create_store
from torchlift.transfer.features.stored_array import StoredArray

VALUES = np.arange(12, dtype=np.float32).reshape(2, 3, 2)


def test_a_data_frame_begins_with_the_label_and_the_split_of_each_image() -> None:
    pytest.importorskip("pandas")
    features = Features(
        {"a": VALUES, "b": VALUES[:, 0]},
        np.array([1, 0]),
        ("cat", "dog"),
        np.array(["x.png", "y.png"]),
        np.array(["train", "test"]),
    )
    table = features.to_pandas()
    numbers = ["a_0", "a_1", "a_2", "a_3", "a_4", "a_5", "b_0", "b_1"]
    assert table.columns.tolist() == ["label", "split", *numbers]
    assert table["label"].tolist() == ["dog", "cat"]
    assert table["split"].tolist() == ["train", "test"]
    assert (table.index.tolist(), table.index.name) == (["x.png", "y.png"], "image")
    expected = np.concatenate([VALUES.reshape(2, 6), VALUES[:, 0]], axis=1)
    assert np.array_equal(table[numbers].to_numpy(), expected)
    assert np.array_equal(features.to_numpy("b"), VALUES[:, 0])
    with pytest.raises(LayerError, match="no features of 'c': there are a, b"):
        features.to_numpy("c")


@pytest.mark.parametrize("name", ["net.onnx", "NET.ONNX"])
@pytest.mark.parametrize("as_path", [False, True])
def test_a_graph_is_opened_as_such_with_the_provider_that_was_asked_for(
    name: str, as_path: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def opened(file: Any, layers: Any, provider: str) -> Any:
        asked.append((str(file), layers, provider))
        return SimpleNamespace(names=layers)

    monkeypatch.setattr(in_memory, "open_extractor", opened)
    monkeypatch.setattr(in_memory, "features_in_memory", lambda *_, **__: [VALUES])
    images = Dataset(np.zeros((2, 1, 2, 2), np.uint8), notes=("as found",))
    model: Any = Path(name) if as_path else name
    for backend in (None, "onnxruntime"):
        found = extract_features(model, images, "v", provider="cuda", backend=backend)
        assert found.notes == ("as found",)
        assert found.arrays["v"] is VALUES
    assert asked == [(name, ["v"], "cuda")] * 2
    with pytest.raises(LayerError, match=f"{name}: an .onnx file runs in onnxruntime"):
        extract_features(model, images, "v", backend="torch")


def test_what_the_data_says_of_its_images_goes_with_their_features() -> None:
    data = Dataset(
        np.zeros((3, 1, 2, 2), np.float32),
        np.array([1, 0, 1]),
        ("cat", "dog"),
        ("as found",),
        np.array(["a", "b", "c"]),
        np.array(["train", "val", "test"]),
    )
    model = SavedModel(nn.Flatten(), "features", notes=["of the network"])
    found = extract_features(model, data, "output")
    assert found.classes is not None
    assert found.ids is not None
    assert found.splits is not None
    assert (found.classes.tolist(), found.names) == ([1, 0, 1], ("cat", "dog"))
    assert found.ids.tolist() == ["a", "b", "c"]
    assert found.splits.tolist() == ["train", "val", "test"]
    assert found.notes == ("as found", "of the network")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_features_are_float32_whatever_the_network_computes_in(dtype: torch.dtype) -> None:
    network = nn.Sequential(nn.Flatten(), nn.ReLU()).eval()
    network.register_buffer("kind", torch.zeros(1, dtype=dtype))
    extractor = TorchExtractor(SavedModel(network, "features"), ["1"], "cpu")
    (found,) = extractor(np.array([[[1.5, -2.0]]], np.float32))
    assert found.dtype == np.float32
    assert found.tolist() == [[1.5, 0.0]]


@pytest.mark.parametrize("linked", [False, True])
def test_a_store_is_continued_unless_a_link_leads_elsewhere(linked: bool, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
    extractor = TorchExtractor(SavedModel(network, "logits"), ["1"], "cpu")
    plan = plan_extraction(extractor, Dataset(np.zeros((2, 1, 2, 2), np.float32)))
    store = tmp_path / "store"
    create_store(store, plan.manifest, {})
    before = (store / "zarr.json").stat().st_mtime_ns
    if linked:
        (tmp_path / "elsewhere").mkdir()
        (store / "features" / "1" / "c").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(WriteError, match="is a symbolic link, and nothing is written"):
            create_store(store, plan.manifest, {})
    else:
        create_store(store, plan.manifest, {})
    assert (store / "zarr.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("format", ["t7", "npz"])
@pytest.mark.parametrize("name", ["f.t7", "f.npz", "f"])
def test_the_format_of_a_file_is_the_one_that_is_named(
    format: str, name: str, tmp_path: Path
) -> None:
    data = Dataset(VALUES.reshape(2, 6), np.array([1, 0]), ("cat", "dog"))
    store: Any = SimpleNamespace(layers={"a": (3, 2)}, count=2, read=lambda layer: data)
    write_features(store, tmp_path / name, format)
    copy = tmp_path / f"copy.{format}"
    (tmp_path / name).rename(copy)
    (found,) = read_features(copy).values()
    assert np.array_equal(found.images, data.images)
    assert found.names == ("cat", "dog")
    assert found.classes is not None
    assert found.classes.tolist() == [1, 0]
    if format == "t7":
        table = t7.load(copy)
        assert (table["data"].shape, table["labels"].tolist()) == ((2, 3, 2), [2, 1])
    else:
        with np.load(copy) as archive:
            assert (archive["data"].shape, archive["labels"].tolist()) == ((2, 3, 2), [1, 0])


def test_whatever_a_damaged_column_raises_is_said_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
    extractor = TorchExtractor(SavedModel(network, "logits"), ["1"], "cpu")
    plan = plan_extraction(extractor, Dataset(np.zeros((2, 1, 2, 2), np.float32)))
    create_store(tmp_path / "s", plan.manifest, {"ids": np.array(["a.png", "é"])})
    array = StoredArray(tmp_path / "s" / "ids", (2,), 2)
    assert array.read().tolist() == ["a.png", "é"]

    def fail(self: StoredArray) -> None:
        raise RuntimeError("of a codec")

    monkeypatch.setattr(StoredArray, "_texts", fail)
    with pytest.raises(StoreError, match=r"ids.c.0: damaged: of a codec"):
        array.read()


def test_chunks_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """Of which the tenth has two digits."""
    extractor = TorchExtractor(SavedModel(nn.Sequential(nn.Flatten()), "features"), ["0"], "cpu")
    images = np.arange(12, dtype=np.float32).reshape(12, 1, 1, 1)
    store = extract(plan_extraction(extractor, Dataset(images), Settings(chunk=1)), tmp_path / "s")
    assert len(store.chunks) == 12
    assert store.read("0").images.ravel().tolist() == [*range(12)]


@pytest.mark.parametrize("count", [1, 3])
def test_a_file_has_a_label_for_each_row_of_features(count: int, tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", data=VALUES, labels=np.arange(count))
    with pytest.raises(StoreError, match=f"features of 2 examples, but {count} labels"):
        read_features(tmp_path / "f.npz")
