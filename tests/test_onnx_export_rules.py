"""What is decided before a graph is written: outputs, their meaning, sizes, constants, runtimes.

Each rule by itself, on tensors and small graphs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from torchlift.converters.images import Preprocessing
from torchlift.converters.input_shapes import parse_inputs
from torchlift.converters.onnx import OnnxError, quantize
from torchlift.converters.onnx.exporter.bake_resize import _new_size
from torchlift.converters.onnx.exporter.expressions import GraphWriter, Tensor
from torchlift.converters.onnx.exporter.kept_outputs import (
    Kept,
    KeptOutputs,
    choose_kept,
    kind_of_kept,
)
from torchlift.converters.onnx.exporter.outputs import kind_of_outputs
from torchlift.converters.onnx.exporter.tracing import name_interface, trace
from torchlift.converters.onnx.runtimes.worker import open_onnxruntime

NAMES = ["output_1", "output_2", "output_3"]
VALUES = [torch.zeros(2, 5), torch.zeros(2, 3), torch.zeros(2, 2, 4)]


@pytest.mark.parametrize(
    ("outputs", "columns", "kept"),
    [
        (None, None, None),
        (["output_3", "1"], None, Kept((3, 1))),
        ([2], (1, 3), Kept((2,), (1, 3))),
        ([2], (2, 2), Kept((2,), (2, 2))),
        ([], None, "each output is kept once"),
        ([1, "output_1"], None, "each output is kept once"),
        ([4], None, "no output 4"),
        (None, (1, 2), "choose one of output_1, output_2, output_3"),
        ([1, 2], (1, 2), "choose one of output_1, output_2 with"),
        ([3], (1, 2), r"output_3 has the shape batch×2×4: only batch×columns"),
        ([2], (0, 2), "there are no columns 0:2: output_2 has the shape batch×3"),
        ([2], (3, 2), "there are no columns 3:2"),
        ([2], (1, 4), "there are no columns 1:4"),
    ],
)
def test_outputs_and_columns_are_those_that_the_network_has(
    outputs: Any, columns: Any, kept: Any
) -> None:
    if isinstance(kept, str):
        with pytest.raises(OnnxError, match=kept):
            choose_kept(outputs, columns, NAMES, VALUES)
        return
    assert choose_kept(outputs, columns, NAMES, VALUES) == kept


def test_the_only_output_is_kept_whatever_it_is_called() -> None:
    for outputs in (None, [1], ["logits"]):
        assert choose_kept(outputs, None, ["logits"], VALUES[:1]) is None
        assert choose_kept(outputs, (5, 5), ["logits"], VALUES[:1]) == Kept(None, (5, 5))


class Heads(nn.Module):
    """Logits, probabilities, a sigmoid, and a map of log-probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.last = nn.Linear(4, 3), nn.Softmax(1)
        self.each, self.map = nn.Sigmoid(), nn.LogSoftmax(1)
        self.cut = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True))

    def forward(self, values: torch.Tensor) -> list[torch.Tensor]:
        scores = self.body(values)
        maps = self.map(scores[..., None])
        return [scores, self.last(scores), self.each(scores), maps, self.cut(values)]


@pytest.mark.parametrize(
    ("outputs", "kind"),
    [
        ((1,), "logits"),
        ((2,), "probabilities"),
        ((3,), "features"),
        ((4,), "features"),
        # Written in the place of logits.
        ((5,), "features"),
        ((1, 2), "features"),
    ],
)
def test_an_output_means_what_the_layer_that_gives_it_tells(
    outputs: tuple[int, ...], kind: str
) -> None:
    module = KeptOutputs(Heads().eval(), Kept(outputs))
    assert kind_of_kept(module, "features", torch.ones(2, 4)) == kind
    assert not any(layer._forward_hooks for layer in module.modules())


@pytest.mark.parametrize(
    ("last", "columns", "said", "kind"),
    [
        (None, (1, 2), "logits", "logits"),
        (nn.Softmax(1), (1, 2), "probabilities", "features"),
        (nn.Softmax(1), (1, 3), "probabilities", "probabilities"),
        (nn.LogSoftmax(1), (2, 3), "log_probabilities", "features"),
        (nn.Sigmoid(), (1, 2), "features", "features"),
        # The layer tells where nothing is said.
        (None, (1, 2), "features", "logits"),
    ],
)
def test_columns_are_a_choice_of_classes_if_all_its_probabilities_are_kept(
    last: nn.Module | None, columns: tuple[int, int], said: str, kind: str
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3), *([last] if last is not None else []))
    module = KeptOutputs(network.eval(), Kept(None, columns))
    assert kind_of_kept(module, said, torch.ones(2, 4)) == kind


def test_a_sigmoid_is_no_choice_also_where_it_adds_up_to_one() -> None:
    network = nn.Sequential(nn.Linear(4, 2), nn.Sigmoid()).eval()
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    for kept in (Kept(None, (1, 2)), Kept((1,))):
        assert kind_of_kept(KeptOutputs(network, kept), "features", torch.ones(2, 4)) == "features"


