"""Where a rule of the optimizer applies, and where it must not: each condition by itself.

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
from onnxscript import rewriter

from torchlift.converters.onnx.exporter.attention_rules import TRANSPOSED_KEYS
from torchlift.converters.onnx.exporter.optimizer import optimize

make = helper.make_node
IMAGES = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)


def graph(nodes: list[onnx.NodeProto], constants: dict[str, Any]) -> onnx.ModelProto:
    """Return a graph from `input` to the last node's output."""
    values = [
        helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 4, 4]),
        helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None),
    ]
    stored = [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()]
    inner = helper.make_graph(nodes, "graph", values[:1], values[1:], stored)
    return helper.make_model(inner, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def run(model: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"input": IMAGES})[0])


def operators(model: onnx.ModelProto) -> list[str]:
    """Return the operators of the optimized graph, once it gives the same numbers."""
    result = onnx_ir.from_proto(model)
    optimize(result)
    found = onnx_ir.to_proto(result)
    np.testing.assert_allclose(run(found), run(model), rtol=1e-5, atol=1e-6)
    return [node.op_type for node in found.graph.node]


#: `nn.SpatialCrossMapLRN` of three channels: squares get an axis, are padded by a channel to each
#: side and averaged.
NORM: dict[str, Any] = {
    "channels": 3,
    "exponent": np.float32(2),
    "axis": 1,
    "pads": [0, 0, 1, 0, 0, 0, 0, 1, 0, 0],
    "filled": np.float32(0),
    "mode": "constant",
    "pool": {"kernel_shape": [3, 1, 1], "strides": [1, 1, 1]},
    "alpha": np.float32(0.3),
    "k": np.float32(1.5),
    "beta": np.float32(0.75),
}


def response_norm(**changes: Any) -> onnx.ModelProto:
    norm = NORM | changes
    pool = NORM["pool"] | changes.get("pool", {})
    one_channel = [make("ReduceSum", ["input", "channel"], ["x"])]
    nodes = [
        *(one_channel if norm["channels"] == 1 else [make("Relu", ["input"], ["x"])]),
        make("Pow", ["x", "exponent"], ["squares"]),
        make("Unsqueeze", ["squares", "axis"], ["high"]),
        make("Pad", ["high", "pads", "filled"], ["padded"], mode=norm["mode"]),
        make("AveragePool", ["padded"], ["pooled"], **pool),
        make("Squeeze", ["pooled", "axis"], ["mean"]),
        make("Mul", ["mean", "alpha"], ["scaled"]),
        make("Add", ["scaled", "k"], ["sum"]),
        make("Pow", ["sum", "beta"], ["power"]),
        make("Div", ["x", "power"], ["y"]),
    ]
    if norm["k"] is None:
        nodes.insert(0, make("ReduceL2", ["input"], ["k"], keepdims=0))
    constants = {name: norm[name] for name in ("exponent", "filled", "alpha", "k", "beta")}
    constants = {name: number for name, number in constants.items() if number is not None}
    constants |= {name: np.array(norm[name], np.int64) for name in ("pads",)}
    constants["axis"] = np.array([norm["axis"]], np.int64)
    return graph(nodes, constants | ({"channel": np.array([1])} if norm["channels"] == 1 else {}))


@pytest.mark.parametrize(
    ("changes", "is_one"),
    [
        ({}, True),
        ({"channels": 1}, True),
        ({"alpha": np.float32([0.3])}, True),
        (
            {
                "pads": [0, 0, 2, 0, 0, 0, 0, 2, 0, 0],
                "pool": {"kernel_shape": [5, 1, 1]},
            },
            True,
        ),
        ({"exponent": np.float32(3)}, False),
        ({"axis": 2}, False),
        ({"pads": [0, 0, 2, 0, 0, 0, 0, 0, 0, 0]}, False),
        ({"pads": [0, 0, 0, 0, 0, 0, 0, 2, 0, 0]}, False),
        ({"filled": np.float32(0.5)}, False),
        ({"mode": "edge"}, False),
        # An even number of channels, or one: right in ONNX, and not in ONNX Runtime.
        ({"pads": [0, 0, 0, 0, 0, 0, 0, 1, 0, 0], "pool": {"kernel_shape": [2, 1, 1]}}, False),
        ({"pads": [0] * 10, "pool": {"kernel_shape": [1, 1, 1]}}, False),
        # Rows and columns are averaged too, one in four is taken, or further zeros are put around.
        ({"pool": {"kernel_shape": [3, 4, 1]}}, False),
        ({"pool": {"kernel_shape": [3, 1, 4]}}, False),
        ({"pool": {"strides": [1, 4, 1]}}, False),
        ({"pool": {"strides": [1, 1, 4]}}, False),
        ({"channels": 1, "pool": {"strides": [2, 1, 1]}}, False),
        ({"channels": 1, "pool": {"pads": [1, 0, 0, 1, 0, 0]}}, False),
        ({"pool": {"ceil_mode": 1}}, False),
        # Computed of the input.
        ({"k": None}, False),
        # A number for each channel.
        *(
            ({name: np.float32([[[0.3]], [[0.6]], [[0.9]]])}, False)
            for name in ("alpha", "k", "beta")
        ),
    ],
)
def test_a_mean_of_squares_is_one_node_where_onnx_has_it(
    changes: dict[str, Any], is_one: bool
) -> None:
    assert ("LRN" in operators(response_norm(**changes))) is is_one


