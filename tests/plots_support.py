"""Graphs whose tensors are drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx


def model_of(nodes: list[Any], shape: list[Any], **constants: np.ndarray) -> onnx.ModelProto:
    """Return a graph from `x` of a shape to `y`, with constants."""
    number = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [onnx.helper.make_tensor_value_info("x", number, shape)],
        [onnx.helper.make_tensor_value_info("y", number, None)],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opset = onnx.helper.make_opsetid("", 19)
    return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9)
