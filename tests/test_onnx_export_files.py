"""What `export` writes beside the graph, and in which words it refuses: nothing is traced here."""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import torchlift
from torchlift.converters.errors import LabelsError, WriteError
from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.inference import InferenceError
from torchlift.converters.input_shapes import InputShape, parse_inputs
from torchlift.converters.onnx import OnnxError, describe_file, export
from torchlift.converters.onnx.exporter.bake_preprocessing import (
    bake,
    normalization_constants,
    remaining_preprocessing,
)
from torchlift.converters.onnx.exporter.example import batch_in_front, example_of, shapes_of
from torchlift.converters.onnx.exporter.states import with_states
from torchlift.converters.onnx.exporter.tracing import EXPORTER, _quiet, _root_cause
from torchlift.converters.saved import SavedModel
from torchlift.converters.saved.model import Provenance

EXPORT = import_module("torchlift.converters.onnx.exporter.export")


def graph(rows: str | int = "batch") -> onnx.ModelProto:
    shapes = {"input": ["batch", 3], "output": [rows, 3]}
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    ]
    weight = numpy_helper.from_array(np.ones((1, 3), np.float32), "weight")
    node = helper.make_node("Add", ["input", "weight"], ["output"])
    inner = helper.make_graph([node], "graph", values[:1], values[1:], [weight])
    return helper.make_model(inner, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stands for the tracing, which takes seconds; returns what it was asked for."""
    calls: list[dict[str, Any]] = []

    def trace(module: nn.Module, inputs: Any, *_: Any) -> onnx_ir.Model:
        calls.append({"module": module, "inputs": inputs})
        return onnx_ir.from_proto(graph())

    monkeypatch.setattr(EXPORT, "trace", trace)
    return calls


def test_the_network_is_traced_as_it_will_run(traced: list[dict[str, Any]], tmp_path: Path) -> None:
    network = nn.Sequential(nn.Dropout(), nn.Linear(3, 3)).double().train()
    exported = export(network, tmp_path / "m.onnx", inputs=torch.zeros(2, 3).double())
    (call,) = traced
    assert not call["module"].training
    assert call["module"][1].weight.dtype == call["inputs"].dtype == torch.float32
    assert network.training
    assert (exported.inputs, exported.outputs, exported.opset) == (["input"], ["logits"], 18)
    assert exported.output_kind == "logits"


@pytest.mark.parametrize(("fp16", "precision"), [(False, "fp32"), (True, "fp16")])
def test_the_file_says_what_wrote_it_and_how_it_computes(
    fp16: bool, precision: str, traced: object, tmp_path: Path
) -> None:
    file = tmp_path / "m.onnx"
    exported = export(
        nn.Identity(), file, inputs=torch.zeros(2, 3), fp16=fp16, output_kind="features"
    )
    assert exported.output_kind == "features"
    stored = onnx.load(file)
    assert (stored.producer_name, stored.producer_version) == (
        "torchlift",
        torchlift.__version__,
    )
    props = {prop.key: prop.value for prop in stored.metadata_props}
    assert props["exporter"] == f'"{EXPORTER}"'
    assert props["precision"] == f'"{precision}"'
    assert (props["inputs"], stored.model_version) == ('"3"', 1)
    assert describe_file(file)["output_kind"] == "features"


def test_neither_of_two_files_is_replaced_unasked(
    traced: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EXPORT, "SINGLE_FILE_BYTES", 0)
    beside = tmp_path / "m.onnx.data"
    beside.write_text("mine", encoding="utf-8")
    inputs = torch.zeros(2, 3)
    with pytest.raises(WriteError, match=r"m\.onnx\.data already exists"):
        export(nn.Identity(), tmp_path / "m.onnx", inputs=inputs)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx.data"]
    assert beside.read_text(encoding="utf-8") == "mine"
    (tmp_path / "m.onnx").write_text("mine", encoding="utf-8")
    with pytest.raises(WriteError, match=r"m\.onnx already exists"):
        export(nn.Identity(), tmp_path / "m.onnx", inputs=inputs)
    assert (tmp_path / "m.onnx").read_text(encoding="utf-8") == "mine"
    exported = export(nn.Identity(), tmp_path / "m.onnx", inputs=inputs, overwrite=True)
    assert exported.files == [tmp_path / "m.onnx", beside]
    assert beside.read_bytes() != b"mine"


def test_a_graph_that_lost_its_batch_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EXPORT, "trace", lambda *_: onnx_ir.from_proto(graph(2)))
    with pytest.raises(OnnxError, match="does not keep its batch: output has the shape 2×3"):
        export(nn.Identity(), tmp_path / "m.onnx", inputs=torch.zeros(2, 3))
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_exporter_is_one_line() -> None:
    """It wraps an error in others, each with pages of advice."""

    def wrapped(text: str) -> Exception:
        outer = RuntimeError("many\npages")
        outer.__cause__ = ValueError(text)
        return outer

    shapes = shapes_of(torch.zeros(2, 3))
    found = _root_cause(wrapped("no such operator\nadvice"), shapes)
    assert found == "ValueError: no such operator"
    batch = "Constraints violated (batch)! For more information\n..."
    assert "only for a batch of 2" in _root_cause(wrapped(batch), shapes)


class UserError(Exception):
    """As torch.export names it."""


@pytest.mark.parametrize(
    ("inputs", "error", "said"),
    [
        ("3", UserError("u"), "UserError: u"),
        ("3x?x?", UserError("u"), "it does not work for images of any size"),
        ("3x?x?", ValueError("Constraints violated (height)"), "images of any size"),
        ("3x?x?", ValueError("Not all values of height"), "images of any size"),
        ("3x?x?", ValueError("v"), "ValueError: v"),
        ("?x20", UserError("u"), "every size of the free axes of ?x20: give axes"),
        ("tx20", ValueError("Not all values of t"), "every size of the free axes of tx20"),
        ("tx20", ValueError("of Not all values of t"), "ValueError: of Not all values of t"),
        ("3", ValueError("Not all values of batch"), "it works only for a batch of 2"),
    ],
)
def test_a_size_that_a_network_fixes_is_told_by_what_is_free(
    inputs: str, error: Exception, said: str
) -> None:
    assert said in _root_cause(error, parse_inputs(inputs))


def test_all_of_preprocessing_is_baked_or_a_part_of_it(traced: list[Any], tmp_path: Path) -> None:
    with pytest.raises(OnnxError, match="leave out bake_preprocessing=True"):
        export(
            SavedModel(nn.Conv2d(3, 3, 1), "features", preprocessing=Preprocessing()),
            tmp_path / "m.onnx",
            input_shape=(3, 4, 4),
            bake_resize=True,
            bake_preprocessing=True,
        )
    assert (traced, [*tmp_path.iterdir()]) == ([], [])


@pytest.mark.parametrize(("said", "kind"), [("features", "features"), (None, "logits")])
def test_what_is_said_of_outputs_wins_over_what_their_layer_tells(
    said: str | None, kind: str, traced: list[Any], tmp_path: Path
) -> None:
    exported = export(
        SavedModel(nn.Linear(3, 3), "features"),
        tmp_path / "m.onnx",
        inputs=torch.zeros(2, 3),
        columns=(1, 3),
        output_kind=said,
    )
    assert exported.output_kind == kind


def test_there_is_a_label_for_each_output(traced: list[Any], tmp_path: Path) -> None:
    for labels in (["a", "b"], ["a", "b", "c", "d"]):
        with pytest.raises(LabelsError):
            export(nn.Identity(), tmp_path / "m.onnx", inputs=torch.zeros(2, 3), labels=labels)
    assert (traced, [*tmp_path.iterdir()]) == ([], [])
    export(nn.Identity(), tmp_path / "m.onnx", inputs=torch.zeros(2, 3), labels=["a", "b", "c"])
    assert onnx.load(tmp_path / "m.onnx").doc_string == "input batch×3 → output batch×3, 3 classes"


@pytest.mark.parametrize("source", [None, Provenance("net.t7", "0" * 64)])
def test_a_file_names_what_it_was_made_of(
    source: Provenance | None, traced: list[Any], tmp_path: Path
) -> None:
    model = SavedModel(nn.Identity(), "features", source=source)
    export(model, tmp_path / "m.onnx", inputs=torch.zeros(2, 3))
    said = onnx.load(tmp_path / "m.onnx").doc_string
    assert said == f"{'net.t7: ' if source else ''}input batch×3 → output batch×3"


@pytest.mark.parametrize(
    ("input", "output", "inputs", "said"),
    [
        (["batch", 3, "height", "width"], ["batch", 3, "h", "w"], "3x?x?", ""),
        (["batch", 3, 8, "width"], ["batch", 3, "h", "w"], "3x?x?", "a fixed input size"),
        (["batch", 3, "height", "width"], ["batch*n", 3], "3x?x?", "a fixed input size"),
        (["batch", 3, "height", "width"], [1, 3], "3x?x?", "a fixed input size"),
        (["batch", 3], ["batch*n", 3], "3", ""),
        (["batch", 3], [1, 3], "3", "does not keep its batch: output has the shape 1×3"),
        (["batch", 20, 3], ["batch", 3], "tx3", "no free axis t: input has the shape batch×20×3"),
        ([2, 3], ["batch", 3], "3", "no free axis batch: input has the shape 2×3"),
    ],
)
def test_the_file_that_was_written_holds_any_batch_and_size(
    input: list[Any], output: list[Any], inputs: str, said: str, tmp_path: Path
) -> None:
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("input", input), ("output", output))
    ]
    # The first of two outputs holds it always.
    first = helper.make_tensor_value_info("first", TensorProto.FLOAT, ["batch", 3])
    node = helper.make_node("Identity", ["input"], ["output"])
    inner = helper.make_graph([node], "graph", values[:1], [first, values[1]])
    onnx.save(helper.make_model(inner), tmp_path / "m.onnx")
    if not said:
        EXPORT._check_batch(tmp_path / "m.onnx", parse_inputs(inputs))
        return
    with pytest.raises(OnnxError, match=said):
        EXPORT._check_batch(tmp_path / "m.onnx", parse_inputs(inputs))


def test_each_input_of_the_file_that_was_written_holds_any_batch(tmp_path: Path) -> None:
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 3])
        for name, batch in (("a", "batch"), ("b", 2), ("y", "batch"))
    ]
    node = helper.make_node("Add", ["a", "b"], ["y"])
    onnx.save(
        helper.make_model(helper.make_graph([node], "g", values[:2], values[2:])),
        tmp_path / "m.onnx",
    )
    with pytest.raises(OnnxError, match="no free axis batch: b has the shape 2×3"):
        EXPORT._check_batch(tmp_path / "m.onnx", parse_inputs("3,3"))


def test_example_inputs_say_what_a_network_takes() -> None:
    """Their types too, where they are whole numbers; those of floating point are the network's."""
    tokens, mask = torch.zeros(2, 5, dtype=torch.int64), torch.zeros(2, 5, dtype=torch.bool)
    numbers = torch.zeros(2, 3, dtype=torch.float64)
    assert str(shapes_of([tokens, [mask, numbers]])) == "5:int64,[5:bool,3]"
    assert str(shapes_of([tokens])) == "[5:int64]"
    assert str(shapes_of(numbers)) == "3"


@pytest.mark.parametrize(
    ("said", "given", "shapes"),
    [
        # What is known of a model is kept where the example fits it: names, free axes.
        ("x=?x3", torch.zeros(2, 4, 3), "x=?x3"),
        (None, torch.zeros(2, 4, 3), "4x3"),
        ("x=3", [torch.zeros(2, 3), torch.zeros(2, 5)], "3,5"),
        ("3,5", torch.zeros(2, 3), "3"),
    ],
)
def test_an_example_is_of_as_many_inputs_as_the_network_takes(
    said: str | None, given: Any, shapes: str
) -> None:
    model = SavedModel(nn.Identity(), "features")
    if said is not None:
        model.set_inputs(parse_inputs(said))
    found, _ = example_of(model, nn.Identity(), given, any_size=False, is_saved=True)
    assert str(found) == shapes


@pytest.mark.parametrize(("inputs", "count"), [("3", 2), ("3,5", 2), ("tx20", 2), ("3,?xN", None)])
def test_examples_are_counted_where_the_batch_is_in_front(inputs: str, count: int | None) -> None:
    shapes = parse_inputs(inputs)
    example = [torch.zeros(leaf.sizes(batch=2, free=7)) for leaf in shapes.leaves()]
    assert batch_in_front(shapes, example) == count


def test_states_follow_the_inputs_which_keep_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "torchlift.converters.onnx.exporter.states.WithStates",
        lambda *_: lambda inputs: [inputs[0], torch.ones(2, 7), torch.ones(2, 4, 9)],
    )
    one, two = torch.zeros(2, 3), [torch.zeros(2, 3), torch.zeros(2, 5)]
    for text, example, named in (
        ("3", one, ["input", "state_1", "state_2"]),
        ("x=3", one, ["x", "state_1", "state_2"]),
        ("3,5", two, ["input_1", "input_2", "state_1", "state_2"]),
    ):
        inputs = example if isinstance(example, list) else [example]
        _, shapes, found = with_states(nn.Identity(), parse_inputs(text), example)
        assert shapes.names() == named
        states = [InputShape(("N", 7), name="state_1"), InputShape(("N", 4, 9), name="state_2")]
        assert [*shapes.leaves()][-2:] == states
        sizes = [tuple(one.shape) for one in inputs]
        assert [tuple(each.shape) for each in found] == [*sizes, (2, 7), (2, 4, 9)]