@pytest.mark.parametrize(
    ("kind", "count", "dims", "by_example", "expected"),
    [
        ("logits", 1, 2, True, "logits"),
        ("log_probabilities", 1, 2, True, "log_probabilities"),
        # A map of scores, or rows that are no examples, is no choice of one class.
        ("logits", 1, 4, True, "features"),
        ("probabilities", 1, 3, True, "features"),
        ("log_probabilities", 1, 4, True, "log_probabilities"),
        ("logits", 1, 2, False, "features"),
        ("logits", 2, 2, True, "features"),
    ],
)
def test_several_outputs_and_maps_are_features(
    kind: str, count: int, dims: int, by_example: bool, expected: str
) -> None:
    assert kind_of_outputs(kind, count, dims, by_example) == expected


def test_a_side_of_half_a_pixel_cannot_be_baked() -> None:
    def operators(size: Any) -> list[str]:
        writer = GraphWriter("")
        sides = (Tensor(writer, onnx_ir.Value(name=name), np.int64) for name in ("high", "wide"))
        _new_size(Preprocessing(size=size), *sides)
        return [node.op_type for node in writer.tape.nodes]

    with pytest.raises(OnnxError, match=r"size '100\.5' cannot be baked: take a whole number"):
        operators("100.5")
    # 100 is the longer side, ^100 the shorter one, and so is a number.
    for size, operator in (("100", "Max"), ("^100", "Min"), (100, "Min")):
        assert operators(size)[0] == operator


def test_constants_are_stored_once_if_dtype_shape_and_numbers_are_the_same() -> None:
    writer = GraphWriter("part_")
    one = writer.constant(1, np.int64)
    assert writer.constant(np.int64(1), np.int64) is one
    others = [
        writer.constant([1], np.int64),
        writer.constant([[1]], np.int64),
        writer.constant(1, np.uint64),
        writer.constant(2, np.int64),
    ]
    assert len({id(value) for value in (one, *others)}) == 5
    names = [value.name for value in (one, *others)]
    assert names == [f"part_constant_{number}" for number in range(5)]


@pytest.mark.parametrize("options", [{"method": "entropy"}, {"symmetric": True}])
def test_ranges_that_are_measured_while_the_file_runs_have_no_options(
    options: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(OnnxError, match=r"is about ranges of activations, which dynamic=True"):
        quantize("f.onnx", tmp_path / "g.onnx", np.zeros((1, 1)), dynamic=True, **options)


@pytest.mark.parametrize(
    ("kind", "arithmetic"),
    [(TensorProto.FLOAT16, "CPU, float16 computed in float32"), (TensorProto.FLOAT, "CPU")],
)
def test_onnxruntime_says_where_it_computes_half_precision_in_single(
    kind: int, arithmetic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [helper.make_tensor_value_info(name, kind, ["batch", 3]) for name in "xy"]
    nodes = [helper.make_node("Tanh", ["x"], ["h"]), helper.make_node("Exp", ["h"], ["y"])]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, tmp_path / "f.onnx")
    monkeypatch.chdir(tmp_path)
    said, run = open_onnxruntime("f.onnx", "")
    assert said == arithmetic
    inputs = np.zeros((2, 3), np.float16 if kind == TensorProto.FLOAT16 else np.float32)
    assert run({"x": inputs}, ["y"])[0].tolist() == [[1.0] * 3] * 2


def test_inputs_and_outputs_are_named_in_their_order() -> None:
    text = '<ir_version: 8, opset_import: ["": 18]> g (float[n] a, float[n] b)'
    body = "=> (float[n] c, float[n] d) { c = Sub (a, b) d = Mul (b, a) }"
    model = onnx_ir.from_proto(onnx.parser.parse_model(f"{text} {body}"))
    name_interface(model, ["first", "second"], ["difference", "product"])
    made = onnx_ir.to_proto(model).graph
    assert [value.name for value in made.input] == ["first", "second"]
    assert [value.name for value in made.output] == ["difference", "product"]
    assert [[node.op_type, *node.input, *node.output] for node in made.node] == [
        ["Sub", "first", "second", "difference"],
        ["Mul", "second", "first", "product"],
    ]


def test_a_traced_graph_is_of_the_version_that_is_read_and_says_nothing_of_the_machine() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    model = trace(network, torch.zeros(1, 4, 1), parse_inputs("pixels=4x1"), ["scores"])
    assert model.ir_version == 8
    inside = model.graph
    assert [value.name for value in (*inside.inputs, *inside.outputs)] == ["pixels", "scores"]
    values = [value for node in inside for value in node.outputs]
    places = [inside, *inside, *inside.inputs, *inside.initializers.values(), *values]
    assert not any(place.metadata_props for place in places)
    assert b".py" not in onnx_ir.to_proto(model).SerializeToString()
