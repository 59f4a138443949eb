"""The weights of a network's layers as arrays, be it PyTorch's or an exported file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper
from torch import nn

from ...converters.onnx.onnx_file import axes, read_file
from ...converters.saved import SavedModel
from ..errors import PlotError
from ..layers import find_tap, nearest

#: What has weights with so many axes.
_KINDS = {4: "convolution", 2: "linear layer"}


@dataclass(frozen=True)
class Weights:
    """The weights of a network.

    Attributes:
        layers: the name of each layer with weights → an array (outputs, inputs) or
            (outputs, inputs, kH, kW), in the order of the network.
        input_shape: (C, H, W) of one picture, or None where it is open.
        labels: the names of the network's outputs, or None.
        notes: what is to be known of the network.
        network: that they were taken from; None for an exported file.
    """

    layers: Mapping[str, np.ndarray]
    input_shape: tuple[int, int, int] | None
    labels: Sequence[str] | None = None
    notes: Sequence[str] = ()
    network: nn.Module | None = None

    def of(self, layer: str | None, rank: int) -> tuple[str, np.ndarray]:
        """A layer's name and its weights.

        Args:
            layer: a PyTorch name or a Lua path (of an exported file a PyTorch name only); None for
                the first that has such weights.
            rank: axes of the weights: 4 of a convolution, 2 of a linear layer.

        Raises:
            LayerError: when there is no such layer.
            PlotError: when it has no such weights.
        """
        fitting = [name for name, array in self.layers.items() if array.ndim == rank]
        if not fitting:
            raise PlotError(f"the network has no {_KINDS[rank]}")
        if layer is None:
            return fitting[0], self.layers[fitting[0]]
        name = layer.removesuffix(".weight")
        if self.network is not None:
            name = find_tap(self.network, name).layer
        if name not in fitting:
            near = ", ".join(nearest(name, fitting) or fitting[:5])
            raise PlotError(f"{layer!r} is no {_KINDS[rank]} of the network; there are: {near}")
        return name, self.layers[name]


def weights_of(model: SavedModel) -> Weights:
    """The weights of a network in PyTorch: what its layers call `weight`."""
    layers = {}
    for name, layer in model.module.named_modules():
        weight = getattr(layer, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.dim() in _KINDS:
            array = weight.detach().cpu().float().numpy()
            turned = isinstance(layer, nn.ConvTranspose2d)
            layers[name] = array.swapaxes(0, 1) if turned else array
    return Weights(layers, model.input_shape, model.labels, model.notes, model.module)


def weights_of_file(file: str | os.PathLike[str]) -> Weights:
    """The weights of an `.onnx` file: the constants that its convolutions and products take.

    The exporter keeps the layers' names, and multiplies the factors of a batch normalization into
    the convolution before it.

    Raises:
        OnnxError: when the file cannot be read.
    """
    model, metadata = read_file(file)
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    layers = {}
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        factor = _constant(node.input[1], stored, makers)
        if factor is None or factor[1].ndim not in _KINDS:
            continue
        name, array = factor
        turned = node.op_type == "MatMul" or (
            node.op_type == "Gemm" and not _is_set(node, "transB")
        )
        layers[name.removesuffix(".weight")] = array.T if turned else array
    shape = axes(graph.input[0])[1:]
    known = len(shape) == 3 and all(isinstance(size, int) and size for size in shape)
    return Weights(layers, tuple(shape) if known else None, metadata.labels)  # type: ignore[arg-type]  # three numbers


def _constant(
    name: str, stored: Mapping[str, onnx.TensorProto], makers: Mapping[str, onnx.NodeProto]
) -> tuple[str, np.ndarray] | None:
    """A constant's name and numbers; a quantized one is numbers again."""
    if name in stored:
        return name, numpy_helper.to_array(stored[name]).astype(np.float32)
    maker = makers.get(name)
    if maker is None or maker.op_type != "DequantizeLinear" or maker.input[0] not in stored:
        return None
    array, scale, zero = (
        numpy_helper.to_array(stored[part]).astype(np.float32) for part in maker.input
    )
    axis = next((a.i for a in maker.attribute if a.name == "axis"), 1)
    shape = [1] * array.ndim
    if scale.size > 1:
        shape[axis] = -1
    return maker.input[0].removesuffix("_quantized"), (array - zero.reshape(shape)) * scale.reshape(
        shape
    )


def _is_set(node: onnx.NodeProto, name: str) -> bool:
    return any(attribute.name == name and attribute.i for attribute in node.attribute)
