"""The weights of a network's layers as arrays, from PyTorch or an `.onnx` file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper
from torch import nn

from ...converters.finite import require_finite
from ...converters.onnx.onnx_file import axes, read_network
from ...converters.saved import SavedModel
from ..errors import PlotError
from ..find_layers import find_tap, nearest

#: The kind of layer whose weights have this number of axes.
_KINDS = {4: "convolution", 2: "linear layer"}


@dataclass(frozen=True)
class Weights:
    """The weights of a network.

    Attributes:
        layers: The weights by the name of their layer, (outputs, inputs) or
            (outputs, inputs, kH, kW), in the order of the network.
        input_shape: (C, H, W) of one image, or None if it is not fixed.
        labels: The names of the network's outputs, or None.
        notes: Notes on the network.
        network: The network; None for an `.onnx` file.
    """

    layers: Mapping[str, np.ndarray]
    input_shape: tuple[int, int, int] | None
    labels: Sequence[str] | None = None
    notes: Sequence[str] = ()
    network: nn.Module | None = None

    def of(self, layer: str | None, rank: int) -> tuple[str, np.ndarray]:
        """Return the name and the weights of a layer.

        Args:
            layer: A PyTorch name or a Lua path (for an `.onnx` file only a PyTorch name); None for
                the first layer with such weights.
            rank: Number of axes: 4 for a convolution, 2 for a linear layer.

        Raises:
            LayerError: There is no such layer.
            PlotError: It has no such weights.
            NotFiniteError: A weight is not a finite number.
        """
        candidates = [name for name, array in self.layers.items() if array.ndim == rank]
        if not candidates:
            raise PlotError(f"the network has no {_KINDS[rank]}")
        if layer is None:
            layer = candidates[0]
            require_finite(self.layers[layer], f"{layer}.weight")
            return layer, self.layers[layer]
        name = layer.removesuffix(".weight")
        if self.network is not None:
            name = find_tap(self.network, name).layer
        if name not in candidates:
            similar = ", ".join(nearest(name, candidates) or candidates[:5])
            raise PlotError(
                f"{layer!r} is no {_KINDS[rank]} of the network; similar names: {similar}"
            )
        require_finite(self.layers[name], f"{name}.weight")
        return name, self.layers[name]


def weights_of(model: SavedModel) -> Weights:
    """Return the weights of a PyTorch model: its layers' parameters named `weight`."""
    layers = {}
    for name, layer in model.module.named_modules():
        weight = getattr(layer, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.dim() in _KINDS:
            array = weight.detach().cpu().float().numpy()
            inputs_first = isinstance(layer, nn.ConvTranspose2d)
            layers[name] = array.swapaxes(0, 1) if inputs_first else array
    return Weights(layers, model.input_shape, model.labels, model.notes, model.module)


def weights_of_file(file: str | os.PathLike[str]) -> Weights:
    """Return the weights of an `.onnx` file: the constants of its convolutions and products.

    The exporter keeps the layers' names. It folds a batch normalization into the convolution
    before it, which scales the weights.

    Raises:
        OnnxError: The file cannot be read.
    """
    model, metadata = read_network(file)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    layers = {}
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        constant = _constant(node.input[1], constants, producers)
        if constant is None or constant[1].ndim not in _KINDS:
            continue
        name, array = constant
        inputs_first = node.op_type == "MatMul" or (
            node.op_type == "Gemm" and not _is_set(node, "transB")
        )
        layers[name.removesuffix(".weight")] = array.T if inputs_first else array
    shape = axes(graph.input[0])[1:]
    fixed = len(shape) == 3 and all(isinstance(size, int) and size for size in shape)
    return Weights(layers, tuple(shape) if fixed else None, metadata.labels)  # type: ignore[arg-type]  # three integers


def _constant(
    name: str, constants: Mapping[str, onnx.TensorProto], producers: Mapping[str, onnx.NodeProto]
) -> tuple[str, np.ndarray] | None:
    """Return the name and the values of a constant; quantized values are dequantized."""
    if name in constants:
        return name, numpy_helper.to_array(constants[name]).astype(np.float32)
    node = producers.get(name)
    if node is None or node.op_type != "DequantizeLinear" or node.input[0] not in constants:
        return None
    array, scale, zero_point = (
        numpy_helper.to_array(constants[input]).astype(np.float32) for input in node.input
    )
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    shape = [1] * array.ndim
    if scale.size > 1:
        shape[axis] = -1
    values = (array - zero_point.reshape(shape)) * scale.reshape(shape)
    return node.input[0].removesuffix("_quantized"), values


def _is_set(node: onnx.NodeProto, name: str) -> bool:
    return any(attribute.name == name and attribute.i for attribute in node.attribute)
