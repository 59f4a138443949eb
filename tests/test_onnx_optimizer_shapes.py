"""Nodes that only move numbers, size them or change their type: as few as say the same.

The truth is the graph as it was, in ONNX Runtime.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_optimizer_support import graph, make, operators

from torchlift.converters.onnx.exporter.optimizer import optimize

#: The nodes, and the operators that are left.
CASES: dict[str, tuple[list[onnx.NodeProto], list[str]]] = {
    "a part that is all of an axis": (
        [
            make("Slice", ["input", "first", "endless", "first", "rows"], ["a"]),
            make("Relu", ["a"], ["y"]),
        ],
        ["Relu"],
    ),
    "a part that is all of two axes": (
        [
            make("Slice", ["input", "top", "lengths", "both", "steps"], ["a"]),
            make("Relu", ["a"], ["y"]),
        ],
        ["Relu"],
    ),
    "an expansion to the same size": (
        [
            make("ReduceSum", ["input", "first"], ["a"]),
            make("Expand", ["a", "one_image"], ["b"]),
            make("Relu", ["b"], ["y"]),
        ],
        ["ReduceSum", "Relu"],
    ),
    "two new axes": (
        [
            make("Unsqueeze", ["input", "rows"], ["a"]),
            make("Unsqueeze", ["a", "middle"], ["y"]),
        ],
        ["Unsqueeze"],
    ),
    "a padding before a convolution that says how it pads": (
        [
            make("Pad", ["input", "pads"], ["a"]),
            make("Conv", ["a", "weight", "bias"], ["y"], auto_pad="VALID"),
        ],
        ["Conv"],
    ),
    "a constant of another type": (
        [
            make("Shape", ["input"], ["a"]),
            make("ConstantOfShape", ["a"], ["b"], value=numpy_helper.from_array(np.array([3]))),
            make("Cast", ["b"], ["c"], to=TensorProto.FLOAT),
            make("Mul", ["input", "c"], ["y"]),
        ],
        ["Shape", "ConstantOfShape", "Mul"],
    ),
    "zeros of another type": (
        [
            make("Shape", ["input"], ["a"]),
            make("ConstantOfShape", ["a"], ["b"]),
            make("Cast", ["b"], ["c"], to=TensorProto.BOOL),
            make("Where", ["c", "low", "input"], ["y"]),
        ],
        ["Shape", "ConstantOfShape", "Where"],
    ),
    "a vector in one axis": (
        [
            make("ReduceSum", ["input", "inner"], ["a"], keepdims=0),
            make("Squeeze", ["a"], ["b"]),
            make("Reshape", ["b", "behind"], ["c"]),
            make("Relu", ["c"], ["y"]),
        ],
        ["ReduceSum", "Relu"],
    ),
    "a type in between": (
        [
            make("Cast", ["input"], ["a"], to=TensorProto.DOUBLE),
            make("Cast", ["a"], ["b"], to=TensorProto.FLOAT),
            make("Cast", ["b"], ["c"], to=TensorProto.FLOAT16),
            make("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
        ],
        ["Cast", "Cast", "Cast"],
    ),
    "all rows in the place of others": (
        [
            make("ReduceSum", ["input", "first"], ["a"], keepdims=0),
            make("Exp", ["a"], ["b"]),
            make("ScatterND", ["a", "places", "b"], ["y"]),
        ],
        ["ReduceSum", "Exp"],
    ),
    "all examples in the place of others": (
        [
            make("Shape", ["input"], ["a"], start=0),
            make("Gather", ["a", "zero"], ["b"], axis=0),
            make("Range", ["zero", "b", "unit"], ["c"]),
            make("Unsqueeze", ["c", "behind"], ["d"]),
            make("Exp", ["input"], ["e"]),
            make("ScatterND", ["input", "d", "e"], ["y"], reduction="none"),
        ],
        ["Exp"],
    ),
    "a product of reshaped images": (
        [
            make("ReduceSum", ["input", "first"], ["a"], keepdims=0),
            make("Reshape", ["a", "one_image"], ["b"]),
            make("MatMul", ["b", "matrix"], ["c"]),
            make("Reshape", ["c", "image"], ["y"]),
        ],
        ["ReduceSum", "MatMul"],
    ),
    "a product of two reshaped images": (
        [
            make("ReduceSum", ["input", "first"], ["a"], keepdims=0),
            make("Tanh", ["a"], ["b"]),
            make("Reshape", ["a", "one_image"], ["c"]),
            make("Reshape", ["b", "one_image"], ["d"]),
            make("MatMul", ["c", "d"], ["e"]),
            make("Reshape", ["e", "image"], ["y"]),
        ],
        ["ReduceSum", "Tanh", "MatMul"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_only_moves_numbers_is_left_out_where_it_can_be(name: str) -> None:
    nodes, expected = CASES[name]
    assert operators(*nodes) == expected


@pytest.mark.parametrize(
    ("sizes", "is_constant"), [(["batch", 48], True), ([5, 48], True), (["batch", "rest"], False)]
)
def test_sizes_that_are_computed_are_constants_where_all_but_one_are_known(
    sizes: list[str | int], is_constant: bool
) -> None:
    """As the exporter states them at each value."""
    model = graph(
        make("Shape", ["input"], ["a"], start=0, end=1),
        make("Concat", ["a", "rest"], ["b"], axis=0),
        make("Reshape", ["input", "b"], ["c"]),
        make("Relu", ["c"], ["y"]),
    )
    stated = helper.make_tensor_value_info("c", TensorProto.FLOAT, sizes)
    model.graph.value_info.append(stated)
    found = onnx_ir.from_proto(model)
    optimize(found)
    names = ["Reshape", "Relu"] if is_constant else ["Shape", "Concat", "Reshape", "Relu"]
    assert [node.op_type for node in found.graph] == names
