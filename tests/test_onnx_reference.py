"""The numbers that a file must hold: folded normalizations, and what nodes compute of constants.

Graphs are put together by hand; expected is NumPy. What only moves numbers keeps them to the bit,
what computes may change their last bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from torchlift.converters.onnx.checker.reference import Constant, _Constants

RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.standard_normal((4, 3, 2, 2)).astype(np.float32)
BIAS = RANDOM.standard_normal(4).astype(np.float32)
EPSILON = 1e-3
#: Scale, shift, mean and variance of two normalizations.
FIRST, SECOND = (
    {
        f"{name}{number}": RANDOM.uniform(0.5, 2, 4).astype(np.float32)
        for name in ("scale", "shift", "mean", "variance")
    }
    for number in (1, 2)
)


def constants(nodes: list[Any], arrays: dict[str, np.ndarray], folded: Any) -> dict[str, Constant]:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [value("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    found: dict[str, Constant] = _Constants(onnx_ir.from_proto(model)).computed(folded)
    return found


def normalization(source: str, target: str, number: int) -> Any:
    names = [f"{name}{number}" for name in ("scale", "shift", "mean", "variance")]
    return helper.make_node(
        "BatchNormalization", [source, *names], [target], f"bn{number}", epsilon=EPSILON
    )


def scaled(values: dict[str, np.ndarray], number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what a normalization multiplies by, and what it adds."""
    scale, shift, mean, variance = (
        values[f"{name}{number}"].astype(float) for name in ("scale", "shift", "mean", "variance")
    )
    factor = scale / np.sqrt(variance + EPSILON)
    return factor, shift - mean * factor


@pytest.mark.parametrize("bias_before", [BIAS, 0 * BIAS, None])
@pytest.mark.parametrize("count", [1, 2])
def test_a_normalization_is_folded_into_the_layer_before_it(
    bias_before: np.ndarray | None, count: int
) -> None:
    """The exporter drops a bias of zeros first, so that it has the name of a new one."""
    has_bias = bias_before is not None
    inputs = ["x", "w", *(["b"] if has_bias else [])]
    nodes = [helper.make_node("Conv", inputs, ["h0"], "conv")]
    nodes += [normalization(f"h{n}", f"h{n + 1}", n + 1) for n in range(count)]
    arrays = {"w": WEIGHT, **({"b": bias_before} if has_bias else {}), **FIRST, **SECOND}
    found = constants(nodes, arrays, lambda _: True)
    weight, bias = WEIGHT.astype(float), bias_before.astype(float) if has_bias else np.zeros(4)
    for number in range(1, count + 1):
        factor, shift = scaled(FIRST if number == 1 else SECOND, number)
        weight, bias = weight * factor.reshape(-1, 1, 1, 1), bias * factor + shift
    assert np.allclose(found["w"].values, weight, rtol=1e-6)
    assert found["w"].is_computed
    is_dropped = not has_bias or not bias_before.any()
    for name in [*(["b"] if has_bias else []), *(["w_bias"] if is_dropped else [])]:
        assert np.allclose(found[name].values, bias, rtol=1e-5, atol=1e-6)
        assert found[name].is_computed
    assert ("w_bias" in found) is is_dropped
    kept = constants(nodes, arrays, lambda _: False)
    assert np.array_equal(kept["w"].values, WEIGHT)
    assert not kept["w"].is_computed
    assert "w_bias" not in kept


def test_only_the_normalizations_that_are_folded_count() -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["h0"], "conv")]
    nodes += [normalization("h0", "h1", 1), normalization("h1", "h2", 2)]
    found = constants(nodes, {"w": WEIGHT, **FIRST, **SECOND}, lambda name: name == "h1")
    factor, shift = scaled(FIRST, 1)
    assert np.allclose(found["w"].values, WEIGHT * factor.reshape(-1, 1, 1, 1), rtol=1e-6)
    assert np.allclose(found["w_bias"].values, shift, rtol=1e-5, atol=1e-6)
    # Behind anything else there is nothing to fold into.
    nodes = [helper.make_node("Relu", ["x"], ["h0"]), normalization("h0", "h1", 1)]
    assert "w_bias" not in constants(nodes, {"w": WEIGHT, **FIRST}, lambda _: True)


def test_moved_numbers_are_exact_and_computed_ones_are_not() -> None:
    nodes = [
        helper.make_node("Transpose", ["w"], ["turned"], perm=[1, 0, 2, 3]),
        helper.make_node("Add", ["w", "w"], ["doubled"]),
        helper.make_node("Transpose", ["doubled"], ["doubled_turned"], perm=[1, 0, 2, 3]),
        helper.make_node("Constant", [], ["five"], value_float=5.0),
        helper.make_node("Mul", ["x", "five"], ["y"]),
        helper.make_node("RandomNormalLike", ["w"], ["noise"]),
    ]
    found = constants(nodes, {"w": WEIGHT}, lambda _: True)
    assert {name: each.is_computed for name, each in found.items() if name != "five"} == {
        "w": False,
        "turned": False,
        "doubled": True,
        "doubled_turned": True,
    }
    assert np.array_equal(found["turned"].values, WEIGHT.transpose(1, 0, 2, 3))
    assert np.array_equal(found["doubled_turned"].values, 2 * WEIGHT.transpose(1, 0, 2, 3))
    assert found["five"].values == 5


def test_a_bias_that_is_computed_keeps_a_normalization_out_of_its_layer() -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["bias"], keepdims=0),
        helper.make_node("Conv", ["x", "w", "bias"], ["h0"], "conv"),
        normalization("h0", "h1", 1),
    ]
    found = constants(nodes, {"w": WEIGHT, "axes": np.array([0, 2, 3]), **FIRST}, lambda _: True)
    assert np.array_equal(found["w"].values, WEIGHT)
    assert not found["w"].is_computed
    assert not {"w_bias", "bias"} & found.keys()


def test_constants_are_computed_where_a_file_may_hold_them() -> None:
    """Single numbers too; not what is large, what depends on chance or what a branch decides."""
    output = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    inner = helper.make_node("Constant", [], ["inner"], value_float=7.0)
    branch = helper.make_graph([inner], "branch", [], [output])
    nodes = [
        helper.make_node("Mul", ["five", "five"], ["square"]),
        helper.make_node("Expand", ["five", "few"], ["fives"]),
        helper.make_node("Expand", ["five", "many"], ["too_many"]),
        helper.make_node("If", ["yes"], ["chosen"], then_branch=branch, else_branch=branch),
        helper.make_node("Add", ["chosen", "five"], ["behind"]),
        helper.make_node("CastLike", ["double", "x"], ["single"]),
        helper.make_node("CastLike", ["whole", "x"], ["number"]),
    ]
    arrays = {
        "five": np.float32(5),
        "few": np.array([3]),
        "many": np.array([2**16 + 1]),
        "yes": np.array(True),
        "double": np.float64([0.1]),
        "whole": np.array([3]),
    }
    found = constants(nodes, arrays, lambda _: True)
    assert found.keys() - arrays.keys() == {"square", "fives", "single", "number", "inner"}
    assert found["square"].values == 25
    assert found["square"].is_computed
    assert found["fives"].values.tolist() == [5, 5, 5]
    assert not found["fives"].is_computed
    assert found["single"].values.dtype == np.float32
    assert (found["number"].values.dtype, found["number"].values) == (np.int64, [3])
