"""What a check says of a file's numbers and nodes: which differ, which are too few, what is folded.

The graphs are put together by hand, and what was compared is made up: nothing is exported.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from torchlift.converters.onnx import OnnxError
from torchlift.converters.onnx.checker import graph_checks
from torchlift.converters.onnx.checker.graph_checks import (
    _folding,
    _nodes,
    _verdict,
    _weights,
    check_reference,
    unfolded_nodes,
)
from torchlift.converters.onnx.checker.reference import Constant, Reference
from torchlift.converters.onnx.checker.report import Finding
from torchlift.converters.onnx.checker.weights import WeightComparison
from torchlift.converters.onnx.exporter.tracing import EXPORTER


def graph(nodes: list[onnx.NodeProto], **constants: np.ndarray) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in "xy")
    made = helper.make_graph(nodes, "g", [x], [y], tensors)
    opset = helper.make_opsetid("", 18)
    return helper.make_model(made, opset_imports=[opset], ir_version=8)


@pytest.mark.parametrize(
    ("node", "unfolded"),
    [
        (helper.make_node("Add", ["w", "w"], ["c"]), True),
        (helper.make_node("Add", ["w", "x"], ["c"]), False),
        # An input that is left out has no name.
        (helper.make_node("Clip", ["w", "", "w"], ["c"]), True),
        (helper.make_node("Split", ["w"], ["c", "d"]), False),
        (helper.make_node("RandomNormal", [], ["c"], shape=[1]), False),
        *(
            (helper.make_node(operator, ["w"], ["c"]), False)
            for operator in ("Cast", "DequantizeLinear", "QuantizeLinear", "Bernoulli")
        ),
        (helper.make_node("Multinomial", ["w"], ["c"]), False),
        (helper.make_node("ConstantOfShape", ["w"], ["c"]), False),
    ],
)
def test_what_is_computed_of_constants_alone_could_be_folded(
    node: onnx.NodeProto, unfolded: bool
) -> None:
    node.name = "node"
    assert unfolded_nodes(graph([node], w=np.ones(2, np.float32))) == ["node"] * unfolded


@pytest.mark.parametrize("operator", ["Conv", "ConvTranspose", "Gemm", "MatMul", "Relu"])
def test_a_normalization_could_be_folded_into_a_layer_with_weights(operator: str) -> None:
    nodes = [
        helper.make_node(operator, ["x", "w"], ["h"], "layer"),
        helper.make_node("BatchNormalization", ["h", *"wwww"], ["y"], "norm"),
    ]
    found = unfolded_nodes(graph(nodes, w=np.ones(2, np.float32)))
    assert found == (["norm"] if operator in ("Conv", "ConvTranspose", "Gemm") else [])


def test_ten_of_the_nodes_that_could_be_folded_are_named() -> None:
    nodes = [helper.make_node("Add", ["w", "w"], [f"c{n}"], f"node_{n}") for n in range(12)]
    found = _folding(graph(nodes, w=np.ones(2, np.float32)))
    names = ", ".join(f"node_{number}" for number in range(10))
    assert found == Finding("folding", False, f"could be computed ahead: {names}")
    assert _folding(graph([])).passed


def precise(precision: str | None) -> Any:
    return SimpleNamespace(metadata=SimpleNamespace(precision=precision))


def test_weights_that_differ_are_named_and_too_few_that_were_compared_too() -> None:
    names = [f"w{number}" for number in range(13)]
    found = _verdict(precise("fp32"), WeightComparison(names[:10], [], 1000, 2000), 0.9)
    listed, compared = ", ".join(names[:10]), "1,000 of 2,000 numbers compared"
    text = f"not the model's values: {listed}; {compared}"
    assert found == Finding("weights", False, text)
    found = _verdict(precise("fp32"), WeightComparison(names, [], 1000, 2000), 0.1)
    assert found.text == f"not the model's values: {listed} and 3 more; {compared}"
    few = WeightComparison([], names, 1000, 2000)
    found = _verdict(precise("fp32"), few, 0.5001)
    assert found.text == (
        f"only {compared}, 50.00%, 50.01% required; the model has no numbers for {listed}"
    )
    for precision in ("fp32", "fp16", "int8", None):
        end = f", rounded to {precision}" if precision in ("fp16", "int8") else ""
        found = _verdict(precise(precision), few, 0.5)
        assert found == Finding("weights", True, f"{compared}: they are the model's{end}")


@pytest.mark.parametrize("is_same", [True, False])
def test_files_of_other_versions_of_the_exporter_are_compared_by_numbers(
    is_same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their names are those of the parameters, and their nodes may be others."""
    asked: list[Any] = []

    def compare(constants: Any, model: Any, kept: Any) -> WeightComparison:
        asked.extend([constants, model, [*kept]])
        return WeightComparison([], [], 9, 9)

    monkeypatch.setattr(graph_checks, "compare_weights", compare)
    module = nn.Linear(2, 1)
    metadata = SimpleNamespace(precision="fp32", exporter=EXPORTER if is_same else "torch 1.0")
    pair: Any = SimpleNamespace(
        is_of_this_exporter=is_same,
        module=module,
        metadata=metadata,
        onnx_model=graph([helper.make_node("Abs", ["x"], ["y"])]),
    )
    constants = {"weight": Constant(np.ones(2), False)}
    nodes = onnx_ir.from_proto(graph([helper.make_node("Relu", ["x"], ["y"])])).graph
    reference = Reference(constants, {}, nodes)
    assert _weights(pair, reference, 0.99).passed
    assert asked == [constants, pair.onnx_model, [] if is_same else ["weight", "bias"]]
    found = _nodes(pair, reference)
    if is_same:
        assert found.text == (
            "not those of the model: Abs 1 in the file, 0 in the model, Relu 0 in the file, 1 in "
            "the model"
        )
        pair.onnx_model = graph([helper.make_node("Relu", ["x"], ["y"])])
        assert _nodes(pair, reference) == Finding("nodes", True, "1 are the model's")
        return
    assert found == Finding(
        "nodes", True, f"not compared: written by torch 1.0, this is {EXPORTER}"
    )
    metadata.exporter = None
    assert "written by an unknown exporter" in _nodes(pair, reference).text


