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
#: The names of its constants.
_ORDER, _SCALE, _SHIFT = f"{BAKED}order", f"{BAKED}scale", f"{BAKED}shift"


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
    input = image_input(graph, preprocessing)
    pixels = onnx_ir.Value(
        name=input.name, shape=input.shape, type=onnx_ir.TensorType(onnx_ir.DataType.UINT8)
    )
    operators = tape.Tape()
    value = operators.op("Cast", [pixels], {"to": onnx_ir.DataType.FLOAT})
    value = normalize(operators, value, preprocessing)
    replace_input(graph, pixels, value, operators)


def image_input(graph: onnx_ir.Graph, preprocessing: Preprocessing) -> onnx_ir.Value:
    """Return the only input of a graph that takes images (N, C, H, W).

    Raises:
        OnnxError: If the graph has several inputs, or does not take images of these channels.
    """
    if len(graph.inputs) != 1:
        raise OnnxError("preprocessing can only be baked into a network with one input")
    input = graph.inputs[0]
    if input.shape is None or len(input.shape) != 4 or input.shape[1] != preprocessing.channels:
        raise OnnxError(
            f"preprocessing cannot be baked: a {preprocessing.color} image has "
            f"{preprocessing.channels} channels, the input is {input.shape}"
        )
    return input


def normalize(
    operators: tape.Tape, value: onnx_ir.Value, preprocessing: Preprocessing
) -> onnx_ir.Value:
    """Add the nodes that turn float32 pixels (N, C, H, W), RGB or gray, into a network's input."""
    constants = {
        name: operators.initializer(onnx_ir.tensor(values, name=name))
        for name, values in normalization_constants(preprocessing).items()
    }
    if _ORDER in constants:
        value = operators.op("Gather", [value, constants[_ORDER]], {"axis": 1})
    value = operators.op("Mul", [value, constants[_SCALE]])
    if _SHIFT in constants:
        value = operators.op("Sub", [value, constants[_SHIFT]])
    return value


def replace_input(
    graph: onnx_ir.Graph, new: onnx_ir.Value, normalized: onnx_ir.Value, operators: tape.Tape
) -> None:
    """Let a graph compute its only input from a new one.

    Args:
        graph: The graph; it is changed.
        new: The new input.
        normalized: What takes the place of the old one.
        operators: The nodes and constants that compute it.
    """
    old = graph.inputs[0]
    normalized.name, normalized.shape = NORMALIZED, old.shape
    normalized.type = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
    for node in operators.nodes:
        node.name = node.name or f"{BAKED}{node.op_type}"
    onnx_ir.convenience.replace_all_uses_with(old, normalized)
    graph.inputs[0] = new
    for constant in operators.initializers:
        graph.register_initializer(constant)
    graph.insert_before(graph[0], list(operators.nodes))


def normalization_constants(preprocessing: Preprocessing) -> dict[str, np.ndarray]:
    """Return the constants that normalize pixels from 0 to 255, by their names in the graph.

    (lo + x · (hi − lo) / 255 − mean) / std is x · scale − shift, with one value for
    each channel, which broadcasts over (N, C, H, W). The order of the channels and the shift are
    left out where they change nothing.

    Args:
        preprocessing: That of the network.
    """
    std = np.asarray(preprocessing.std or (1,), np.float64)
    mean = np.asarray(preprocessing.mean or (0,), np.float64)
    low, high = preprocessing.limits
    shift = (mean - low) / std
    constants = {_SCALE: (high - low) / (255 * std)} | ({_SHIFT: shift} if shift.any() else {})
    by_channel = {
        name: values.astype(np.float32).reshape(1, -1, 1, 1) for name, values in constants.items()
    }
    return by_channel | ({_ORDER: np.array([2, 1, 0])} if preprocessing.color == "BGR" else {})


def byte_step(preprocessing: Preprocessing) -> np.ndarray:
    """Return how far a step of one in 0 to 255 moves an input, (1, C, 1, 1) or (1, 1, 1, 1)."""
    return normalization_constants(preprocessing)[_SCALE]
