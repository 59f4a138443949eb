"""Features at the edges: a single file, a device that is no CPU, layers that stand twice."""

from __future__ import annotations

import errno
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from plots_support import model_of
from test_features_rules import manifest
from torch import nn

from torchlift.converters.errors import TorchliftError, WriteError
from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.inference.processes import Process
from torchlift.converters.saved import SavedModel
from torchlift.transfer.data import Dataset, ImageFiles
from torchlift.transfer.errors import LayerError, StoreError
from torchlift.transfer.features import extractors
from torchlift.transfer.features.cut_network import cut_network
from torchlift.transfer.features.extraction import (
    ExtractionPlan,
    example_of,
    extract,
    plan_extraction,
)
from torchlift.transfer.features.extractors import TorchExtractor, network_digest
from torchlift.transfer.features.manifest import check_readable
from torchlift.transfer.features.network import FeatureNetwork
from torchlift.transfer.features.onnx_graph import find_values
from torchlift.transfer.features.settings import Settings
from torchlift.transfer.features.store import FeatureStore, create_store, open_store
from torchlift.transfer.features.transformer import FeatureTransformer
from torchlift.transfer.find_layers import Tap, find_tap


def test_a_single_file_is_an_example_twice() -> None:
    stream = io.BytesIO()
    Image.new("L", (2, 2), 255).save(stream, "png")
    files = ImageFiles(np.array([stream.getvalue()], object), color="gray")
    assert np.array_equal(example_of(files, Preprocessing("gray")), np.ones((2, 1, 2, 2)))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["train", "test", "test"], ["train", "train", "test"]),
        (["train", "test", "test"], None),
        (None, ["train", "test", "test"]),
    ],
)
def test_a_store_with_other_splits_is_not_taken_for_that_of_the_data(
    before: list[str] | None, after: list[str] | None, tmp_path: Path
) -> None:
    """The images are the same; a probe would be tested on what it is to be trained on."""
    network = SavedModel(nn.Sequential(nn.Linear(2, 2)), "features")
    extractor = TorchExtractor(network, ["0"], "cpu")

    def planned(names: list[str] | None) -> ExtractionPlan:
        splits = None if names is None else np.array(names)
        data = Dataset(np.eye(3, 2, dtype=np.float32), np.array([0, 1, 0]), splits=splits)
        return plan_extraction(extractor, data)

    for names in (before, before):
        extract(planned(names), tmp_path / "store")
    with pytest.raises(StoreError, match="holds the features of the same images in other splits"):
        extract(planned(after), tmp_path / "store")
    found = extract(planned(after), tmp_path / "store", overwrite=True).read("0").splits
    assert (None if found is None else found.tolist()) == after


@pytest.mark.parametrize(("device", "parallel"), [("cpu", True), ("meta", False)])
def test_only_on_a_cpu_several_batches_run_at_once(
    device: str, parallel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extractors, "torch_device", lambda asked: device)
    extractor = TorchExtractor(SavedModel(nn.Sequential(nn.Linear(2, 2)), "features"), ["0"])
    assert extractor.parallel is parallel
    assert extractor.identity["backend"] == f"torch {torch.__version__} ({device})"
    assert next(extractor._network.parameters()).device.type == device


def test_a_layer_that_stands_twice_in_a_row_is_kept_twice() -> None:
    """Behind it, names of layers are no longer the numbers of different layers."""
    again = nn.Linear(3, 3)
    whole = nn.Sequential(again, nn.Tanh(), again, nn.Tanh(), nn.Linear(3, 2)).eval()
    inputs = torch.rand(2, 3)
    cut = cut_network(whole, find_tap(whole, "penultimate"), inputs)
    with torch.no_grad():
        assert torch.equal(cut(inputs), whole[:4](inputs))
    assert len(cut._modules) == 4


def test_the_digest_of_every_second_number_is_that_of_these_numbers() -> None:
    networks = [nn.ParameterList([nn.Parameter(torch.arange(8.0)[::2])]) for _ in range(2)]
    networks[1][0] = nn.Parameter(torch.tensor([0.0, 2.0, 4.0, 6.0]))
    assert len({network_digest(network) for network in networks}) == 1


def test_a_result_that_an_operator_does_not_give_is_no_value() -> None:
    """An optional output that is left out has the empty name."""
    nodes = [onnx.helper.make_node("MaxPool", ["x"], ["y", ""], kernel_shape=[1, 1])]
    graph = model_of(nodes, ["n", 1, 2, 2]).graph
    assert find_values(graph, ["y", "output"]) == ["y", "y"]
    with pytest.raises(LayerError, match="no value '' in the ONNX graph; nearest names: y, "):
        find_values(graph, [""])