@pytest.mark.parametrize(
    ("preprocessing", "expected"),
    [
        (Preprocessing("gray"), {"scale": [1 / 255]}),
        (Preprocessing("gray", value_range=255), {"scale": [1.0]}),
        (
            Preprocessing("RGB", mean=(0, 0.5, 1), std=(0.5, 0.25, 0.1)),
            {"scale": [2 / 255, 4 / 255, 10 / 255], "shift": [0, 2, 10]},
        ),
        (
            Preprocessing("BGR", value_range=255, mean=(104, 117, 124)),
            {"scale": [1.0], "shift": [104, 117, 124], "order": [2, 1, 0]},
        ),
        (Preprocessing("RGB", mean=(0, 0, 0)), {"scale": [1 / 255]}),
    ],
    ids=["range", "no range", "mean and std", "order", "mean of 0"],
)
def test_what_is_baked_computes_the_same_as_the_preprocessing(
    preprocessing: Preprocessing, expected: dict[str, list[float]]
) -> None:
    constants = normalization_constants(preprocessing)
    found = {name.removeprefix("baked_"): array for name, array in constants.items()}
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name].reshape(-1), values, rtol=1e-6)
        assert name == "order" or found[name].dtype == np.float32
        assert name == "order" or found[name].shape == (1, len(values), 1, 1)


