"""What an int8 trial measures, on which examples, and how the pieces of `quantize` go together.

The files are replaced by functions of numbers that are given here; `test_onnx_quantizer_graphs` has
the graphs, `test_onnx_quantize_gate` the decision.
"""

from __future__ import annotations

import json
import logging
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from torchlift.converters.errors import WriteError
from torchlift.converters.inference.onnx_overrides import OnnxOverrides
from torchlift.converters.onnx import OnnxError, quantize
from torchlift.converters.onnx.quantizer import ort_quantizer
from torchlift.converters.onnx.quantizer.ort_quantizer import LINEAR, layers_of
from torchlift.converters.onnx.quantizer.plain_graph import plain_graph

MODULE = import_module("torchlift.converters.onnx.quantizer.trials")
QUANTIZE = import_module("torchlift.converters.onnx.quantizer.quantize")


def trials_of(before: np.ndarray, classes: np.ndarray | None) -> Any:
    examples: Any = SimpleNamespace(all=np.arange(len(before)), scores=lambda *_: before)
    return MODULE.Int8Trials(Path("f.onnx"), onnx.ModelProto(), examples, classes, False)


@pytest.mark.parametrize(("count", "is_few"), [(29, True), (30, False)])
def test_thirty_images_are_not_few(count: int, is_few: bool) -> None:
    assert bool(trials_of(np.eye(2)[np.arange(count) % 2], None).notes) is is_few


def test_a_trial_counts_what_is_lost_and_what_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten examples the float file is right for eight, the int8 file for five."""
    true = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    float_classes = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 0])
    int8_classes = np.array([0, 0, 1, 1, 1, 1, 1, 1, 0, 0])
    before, after = np.eye(2)[float_classes], np.eye(2)[int8_classes]
    steps: list[Any] = []

    def scores(_: object, model: object, step: str, indices: np.ndarray) -> np.ndarray:
        steps.append((model, step, indices.tolist()))
        return after

    monkeypatch.setattr(MODULE.Int8Trials, "_scores", scores)
    monkeypatch.setattr(MODULE.Int8Trials, "_quantized", lambda _, keep: ("graph", *keep))
    trial = trials_of(before, true).quantize(["a", "b"])
    assert (trial.before, trial.after, trial.agreement) == (0.8, 0.5, 0.7)
    assert (trial.lost, trial.count, trial.model) == (3, 10, ("graph", "a", "b"))
    assert steps == [(("graph", "a", "b"), "int8, 2 layers in float", list(range(10)))]
    findings = {one.name: one.text for one in trial.findings}
    assert "7 of 10 predictions agree, 95% required" in findings["top-1"]
    assert "0.2 allowed" in findings["outputs"]
    assert "batches: 1, 2, 7" in findings["outputs"]
    steps.clear()
    own = trials_of(before, None).quantize([])
    assert (own.before, own.after, own.lost, steps[0][1]) == (1.0, 0.7, 3, "int8")
    # An int8 file may be better than the float file.
    monkeypatch.setattr(MODULE.Int8Trials, "_scores", lambda *_: np.eye(2)[true])
    assert trials_of(before, true).quantize([]).lost == -2


def test_classes_are_one_for_each_example() -> None:
    for count in (9, 11):
        with pytest.raises(OnnxError, match=f"{count} classes were given for 10 examples"):
            trials_of(np.eye(10), np.arange(count))


def test_examples_run_in_the_batches_of_a_check_and_each_has_its_own_scores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first batches repeat examples where there are too few; progress names the first."""
    steps: list[Any] = []
    values = np.arange(50, dtype=np.float32)[:, None] * [1, 10]
    predictor: Any = SimpleNamespace(
        preprocessing=None, feeds=lambda batch: [{"x": batch[:1]}, {"x": batch[1:]}]
    )
    said = OnnxOverrides(output_kind="logits")
    examples = MODULE.Examples(values, predictor, said, 12, lambda *step: steps.append(step))
    assert examples.sample.tolist() == [0, 4, 8, 13, 17, 22, 26, 31, 35, 40, 44, 49]
    batches = [batch[:, 0].tolist() for batch in examples.batches("a step", examples.sample)]
    assert batches == [[0], [4, 8], [13, 17, 22, 26, 31, 35, 40], [44, 49]]
    assert steps == [("a step", done, 12) for done in (0, 1, 3, 10, 12)]
    feeds = [feed["x"][:, 0].tolist() for feed in examples.feeds("calibration")]
    assert feeds[:4] == [[0], [], [4], [8]]
    assert steps[-1] == ("calibration", 12, 12)
    opened: list[Any] = []

    def open_file(file: Path, provider: str, said: OnnxOverrides) -> Any:
        opened.append((file, provider, said))
        return lambda batch: batch * 2

    monkeypatch.setattr(MODULE, "OnnxPredictor", open_file)
    for indices in (np.array([7, 3, 9]), examples.all):
        found = examples.scores(Path("int8.onnx"), "int8", indices)
        assert np.array_equal(found, values[indices] * 2)
    assert opened == [(Path("int8.onnx"), "cpu", said)] * 2