def test_nothing_is_compared_with_a_nan_or_where_torch_cannot_translate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any) -> None:
        raise OnnxError("no such operator")

    monkeypatch.setattr(graph_checks, "reference_of", fail)
    bad = np.array([1, np.nan], np.float32)
    pair: Any = SimpleNamespace(onnx_model=graph([], good=np.ones(2), bad=bad, worse=bad))
    (found,) = check_reference(pair, torch.zeros(1), 0.5)
    assert found == Finding("weights", False, "NaN in bad, worse")
    pair.onnx_model = graph([], good=np.ones(2))
    (found,) = check_reference(pair, torch.zeros(1), 0.5)
    assert found.text == "no number can be compared: no such operator"
    assert not found.passed


@pytest.mark.parametrize(("share", "passes"), [(0.75, True), (0.76, False)])
@pytest.mark.parametrize("is_foreign", [True, False])
def test_as_many_numbers_as_asked_are_compared_whichever_program_wrote_the_file(
    is_foreign: bool, share: float, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file of another program numbers may be those with folded normalizations or without."""
    numbers = {"folded": [1.0, 2], "whole": [3.0], "strange": [7.0]}
    arrays = {name: np.array(values, np.float32) for name, values in numbers.items()}
    constants = {name: Constant(arrays[name], False) for name in ("folded", "whole")}
    reference = Reference({"folded": constants["folded"]}, {"whole": constants["whole"]}, None)
    if not is_foreign:
        reference = Reference(constants, {}, None)
    monkeypatch.setattr(graph_checks, "reference_of", lambda *_: reference)
    monkeypatch.setattr(graph_checks, "_nodes", lambda *_: Finding("nodes", True, ""))
    pair: Any = SimpleNamespace(
        onnx_model=graph([], **arrays),
        is_foreign=is_foreign,
        is_of_this_exporter=True,
        metadata=SimpleNamespace(precision="fp32"),
    )
    found = check_reference(pair, torch.zeros(1), share)
    assert [one.name for one in found] == (["weights"] if is_foreign else ["weights", "nodes"])
    assert "3 of 4 numbers compared" in found[0].text
    assert found[0].passed is passes


def test_nodes_may_be_in_any_order_and_an_int8_file_needs_no_relu() -> None:
    """The range of a quantizer that begins at 0 is one, in a file that says that it is int8."""
    relu = helper.make_node("Relu", ["x"], ["r"])
    after = helper.make_node("Exp", ["r"], ["y"])
    reference = Reference({}, {}, onnx_ir.from_proto(graph([relu, after])).graph)
    pair: Any = SimpleNamespace(
        is_of_this_exporter=True,
        module=nn.Identity(),
        metadata=SimpleNamespace(precision="fp32"),
        onnx_model=graph([after, relu]),
    )
    assert _nodes(pair, reference) == Finding("nodes", True, "2 are the model's")
    quantized = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["r"]),
        after,
    ]
    zero = np.array(0, np.uint8)
    pair.onnx_model = graph(quantized, scale=np.float32(0.5), zero=zero)
    assert not _nodes(pair, reference).passed
    pair.metadata.precision = "int8"
    assert _nodes(pair, reference).passed
    pair.onnx_model = graph(quantized, scale=np.float32(0.5), zero=zero + 1)
    assert _nodes(pair, reference).text == "not those of the model: 1 activations are missing"
