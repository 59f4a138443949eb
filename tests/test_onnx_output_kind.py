"""What the scores of a graph mean is told from the operator that makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import NodeProto, helper

from torchlift.converters.inference.onnx_output_kind import kind_of, output_kind_of_graph

#: What operators take behind the value that they leave what it is.
_MORE = {
    "DequantizeLinear": ["scale", "zero"],
    "Dropout": ["ratio"],
    "Reshape": ["shape"],
    "Squeeze": ["axes"],
}


def chain(*operators: str | tuple[str, dict[str, Any]]) -> list[NodeProto]:
    """Return nodes from the value 0 to the value `scores`, one behind the other."""
    nodes = []
    for number, operator in enumerate(operators, 1):
        name, attributes = operator if isinstance(operator, tuple) else (operator, {})
        last = "scores" if number == len(operators) else str(number)
        inputs = [str(number - 1), *_MORE.get(name, ())]
        nodes.append(helper.make_node(name, inputs, [last], **attributes))
    return nodes


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        (chain("Gemm"), ("logits", "Gemm")),
        (chain("Softmax"), ("probabilities", "Softmax")),
        (chain(("Softmax", {"axis": 1})), ("probabilities", "Softmax")),
        # Over something else than the classes, a softmax leaves them without a meaning.
        (chain(("Softmax", {"axis": 2})), ("logits", "Softmax")),
        (chain(("LogSoftmax", {"axis": -1})), ("log_probabilities", "LogSoftmax")),
        (chain("Softmax", "Log"), ("log_probabilities", "Log of Softmax")),
        (chain("Sigmoid", "Log"), ("logits", "Log")),
        (chain("Softmax", "Cast", "Log", "Reshape"), ("log_probabilities", "Log of Softmax")),
        (chain("Softmax", "Cast", "Reshape", "Identity"), ("probabilities", "Softmax")),
        *(
            (chain("Softmax", moved), ("probabilities", "Softmax"))
            for moved in ("DequantizeLinear", "Dropout", "Flatten", "Squeeze")
        ),
        (chain("Sigmoid", "Flatten"), ("features", "Sigmoid")),
        (chain(("Normalizer", {"norm": "L1"})), ("probabilities", "Normalizer L1")),
        (chain(("Normalizer", {"norm": "L2"})), ("logits", "Normalizer")),
        (chain("Normalizer"), ("logits", "Normalizer")),
        (chain("TreeEnsembleClassifier"), ("probabilities", "TreeEnsembleClassifier")),
        (
            chain(("LinearClassifier", {"post_transform": "SOFTMAX"})),
            ("probabilities", "LinearClassifier"),
        ),
        (
            chain(("LinearClassifier", {"post_transform": "SOFTMAX_ZERO"})),
            ("probabilities", "LinearClassifier"),
        ),
        (
            chain(("LinearClassifier", {"post_transform": "LOGISTIC"})),
            ("logits", "LinearClassifier"),
        ),
        (chain("Identity"), ("logits", "its input")),
    ],
)
def test_the_last_operator_that_computes_tells(
    nodes: list[NodeProto], expected: tuple[str, str]
) -> None:
    assert kind_of(nodes, "scores") == expected


@pytest.mark.parametrize(
    ("above", "below", "kind"),
    [
        ("Exp", "ReduceSum", "probabilities"),
        ("Exp", "ReduceMax", "logits"),
        ("Relu", "ReduceSum", "logits"),
    ],
)
def test_an_exponential_over_its_sum_is_a_softmax(above: str, below: str, kind: str) -> None:
    nodes = [
        helper.make_node(above, ["0"], ["e"]),
        helper.make_node(below, ["e"], ["s"]),
        helper.make_node("Div", ["e", "s"], ["scores"]),
    ]
    assert kind_of(nodes, "scores")[0] == kind


def test_a_file_is_asked_for_the_output_that_counts_and_not_for_its_weights(
    tmp_path: Path,
) -> None:
    """Weights beside the file may be gone: what its operators are stands in it."""
    weight = helper.make_tensor("w", 1, [2, 2], bytes(16), raw=True)
    onnx.external_data_helper.set_external_data(weight, "gone", 0, 16)
    weight.ClearField("raw_data")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["features"]),
        helper.make_node("Softmax", ["features"], ["scores"]),
    ]
    graph = helper.make_graph(nodes, "two", [], [], [weight])
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    for output, kind in (
        ("scores", ("probabilities", "Softmax")),
        ("features", ("logits", "MatMul")),
    ):
        assert output_kind_of_graph(tmp_path / "m.onnx", output) == kind
