"""What computes features: a network in PyTorch, or a graph that is cut behind the last of them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.inference import ProviderError
from torchlift.converters.saved import SavedModel
from torchlift.transfer.errors import LayerError
from torchlift.transfer.features import extractors
from torchlift.transfer.features.extractors import (
    TorchExtractor,
    build_extractor,
    network_digest,
    open_extractor,
)
from torchlift.transfer.features.model_source import ModelSource
from torchlift.transfer.features.onnx_graph import cut_graph, find_values

NETWORK = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
SCALE = Preprocessing("gray", (2, 2), mean=(0.5,), std=(0.5,))


class Pair(nn.Module):
    """Twenty-four bytes of parameters that Python shows alike, whatever they are."""

    def __init__(self, count: int, dtype: torch.dtype = torch.float32, name: str = "second"):
        super().__init__()
        numbers = torch.zeros(24, dtype=torch.uint8).view(dtype)
        self.first = nn.Parameter(numbers[:count])
        self.register_parameter(name, nn.Parameter(numbers[count:]))


def test_the_digest_of_a_network_has_names_shapes_and_types() -> None:
    networks = [
        Pair(2),
        Pair(3),
        Pair(2, name="third"),
        Pair(2, torch.float16),
    ]
    assert len({network_digest(network) for network in networks}) == len(networks)


def test_where_a_model_is_is_remembered_from_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store is read again from another folder; names of other libraries stay as they are."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pth").touch()
    here = str(tmp_path / "w.pth")
    for given, expected in (
        (("net.t7", None, "a.b"), (str(tmp_path / "net.t7"), None, "a.b")),
        (("python:nets:make", "w.pth"), ("python:nets:make", here, None)),
        (("torchvision:resnet18", here), ("torchvision:resnet18", here, None)),
        (("timm:resnet18", "a1_in1k"), ("timm:resnet18", "a1_in1k", None)),
        (("hf:org/name",), ("hf:org/name", None, None)),
    ):
        source = ModelSource.of(*given)
        assert source == ModelSource(*expected)
        assert ModelSource.from_manifest({"source": vars(source)}) == source
    assert ModelSource.from_manifest({}) is None


def graph_of(nodes: list[Any], **weights: np.ndarray) -> onnx.ModelProto:
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
        for name, size in (("input", 2), ("output", 3))
    ]
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "graph", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A graph whose linear layer is a MatMul, and an If that uses a value of the graph."""
    branch = helper.make_graph(
        [helper.make_node("Mul", ["summed", "two"], ["branch_output"])],
        "branch",
        [],
        [helper.make_tensor_value_info("branch_output", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Relu", ["input"], ["positive"]),
        helper.make_node("MatMul", ["positive", "weight"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["summed"]),
        helper.make_node("If", ["yes"], ["chosen"], then_branch=branch, else_branch=branch),
        helper.make_node("Sub", ["chosen", "bias"], ["output"]),
    ]
    weights = {
        "weight": np.ones((2, 3), np.float32),
        "bias": np.arange(3, dtype=np.float32),
        "two": np.array(2, np.float32),
        "yes": np.array(True),
    }
    onnx.save(graph_of(nodes, **weights), tmp_path / "graph.onnx")
    return tmp_path / "graph.onnx"


@pytest.fixture
def exported(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares the seconds of an export: every network becomes the same file."""
    monkeypatch.setattr(extractors, "export", lambda _, target, **__: shutil.copy(file, target))


def test_a_graph_without_a_linear_layer_has_no_penultimate_value(file: Path) -> None:
    graph = onnx.load(file).graph
    assert find_values(graph, ["penultimate"]) == ["positive"]
    with pytest.raises(LayerError, match="no layer was named"):
        find_values(graph, [])
    others = [node for node in graph.node if node.op_type != "Gemm"]
    graph.ClearField("node")
    graph.node.extend(node for node in others if node.op_type != "MatMul")
    last = ", ".join(node.output[0] for node in graph.node[-5:])
    with pytest.raises(LayerError, match="last Gemm or MatMul, and this graph has none; name") as e:
        find_values(graph, ["input", "penultimate"])
    assert str(e.value).endswith(f"such as one of the last: {last}")
    assert find_values(graph, ["input", "output"])


def test_values_of_a_graph_are_found_and_computed(file: Path) -> None:
    names = ["penultimate", "summed", "chosen", "summed"]
    extractor = open_extractor(file, names, "cpu")
    assert extractor.names == ["penultimate", "summed", "chosen"]
    assert extractor.identity["model"] == sha256(file.read_bytes()).hexdigest()
    assert extractor.identity["layers"] == {
        "penultimate": "positive",
        "summed": "summed",
        "chosen": "chosen",
    }
    version = onnxruntime.__version__
    assert extractor.identity["backend"] == f"onnxruntime {version} (CPUExecutionProvider)"
    # Whatever the numbers are stored as, the network takes float32.
    inputs = np.array([[1, -1], [2, 3]], np.float64)
    positive, summed, chosen = extractor(inputs)
    np.testing.assert_array_equal(positive, np.maximum(inputs, 0))
    expected = positive.sum(axis=1, keepdims=True) + np.arange(3)
    np.testing.assert_array_equal(summed, expected)
    np.testing.assert_array_equal(chosen, 2 * expected)


def test_a_graph_is_cut_to_what_is_needed(file: Path) -> None:
    model = onnx.load(file)
    cut_graph(model, ["product"])
    assert [node.op_type for node in model.graph.node] == ["Relu", "MatMul"]
    assert [weight.name for weight in model.graph.initializer] == ["weight"]


def test_an_input_that_is_kept_passes_through_a_node(file: Path) -> None:
    """Its name stays that of the input; an output must have another one."""
    model = onnx.load(file)
    known = helper.make_tensor_value_info("summed", TensorProto.FLOAT, ["batch", 3])
    model.graph.value_info.append(known)
    cut_graph(model, ["product", "input"])
    assert not model.graph.value_info
    nodes = [(node.op_type, [*node.input], [*node.output]) for node in model.graph.node]
    assert nodes[-1] == ("Identity", ["input"], ["input_kept"])
    assert [value.name for value in model.graph.output] == ["product", "input_kept"]
    assert [value.name for value in model.graph.input] == ["input"]


def test_what_bodies_within_bodies_use_of_a_graph_is_needed() -> None:
    """An If in a branch of an If, and a node with a list of bodies."""

    def body(*nodes: Any) -> Any:
        last = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
        return helper.make_graph([*nodes], "body", [], [last])

    deep = body(helper.make_node("Mul", ["a", "one"], ["deep"]))
    outer = body(helper.make_node("If", ["yes"], ["inner"], then_branch=deep, else_branch=deep))
    listed = [body(helper.make_node("Neg", [name], [f"{name}_"])) for name in ("b", "c")]
    nodes = [
        helper.make_node("Relu", ["input"], ["a"]),
        helper.make_node("Tanh", ["input"], ["b"]),
        helper.make_node("Exp", ["input"], ["c"]),
        helper.make_node("Sin", ["input"], ["unused"]),
        helper.make_node("If", ["yes"], ["chosen"], then_branch=outer, else_branch=outer),
        helper.make_node("Own", ["two"], ["output"], domain="own", bodies=listed),
    ]
    weights = {name: np.ones(1, np.float32) for name in ("one", "two", "yes")}
    for value, kept, constants in (
        ("chosen", ["Relu", "If"], {"one", "yes"}),
        ("output", ["Tanh", "Exp", "Own"], {"two"}),
    ):
        model = graph_of(nodes, **weights)
        cut_graph(model, [value])
        assert [node.op_type for node in model.graph.node] == kept
        assert {weight.name for weight in model.graph.initializer} == constants


def test_a_value_that_a_graph_lacks_is_refused(file: Path) -> None:
    graph = onnx.load(file).graph
    with pytest.raises(LayerError, match=r"no value 'sumed' .* nearest names: summed"):
        find_values(graph, ["sumed"])
    del graph.input[:]
    with pytest.raises(LayerError, match="has no input"):
        find_values(graph, ["input"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_what_was_asked_to_compute_computes(file: Path, exported: None) -> None:
    """A GPU that does not start is an error, and not a slow CPU."""
    model, example = SavedModel(NETWORK, "logits"), np.zeros((2, 1, 2, 2), np.float32)
    for backend in ("torch", "onnxruntime"):
        with pytest.raises(ProviderError):
            build_extractor(model, ["penultimate"], example, backend, "cuda")
    with pytest.raises(ProviderError):
        open_extractor(file, ["penultimate"], "cuda")


def test_several_batches_at_once_are_for_a_cpu(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There each takes one core; a GPU runs one batch after another."""
    assert TorchExtractor(SavedModel(NETWORK, "logits"), ["1"], "cpu").parallel
    given: list[Any] = []
    opened = extractors.open_session

    def open_on(provider: str) -> Any:
        def open_session(path: Path, _: str, threads: int | None = None) -> Any:
            given.append(threads)
            return replace(opened(path, "cpu", threads=threads), provider=provider)

        return open_session

    for provider, parallel in (("CPUExecutionProvider", True), ("CUDAExecutionProvider", False)):
        monkeypatch.setattr(extractors, "open_session", open_on(provider))
        assert open_extractor(file, ["summed"]).parallel is parallel
    assert given == [1, 1]


def test_the_preprocessing_is_that_of_the_model(exported: None) -> None:
    model = SavedModel(NETWORK, "logits", preprocessing=SCALE)
    for backend in ("torch", "onnxruntime"):
        extractor = build_extractor(model, ["1"], np.zeros((2, 1, 2, 2), np.float32), backend)
        assert extractor.preprocessing == SCALE


def test_the_output_of_a_graph_is_its_first_one_whatever_it_is_called() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Neg", ["y"], ["z"]),
    ]
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in "xyz"
    }
    graph = helper.make_graph(nodes, "graph", [values["x"]], [values["z"], values["y"]])
    assert find_values(graph, ["output", "input", "y"]) == ["z", "x", "y"]
    del graph.output[:]
    with pytest.raises(LayerError, match="no value 'output'"):
        find_values(graph, ["output"])


def test_the_same_numbers_in_another_shape_are_another_network() -> None:
    digests = set()
    for shape in ((2, 3), (3, 2), (6,)):
        network = nn.Module()
        network.register_parameter("weight", nn.Parameter(torch.arange(6.0).reshape(shape)))
        digests.add(network_digest(network))
    assert len(digests) == 3
