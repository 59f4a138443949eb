"""Baking preprocessing: normalization moves into the graph, which then takes uint8 pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir
from onnx_ir import tape

from ...images.preprocessing import Preprocessing
from ..errors import OnnxError

#: The name of the network's own input in a graph that takes pixels.
NORMALIZED = "normalized_input"
#: The prefix of the names of the nodes and constants that do the preprocessing.
BAKED = "baked_"


def remaining_preprocessing(preprocessing: Preprocessing) -> Preprocessing:
    """Return the preprocessing that stays outside the graph when the rest is baked into it.

    That is resizing and cropping. The graph takes RGB pixels from 0 to 255, so that the result of
    `image.scale` is rounded to whole values.
    """
    color = "gray" if preprocessing.channels == 1 else "RGB"
    return replace(preprocessing, color=color, value_range=255, mean=(), std=(), round_pixels=True)


def bake(model: onnx_ir.Model, preprocessing: Preprocessing) -> None:
    """Put the normalization of pixels in front of a graph, in place; its input becomes uint8.

    The channel order, the value range, mean and std become one Gather (for BGR), one Mul and one
    Sub, computed in single precision.

    Args:
        model: A graph with one float32 input (N, C, H, W).
        preprocessing: That of the graph's input so far.

    Raises:
        OnnxError: If the graph has several inputs, or does not take images of these channels.
    """
    graph = model.graph
    if len(graph.inputs) != 1:
        raise OnnxError("preprocessing can only be baked into a network with one input")
    input = graph.inputs[0]
    if input.shape is None or len(input.shape) != 4 or input.shape[1] != preprocessing.channels:
        raise OnnxError(
            f"preprocessing cannot be baked: a {preprocessing.color} image has "
            f"{preprocessing.channels} channels, the input is {input.shape}"
        )
    pixels = onnx_ir.Value(
        name=input.name, shape=input.shape, type=onnx_ir.TensorType(onnx_ir.DataType.UINT8)
    )
    operators = tape.Tape()
    value = operators.op("Cast", [pixels], {"to": onnx_ir.DataType.FLOAT})
    if preprocessing.color == "BGR":
        order = operators.initializer(onnx_ir.tensor(np.array([2, 1, 0]), name=f"{BAKED}order"))
        value = operators.op("Gather", [value, order], {"axis": 1})
    scale, shift = _scale_and_shift(preprocessing)
    value = operators.op("Mul", [value, _constant(operators, scale, f"{BAKED}scale")])
    if shift.any():
        value = operators.op("Sub", [value, _constant(operators, shift, f"{BAKED}shift")])
    value.name, value.shape = NORMALIZED, input.shape
    value.type = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)

    for node in operators.nodes:
        node.name = f"{BAKED}{node.op_type}"
    onnx_ir.convenience.replace_all_uses_with(input, value)
    graph.inputs[0] = pixels
    for constant in operators.initializers:
        graph.register_initializer(constant)
    graph.insert_before(graph[0], list(operators.nodes))


def _scale_and_shift(preprocessing: Preprocessing) -> tuple[np.ndarray, np.ndarray]:
    """Return the scale and shift with (x / range − mean) / std = x · scale − shift."""
    std = np.asarray(preprocessing.std or (1,), np.float64)
    mean = np.asarray(preprocessing.mean or (0,), np.float64)
    largest = 255 if preprocessing.value_range == 1 else 1
    return 1 / (largest * std), mean / std


def _constant(operators: tape.Tape, values: np.ndarray, name: str) -> onnx_ir.Value:
    """Add a constant of one value for each channel, which broadcasts over (N, C, H, W)."""
    array = values.astype(np.float32).reshape(1, -1, 1, 1)
    return operators.initializer(onnx_ir.tensor(array, name=name))
