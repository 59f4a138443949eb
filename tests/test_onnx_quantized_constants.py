"""What the whole steps in other programs' int8 graphs stand for, operator by operator.

Expected is (steps - zero point) · scale, along the axis that ONNX's and ONNX Runtime's documents
give each operator. The graphs are put together by hand; no runtime has to run them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from torchlift.converters.onnx.checker.foreign_int8 import quantized_constants_of

STEPS = np.random.default_rng(0).integers(-100, 101, (2, 3, 4)).astype(np.int8)
#: Operator → the inputs by name ("w", its scale "s" and zero point "z" among them), what is set,
#: and the axis of the steps (2, 3, 4) that has a scale for each index.
OPERATORS: dict[str, tuple[str, dict[str, Any], int]] = {
    "DequantizeLinear": ("w s z", {}, 1),
    "DequantizeLinear of the last axis": ("w s z", {"axis": 2}, 2),
    "QLinearConv": ("x xs xz w s z ys yz", {}, 0),
    "QLinearMatMul": ("x xs xz w s z ys yz", {}, 2),
    "QGemm": ("x xs xz w s z", {}, 2),
    "QGemm of a transposed weight": ("x xs xz w s z b ys yz", {"transB": 1}, 0),
}


def graph(node: onnx.NodeProto, arrays: dict[str, np.ndarray], *others: Any) -> onnx.GraphProto:
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    return helper.make_graph([node, *others], "g", [], [], tensors)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("per_channel", [True, False])
def test_a_weight_is_read_along_the_axis_of_its_operator(name: str, per_channel: bool) -> None:
    inputs, attributes, axis = OPERATORS[name]
    count = STEPS.shape[axis] if per_channel else 1
    scale = np.linspace(0.1, 0.4, count).astype(np.float32)
    zero = np.arange(count, dtype=np.int8)
    node = helper.make_node(name.split()[0], inputs.split(), ["y"], **attributes)
    arrays = {"w": STEPS, "s": scale, "z": zero, "xs": np.float32([0.5]), "ys": np.float32([0.25])}
    found = quantized_constants_of(graph(node, arrays))
    (weight,) = found.dequantized
    shape = [-1 if dim == axis else 1 for dim in range(3)] if per_channel else [1, 1, 1]
    steps = STEPS - zero.astype(float).reshape(shape)
    assert weight.name == "w"
    assert np.allclose(weight.values, steps * scale.astype(float).reshape(shape), rtol=1e-12)
    assert np.allclose(weight.half, scale.reshape(shape) * np.full(STEPS.shape, 0.501), rtol=1e-6)
    assert weight.is_fine.all()
    assert "s" in found.scales
    assert ({"xs"} <= found.scales) is ("xs" in inputs)
    assert ({"ys"} <= found.scales) is ("ys" in inputs)
    assert found.unread == {}


@pytest.mark.parametrize(
    ("operator", "inputs"),
    [("QLinearConv", "x xs xz w s z ys yz b"), ("QGemm", "x xs xz w s z b ys yz")],
)
def test_a_bias_has_the_scale_of_the_products(operator: str, inputs: str) -> None:
    scale = np.float32([0.1, 0.2]) if operator == "QLinearConv" else np.float32([0.1])
    bias = np.array([1000, -70000], np.int32)
    arrays = {"w": STEPS, "s": scale, "z": np.int8([0]), "xs": np.float32([0.5]), "b": bias}
    node = helper.make_node(operator, inputs.split(), ["y"])
    found = {one.name: one for one in quantized_constants_of(graph(node, arrays)).dequantized}
    assert np.allclose(found["b"].values, bias * (scale.astype(float) * 0.5), rtol=1e-6)


@pytest.mark.parametrize("operator", ["ConvInteger", "MatMulInteger"])
def test_the_scale_of_a_product_in_whole_steps_stands_behind_it(operator: str) -> None:
    axis = 0 if operator == "ConvInteger" else 2
    scale = np.linspace(0.1, 0.4, STEPS.shape[axis]).astype(np.float32)
    arrays = {"w": STEPS, "s": scale, "z": np.zeros(1, np.int8)}
    node = helper.make_node(operator, ["x", "w", "xz", "z"], ["product"])
    behind = (
        helper.make_node("Cast", ["product"], ["float"], to=1),
        helper.make_node("Mul", ["xs", "s"], ["both"]),
        helper.make_node("Mul", ["float", "both"], ["y"]),
    )
    (weight,) = quantized_constants_of(graph(node, arrays, *behind)).dequantized
    shape = [-1 if dim == axis else 1 for dim in range(3)]
    assert np.allclose(weight.values, STEPS * scale.astype(float).reshape(shape), rtol=1e-12)
    found = quantized_constants_of(graph(node, arrays, *behind[:1]))
    assert found.dequantized == []
    assert [*found.unread] == ["w"]
    assert found.unread["w"][1] == operator


@pytest.mark.parametrize("length", [6, 5])
def test_blocks_of_an_axis_have_scales_of_their_own(length: int) -> None:
    """Three to a block, the last one may be shorter (ONNX's `block_size`)."""
    steps = np.arange(2 * length, dtype=np.int8).reshape(2, length)
    scale = np.float32([[1, 10], [2, 20]])
    node = helper.make_node("DequantizeLinear", ["w", "s"], ["y"], axis=1, block_size=3)
    (weight,) = quantized_constants_of(graph(node, {"w": steps, "s": scale})).dequantized
    assert np.array_equal(weight.values, steps * np.repeat(scale, 3, axis=1)[:, :length])


@pytest.mark.parametrize(("largest", "is_fine"), [(16, True), (15, False)])
@pytest.mark.parametrize("axis", [0, -2])
def test_numbers_are_compared_where_enough_steps_share_their_scale(
    axis: int, largest: int, is_fine: bool
) -> None:
    steps = np.array([[100, 1], [largest, -3]], np.int8)
    node = helper.make_node("DequantizeLinear", ["w", "s"], ["y"], axis=axis)
    arrays = {"w": steps, "s": np.float32([1, 2])}
    (weight,) = quantized_constants_of(graph(node, arrays)).dequantized
    assert weight.is_fine.tolist() == [[True, True], [is_fine, is_fine]]


def test_the_columns_of_a_product_have_enough_steps_each_by_itself() -> None:
    steps = np.array([[100, 3], [1, -15]], np.int8)
    node = helper.make_node("QLinearMatMul", ["x", "xs", "xz", "w", "s", "z", "ys", "yz"], ["y"])
    arrays = {"w": steps, "s": np.float32([1, 2]), "z": np.zeros(2, np.int8)}
    (weight,) = quantized_constants_of(graph(node, arrays)).dequantized
    assert weight.is_fine.tolist() == [[True, False], [True, False]]


@pytest.mark.parametrize(
    ("largest", "zero", "is_fine"), [(144, 128, True), (143, 128, False), (112, 128, True)]
)
def test_steps_are_counted_from_the_zero_point_to_either_side(
    largest: int, zero: int, is_fine: bool
) -> None:
    steps = np.array([[128, 128], [128, largest]], np.uint8)
    node = helper.make_node("DequantizeLinear", ["w", "s", "z"], ["y"])
    arrays = {"w": steps, "s": np.float32([0.5]), "z": np.array([zero], np.uint8)}
    (weight,) = quantized_constants_of(graph(node, arrays)).dequantized
    assert (weight.is_fine == is_fine).all()


def test_a_bias_whose_scales_are_computed_has_no_numbers() -> None:
    arrays = {"w": STEPS, "s": np.float32([0.1]), "z": np.int8([0]), "b": np.int32([1, 2])}
    node = helper.make_node("QLinearConv", ["x", "xs", "xz", "w", "s", "z", "ys", "yz", "b"], ["y"])
    found = quantized_constants_of(graph(node, arrays))
    assert [one.name for one in found.dequantized] == ["w"]


@pytest.mark.parametrize(("largest", "is_fine"), [(2, True), (1, False)])
def test_two_steps_of_four_bits_are_enough(largest: int, is_fine: bool) -> None:
    """Of 16 of them there are no more than 8 on a side."""
    steps = helper.make_tensor("w", onnx.TensorProto.INT4, [2, 2], [1, -1, largest, 0])
    node = helper.make_node("DequantizeLinear", ["w", "s"], ["y"])
    made = graph(node, {"s": np.float32([0.5])})
    made.initializer.append(steps)
    (weight,) = quantized_constants_of(made).dequantized
    assert weight.is_fine.all() == is_fine
    assert weight.is_fine.any() == is_fine
    assert weight.values.tolist() == [[0.5, -0.5], [0.5 * largest, 0]]


def test_constants_in_nodes_are_read_too_and_a_row_has_one_axis() -> None:
    steps = np.array([3, -4], np.int8)
    constant = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(steps))
    node = helper.make_node("DequantizeLinear", ["w", "s"], ["y"])
    arrays = {"s": np.float32([0.5, 2])}
    number = helper.make_node("Constant", [], ["n"], value_float=1.0)
    (weight,) = quantized_constants_of(graph(node, arrays, constant, number)).dequantized
    # The axis of a scale is the second by default, which a row does not have.
    assert weight.values.tolist() == [1.5, -8]


