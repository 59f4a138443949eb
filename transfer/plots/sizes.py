"""The sizes of a network's layers: parameters and bytes."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ...converters.t7 import inspection
from ..formatting import format_bytes
from .figures import STRONG, new_figure, short, styled

if TYPE_CHECKING:
    from ...converters.saved import SavedModel

#: The largest number of bars; the smallest layers of larger networks share the last one.
_MAX_BARS = 40
#: Hatches of the groups of bytes, which distinguish them without color.
_HATCHES = ("", "///", "...", "\\\\\\", "xxx", "---")


@dataclass(frozen=True)
class LayerSize:
    """The size of one layer.

    Attributes:
        name: The name of the layer, with its class and settings.
        parameters: Number of elements of its parameters.
        bytes_by_group: Bytes of each group (`weights`, `gradients`, `buffers`, …) that is not
            empty.
    """

    name: str
    parameters: int
    bytes_by_group: Mapping[str, int]

    @property
    def bytes(self) -> int:
        """The bytes of all groups."""
        return sum(self.bytes_by_group.values())

    def to_json(self) -> dict[str, Any]:
        """Return the size as JSON values."""
        groups = self.bytes_by_group.items()
        return {
            "layer": self.name,
            "parameters": self.parameters,
            "bytes": self.bytes,
            "bytes_by_group": [{"group": group, "bytes": count} for group, count in groups],
        }


def sizes_in_t7(file: str | os.PathLike[str]) -> list[LayerSize]:
    """Return the layers of a `.t7` file; with the rest of the file they add up to its size.

    Shared tensors count once. Neither torch nor the values of the tensors are loaded.

    Raises:
        T7Error: The file cannot be read.
    """
    result = inspection.inspect(file)
    layers = [
        LayerSize(
            f"{layer.torch_path or layer.path} {layer.class_name.removeprefix('nn.')} "
            f"{layer.settings}".strip(),
            layer.distinct,
            _groups(layer.bytes),
        )
        for layer in result.layers
    ]
    rest = [
        LayerSize("outside the layers", 0, _groups(result.outside)),
        LayerSize("names and sizes", 0, {"structure": result.bytes.structure}),
    ]
    return [layer for layer in [*layers, *rest] if layer.bytes_by_group or layer.parameters]


def sizes_in_network(model: SavedModel) -> list[LayerSize]:
    """Return the layers of a PyTorch model; shared tensors count once."""
    seen: set[int] = set()
    layers = []
    for name, layer in model.module.named_modules():
        tensors = {
            "weights": list(layer.parameters(recurse=False)),
            "buffers": list(layer.buffers(recurse=False)),
        }
        new = {group: [t for t in tensors[group] if id(t) not in seen] for group in tensors}
        seen |= {id(tensor) for group in new.values() for tensor in group}
        sizes = {group: sum(t.nbytes for t in new[group]) for group in new if new[group]}
        if sizes:
            count = sum(tensor.numel() for tensor in new["weights"])
            layers.append(LayerSize(f"{name} {type(layer).__name__}".strip(), count, sizes))
    return layers


def sizes_in_onnx(file: str | os.PathLike[str]) -> list[LayerSize]:
    """Return the layers of an `.onnx` file, by the names of its constants.

    Raises:
        OnnxError: The file cannot be read.
    """
    # Imported here because a .t7 file needs neither onnx nor torch.
    from onnx import TensorProto, helper

    from ...converters.onnx.onnx_file import read_file

    def bytes_of(tensor: TensorProto) -> int:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
        return int(math.prod(tensor.dims)) * dtype.itemsize

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
    """Draw bars of the parameters and of the bytes of each layer, in the order of the network.

    Args:
        layers: The layers. Of more than 40, the smallest are one bar.
        title: The title.
    """
    layers = _with_smallest_joined(layers)
    groups = list(dict.fromkeys(group for layer in layers for group in layer.bytes_by_group))
    figure = new_figure(10, 0.26 * len(layers) + 1.7)
    figure.suptitle(short(title, 100), x=0.01, ha="left", size=10)
    left, right = figure.subplots(1, 2, sharey=True)
    rows = range(len(layers))
    left.barh(rows, [layer.parameters for layer in layers], color=STRONG)
    largest = max((layer.parameters for layer in layers), default=0) or 1
    for row, layer in enumerate(layers):
        if layer.parameters:
            end = layer.parameters + 0.02 * largest
            left.text(end, row, f"{layer.parameters:,}", va="center", size=7.5)
    ends = np.zeros(len(layers))
    shades = matplotlib.colormaps["Blues"](np.linspace(0.85, 0.2, len(groups)))
    for group, shade, hatch in zip(groups, shades, _HATCHES, strict=False):
        counts = np.array([layer.bytes_by_group.get(group, 0) for layer in layers])
        label = f"{group.replace('_', ' ')} {format_bytes(int(counts.sum()))}"
        right.barh(
            rows, counts, left=ends, color=shade, hatch=hatch, edgecolor="0.35", linewidth=0.3,
            label=label,
        )  # fmt: skip
        ends += counts
    longest = float(ends.max(initial=1))
    for row, end in enumerate(ends):
        right.text(end + 0.02 * longest, row, format_bytes(int(end)), va="center", size=7.5)
    left.set_yticks(rows, [short(layer.name, 46) for layer in layers], size=8)
    left.set(ylim=(len(layers) - 0.4, -0.6), xlim=(0, largest * 1.3), title="parameters")
    right.set(xlim=(0, longest * 1.3), title="bytes")
    for axes in (left, right):
        axes.tick_params(length=0, axis="y")
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _with_smallest_joined(layers: Sequence[LayerSize]) -> list[LayerSize]:
    """Return at most `_MAX_BARS` layers; the last one is the sum of those that are left out."""
    if len(layers) <= _MAX_BARS:
        return list(layers)
    by_size = sorted(range(len(layers)), key=lambda index: -layers[index].bytes)
    kept = sorted(by_size[: _MAX_BARS - 1])
    others = [layers[index] for index in by_size[_MAX_BARS - 1 :]]
    totals: dict[str, int] = {}
    for layer in others:
        for group, count in layer.bytes_by_group.items():
            totals[group] = totals.get(group, 0) + count
    parameters = sum(layer.parameters for layer in others)
    return [
        *(layers[index] for index in kept),
        LayerSize(f"{len(others)} smaller layers", parameters, totals),
    ]


def _groups(counts: inspection.Bytes) -> dict[str, int]:
    groups = {field.name: getattr(counts, field.name) for field in fields(counts)}
    return {group: count for group, count in groups.items() if count}
