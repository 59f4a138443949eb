"""What stays in single precision in a file of half precision, and that its graph is whole.

Whether a value is in half precision is what ONNX's own inference of types says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from torchlift.converters.onnx.exporter.fp16 import _tidy_casts, to_half

make = helper.make_node
CONSTANTS = {
    "flat": np.array([0, -1], np.int64),
    "last": np.array([3], np.int64),
    "one": np.array([4], np.int64),
    "scale": np.float32(0.25),
    "sizes": np.array([1, 1, 2, 2], np.float32),
    "whole": np.array([1], np.int64),
}
IMAGES = np.random.default_rng(0).standard_normal((2, 3, 4, 1)).astype(np.float32)


def half(*nodes: onnx.NodeProto, outputs: tuple[str, ...] = ("y",)) -> onnx.ModelProto:
    """Return a graph in half precision, once it is whole and gives the same but for rounding."""
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)
        for name, sizes in (("input", ["batch", 3, 4, 1]), *((name, None) for name in outputs))
    ]
    used = {name for node in nodes for name in node.input}
    stored = [numpy_helper.from_array(a, name) for name, a in CONSTANTS.items() if name in used]
    for number, node in enumerate(nodes):
        node.name = f"node_{number}"
    inner = helper.make_graph([*nodes], "graph", values[:1], values[1:], stored)
    model = helper.make_model(inner, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)
    found = onnx_ir.to_proto(to_half(onnx_ir.from_proto(model)))
    onnx.checker.check_model(found, full_check=True)
    for actual, expected in zip(run(found), run(model), strict=True):
        np.testing.assert_allclose(actual, expected, atol=5e-3)
    return found


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"input": IMAGES})  # type: ignore[no-any-return]


def is_half(model: onnx.ModelProto, operator: str) -> bool:
    """Whether what an operator takes is in half precision."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    (node,) = (node for node in graph.node if node.op_type == operator)
    return types[node.input[0]] == TensorProto.FLOAT16


#: What only moves the results of a last softmax.
MOVES: list[list[tuple[str, list[str], dict[str, Any]]]] = [
    [],
    [("Flatten", [], {"axis": 1})],
    [("Identity", [], {})],
    [("Reshape", ["flat"], {})],
    [("Squeeze", ["last"], {})],
    [("Transpose", [], {"perm": [0, 2, 1, 3]})],
    [("Unsqueeze", ["one"], {})],
    [("Transpose", [], {"perm": [0, 2, 3, 1]}), ("Flatten", [], {"axis": 1})],
]


@pytest.mark.parametrize("softmax", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("moves", MOVES, ids=lambda moves: "-".join(one[0] for one in moves))
def test_a_last_softmax_stays_in_single_precision_whatever_moves_its_results(
    softmax: str, moves: list[tuple[str, list[str], dict[str, Any]]]
) -> None:
    nodes = [make("Tanh", ["input"], ["t"]), make(softmax, ["t"], ["0"], axis=1)]
    for operator, constants, options in moves:
        nodes.append(
            make(operator, [nodes[-1].output[0], *constants], [f"{len(nodes)}"], **options)
        )
    nodes[-1].output[0] = "y"
    found = half(*nodes)
    assert is_half(found, "Tanh")
    assert not is_half(found, softmax)


@pytest.mark.parametrize("behind", ["Relu", "Exp"])
def test_a_softmax_in_the_middle_is_in_half_precision(behind: str) -> None:
    found = half(make("Softmax", ["input"], ["s"], axis=1), make(behind, ["s"], ["y"]))
    assert is_half(found, "Softmax")


def test_an_output_in_single_precision_may_be_taken_by_other_nodes_too() -> None:
    found = half(
        make("Tanh", ["input"], ["t"]),
        make("Softmax", ["t"], ["y"], axis=1),
        make("Softmax", ["y"], ["z"], axis=2),
        outputs=("y", "z"),
    )
    # What is cast to half precision and back is not cast: the second takes the first one's output.
    assert [node.op_type for node in found.graph.node].count("Cast") == 2
    found = half(
        make("Softmax", ["input"], ["y"], axis=1),
        make("Mul", ["y", "scale"], ["z"]),
        outputs=("y", "z"),
    )
    assert is_half(found, "Mul")
    assert not is_half(found, "Softmax")


def test_an_input_that_is_given_out_rounded_keeps_its_casts() -> None:
    """No node computes the input, so that none could give the output instead."""
    nodes = [make("Cast", ["input"], ["h"], to=10), make("Cast", ["h"], ["y"], to=1)]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "graph", [], [output])
    _tidy_casts(graph)
    assert [*graph.node] == nodes


