"""Small graphs of images for the optimizer, with the constants that their nodes take."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from torchlift.converters.onnx.exporter.optimizer import optimize

make = helper.make_node

#: Constants that the graphs take: weights, limits and shapes.
CONSTANTS = {
    "low": np.float32(0.1),
    "high": np.float32(0.9),
    "mid": np.float32(0.5),
    "no": np.array(False),
    "ratio": np.float32(0.5),
    "flat": np.array([0, -1], np.int64),
    "square": np.array([0, 3, 4, 4], np.int64),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
    "no_pads": np.zeros(8, np.int64),
    "one": np.float32(1),
    "ones": np.ones((3, 1, 1), np.float32),
    "more_axes": np.ones((2, 1, 1, 1, 1), np.float32),
    "one_more_axis": np.ones((1, 1, 1, 1, 1), np.float32),
    "nearly": np.float32(1 + 2**-23),
    "nothing": np.float32(0),
    "weight": np.random.default_rng(0).standard_normal((2, 3, 3, 3)).astype(np.float32),
    "turned": np.random.default_rng(4).standard_normal((3, 2, 3, 3)).astype(np.float32),
    "bias": np.array([0.5, -0.5], np.float32),
    "zero_bias": np.zeros(2, np.float32),
    "gemm": np.random.default_rng(1).standard_normal((48, 2)).astype(np.float32),
    "scale": np.array([0.5, 2], np.float32),
    "shift": np.array([1, -1], np.float32),
    "mean": np.array([0.1, 0.2], np.float32),
    "var": np.array([0.3, 0.4], np.float32),
    "zero": np.int64(0),
    "unit": np.int64(1),
    "first": np.array([0], np.int64),
    "rows": np.array([1], np.int64),
    "middle": np.array([2], np.int64),
    "last": np.array([3], np.int64),
    "behind": np.array([-1], np.int64),
    "endless": np.array([2**63 - 1], np.int64),
    "both": np.array([2, 3], np.int64),
    "top": np.array([0, 0], np.int64),
    "lengths": np.array([4, 4], np.int64),
    "steps": np.array([1, 1], np.int64),
    "inner": np.array([1, 2, 3], np.int64),
    "image": np.array([3, 4, 4], np.int64),
    "one_image": np.array([1, 3, 4, 4], np.int64),
    "places": np.array([[0], [1], [2]], np.int64),
    "matrix": np.eye(4, dtype=np.float32) * 2,
    "rest": np.array([48], np.int64),
}
#: What a normalization takes beside its input.
NORM = ["scale", "shift", "mean", "var"]


def graph(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    values = [
        helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 4, 4]),
        helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None),
    ]
    used = {name for node in nodes for name in node.input}
    constants = [
        numpy_helper.from_array(np.asarray(array), name)
        for name, array in CONSTANTS.items()
        if name in used
    ]
    inner = helper.make_graph([*nodes], "graph", values[:1], values[1:], constants)
    return helper.make_model(inner, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def run(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"input": images})[0])


def operators(*nodes: onnx.NodeProto) -> list[str]:
    """Return the operators of the optimized graph of some nodes, once it gives the same numbers."""
    model = graph(*nodes)
    optimized = onnx_ir.from_proto(model)
    optimize(optimized)
    result = onnx_ir.to_proto(optimized)
    images = np.random.default_rng(2).standard_normal((5, 3, 4, 4)).astype(np.float32)
    # A folded normalization rounds otherwise.
    np.testing.assert_allclose(run(result, images), run(model, images), rtol=1e-5, atol=1e-5)
    return [node.op_type for node in result.graph.node]
