"""The numbers in a file: what counts as rounded once, and what as another number.

No network is exported: constants and files are made by hand, and what each format may do to a
number follows from the format (float32: 24 bits, float16: 11 bits, int8: the nearest whole step).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from torchlift.converters.onnx.checker.reference import Constant
from torchlift.converters.onnx.checker.weights import (
    WeightComparison,
    compare_weights,
    quantized_constants,
    weights_with_nan,
)


def file_of(
    arrays: dict[str, np.ndarray], nodes: tuple[onnx.NodeProto, ...] = ()
) -> onnx.ModelProto:
    """Return a file that holds these constants."""
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    return helper.make_model(helper.make_graph([*nodes], "graph", [], [], tensors))


def compared(
    expected: object, stored: np.ndarray, is_computed: bool = False
) -> tuple[list[str], int]:
    """Compare one constant; return the names of those that differ, and how many were compared."""
    constant = Constant(np.asarray(expected, np.float32), is_computed)
    found = compare_weights({"w": constant}, file_of({"w": stored}))
    return found.differing, found.compared


def moved(value: float, units: int) -> np.ndarray:
    """Return a number that is some units in the last place of float32 away."""
    return np.array([value + units * np.spacing(np.float32(value))], np.float32)


@pytest.mark.parametrize(
    ("units", "is_computed", "differs"),
    [(0, False, False), (1, False, True), (1, True, False), (3, True, False), (4, True, True)],
)
def test_a_weight_is_kept_to_the_bit(units: int, is_computed: bool, differs: bool) -> None:
    """A weight is kept to the bit; arithmetic may change its last bits."""
    differing, count = compared([1.5], moved(1.5, units), is_computed)
    assert (differing == ["w"], count) == (differs, 1)


def test_an_infinity_is_no_number() -> None:
    infinite = np.array([np.inf], np.float32)
    with np.errstate(invalid="raise"):  # What is left out is not warned of either.
        assert compared([np.inf], infinite, True)[0] == []
    assert compared([np.inf], np.array([1], np.float32), True)[0] == ["w"]
    assert compared([np.inf], -infinite, True)[0] == ["w"]


@pytest.mark.parametrize(
    ("stored", "differs"),
    [
        (np.float16(1 / 3), False),
        # The next one: 1/3 lies 0.34 of a step from the nearest, so 0.66 from the other.
        (np.nextafter(np.float16(1 / 3), np.float16(1)), True),
        (np.nextafter(np.float16(1 / 3), np.float16(0)), True),
    ],
)
def test_half_precision_is_the_nearest_number(stored: np.float16, differs: bool) -> None:
    assert (compared([1 / 3], np.array([stored]))[0] == ["w"]) == differs


def test_tiny_numbers_in_half_precision_keep_their_sign() -> None:
    tiny = np.finfo(np.float16).smallest_subnormal
    assert compared([1e-9], np.array([tiny]))[0] == []
    assert compared([1e-9], np.array([-tiny]))[0] == ["w"]
    # The smallest two may stand for what is smaller still, and no other number.
    assert compared([1e-9], np.array([2 * tiny], np.float16))[0] == []
    assert compared([1e-9], np.array([3 * tiny], np.float16))[0] == ["w"]
    # What is too large is infinite, on its side.
    for sign in (1, -1):
        infinite = np.array([np.inf], np.float16)
        assert compared([sign * 1e6], infinite)[0] == ([] if sign > 0 else ["w"])


def test_another_shape_differs() -> None:
    assert compared([[1, 2]], np.array([1, 2], np.float32))[0] == ["w"]
    assert compared([1], np.array([[1], [1]], np.float32), True)[0] == ["w"]


def test_whole_numbers_are_kept() -> None:
    constants = {"order": Constant(np.array([2, 1, 0]), False)}
    assert compare_weights(constants, file_of({"order": np.array([2, 1, 0])})).differing == []
    assert compare_weights(constants, file_of({"order": np.array([0, 1, 2])})).differing == [
        "order"
    ]


def test_what_the_model_lacks_is_counted_and_named() -> None:
    """Shapes that the exporter merged belong to the nodes, and do not count."""
    arrays = {
        "w": np.ones(3, np.float32),
        "stranger": np.ones(5, np.float32),
        "shape": np.array([1, 2]),
        "input_scale": np.array([0.5], np.float32),
    }
    found = compare_weights({"w": Constant(np.ones(3, np.float32), False)}, file_of(arrays))
    assert found == WeightComparison([], ["stranger"], 3, 8)
    assert found.fraction == 3 / 8


def test_a_renamed_constant_is_found_by_its_numbers() -> None:
    """Another version of the exporter numbers the constants in another way."""
    constants = {
        "layer.weight": Constant(np.ones(3, np.float32), False),
        "val_1": Constant(np.full(3, 2, np.float32), True),
    }
    arrays = {"layer.weight": np.ones(3, np.float32), "val_7": np.full(3, 2, np.float32)}
    assert compare_weights(constants, file_of(arrays)).unknown == ["val_7"]
    found = compare_weights(constants, file_of(arrays), ["layer.weight"])
    assert (found.differing, found.unknown, found.compared) == ([], [], 6)
    # Whole numbers under other names are shapes, and belong to the nodes.
    shapes = constants | {"val_2": Constant(np.array([4]), False)}
    found = compare_weights(shapes, file_of({**arrays, "val_8": np.array([4])}), ["layer.weight"])
    assert (found.unknown, found.total) == ([], 6)
    # A name that every exporter keeps is not looked up: it has the numbers of another constant.
    arrays["layer.weight"] = np.full(3, 2, np.float32)
    assert compare_weights(constants, file_of(arrays), ["layer.weight"]).differing == [
        "layer.weight"
    ]


def quantized(
    values: np.ndarray, levels: int, axis: int | None = None, suffix: str = ""
) -> dict[str, np.ndarray]:
    """Return what a quantizer stores of weights: the scale makes the largest number a level."""
    axes = tuple(other for other in range(values.ndim) if other != axis)
    extent = np.abs(values).max(axis=axes if axis is not None else None, keepdims=True)
    scale = (extent / levels).astype(np.float32)
    steps = np.rint(values / scale).astype(np.int8)
    return {
        f"w{suffix}_quantized": steps,
        f"w{suffix}_scale": scale.reshape(-1) if axis is not None else scale.reshape(()),
        f"w{suffix}_zero_point": np.zeros(scale.size if axis is not None else (), np.int8),
    }


WEIGHT = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
CONSTANTS = {"w": Constant(WEIGHT, False)}


def dequantize(axis: int) -> tuple[onnx.NodeProto]:
    names = ["w_quantized", "w_scale", "w_zero_point"]
    return (helper.make_node("DequantizeLinear", names, ["w_dequantized"], axis=axis),)


@pytest.mark.parametrize("levels", [64, 127])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_int8_weights(levels: int, axis: int | None) -> None:
    nodes = dequantize(axis) if axis is not None else ()
    arrays = quantized(WEIGHT, levels, axis)
    found = compare_weights(CONSTANTS, file_of(arrays, nodes))
    assert (found.differing, found.unknown, found.compared, found.total) == ([], [], 12, 12)
    arrays["w_quantized"][2, 1] += 1 if arrays["w_quantized"][2, 1] < 0 else -1
    assert compare_weights(CONSTANTS, file_of(arrays, nodes)).differing == ["w"]


def test_an_axis_that_is_not_named_is_the_second() -> None:
    nodes = dequantize(1)
    del nodes[0].attribute[:]
    assert compare_weights(CONSTANTS, file_of(quantized(WEIGHT, 64, 1), nodes)).differing == []


def test_an_int8_scale_that_uses_a_part_of_the_range_differs() -> None:
    """Steps that fit their scale, but a scale half as fine as the format allows."""
    arrays = quantized(WEIGHT, 32)
    assert compare_weights(CONSTANTS, file_of(arrays)).differing == ["w"]
    # An int32 bias beside it may have set the scale: its own steps would not fit 32 bits.
    scale = quantized(WEIGHT, 32, 0)
    bias = {"b": np.full(4, 2**30 + 1, np.int32)}
    constants = {**CONSTANTS, "b": Constant(bias["b"], False)}
    assert compare_weights(constants, file_of({**scale, **bias}, dequantize(0))).differing == []
    negative = {"b": -bias["b"]}
    constants["b"] = Constant(negative["b"], False)
    assert compare_weights(constants, file_of({**scale, **negative}, dequantize(0))).differing == []
    # Numbers of 64 bits, such as the ends of a part, are no bias.
    ends = {"ends": np.full(4, 2**62)}
    found = compare_weights(CONSTANTS, file_of({**scale, **ends}, dequantize(0)))
    assert found.differing == ["w"]
    bias["b"][:] = 2**30 - 1
    constants["b"] = Constant(bias["b"], False)
    assert compare_weights(constants, file_of({**scale, **bias}, dequantize(0))).differing == ["w"]


@pytest.mark.parametrize(("units", "differs"), [(0, False), (1, False), (2, True)])
def test_a_scale_may_be_off_by_its_last_bit(units: int, differs: bool) -> None:
    """Of 64 levels the largest is 64, so that each step is 1: exact in float32."""
    values = np.float32([64, -32, 1])
    arrays = quantized(values, 64)
    arrays["w_scale"] = np.float32(1 + units * 2.0**-23).reshape(())
    constants = {"w": Constant(values, False)}
    assert compare_weights(constants, file_of(arrays)).differing == (["w"] if differs else [])


def test_the_scale_of_every_channel_is_that_of_its_largest_number() -> None:
    fine, coarse = quantized(WEIGHT, 64, 0), quantized(WEIGHT, 32, 0)
    for name in ("w_quantized", "w_scale"):
        fine[name][2] = coarse[name][2]
    assert compare_weights(CONSTANTS, file_of(fine, dequantize(0))).differing == ["w"]


def test_a_transposed_int8_weight_of_another_shape_is_the_models() -> None:
    """Dynamic quantization turns a Gemm into a MatMul, whose weight is transposed."""
    arrays = quantized(np.ascontiguousarray(WEIGHT.T), 64, suffix="_Transposed")
    found = compare_weights(CONSTANTS, file_of(arrays))
    assert (found.differing, found.unknown, found.compared) == ([], [], 12)
    arrays["w_Transposed_quantized"] = np.ascontiguousarray(arrays["w_Transposed_quantized"].T)
    assert compare_weights(CONSTANTS, file_of(arrays)).differing == ["w"]


def test_a_transposed_int8_weight_with_its_own_name_is_the_models() -> None:
    """ONNX Runtime 1.22 adds nothing to its name: the node that was a Gemm says it."""
    square = WEIGHT[:3]
    constants = {"w": Constant(square, False)}
    turned = quantized(np.ascontiguousarray(square.T), 64)
    inputs = ["x", "w_quantized", "x_zero_point", "w_zero_point"]
    for name, transposed in (("node_linear_MatMul_quant", True), ("node_MatMul_7_quant", False)):
        graph = (helper.make_node("MatMulInteger", inputs, ["y"], name=name),)
        found = [
            compare_weights(constants, file_of(arrays, graph)).differing
            for arrays in (turned, quantized(square, 64))
        ]
        assert found == ([[], ["w"]] if transposed else [["w"], []])


@pytest.mark.parametrize("axis", [None, 0])
def test_unsigned_weights_have_a_zero_point(axis: int | None) -> None:
    axes = None if axis is None else 1
    lowest = np.minimum(WEIGHT.min(axis=axes, keepdims=True), 0)
    highest = np.maximum(WEIGHT.max(axis=axes, keepdims=True), 0)
    scale = ((highest - lowest) / 255).astype(np.float32)
    zero = np.rint(-lowest / scale)
    shape = () if axis is None else (4,)
    arrays = {
        "w_quantized": np.clip(np.rint(WEIGHT / scale) + zero, 0, 255).astype(np.uint8),
        "w_scale": scale.reshape(shape),
        "w_zero_point": zero.astype(np.uint8).reshape(shape),
    }
    nodes = () if axis is None else dequantize(axis)
    assert compare_weights(CONSTANTS, file_of(arrays, nodes)).differing == []
    arrays["w_zero_point"] += np.uint8(1)
    assert compare_weights(CONSTANTS, file_of(arrays, nodes)).differing == ["w"]


@pytest.mark.parametrize(
    ("weight", "kind", "shift"),
    [(np.abs(WEIGHT) + 1, np.uint8, 0), (WEIGHT + 0.5, np.int8, 128)],
    ids=["positive", "signed"],
)
def test_positive_weights_begin_at_zero_and_signed_steps_may_have_a_zero_point(
    weight: np.ndarray, kind: Any, shift: int
) -> None:
    """All levels are those from the lowest weight, or 0, to the highest."""
    lowest = np.minimum(weight.min(), 0)
    scale = np.float32((weight.max() - lowest) / 255)
    zero = np.rint(-lowest / scale) - shift
    constants = {"w": Constant(weight, False)}
    arrays = {
        "w_quantized": (np.rint(weight / scale) + zero).clip(-shift, 255 - shift).astype(kind),
        "w_scale": scale,
        "w_zero_point": np.array(zero).astype(kind),
    }
    assert compare_weights(constants, file_of(arrays)).differing == []
    # A scale that is off by 8 units in the last place is another one, whatever the steps.
    arrays["w_scale"] = np.float32(scale + 8 * np.spacing(scale))
    assert compare_weights(constants, file_of(arrays)).differing == ["w"]


def test_the_scale_of_tiny_weights_is_that_of_the_largest_too() -> None:
    weight = (WEIGHT * 1e-8).astype(np.float32)
    constants = {"w": Constant(weight, False)}
    assert compare_weights(constants, file_of(quantized(weight, 64))).differing == []
    assert compare_weights(constants, file_of(quantized(weight, 32))).differing == ["w"]


@pytest.mark.parametrize(("change", "differs"), [(0, False), (1, True)])
def test_an_int8_bias_has_the_scale_of_the_products(change: int, differs: bool) -> None:
    bias, scale = np.array([0.5, -0.25], np.float32), np.array([1e-4, 2e-4], np.float32)
    steps = np.rint(bias / scale).astype(np.int32)
    steps[1] += change
    arrays = {
        "b_quantized": steps,
        "b_quantized_scale": scale,
        "b_quantized_zero_point": np.zeros(2, np.int32),
    }
    found = compare_weights({"b": Constant(bias, False)}, file_of(arrays))
    assert (found.differing == ["b"], found.compared, found.total) == (differs, 2, 2)


def test_a_single_nan_among_numbers_is_named() -> None:
    arrays = {"good": np.ones(3, np.float32), "bad": np.array([0, np.nan, np.inf], np.float32)}
    arrays |= {"masked": np.float32([0, -np.inf, np.inf]), "whole": np.arange(3)}
    # An infinity masks what attention must not see.
    assert weights_with_nan(file_of(arrays)) == ["bad"]


def test_only_a_single_number_is_the_range_of_an_activation() -> None:
    """The model has none; a scale for each channel is that of a weight, which must be compared."""
    arrays = {"x_scale": np.float32(0.5).reshape(()), "x_zero_point": np.uint8(3).reshape(())}
    found = compare_weights({}, file_of(arrays))
    assert (found.unknown, found.total, found.fraction) == ([], 0, 1)
    found = compare_weights({}, file_of({"w_scale": np.ones(3, np.float32)}))
    assert (found.unknown, found.total, found.fraction) == (["w_scale"], 3, 0)


@pytest.mark.parametrize(("axis", "suffix"), [(None, ""), (0, ""), (1, ""), (None, "_Transposed")])
def test_a_quantized_constant_stands_for_numbers_and_names_its_parts(
    axis: int | None, suffix: str
) -> None:
    """(steps - zero point) · scale, along the axis of the scales."""
    stored = WEIGHT.T if suffix else WEIGHT
    arrays = quantized(np.ascontiguousarray(stored), 127, axis, suffix)
    zero = arrays[f"w{suffix}_zero_point"]
    zero += np.arange(1, zero.size + 1, dtype=np.int8).reshape(zero.shape)
    nodes = dequantize(axis) if axis is not None else ()
    ((name, values, parts),) = quantized_constants(arrays, file_of(arrays, nodes))
    shape = [-1 if dim == axis else 1 for dim in range(2)] if axis is not None else []
    steps = arrays[f"w{suffix}_quantized"].astype(float) - zero.reshape(shape)
    expected = steps * arrays[f"w{suffix}_scale"].reshape(shape)
    assert name == "w"
    assert np.array_equal(values, expected.T if suffix else expected)
    assert set(arrays) <= set(parts)


@pytest.mark.parametrize("is_computed", [True, False])
def test_a_computed_number_beside_the_middle_of_two_halves_may_go_either_way(
    is_computed: bool,
) -> None:
    """Half of the distance of 1 and the next number is 2⁻¹¹; a unit of float32 is 2⁻²³."""
    for units, is_near in ((1, True), (3, True), (4, False)):
        middle = np.float32(1 + 2**-11 + units * 2**-23)
        # The nearest is the upper one.
        assert compared([middle], np.array([1 + 2**-10], np.float16), is_computed)[0] == []
        found = compared([middle], np.array([1], np.float16), is_computed)[0]
        assert (found == []) is (is_computed and is_near)


def test_a_channel_of_zeros_may_have_any_scale() -> None:
    """Its steps are zeros whatever a step is; another number is none of them."""
    weight = np.array([[0.0, 0], [1, -0.5]], np.float32)
    arrays = {
        "w_quantized": np.array([[0, 0], [127, -64]], np.int8),
        "w_scale": np.float32([7, 1 / 127]),
        "w_zero_point": np.zeros(2, np.int8),
    }
    constants = {"w": Constant(weight, False)}
    assert compare_weights(constants, file_of(arrays, dequantize(0))).differing == []
    arrays["w_quantized"][0, 0] = 1
    assert compare_weights(constants, file_of(arrays, dequantize(0))).differing == ["w"]


def test_a_product_in_whole_steps_has_a_scale_for_each_column() -> None:
    """Nothing dequantizes the weight, so that no node says its axis."""
    arrays = quantized(WEIGHT, 64, 1)
    found = compare_weights(CONSTANTS, file_of(arrays))
    assert (found.differing, found.compared) == ([], 12)


@pytest.mark.parametrize(("step", "differs"), [(10, True), (11, False), (12, True)])
@pytest.mark.parametrize("is_bias", [True, False])
def test_a_step_is_the_nearest_and_not_the_next_but_one(
    step: int, differs: bool, is_bias: bool
) -> None:
    """10.53 steps are 11, of a weight and of a bias."""
    scale = np.float32(2**-10)
    values = np.array([127, 10.53125], np.float32) * scale
    steps = np.array([127, step], np.int32 if is_bias else np.int8)
    zero = np.zeros((), steps.dtype)
    arrays = {"w_quantized": steps, "w_scale": scale.reshape(()), "w_zero_point": zero}
    found = compare_weights({"w": Constant(values, False)}, file_of(arrays)).differing
    assert found == (["w"] if differs else [])