def test_only_one_input_of_these_channels_is_baked() -> None:
    shapes = {"first": ["batch", 3, 4, 4], "second": ["batch", 3, 4, 4], "flat": ["batch", 3]}
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    }
    add = helper.make_node("Add", ["first", "second"], ["output"])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, None)
    both = helper.make_graph([add], "graph", [values["first"], values["second"]], [output])
    relu = helper.make_node("Relu", ["flat"], ["output"])
    flat = helper.make_graph([relu], "graph", [values["flat"]], [output])
    for graph_, said in (
        (both, "a network with one input"),
        (flat, "has 3 channels, the input is"),
    ):
        with pytest.raises(OnnxError, match=said):
            bake(onnx_ir.from_proto(helper.make_model(graph_)), Preprocessing("RGB"))


def test_the_exporter_leaves_logging_as_it_was() -> None:
    logging.disable(logging.NOTSET)
    with _quiet():
        assert logging.root.manager.disable == logging.WARNING
        print("advice")
    assert logging.root.manager.disable == logging.NOTSET


def test_outside_the_graph_are_sizes_and_whole_pixels() -> None:
    given = Preprocessing(
        "BGR", (8, 9), "image.scale-bilinear", mean=(1, 2, 3), std=(4, 5, 6), value_range=255
    )
    assert remaining_preprocessing(given) == Preprocessing(
        "RGB", (8, 9), "image.scale-bilinear", value_range=255, round_pixels=True
    )
    assert remaining_preprocessing(Preprocessing("gray")).color == "gray"


class Sized(nn.Module):
    """It takes images of one size alone."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if input.shape[2] != 32:
            raise ValueError("32 was expected")
        return input


def test_an_example_is_as_large_as_the_network_takes_it() -> None:
    model = SavedModel(Sized().eval(), "features")
    model.set_inputs(parse_inputs("3x?x?"))
    _, example = example_of(model, model.module, None, any_size=False, is_saved=True)
    assert example.shape == (2, 3, 32, 32)


def test_inputs_of_different_numbers_of_examples_have_no_shapes() -> None:
    for other in (torch.zeros(4, 5), torch.tensor(1.0)):
        with pytest.raises(InferenceError, match="batch axis"):
            shapes_of([torch.zeros(3, 2), other])