def test_a_constant_that_several_nodes_take_in_single_precision_is_not_cast() -> None:
    """Resizing keeps its factors in float32."""
    found = half(
        make("Tanh", ["input"], ["t"]),
        make("Resize", ["t", "", "sizes"], ["a"], mode="nearest"),
        make("Resize", ["a", "", "sizes"], ["b"], mode="nearest"),
        make("Exp", ["b"], ["y"]),
    )
    kinds = {tensor.name: tensor.data_type for tensor in found.graph.initializer}
    assert kinds == {"sizes": TensorProto.FLOAT}
    types = {value.name: value.type.tensor_type.elem_type for value in found.graph.value_info}
    assert types.get("sizes", TensorProto.FLOAT) == TensorProto.FLOAT
    cast = {node.input[0] for node in found.graph.node if node.op_type == "Cast"}
    assert "sizes" not in cast


def test_a_whole_number_that_is_taken_as_a_float_is_still_cast() -> None:
    found = half(make("Cast", ["whole"], ["w"], to=1), make("Mul", ["input", "w"], ["y"]))
    assert is_half(found, "Mul")
    assert "whole" in [node.input[0] for node in found.graph.node if node.op_type == "Cast"]


def test_whole_numbers_and_nothing_at_all_fit_half_precision() -> None:
    """Only what becomes float16 must not be too large for it."""
    indices, empty = np.array([70_000, 0, -1], np.int64), np.zeros(0, np.float32)
    nodes = [
        make("Reshape", ["input", "sizes"], ["rows"]),
        make("Clip", ["indices", "least", "most"], ["places"]),
        make("Gather", ["rows", "places"], ["taken"], axis=0),
        make("Flatten", ["taken"], ["flat"]),
        make("Reshape", ["empty", "none"], ["no_rows"]),
        make("Concat", ["flat", "no_rows"], ["y"], axis=0),
    ]
    constants = {
        "sizes": np.array([-1, 12], np.int64),
        "indices": indices,
        "least": np.int64(0),
        "most": np.int64(1),
        "empty": empty,
        "none": np.array([0, 12], np.int64),
    }
    values = [
        helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 4, 1]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
    ]
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    inner = helper.make_graph(nodes, "graph", values[:1], values[1:], stored)
    model = helper.make_model(inner, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    found = onnx_ir.to_proto(to_half(onnx_ir.from_proto(model)))
    kinds = {tensor.name: tensor.data_type for tensor in found.graph.initializer}
    assert (kinds["indices"], kinds["empty"]) == (TensorProto.INT64, TensorProto.FLOAT16)


@pytest.mark.parametrize("operator", ["LSTM", "GRU", "RNN", "Scan"])
def test_no_operator_that_loops_is_converted(
    operator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounding would add up from step to step."""
    from onnxruntime.transformers import float16

    said: list[Any] = []

    def convert(proto: onnx.ModelProto, **options: Any) -> onnx.ModelProto:
        said.append(options)
        return proto

    monkeypatch.setattr(float16, "convert_float_to_float16", convert)
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3])
        for name in ("input", "y")
    ]
    inner = helper.make_graph([make("Relu", ["input"], ["y"])], "graph", values[:1], values[1:])
    to_half(onnx_ir.from_proto(helper.make_model(inner, ir_version=8)))
    (options,) = said
    assert operator in options["op_block_list"]
    assert set(float16.DEFAULT_OP_BLOCK_LIST) <= set(options["op_block_list"])
    assert options["keep_io_types"]