def test_layers_are_ranked_on_the_sample_and_by_the_float_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(MODULE, "layers_of", lambda _: ["a", "b", "c"])
    trials = object.__new__(MODULE.Int8Trials)
    sample = np.array([1, 4])

    def scores(file: Path, step: str, indices: np.ndarray) -> np.ndarray:
        asked.append((file, step, indices is sample))
        return np.zeros((2, 2))

    trials._examples = SimpleNamespace(sample=sample, scores=scores)
    trials._file, trials._model = Path("f.onnx"), onnx.ModelProto()
    monkeypatch.setattr(MODULE.Int8Trials, "_quantized", lambda _, keep: keep)

    def quantized(_: object, keep: list[str], step: str, indices: np.ndarray) -> np.ndarray:
        asked.append((keep, step, indices is sample))
        # One large change is less than many: a changes the scores by 1 on average.
        changes = {"a": [[4, 0], [0, 0]], "b": [[3, 3], [3, 3]], "c": [[-2, -2], [-2, -2]]}
        return np.array(changes[step.split()[1]], float)

    monkeypatch.setattr(MODULE.Int8Trials, "_scores", quantized)
    assert trials.rank(["a", "b", "c"]) == ["b", "c", "a"]
    assert asked == [
        (Path("f.onnx"), "float", True),
        (["b", "c"], "int8, a alone", True),
        (["a", "c"], "int8, b alone", True),
        (["a", "b"], "int8, c alone", True),
    ]


WEIGHTS = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
INPUTS = np.random.default_rng(1).standard_normal((64, 6), np.float32)


