"""The outputs of a network's layers for one image, computed by PyTorch or ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from torch import nn

from ...converters.finite import require_finite
from ...converters.images.preprocessing import Preprocessing
from ...converters.onnx.onnx_file import axes, read_file
from ...converters.saved import SavedModel
from ..errors import PlotError
from ..features.extractors import FeatureExtractor, TorchExtractor, open_extractor
from ..find_layers import find_taps


@dataclass(frozen=True)
class Activation:
    """The output of one layer for an image.

    Attributes:
        name: The name of the layer; in an `.onnx` file, that of the value.
        kind: The class of the layer, such as `Conv2d`, or the type of the operator.
        values: (C, H, W), or (features,) for a layer without height and width.
    """

    name: str
    kind: str
    values: np.ndarray

    @property
    def title(self) -> str:
        """The name, the kind and the shape."""
        return f"{self.name} {self.kind}: {'×'.join(map(str, self.values.shape))}"


@dataclass(frozen=True)
class OpenedLayers:
    """Layers of a network whose outputs can be computed.

    Attributes:
        extractor: Computes their outputs.
        kinds: The kind of each layer (see `Activation`).
        preprocessing: Turns images into inputs.
        note: What was assumed; empty for nothing.
    """

    extractor: FeatureExtractor
    kinds: Sequence[str]
    preprocessing: Preprocessing
    note: str = ""

    def run(self, image: Any) -> tuple[np.ndarray, list[Activation]]:
        """Return an image as the network sees it, (H, W, C) uint8, and the layers' outputs for it.

        Args:
            image: A PIL image, or uint8 pixels (C, H, W).

        Raises:
            TorchliftError: The image does not fit the network, or an output is no tensor.
            NotFiniteError: A number in an output is not finite.
        """
        images = image[None] if isinstance(image, np.ndarray) else [image]
        pixels = self.preprocessing.pixels(images)[0]
        outputs = self.extractor(self.preprocessing(images))
        for name, output in zip(self.extractor.names, outputs, strict=True):
            require_finite(output[0], f"the output of layer {name}")
        layers = zip(self.extractor.names, self.kinds, outputs, strict=True)
        return (
            pixels[..., ::-1] if self.preprocessing.color == "BGR" else pixels,
            [Activation(name, kind, output[0]) for name, kind, output in layers],
        )


def layers_of(model: SavedModel, names: Sequence[str]) -> OpenedLayers:
    """Open layers of a PyTorch model.

    Args:
        model: The model; without a preprocessing, its inputs are pixels from 0 to 1.
        names: The names of the layers (see `find_tap`). If empty, the first convolution and the
            layer after it.

    Raises:
        LayerError: There is no such layer.
        PlotError: No layer is named and the network has no convolution, or it takes no images.
    """
    network = model.module
    names = names or _first_layers(network)
    kinds = [
        "input" if tap.before else type(network.get_submodule(tap.layer)).__name__
        for tap in find_taps(network, names)
    ]
    shape = model.input_shape or (_input_channels(network), None, None)
    return _with_preprocessing(TorchExtractor(model, names), kinds, shape)


def layers_of_file(file: str | os.PathLike[str], names: Sequence[str]) -> OpenedLayers:
    """Open layers of an `.onnx` file.

    Args:
        file: An exported network with one input.
        names: The names of values, or the PyTorch names of layers with weights. If empty, the
            first convolution and the operator after it.

    Raises:
        LayerError: There is no such value.
        PlotError: No layer is named and the network has no convolution, or it takes no images.
        OnnxError: The file cannot be loaded.
    """
    graph = read_file(file)[0].graph
    producers = {output: node for node in graph.node for output in node.output}
    by_layer = {
        name.removesuffix(".weight"): node.output[0]
        for node in graph.node
        for name in node.input[1:2]
        if name.endswith(".weight")
    }
    values = [by_layer.get(name, name) for name in names] or _first_values(graph)
    extractor = open_extractor(file, values)
    kinds = [producers[name].op_type if name in producers else "input" for name in extractor.names]
    return _with_preprocessing(extractor, kinds, axes(graph.input[0])[1:])


def _with_preprocessing(
    extractor: FeatureExtractor, kinds: Sequence[str], shape: Sequence[Any]
) -> OpenedLayers:
    """Return layers with the network's own preprocessing, or one to pixels from 0 to 1.

    Raises:
        PlotError: The network takes no images (C, H, W).
    """
    if extractor.preprocessing is not None:
        return OpenedLayers(extractor, kinds, extractor.preprocessing)
    if len(shape) != 3:
        raise PlotError(f"the network takes no images: an input has {len(shape)} axes, not 3")
    channels, *size = shape
    fixed = all(isinstance(side, int) and side for side in size)
    color = "gray" if channels == 1 else "RGB"
    default = Preprocessing(color, (size[0], size[1]) if fixed else None)
    note = "the model has no preprocessing: its inputs were pixels from 0 to 1"
    return OpenedLayers(extractor, kinds, default, note)


def _first_layers(network: nn.Module) -> list[str]:
    """Return the names of the first convolution and of the layer after it."""
    leaves = [name for name, layer in network.named_modules() if not list(layer.children())]
    for name, following in zip(leaves, [*leaves[1:], None], strict=True):
        if isinstance(network.get_submodule(name), nn.Conv2d):
            return [name, following] if following else [name]
    raise PlotError("the network has no convolution; name the layers with layers=[…]")


def _first_values(graph: onnx.GraphProto) -> list[str]:
    """Return the outputs of the first convolution and of the operator after it."""
    for index, node in enumerate(graph.node):
        if node.op_type == "Conv":
            output = node.output[0]
            consumers = [later for later in graph.node[index:] if output in later.input]
            return [output, *(later.output[0] for later in consumers[:1])]
    raise PlotError("the network has no convolution; name the values with layers=[…]")


def _input_channels(network: nn.Module) -> int:
    """Return the input channels of the first convolution, or 3 if there is none."""
    convolutions = (layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
    return next((layer.in_channels for layer in convolutions), 3)
