"""How large the layers of a network are: numbers to learn, and bytes."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ...converters.t7 import inspection
from .figures import STRONG, new_figure, short, styled

if TYPE_CHECKING:
    from ...converters.saved import SavedModel

#: Layers that are drawn by themselves, when there are more.
_MOST = 40
#: Shades and strokes of the kinds of bytes, so that they are told apart in grey too.
_STROKES = ("", "///", "...", "\\\\\\", "xxx", "---")


@dataclass(frozen=True)
class LayerSize:
    """What a layer takes.

    Attributes:
        name: of the layer, with its class and settings.
        parameters: numbers that are learnt.
        bytes: kind (`weights`, `gradients`, `buffers`, …) → bytes, without those that are 0.
    """

    name: str
    parameters: int
    bytes: Mapping[str, int]


def sizes_in_t7(file: str | os.PathLike[str]) -> list[LayerSize]:
    """The layers of a `.t7` file; with what is no layer they add up to the file's size.

    Neither torch nor the tensors' numbers are read.

    Raises:
        T7Error: when the file cannot be read.
    """
    found = inspection.inspect(file)
    layers = [
        LayerSize(
            f"{layer.torch_path or layer.path} {layer.class_name.removeprefix('nn.')} "
            f"{layer.settings}".strip(),
            layer.parameters if layer.same_as is None else 0,
            _kinds(layer.bytes),
        )
        for layer in found.layers
    ]
    rest = [
        LayerSize("outside the layers", 0, _kinds(found.outside)),
        LayerSize("names and sizes", 0, {"structure": found.bytes.structure}),
    ]
    return [layer for layer in [*layers, *rest] if layer.bytes or layer.parameters]


def sizes_in_network(model: SavedModel) -> list[LayerSize]:
    """The layers of a network in PyTorch; what several share is counted once."""
    seen: set[int] = set()
    layers = []
    for name, layer in model.module.named_modules():
        parts = {
            "weights": list(layer.parameters(recurse=False)),
            "buffers": list(layer.buffers(recurse=False)),
        }
        new = {kind: [t for t in parts[kind] if id(t) not in seen] for kind in parts}
        seen |= {id(tensor) for tensors in new.values() for tensor in tensors}
        bytes_ = {kind: sum(t.nbytes for t in tensors) for kind, tensors in new.items() if tensors}
        if bytes_:
            count = sum(tensor.numel() for tensor in new["weights"])
            layers.append(LayerSize(f"{name} {type(layer).__name__}".strip(), count, bytes_))
    return layers


def sizes_in_onnx(file: str | os.PathLike[str]) -> list[LayerSize]:
    """The layers of an `.onnx` file, by the names of its constants.

    Raises:
        OnnxError: when the file cannot be read.
    """
    # A .t7 is measured without waiting for torch.
    from onnx import TensorProto, helper

    from ...converters.onnx.onnx_file import read_file

    def bytes_of(tensor: TensorProto) -> int:
        kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        return math.prod(tensor.dims) * np.dtype(kind).itemsize

    graph = read_file(file)[0].graph
    users = {name: node.op_type for node in graph.node for name in node.input}
    layers: dict[str, list[TensorProto]] = {}
    for tensor in graph.initializer:
        layers.setdefault(tensor.name.rpartition(".")[0] or tensor.name, []).append(tensor)
    return [
        LayerSize(
            f"{name} {users.get(tensors[0].name, '')}".strip(),
            sum(math.prod(tensor.dims) for tensor in tensors),
            {"weights": sum(bytes_of(tensor) for tensor in tensors)},
        )
        for name, tensors in layers.items()
    ]


@styled
def draw_sizes(layers: Sequence[LayerSize], title: str) -> Figure:
    """Bars of the parameters and of the bytes of each layer, in the order of the network.

    Args:
        layers: the largest of very many; the others are one bar.
        title: stands above.
    """
    layers = _largest(layers)
    kinds = list(dict.fromkeys(kind for layer in layers for kind in layer.bytes))
    figure = new_figure(10, 0.26 * len(layers) + 1.7)
    figure.suptitle(short(title, 100), x=0.01, ha="left", size=10)
    left, right = figure.subplots(1, 2, sharey=True)
    places = range(len(layers))
    left.barh(places, [layer.parameters for layer in layers], color=STRONG)
    largest = max((layer.parameters for layer in layers), default=0) or 1
    for place, layer in enumerate(layers):
        if layer.parameters:
            left.text(
                layer.parameters + 0.02 * largest,
                place,
                f"{layer.parameters:,}",
                va="center",
                size=7.5,
            )
    ends = np.zeros(len(layers))
    shades = matplotlib.colormaps["Blues"](np.linspace(0.85, 0.2, len(kinds)))
    for kind, shade, strokes in zip(kinds, shades, _STROKES, strict=False):
        amounts = np.array([layer.bytes.get(kind, 0) for layer in layers])
        said = f"{kind.replace('_', ' ')} {in_words(int(amounts.sum()))}"
        right.barh(
            places, amounts, left=ends, color=shade, hatch=strokes, edgecolor="0.35", linewidth=0.3,
            label=said,
        )  # fmt: skip
        ends += amounts
    whole = float(ends.max(initial=1))
    for place, end in enumerate(ends):
        right.text(end + 0.02 * whole, place, in_words(int(end)), va="center", size=7.5)
    left.set_yticks(places, [short(layer.name, 46) for layer in layers], size=8)
    left.set(ylim=(len(layers) - 0.4, -0.6), xlim=(0, largest * 1.3), title="parameters")
    right.set(xlim=(0, whole * 1.3), title="bytes")
    for axes in (left, right):
        axes.tick_params(length=0, axis="y")
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def in_words(count: int) -> str:
    """Bytes for people: `466.1 MB`."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def _largest(layers: Sequence[LayerSize]) -> list[LayerSize]:
    if len(layers) <= _MOST:
        return list(layers)
    by_size = sorted(range(len(layers)), key=lambda place: -sum(layers[place].bytes.values()))
    kept = sorted(by_size[: _MOST - 1])
    others = [layers[place] for place in by_size[_MOST - 1 :]]
    together: dict[str, int] = {}
    for layer in others:
        for kind, amount in layer.bytes.items():
            together[kind] = together.get(kind, 0) + amount
    count = sum(layer.parameters for layer in others)
    return [
        *(layers[place] for place in kept),
        LayerSize(f"{len(others)} smaller layers", count, together),
    ]


def _kinds(spent: inspection.Bytes) -> dict[str, int]:
    amounts = {field.name: getattr(spent, field.name) for field in fields(spent)}
    return {kind: amount for kind, amount in amounts.items() if amount}