def layer_file(folder: Path, **props: str) -> Path:
    """Write a file of one layer, as another program might."""
    value = helper.make_tensor_value_info
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "layer")
    graph = helper.make_graph(
        [node],
        "g",
        [value("x", TensorProto.FLOAT, ["batch", 6])],
        [value("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(WEIGHTS, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, props)
    onnx.save(model, folder / "f.onnx")
    return folder / "f.onnx"


def test_ranges_are_measured_on_as_many_examples_and_in_the_way_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods: list[str] = []
    measure = MODULE.calibrate

    def calibrate(model: Any, batches: Any, method: Any) -> Any:
        methods.append(method)
        return measure(model, batches, "minmax")

    monkeypatch.setattr(MODULE, "calibrate", calibrate)
    steps: list[Any] = []
    quantize(
        layer_file(tmp_path),
        tmp_path / "q.onnx",
        INPUTS,
        max_drop=1,
        method="percentile",
        calibration=40,
        progress=lambda *step: steps.append(step),
    )
    assert methods == ["percentile"]
    totals = {name: total for name, _, total in steps}
    assert totals == {"float": 64, "calibration": 40, "int8": 64}


def test_the_int8_file_says_what_the_float_file_says_and_what_is_said_of_it(
    tmp_path: Path,
) -> None:
    path = layer_file(tmp_path, author="me", labels="of another program")
    said = OnnxOverrides.of(labels=[*"abcd"])
    written = quantize(path, tmp_path / "q.onnx", INPUTS, said=said, max_drop=1)
    props = {prop.key: prop.value for prop in onnx.load(written.file).metadata_props}
    assert props["author"] == "me"
    assert json.loads(props["labels"]) == [*"abcd"]
    assert json.loads(props["output_kind"]) == "logits"
    assert json.loads(props["precision"]) == "int8"
    assert "depends_on_batch" not in props
    # What was decided of the graph is told before what is few.
    assert written.notes[0].startswith("the outputs are taken for logits: the graph ends in MatMul")
    assert (written.file, written.kept, written.layers) == (tmp_path / "q.onnx", [], 1)
    assert written.bytes == (path.stat().st_size, written.file.stat().st_size)
    with pytest.raises(WriteError, match="already exists"):
        quantize(path, tmp_path / "q.onnx", INPUTS, max_drop=1)


def test_three_of_the_layers_that_lose_most_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = MODULE.Trial(onnx.ModelProto(), 1.0, 0.5, 0.5, 50, 100, [])
    monkeypatch.setattr(MODULE.Int8Trials, "quantize", lambda *_: bad)
    monkeypatch.setattr(MODULE.Int8Trials, "rank", lambda *_: [*"abcde"])
    with pytest.raises(OnnxError) as caught:
        quantize(layer_file(tmp_path), tmp_path / "q.onnx", INPUTS)
    assert str(caught.value) == (
        "accuracy falls from 1.0000 to 0.5000, by more than max_drop=0.01: nothing was written. Of "
        "1 layers these lose the most: a, b, c; keep them in float with keep=[…], or find out how "
        "many it takes with search=True"
    )


@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose", "Gemm", "MatMul", "Add"])
def test_layers_are_what_multiplies_by_constant_weights(operator: str) -> None:
    nodes = [
        helper.make_node(operator, ["x", "w"], ["h"], "layer"),
        helper.make_node(operator, ["w", "h"], ["i"], "turned"),
        helper.make_node(operator, ["h", "i"], ["y"], "of two values"),
    ]
    graph = helper.make_graph(nodes, "g", [], [], [numpy_helper.from_array(WEIGHTS, "w")])
    model = helper.make_model(graph)
    found = [] if operator == "Add" else ["layer", "turned"]
    assert layers_of(model) == found
    assert layers_of(model, LINEAR) == (found if operator in ("Gemm", "MatMul") else [])


@pytest.mark.parametrize(
    "operator",
    [
        *("Cast", "Flatten", "Identity", "LogSoftmax", "Reshape", "Softmax", "Squeeze"),
        *("Transpose", "Unsqueeze"),
    ],
)
def test_scores_stay_in_float_whatever_only_moves_them_behind_the_last_layer(operator: str) -> None:
    """The first layer's output is quantized, the last one's is not, nor what is behind it."""
    steps = np.zeros((), np.uint8)
    constants = {"s": np.float32(0.5), "z": steps, "w": WEIGHTS, "v": WEIGHTS[:4]}
    names = ("h", "y0", "y1")
    pairs = [
        helper.make_node(kind, [source, "s", "z"], [target], f"{name}_{kind}")
        for name in names
        for kind, source, target in (
            ("QuantizeLinear", name, f"{name}_q"),
            ("DequantizeLinear", f"{name}_q", f"{name}_d"),
        )
    ]
    pairs[-1].output[0] = "y"
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "first"),
        *pairs[:2],
        helper.make_node("MatMul", ["h_d", "v"], ["y0"], "last"),
        *pairs[2:4],
        helper.make_node(operator, ["y0_d"], ["y1"], "behind"),
        *pairs[4:],
    ]
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [], [value], stored)
    ort_quantizer._keep_logits_in_float(graph)
    assert [(node.name, [*node.input], [*node.output]) for node in graph.node] == [
        ("first", ["x", "w"], ["h"]),
        ("h_QuantizeLinear", ["h", "s", "z"], ["h_q"]),
        ("h_DequantizeLinear", ["h_q", "s", "z"], ["h_d"]),
        ("last", ["h_d", "v"], ["y0"]),
        ("behind", ["y0"], ["y"]),
    ]
    assert [tensor.name for tensor in graph.initializer] == ["s", "z", "w", "v"]


def test_what_computes_behind_the_last_layer_keeps_its_quantized_input() -> None:
    """A ReLU is no end of a classifier; scales that nothing takes any more go with their pair."""
    constants = {name: np.float32(0.5) for name in ("s", "t")}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s"], ["a"]),
        helper.make_node("DequantizeLinear", ["a", "s"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "t"], ["d"]),
        helper.make_node("DequantizeLinear", ["d", "t"], ["y"]),
    ]
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [], [value], stored)
    ort_quantizer._keep_logits_in_float(graph)
    assert [node.op_type for node in graph.node] == ["QuantizeLinear", "DequantizeLinear", "Relu"]
    assert graph.node[-1].output[0] == "y"
    assert [tensor.name for tensor in graph.initializer] == ["s"]