def test_a_chunk_for_which_there_is_no_room_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    create_store(tmp_path / "store", manifest(), {})
    store = open_store(tmp_path / "store")
    with store.writer() as write:
        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(WriteError, match="features/1/c/0/0: cannot be written: No space left"):
            write(0, [np.zeros((2, 3), np.float32)] * 2)
    assert [*(store.path / "features").glob(".torchlift-*")] == []
    assert store.missing() == [0, 1, 2]


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "int8", "int64"])
def test_numbers_that_are_no_bytes_are_neither_pixels_nor_inputs(dtype: str) -> None:
    scale = Preprocessing("gray", (2, 2))
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 2))
    model = SavedModel(network, "logits", (1, 2, 2), preprocessing=scale)
    with pytest.raises(ValueError, match=f"dtype {dtype}: pixels from 0 to 255 are uint8"):
        FeatureTransformer(model).fit(np.zeros((4, 1, 2, 2), dtype))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("zarr_format", 2),
        ("node_type", "group"),
        ("shape", [5]),
        ("chunk_grid", {"name": "irregular", "configuration": {"chunk_shape": [2, 3]}}),
        ("chunk_grid", {"name": "regular", "configuration": {"chunk_shape": [2, 9]}}),
        ("chunk_grid", {"name": "regular", "configuration": {"chunk_shape": [3, 3]}}),
        ("chunk_key_encoding", {"name": "default", "configuration": {"separator": "."}}),
        ("chunk_key_encoding", {"name": "v2", "configuration": {"separator": "/"}}),
        ("codecs", [{"name": "bytes", "configuration": {"endian": "big"}}]),
        ("codecs", []),
        ("data_type", "float16"),
        ("data_type", "int32"),
    ],
)
def test_each_part_of_the_description_of_an_array_counts(
    key: str, value: Any, tmp_path: Path
) -> None:
    create_store(tmp_path / "store", manifest(), {})
    open_store(tmp_path / "store")
    file = tmp_path / "store/features/1/zarr.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(StoreError, match=f"damaged: {key} is not what torchlift writes"):
        open_store(tmp_path / "store")


def test_a_layer_that_gets_its_input_by_name_has_none_in_front_of_it() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.inner(input=x)
            return found

    network = Named().eval()
    (behind,) = FeatureNetwork(network, [Tap("inner", "inner")])(torch.ones(3, 2))
    assert behind.shape == (3, 2)
    with pytest.raises(LayerError, match="the input of inner is a NoneType"):
        FeatureNetwork(network, [Tap("penultimate", "inner", True)])(torch.ones(3, 2))


def test_layers_of_a_manifest_are_those_of_its_features_by_name() -> None:
    whole = manifest()
    with pytest.raises(StoreError, match="layers does not describe the layers of features"):
        check_readable({**whole, "layers": {"1": "1", "other": "of as many layers"}})


@pytest.mark.parametrize("numbers", [3, 5, 8])
def test_rows_of_another_length_are_no_images(numbers: int) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 2))
    model = SavedModel(network, "logits", (1, 2, 2))
    rows = np.ones((4, 4), np.float32)
    assert FeatureTransformer(model).fit_transform(rows).shape == (4, 3)
    with pytest.raises(TorchliftError, match=f"{numbers}"):
        FeatureTransformer(model).fit(np.ones((4, numbers), np.float32))


@pytest.mark.parametrize("version", [-1, 0, 3, 99])
def test_a_store_of_another_format_is_not_read(version: int) -> None:
    with pytest.raises(StoreError, match=f"format version {version}, this torchlift reads 1 and 2"):
        check_readable({**manifest(), "format_version": version})


@pytest.mark.parametrize(("name", "dtype"), [("labels", "float32"), ("splits", "float16")])
def test_a_column_of_real_numbers_is_none(name: str, dtype: str, tmp_path: Path) -> None:
    create_store(tmp_path / "store", manifest(), {name: np.ones(5, dtype)})
    with pytest.raises(StoreError, match="damaged: data_type is not what torchlift writes"):
        open_store(tmp_path / "store")


def planned() -> ExtractionPlan:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
    data = Dataset(np.arange(20, dtype=np.float32).reshape(5, 1, 2, 2))
    return plan_extraction(
        TorchExtractor(SavedModel(network, "features"), ["1"], "cpu"), data, Settings(chunk=2)
    )


def test_only_the_first_of_several_processes_makes_a_store_and_all_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one would replace what the first has made; each computes every second chunk."""
    plan, waited = planned(), list[int]()
    removed: list[Path] = []
    monkeypatch.setattr(Process, "wait", lambda process: waited.append(process.rank))
    monkeypatch.setattr(FeatureStore, "remove_unfinished", lambda store: removed.append(store.path))
    second = Process(1, 2)
    with pytest.raises(StoreError, match="no such feature store"):
        extract(plan, tmp_path / "store", process=second)
    assert waited == [1]
    waited.clear()
    extract(plan, tmp_path / "store", process=Process(0, 2))
    assert waited == [0, 0, 0]
    assert open_store(tmp_path / "store").missing() == [1]
    store = extract(plan, tmp_path / "store", process=second, overwrite=True)
    assert store.missing() == []
    assert removed == [tmp_path / "store"]
    assert len(store.read("1")) == 5
