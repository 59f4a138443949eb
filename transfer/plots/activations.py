"""What the layers of a network give for one picture, be it in PyTorch or ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from torch import nn

from ...converters.images.preprocessing import Preprocessing
from ...converters.onnx.onnx_file import axes, read_file
from ...converters.saved import SavedModel
from ..errors import PlotError
from ..features.sources import FeatureSource, TorchFeatures, features_of_file
from ..layers import find_taps


@dataclass(frozen=True)
class Activation:
    """What one layer gave for a picture.

    Attributes:
        name: of the layer; of an exported file that of the value.
        kind: of the layer: `Conv2d`, or an operator's.
        values: (C, H, W), or (features,) of a layer that has no plane.
    """

    name: str
    kind: str
    values: np.ndarray

    @property
    def title(self) -> str:
        """Name, kind and shape."""
        return f"{self.name} {self.kind}: {'×'.join(map(str, self.values.shape))}"


@dataclass(frozen=True)
class OpenedLayers:
    """Layers of a network that can be looked at.

    Attributes:
        source: computes what they give.
        kinds: of each: `Conv2d`, or an operator's name.
        preprocessing: what turns pictures into inputs.
        note: what was assumed; empty for nothing.
    """

    source: FeatureSource
    kinds: Sequence[str]
    preprocessing: Preprocessing
    note: str = ""

    def look_at(self, image: Any) -> tuple[np.ndarray, list[Activation]]:
        """A picture as the network sees it, (H, W, C) uint8, and what the layers give for it.

        Args:
            picture: a PIL image, or uint8 pixels (C, H, W).

        Raises:
            TorchliftError: when it does not fit the network, or a layer gives no tensor.
        """
        images = image[None] if isinstance(image, np.ndarray) else [image]
        seen = self.preprocessing.pixels(images)[0]
        outputs = self.source(self.preprocessing(images))
        named = zip(self.source.names, self.kinds, outputs, strict=True)
        return (
            seen[..., ::-1] if self.preprocessing.color == "BGR" else seen,
            [Activation(name, kind, output[0]) for name, kind, output in named],
        )


def layers_of(model: SavedModel, names: Sequence[str]) -> OpenedLayers:
    """Layers of a network in PyTorch.

    Args:
        model: the network; without a preprocessing it is given pixels from 0 to 1.
        names: of the layers (see `find_tap`); none for the first convolution and what follows it.

    Raises:
        LayerError: when there is no such layer.
        PlotError: when none is named and the network has no convolution.
    """
    network = model.module
    names = names or _first_layers(network)
    source = TorchFeatures(model, names)
    taps = find_taps(network, names)
    kinds = [
        "given" if tap.before else type(network.get_submodule(tap.layer)).__name__ for tap in taps
    ]
    channels, *size = model.input_shape or (_channels(network), None, None)
    return _opened(source, kinds, channels, size)


def layers_of_file(file: str | os.PathLike[str], names: Sequence[str]) -> OpenedLayers:
    """Layers of an `.onnx` file.

    Args:
        file: an exported network with one input.
        names: of its values, or of layers with weights, as PyTorch names them; none for the first
            convolution and what follows it.

    Raises:
        LayerError: when there is no such value.
        PlotError: when none is named and the network has no convolution.
        OnnxError: when the file cannot be loaded.
    """
    graph = read_file(file)[0].graph
    makers = {output: node for node in graph.node for output in node.output}
    by_layer = {
        name.removesuffix(".weight"): node.output[0]
        for node in graph.node
        for name in node.input[1:2]
        if name.endswith(".weight")
    }
    values = [by_layer.get(name, name) for name in names] or _first_values(graph)
    source = features_of_file(file, values)
    kinds = [makers[name].op_type if name in makers else "given" for name in source.names]
    channels, *size = axes(graph.input[0])[1:]
    return _opened(source, kinds, channels, size)


def _opened(
    source: FeatureSource, kinds: Sequence[str], channels: Any, size: Sequence[Any]
) -> OpenedLayers:
    """Layers with the network's own preprocessing, or the plainest."""
    if source.preprocessing is not None:
        return OpenedLayers(source, kinds, source.preprocessing)
    whole = all(isinstance(side, int) and side for side in size)
    plain = Preprocessing("gray" if channels == 1 else "RGB", (size[0], size[1]) if whole else None)
    note = "the model does not say how pictures become inputs: it was given pixels from 0 to 1"
    return OpenedLayers(source, kinds, plain, note)


def _first_layers(network: nn.Module) -> list[str]:
    """The first convolution, and the layer that follows it."""
    leaves = [name for name, layer in network.named_modules() if not list(layer.children())]
    for name, following in zip(leaves, [*leaves[1:], None], strict=True):
        if isinstance(network.get_submodule(name), nn.Conv2d):
            return [name, following] if following else [name]
    raise PlotError("the network has no convolution: name the layers to look at (--layers)")


def _first_values(graph: onnx.GraphProto) -> list[str]:
    """What the first convolution gives, and what is made of that."""
    for index, node in enumerate(graph.node):
        if node.op_type == "Conv":
            given = node.output[0]
            following = [later for later in graph.node[index:] if given in later.input]
            return [given, *(later.output[0] for later in following[:1])]
    raise PlotError("the network has no convolution: name the values to look at (--layers)")


def _channels(network: nn.Module) -> int:
    """Colours that a network of any size takes: those of its first convolution."""
    convolutions = (layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
    return next((layer.in_channels for layer in convolutions), 3)