def test_each_output_stays_in_float() -> None:
    nodes = [
        helper.make_node(kind, [source, "s"], [target])
        for name in ("a", "b")
        for kind, source, target in (
            ("QuantizeLinear", name, f"{name}_q"),
            ("DequantizeLinear", f"{name}_q", f"{name}_y"),
        )
    ]
    tops = [helper.make_node("Relu", ["x"], [name]) for name in ("a", "b")]
    outputs = [
        helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, None) for name in ("a", "b")
    ]
    scale = numpy_helper.from_array(np.float32(0.5), "s")
    graph = helper.make_graph([*tops, *nodes], "g", [], outputs, [scale])
    ort_quantizer._keep_logits_in_float(graph)
    found = [(node.op_type, *node.output) for node in graph.node]
    assert found == [("Relu", "a_y"), ("Relu", "b_y")]


def test_whole_steps_that_no_node_computes_are_no_scores() -> None:
    """A graph may give out a weight: nothing in float stands before it."""
    constants = {"w_quantized": np.int8([[3]]), "s": np.float32(0.5)}
    nodes = [
        helper.make_node("DequantizeLinear", ["w_quantized", "s"], ["w"]),
        helper.make_node("Transpose", ["w"], ["y"]),
    ]
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [], [value], stored)
    ort_quantizer._keep_logits_in_float(graph)
    assert [*graph.node] == nodes
    assert [tensor.name for tensor in graph.initializer] == [*constants]


def test_advice_and_prints_of_the_quantizer_are_kept_off_the_streams(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def advise() -> None:
        print("collecting tensor data")
        logging.getLogger("quantizer").warning("advice")
        logging.getLogger("quantizer").error("a fault")
        print("said", file=sys.stderr)
        raise ZeroDivisionError

    try:
        # What the caller has silenced stays so, and nothing more.
        logging.disable(logging.INFO)
        with pytest.raises(ZeroDivisionError), ort_quantizer._quiet():
            advise()
        assert logging.root.manager.disable == logging.INFO
    finally:
        logging.disable(logging.NOTSET)
    assert capsys.readouterr().out == ""
    assert [record.message for record in caplog.records] == ["a fault"]
    logging.getLogger("quantizer").warning("heard again")
    print("seen again")
    assert caplog.records[-1].message == "heard again"
    assert capsys.readouterr().out == "seen again\n"


def test_a_quantized_graph_has_the_versions_and_words_of_the_float_graph() -> None:
    def model(number: int) -> onnx.ModelProto:
        made = helper.make_model(
            helper.make_graph([], "g", [], []),
            ir_version=number,
            producer_name=f"producer {number}",
            producer_version=f"version {number}",
            model_version=number,
            doc_string=f"words {number}",
        )
        helper.set_model_props(made, {f"key {number}": "value"})
        return made

    found = ort_quantizer._with_metadata_of(model(8), model(10))
    assert found == model(8)


def test_constants_that_are_no_tensors_stay_nodes_and_a_domain_may_be_written_out() -> None:
    nodes = [
        helper.make_node("Constant", [], ["five"], value_float=5.0),
        helper.make_node("Constant", [], ["t"], value=numpy_helper.from_array(WEIGHTS)),
        helper.make_node("Mul", ["x", "five"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [value("x", 1, ["n"])], [value("y", 1, ["n"])])
    opsets = [helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("ai.onnx", 17)]
    plain = plain_graph(helper.make_model(graph, opset_imports=opsets, ir_version=9), "f.onnx")
    assert [node.op_type for node in plain.graph.node] == ["Constant", "Mul"]
    assert [node.name for node in plain.graph.node] == ["Constant_0", "Mul_1"]
    assert [tensor.name for tensor in plain.graph.initializer] == ["t"]
    assert np.array_equal(numpy_helper.to_array(plain.graph.initializer[0]), WEIGHTS)
    assert (plain.opset_import[1].version, plain.ir_version) == (17, 9)
