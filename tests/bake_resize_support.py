"""A network that gives its input, so that tests see what preprocessing in a graph computes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir
import onnxruntime
from onnx import TensorProto, helper

from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.onnx.exporter.bake_resize import bake_resize


def baked_identity(
    preprocessing: Preprocessing, size: Sequence[int | str] = ("height", "width")
) -> onnx.ModelProto:
    """Return a graph that takes an image and gives what a network of this size would take."""
    shape = ["batch", preprocessing.channels, *size]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name in ("input", "output")
    ]
    node = helper.make_node("Identity", ["input"], ["output"], name="network")
    graph = helper.make_graph([node], "network", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 18)]
    model = onnx_ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=8))
    bake_resize(model, preprocessing)
    return onnx_ir.to_proto(model)


def run_image(model: onnx.ModelProto, *images: np.ndarray) -> list[np.ndarray]:
    """Run a graph on images (H, W, C), in ONNX Runtime alone."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return [session.run(None, {"image": image})[0] for image in images]


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Return an image in which every wrong weight and rounding shows."""
    return np.random.default_rng(height).integers(0, 256, (height, width, channels), np.uint8)
