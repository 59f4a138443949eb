"""Locating the first node that differs reads weights that lie beside the file."""

from __future__ import annotations

import importlib
import operator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from torchlift.converters.onnx import export
from torchlift.converters.onnx.checker import divergence
from torchlift.converters.onnx.checker.check_inputs import CheckBatch, CheckInputs
from torchlift.converters.onnx.checker.pair import ExportPair
from torchlift.converters.onnx.checker.report import Finding
from torchlift.converters.onnx.exporter.tracing import translate
from torchlift.converters.saved import SavedModel


@pytest.fixture(autouse=True)
def translated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Translate the model once: that takes as long as everything else together."""
    programs: list[torch.onnx.ONNXProgram] = []

    def translate_once(*arguments: Any) -> torch.onnx.ONNXProgram:
        if not programs:
            programs.append(translate(*arguments))
        return programs[0]

    monkeypatch.setattr(divergence, "translate", translate_once)


def located(model: SavedModel, path: Path) -> Finding:
    """Return what `check(locate=True)` finds, without the other parts of a check."""
    pair = ExportPair.open(model, path)
    return divergence.check_nodes(pair, CheckInputs(pair, None, seed=0), tolerance=1e-4)


def test_nodes_are_compared_in_a_file_with_its_weights_beside_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = importlib.import_module("torchlift.converters.onnx.exporter.export")
    monkeypatch.setattr(module, "SINGLE_FILE_BYTES", 0)
    torch.manual_seed(0)
    # External data begins at 1 KB: a smaller tensor stays in the file.
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 3)).eval()
    model = SavedModel(network, "logits", (3, 4, 4))
    written = export(model, tmp_path / "network.onnx")
    assert [file.name for file in written.files] == ["network.onnx", "network.onnx.data"]
    found = located(model, tmp_path / "network.onnx")
    assert found.passed
    assert found.text == "4 nodes compared, none diverges"

    data = tmp_path / "network.onnx.data"
    weights = np.frombuffer(data.read_bytes(), np.float32).copy()
    weights[: 48 * 32] *= 2
    data.write_bytes(weights.tobytes())
    found = located(model, tmp_path / "network.onnx")
    assert not found.passed
    assert found.text.startswith("the first node that diverges is node_linear (Gemm), layer 1:")


def pair_of_two_nodes(folder: Path) -> ExportPair:
    """Return y = -relu(x), and a file of it whose names are those of the operators."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Relu", ["x"], ["relu"]),
        helper.make_node("Neg", ["relu"], ["y"], "n"),
    ]
    x, y = (value(name, TensorProto.FLOAT, ["batch", 3]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, folder / "f.onnx")
    return ExportPair.open(SavedModel(nn.Identity(), "features"), folder / "f.onnx")


@pytest.mark.parametrize("is_table", [True, False])
def test_what_the_preprocessing_of_a_graph_gives_is_what_the_model_takes(
    is_table: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network with a table of inputs has none."""
    pair = pair_of_two_nodes(tmp_path)
    nodes = pair.onnx_model.graph.node
    nodes[0].name, nodes[0].output[0] = "baked", divergence.NORMALIZED
    nodes[1].input[0] = divergence.NORMALIZED
    onnx.save(pair.onnx_model, tmp_path / "f.onnx")
    inputs = np.float32([[1, 2, 3], [4, 5, 6]])
    monkeypatch.setattr(divergence, "_torch_values", lambda *_: ({"neg": (-inputs, "1")}, ["neg"]))
    for off, text in (
        (0, f"{2 - is_table} nodes compared, none diverges"),
        (1, "the first node that diverges is baked (Relu), layer the preprocessing in the graph"),
    ):
        values = {divergence.NORMALIZED: inputs + off, "y": -inputs}
        monkeypatch.setattr(divergence, "_onnx_values", lambda *_, found=values: found)
        model: Any = [inputs] if is_table else inputs
        batch = CheckBatch(np.arange(2), model, model, is_real=True)
        found = divergence.check_nodes(pair, [batch], 1e-4)
        assert found.text.startswith("1 nodes compared" if is_table else text)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "2 nodes compared, none diverges"),
        # The exporter may give a value another shape; the nodes behind it are compared.
        ({"relu": np.zeros((3, 2))}, "1 nodes compared, none diverges"),
        (
            {"y": np.float32([[0, -1, -4], [0, 0, 0]])},
            "the first node that diverges is n (Neg), ",
        ),
    ],
)
def test_values_are_compared_where_they_have_the_shape_of_the_models(
    changes: dict[str, np.ndarray], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    relu = np.float32([[0, 1, 2], [0, 0, 0]])
    torch_values = {"relu": (relu, "0"), "neg": (-relu, "1")}
    monkeypatch.setattr(divergence, "_torch_values", lambda *_: (torch_values, ["neg"]))
    values = {"relu": relu, "y": -relu, **changes}
    monkeypatch.setattr(divergence, "_onnx_values", lambda *_: values)
    batches = [
        CheckBatch(np.arange(count), np.zeros((count, 3)), np.zeros((count, 3)), is_real=True)
        for count in (1, 2)
    ]
    found = divergence.check_nodes(pair_of_two_nodes(tmp_path), batches, 1e-4)
    assert found.text.startswith(text)
    assert found.passed is ("none diverges" in text)


def test_each_output_is_compared_under_the_name_that_it_has_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = pair_of_two_nodes(tmp_path).onnx_model
    model.graph.node[0].output[0] = model.graph.node[1].input[0] = "r"
    model.graph.output.insert(
        0, helper.make_tensor_value_info("r", TensorProto.FLOAT, ["batch", 3])
    )
    onnx.save(model, tmp_path / "f.onnx")
    pair = ExportPair.open(SavedModel(nn.Identity(), "features"), tmp_path / "f.onnx")
    relu = np.float32([[0, 1, 2], [0, 0, 0]])
    torch_values = {"relu": (relu, "0"), "neg": (-relu, "1")}
    monkeypatch.setattr(divergence, "_torch_values", lambda *_: (torch_values, ["relu", "neg"]))
    batch = CheckBatch(np.arange(2), relu, relu, is_real=True)
    for off, text in (
        (0, "2 nodes compared, none"),
        (1, "the first node that diverges is n (Neg)"),
    ):
        values = {"r": relu, "y": -relu + off}
        monkeypatch.setattr(divergence, "_onnx_values", lambda *_, found=values: found)
        assert divergence.check_nodes(pair, [batch], 1e-4).text.startswith(text)


@pytest.mark.parametrize(
    ("error", "said"), [(ValueError("a\nb"), "a"), (AssertionError(), "AssertionError")]
)
def test_nodes_that_cannot_be_run_are_a_finding_of_one_line(
    error: Exception, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the first batch with several examples: of one alone the batch may be any axis."""
    given: list[int] = []

    def fail(module: nn.Module, inputs: Any, shapes: Any) -> None:
        given.append(len(inputs))
        raise error

    monkeypatch.setattr(divergence, "_torch_values", fail)
    batches = [
        CheckBatch(np.arange(count), np.zeros((count, 3)), np.zeros((count, 3)), is_real=True)
        for count in (1, 2, 7)
    ]
    found = divergence.check_nodes(pair_of_two_nodes(tmp_path), batches, 1e-4)
    assert found == Finding("locate", False, f"the nodes cannot be run: {said}")
    assert given == [2]


@pytest.mark.parametrize("of_model", [True, False])
def test_what_is_no_number_on_one_side_alone_is_a_divergence(
    of_model: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    relu = np.float32([[0, 1, 2], [0, 0, 0]])
    damaged = np.where(relu == 1, np.nan, relu)
    torch_values = {"relu": (damaged if of_model else relu, "0"), "neg": (-relu, "1")}
    monkeypatch.setattr(divergence, "_torch_values", lambda *_: (torch_values, ["neg"]))
    values = {"relu": relu if of_model else damaged, "y": -relu}
    monkeypatch.setattr(divergence, "_onnx_values", lambda *_: values)
    batch = CheckBatch(np.arange(2), relu, relu, is_real=True)
    found = divergence.check_nodes(pair_of_two_nodes(tmp_path), [batch], 1e-4)
    assert found.text.startswith("the first node that diverges is  (Relu), layer 0")


@pytest.mark.parametrize(("tolerance", "passes"), [(0.25, True), (0.24, False)])
def test_exactly_what_is_allowed_is_no_divergence(
    tolerance: float, passes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Off by a half of a largest value of 2."""
    relu = np.float32([[0, 1, 2], [0, 0, 0]])
    torch_values = {"relu": (relu, "0"), "neg": (-relu, "1")}
    monkeypatch.setattr(divergence, "_torch_values", lambda *_: (torch_values, ["neg"]))
    values = {"relu": relu, "y": -relu + 0.5}
    monkeypatch.setattr(divergence, "_onnx_values", lambda *_: values)
    batch = CheckBatch(np.arange(2), relu, relu, is_real=True)
    assert divergence.check_nodes(pair_of_two_nodes(tmp_path), [batch], tolerance).passed is passes


def test_the_next_node_of_an_int8_graph_takes_the_dequantized_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = pair_of_two_nodes(tmp_path)
    graph, name = pair.onnx_model.graph, "relu_DequantizeLinear_Output"
    steps = [
        helper.make_node("QuantizeLinear", ["relu", "scale"], ["steps"]),
        helper.make_node("DequantizeLinear", ["steps", "scale"], [name]),
    ]
    graph.node[1].input[0] = name
    nodes = [graph.node[0], *steps, graph.node[1]]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.5), "scale"))
    onnx.save(pair.onnx_model, tmp_path / "f.onnx")
    inputs = np.float32([[-1, 2, 0.25], [4, 5, 6]])
    relu = np.maximum(inputs, 0)
    given: list[str] = []

    def values(_: object, shapes: Any) -> Any:
        given.append(str(shapes))
        return {"relu": (relu, "0"), "neg": (-relu, "1")}, ["neg"]

    monkeypatch.setattr(divergence, "_torch_values", lambda _, *asked: values(*asked))
    batch = CheckBatch(np.arange(2), inputs, inputs, is_real=True)
    # A quarter is rounded to 0 or a half: of 6 that is 0.04.
    found = divergence.check_nodes(pair, [batch], 0.03)
    assert found.text.startswith("the first node that diverges is  (Relu), layer 0: error 4.2e-02")
    # The sizes are those of the file, also where the model does not say any.
    assert (given, pair.model.input_shapes) == (["x=3"], None)


def test_every_tensor_is_kept_as_it_was_with_the_layer_that_gave_it() -> None:
    """An operator in place changes the result of the one before it; single numbers are shapes."""
    graph = torch.fx.Graph()
    twice = graph.call_function(torch.mul, (graph.placeholder("x"), 2))
    twice.meta["nn_module_stack"] = {"outer": ("", "Net"), "inner": ("0.1", "Layer")}
    more = graph.call_function(operator.iadd, (twice, 1))
    graph.call_function(torch.sum, (more,))
    graph.output((more,))
    recorder = divergence._Recorder(torch.fx.GraphModule(nn.Module(), graph))
    recorder.run(torch.tensor([1.0, 2.0]))
    found = {name: (values.tolist(), layer) for name, (values, layer) in recorder.values.items()}
    assert found == {"mul": ([2, 4], "0.1"), "iadd": ([3, 5], "")}
    assert recorder.outputs == ["iadd"]


def test_values_are_asked_in_exact_int8_and_given_in_single_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = pair_of_two_nodes(tmp_path)
    for value in (*pair.onnx_model.graph.input, *pair.onnx_model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    opened: list[str] = []
    session = divergence.onnxruntime.InferenceSession

    def open_session(content: bytes, options: Any, **others: Any) -> Any:
        opened.append(options.get_session_config_entry("session.x64quantprecision"))
        return session(content, options, **others)

    monkeypatch.setattr(divergence.onnxruntime, "InferenceSession", open_session)
    inputs = {"x": np.float16([[-1, 2, 3]])}
    found = divergence._onnx_values(pair.onnx_model, tmp_path, ["relu", "y"], inputs)
    assert {name: array.dtype for name, array in found.items()} == {
        "relu": np.float32,
        "y": np.float32,
    }
    assert found["y"].tolist() == [[0, -2, -3]]
    assert opened == ["1"]
