"""What the optimizer must leave in a graph: each rule beside its limit, where it would be wrong.

The truth is the graph as it was, in ONNX Runtime.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from torchlift.converters.onnx.exporter.optimizer import optimize

make = helper.make_node
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.standard_normal((5, 3, 4, 4)).astype(np.float32)

CONSTANTS = {
    "grid": np.ones((4, 4), np.float32),
    "images": np.array([2, 3], np.int64),
    "first": np.array([0], np.int64),
    "second": np.array([1], np.int64),
    "third": np.array([3], np.int64),
    "last": np.array([-1], np.int64),
    "copied": np.array([0, 0, -1], np.int64),
    "flat": np.array([0, -1], np.int64),
    "three_axes": RANDOM.standard_normal((4, 4, 5)).astype(np.float32),
    "images_of": np.array([-1, 3, 16], np.int64),
    "tall": np.array([48, 2], np.int64),
    "two_axes": RANDOM.standard_normal((4, 5)).astype(np.float32),
    "weight": RANDOM.standard_normal((2, 48)).astype(np.float32),
    "cube": RANDOM.standard_normal((2, 3, 4)).astype(np.float32),
}


def graph(*nodes: onnx.NodeProto, also: str = "") -> onnx.ModelProto:
    """Return a graph that gives the last node's output, and one more."""
    names = [nodes[-1].output[0], *([also] if also else [])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    input = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 4, 4])
    used = {name for node in nodes for name in node.input}
    stored = [numpy_helper.from_array(a, name) for name, a in CONSTANTS.items() if name in used]
    inner = helper.make_graph([*nodes], "graph", [input], outputs, stored)
    return helper.make_model(inner, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def optimized(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Return the optimized graph, once it gives the same numbers, and the renamed weights."""
    result = onnx_ir.from_proto(model)
    renamed = optimize(result)
    found = onnx_ir.to_proto(result)
    for actual, expected in zip(run(found), run(model), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    return found, renamed


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"input": IMAGES})  # type: ignore[no-any-return]


CASES: dict[str, list[onnx.NodeProto]] = {
    "joins along two axes": [
        make("Exp", ["input"], ["a"]),
        make("Concat", ["input", "a"], ["b"], axis=1),
        make("Concat", ["a", "input"], ["c"], axis=1),
        make("Concat", ["b", "c"], ["y"], axis=2),
    ],
    "a factor of 1 that repeats an axis": [
        make("ReduceMean", ["input", "images"], ["a"]),
        make("Mul", ["a", "grid"], ["y"]),
    ],
    "a product with three axes behind a transposition": [
        make("Transpose", ["input"], ["a"], perm=[0, 2, 1, 3]),
        make("MatMul", ["a", "three_axes"], ["y"]),
    ],
    "a product behind a transposition of its last axis": [
        make("Transpose", ["input"], ["a"], perm=[0, 1, 3, 2]),
        make("MatMul", ["a", "two_axes"], ["y"]),
    ],
    "a shape that takes sizes over from a transposition": [
        make("ReduceMean", ["input", "images"], ["a"]),
        make("Transpose", ["a"], ["b"], perm=[0, 2, 1, 3]),
        make("Reshape", ["b", "copied"], ["y"]),
    ],
}


#: What makes many numbers of few: the node, and what it takes for so many.
EXPANDING: dict[str, Any] = {
    "ConstantOfShape": lambda count: {"shape": np.array([count])},
    "Expand": lambda count: {"one": np.float32([2]), "shape": np.array([count])},
    "Range": lambda count: dict(
        zip(("first_of", "end", "by"), np.float32([1, 2 * count, 2]), strict=True)
    ),
    # Two numbers half as often.
    "Tile": lambda count: {"two": np.float32([2, 3]), "times": np.array([(count + 1) // 2])},
}


@pytest.mark.parametrize(("count", "is_stored"), [(2**16, True), (2**16 + 1, False)])
@pytest.mark.parametrize("operator", EXPANDING)
def test_up_to_65536_numbers_are_computed_ahead_and_more_stay_a_node(
    operator: str, count: int, is_stored: bool
) -> None:
    """A file need not hold them."""
    constants = EXPANDING[operator](count)
    model = graph(
        make(operator, [*constants], ["many"]),
        make("ReduceMean", ["input"], ["mean"], keepdims=0),
        make("Mul", ["mean", "many"], ["y"]),
    )
    stored = [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()]
    model.graph.initializer.extend(stored)
    found, _ = optimized(model)
    assert (operator in [node.op_type for node in found.graph.node]) is not is_stored
    assert (len(found.SerializeToString()) > 4 * count) is is_stored


@pytest.mark.parametrize("half", [2, 3])
def test_two_halves_in_any_order_are_those_of_the_slices(half: int) -> None:
    """A rule of onnxscript makes a Split of them, which gives an odd one to the other half."""
    constants = {"wide": np.ones((4, 2 * half - 1), np.float32), "from_0": np.array([0])}
    constants |= {"middle": np.array([half - 1]), "end": np.array([2 * half - 1])}
    model = graph(
        make("MatMul", ["input", "wide"], ["a"]),
        make("Slice", ["a", "middle", "end", "last"], ["right"]),
        make("Slice", ["a", "from_0", "middle", "last"], ["left"]),
        make("Concat", ["right", "left"], ["y"], axis=-1),
        also="left",
    )
    constants["wide"] *= np.arange(2 * half - 1, dtype=np.float32)
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    model.graph.initializer.extend(stored)
    found, _ = optimized(model)
    assert run(found)[1].shape == (5, 3, 4, half - 1)


@pytest.mark.parametrize("name", CASES)
def test_a_rule_ends_where_it_would_change_a_number(name: str) -> None:
    found, _ = optimized(graph(*CASES[name]))
    assert [node.op_type for node in found.graph.node] == [node.op_type for node in CASES[name]]


def test_a_product_and_a_transposition_that_moves_other_axes_are_exchanged() -> None:
    nodes = [
        make("Transpose", ["input"], ["a"], perm=[0, 2, 1, 3]),
        make("MatMul", ["a", "two_axes"], ["y"]),
    ]
    found, _ = optimized(graph(*nodes))
    assert [node.op_type for node in found.graph.node] == ["MatMul", "Transpose"]


def test_slices_of_one_axis_are_not_one_slice_whichever_way_it_is_counted() -> None:
    for axis in ("third", "last"):
        nodes = [
            make("Slice", ["input", "first", "third", axis, "second"], ["a"]),
            make("Slice", ["a", "second", "third", "third", "second"], ["y"]),
        ]
        found, _ = optimized(graph(*nodes))
        assert run(found)[0].shape == (5, 3, 4, 2)


def test_a_join_that_a_file_gives_out_too_stays() -> None:
    nodes = [
        make("Exp", ["input"], ["a"]),
        make("Concat", ["input", "a"], ["pair"], axis=1),
        make("Concat", ["pair", "a"], ["y"], axis=1),
    ]
    alone, _ = optimized(graph(*nodes))
    assert [node.op_type for node in alone.graph.node] == ["Exp", "Concat"]
    both, _ = optimized(graph(*nodes, also="pair"))
    assert [node.op_type for node in both.graph.node] == ["Exp", "Concat", "Concat"]
    # Neither does one that another node takes.
    shared = [*nodes[:2], make("Relu", ["pair"], ["r"])]
    shared.append(make("Concat", ["pair", "r"], ["y"], axis=1))
    found, _ = optimized(graph(*shared))
    assert [node.op_type for node in found.graph.node] == ["Exp", "Concat", "Relu", "Concat"]


def test_what_a_part_is_taken_of_along_two_axes_is_one_slice() -> None:
    """As `x[:, ::2, ::2]`."""
    nodes = [
        make("Slice", ["input", "second", "third", "second", "second"], ["a"]),
        make("Slice", ["a", "second", "third", "third", "second"], ["y"]),
    ]
    found, _ = optimized(graph(*nodes))
    assert [node.op_type for node in found.graph.node] == ["Slice"]


def test_a_transposed_weight_has_its_name_unless_it_is_there_as_it_was() -> None:
    transposed = [
        make("Reshape", ["input", "flat"], ["row"]),
        make("Transpose", ["weight"], ["turned"], perm=[1, 0]),
        make("MatMul", ["row", "turned"], ["y"]),
    ]
    found, renamed = optimized(graph(*transposed))
    assert [*renamed] == ["weight"]
    assert {each.name: [*each.dims] for each in found.graph.initializer}["weight"] == [48, 2]
    both = [
        *transposed[:2],
        make("MatMul", ["row", "turned"], ["a"]),
        make("MatMul", ["a", "weight"], ["y"]),
    ]
    found, renamed = optimized(graph(*both))
    assert renamed == {}
    assert {each.name: [*each.dims] for each in found.graph.initializer}["weight"] == [2, 48]


def test_a_weight_in_two_orders_has_no_name_for_both() -> None:
    nodes = [
        make("Transpose", ["cube"], ["one"], perm=[1, 2, 0]),
        make("Transpose", ["cube"], ["other"], perm=[1, 0, 2]),
        make("MatMul", ["input", "one"], ["a"]),
        make("MatMul", ["a", "other"], ["y"]),
    ]
    found, renamed = optimized(graph(*nodes))
    assert renamed == {}
    assert "cube" not in {each.name for each in found.graph.initializer}


def test_a_weight_in_another_shape_is_not_called_like_it() -> None:
    nodes = [
        make("Reshape", ["input", "flat"], ["row"]),
        make("Reshape", ["weight", "tall"], ["other"]),
        make("MatMul", ["row", "other"], ["y"]),
    ]
    found, renamed = optimized(graph(*nodes))
    assert renamed == {}
    assert "weight" not in {each.name for each in found.graph.initializer}


def test_two_outputs_that_are_the_same_are_two_outputs() -> None:
    nodes = [
        make("Exp", ["input"], ["twice"]),
        make("Relu", ["twice"], ["pair"]),
        make("Relu", ["twice"], ["y"]),
    ]
    found, _ = optimized(graph(*nodes, also="pair"))
    onnx.checker.check_model(found)
    assert [value.name for value in found.graph.output] == ["y", "pair"]
    assert [node.op_type for node in found.graph.node].count("Relu") == 1


def test_functions_of_a_file_are_written_out() -> None:
    """Few programs know functions."""
    body = [make("Exp", ["a"], ["b"]), make("Relu", ["b"], ["c"])]
    opsets = [helper.make_opsetid("", 18)]
    function = helper.make_function("own", "Both", ["a"], ["c"], body, opsets)
    node = make("Both", ["input"], ["y"], domain="own")
    model = graph(node)
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    found, _ = optimized(model)
    assert [node.op_type for node in found.graph.node] == ["Exp", "Relu"]
    assert not found.functions


def test_constants_of_a_branch_are_those_of_the_graph() -> None:
    def branch(operator: str, name: str) -> onnx.GraphProto:
        constant = numpy_helper.from_array(CONSTANTS["grid"] * 2, name)
        output = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)
        nodes = [
            make(operator, ["input", name], [f"{name}_a"]),
            make("Exp", [f"{name}_a"], [f"{name}_b"]),
            make("Reshape", [f"{name}_b", "images_of"], [f"{name}_out"], allowzero=1),
        ]
        return helper.make_graph(nodes, name, [], [output], [constant])

    branches = {"then_branch": branch("Mul", "one"), "else_branch": branch("Add", "other")}
    model = graph(
        make("Shape", ["images_of"], ["kept"]),
        make("ReduceSum", ["input"], ["sum"], keepdims=0),
        make("Cast", ["sum"], ["is_any"], to=TensorProto.BOOL),
        make("If", ["is_any"], ["y"], **branches),
    )
    found, _ = optimized(model)
    (node,) = (node for node in found.graph.node if node.op_type == "If")
    inside = [attribute.g for attribute in node.attribute]
    assert not any(each.initializer for each in inside)
    # Of two that are equal one is stored, and no size is 0.
    assert [each.dims for each in found.graph.initializer if len(each.dims) == 2] == [[4, 4]]
    assert not any(inner.attribute for each in inside for inner in each.node)