@pytest.mark.parametrize(
    ("mean", "perm", "shape", "stays"),
    [
        ([2, 3], [0, 2, 3, 1], [-1, 3], False),
        ([2, 3], [0, 3, 1, 2], [-1, 3], False),
        ([2, 3], [2, 0, 1, 3], [-1, 3], False),
        # Two axes that are longer than 1 are exchanged: channels, rows, columns, the batch.
        ([2, 3], [1, 0, 2, 3], [-1, 3], True),
        ([2], [0, 3, 2, 1], [-1, 3], True),
        ([1], [0, 1, 3, 2], [-1, 4], True),
        # A size of 0 is that in front of the reshape.
        ([2, 3], [0, 2, 3, 1], [0, 0, 3], True),
    ],
)
def test_a_transposition_of_axes_of_one_is_left_to_the_reshape_behind_it(
    mean: list[int], perm: list[int], shape: list[int], stays: bool
) -> None:
    nodes = [
        make("ReduceMean", ["input", "axes"], ["mean"]),
        make("Transpose", ["mean"], ["moved"], perm=perm),
        make("Reshape", ["moved", "shape"], ["y"]),
    ]
    found = operators(graph(nodes, {"axes": np.array(mean), "shape": np.array(shape)}))
    assert found == ["ReduceMean", *["Transpose"] * stays, "Reshape"]


@pytest.mark.parametrize(
    ("changes", "is_one"),
    [
        ({}, True),
        ({"second": (-2, -1), "last": (-1, 2**63 - 1)}, True),
        ({"flat": 6}, False),
        ({"flat": 1}, False),
        ({"first": (0, 1)}, False),
        ({"first": (1, 2)}, False),
        ({"second": (1, 2)}, False),
        ({"second": (2, 4)}, False),
        ({"last": (2, 3)}, False),
        ({"last": (2, 4)}, False),
        ({"sizes_of": "other"}, False),
        # Whether it is their own is not known of a size that is computed.
        ({"last_end": "computed"}, False),
        ({"flat": "computed"}, False),
        # One head of attention has three axes.
        ({"axes": 3, "first": (0, 1), "second": (1, 2), "last": (2, 3)}, True),
        ({"axes": 3, "first": (0, 2), "second": (1, 2), "last": (2, 3)}, False),
    ],
)
def test_keys_are_transposed_in_one_node_where_the_sizes_are_their_own(
    changes: dict[str, Any], is_one: bool
) -> None:
    sizes: dict[str, Any] = {
        "first": (0, 2),
        "second": (2, 3),
        "last": (3, 4),
        "flat": -1,
        "sizes_of": "input",
    }
    sizes |= changes
    axes = sizes.get("axes", 4)
    constants: dict[str, Any] = {"computed_start": np.array([0]), "computed_end": np.array([1])}
    keys = "input" if axes == 4 else "keys"
    names = {"input": keys, "flat": "flat", "last_end": "last_end"}
    names |= {name: "computed" for name, value in changes.items() if value == "computed"}
    nodes = [
        make("Reshape", ["input", "square"], ["keys"]),
        make("Transpose", [keys], ["other"], perm=[*range(axes - 2), axes - 1, axes - 2]),
        make("Shape", [names.get(sizes["sizes_of"], "other")], ["shape"]),
        make("Shape", ["shape"], ["computed"]),
    ]
    constants["square"] = np.array([-1, 4, 4])
    if changes.get("flat") != "computed":
        constants["flat"] = np.array([sizes["flat"]])
    for name in ("first", "second", "last"):
        ends = [f"{name}_start", f"{name}_end"]
        constants |= {one: np.array([bound]) for one, bound in zip(ends, sizes[name], strict=True)}
        nodes.append(make("Slice", ["shape", *(names.get(end, end) for end in ends)], [name]))
    nodes += [
        make("Concat", [names["flat"], "second", "last"], ["rows"], axis=0),
        make("Reshape", [keys, "rows"], ["a"]),
        make("Transpose", ["a"], ["b"], perm=[0, 2, 1]),
        make("Concat", ["first", "last", "second"], ["all"], axis=0),
        make("Reshape", ["b", "all"], ["y"]),
    ]
    model = graph(nodes, constants)
    if axes == 3:
        kept = helper.make_tensor_value_info("keys", TensorProto.FLOAT, ["rows", 4, 4])
        model.graph.value_info.append(kept)
    changed = onnx_ir.from_proto(model)
    assert rewriter.RewriteRuleSet([TRANSPOSED_KEYS]).apply_to_model(changed) == is_one
    if is_one:
        found = onnx_ir.to_proto(changed)
        assert [node.op_type for node in found.graph.node].count("Reshape") == 1
        expected = IMAGES if axes == 4 else IMAGES.reshape(-1, 4, 4)
        assert np.array_equal(run(found), expected.swapaxes(-1, -2))