def test_small_whole_numbers_are_weights_unless_they_are_single_or_zero_points() -> None:
    """A zero point for each channel is no weight, and neither is a flag; a mask may be one."""
    arrays = {"w": STEPS, "s": np.ones(3, np.float32), "z": np.zeros(3, np.int8),
              "one": np.int8([1]), "long": np.arange(9), "mask": np.ones(4, np.uint8)}  # fmt: skip
    node = helper.make_node("DequantizeLinear", ["w", "s", "z"], ["y"])
    other = helper.make_node("Where", ["mask", "one", "long"], ["t"])
    found = quantized_constants_of(graph(node, arrays, other))
    assert [one.name for one in found.dequantized] == ["w"]
    assert {name: kind for name, (_, kind) in found.unread.items()} == {"mask": "Where"}


def test_of_two_constant_scales_behind_a_product_none_is_taken_for_the_weights() -> None:
    arrays = {"w": STEPS, "z": np.int8([0]), "s": np.float32([0.5]), "t": np.float32([0.25])}
    nodes = (
        helper.make_node("MatMulInteger", ["x", "w", "xz", "z"], ["product"]),
        helper.make_node("Cast", ["product"], ["float"], to=1),
        helper.make_node("Mul", ["s", "t"], ["both"]),
        helper.make_node("Mul", ["float", "both"], ["y"]),
    )
    found = quantized_constants_of(graph(nodes[0], arrays, *nodes[1:]))
    assert (found.dequantized, [*found.unread]) == ([], ["w"])


@pytest.mark.parametrize(("most", "is_fine"), [(16, True), (15, False)])
def test_from_sixteen_steps_on_numbers_are_compared_by_them(most: int, is_fine: bool) -> None:
    steps = np.array([[0, -most], [most - 1, 1]], np.int8)
    node = helper.make_node("DequantizeLinear", ["w", "s"], ["y"])
    (found,) = quantized_constants_of(graph(node, {"w": steps, "s": np.float32(0.5)})).dequantized
    assert found.is_fine.tolist() == [[is_fine] * 2] * 2
