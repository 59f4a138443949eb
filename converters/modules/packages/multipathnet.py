"""Layers of multipathnet, a detector of objects (`ModelParallelTable.lua`, `BBoxNorm.lua`, …).

A box is (x1, y1, x2, y2); a region is (image, x1, y1, x2, y2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from ...t7 import LuaObject, LuaTable
from ..context import Context
from ..layers.container import Concat
from ..registry import layer, register
from .fairseq import TrainEval


@register(
    *("nn.ModelParallelTable", "nn.ModelParallel", "nn.AbstractParallel"),
    ignored=(
        *("gpuAssignments", "inputGpu", "gradOutputGpu", "outputGpu", "gradInputGpu"),
        *("gradInputAddBuffer", "noGradInput", "gpu_assignments", "container_gpuid"),
        *("gradInputBuffer", "input_gpu", "gradOutput_gpu", "gradInput_gpu", "size"),
    ),
)
def model_parallel_table(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ModelParallelTable.lua`, or fbcunn's `ModelParallel.lua` and its parent.

    Its children ran on several GPUs, each on the whole input; their outputs are concatenated.
    """
    return Concat(*context.children(source), dim=int(source["dimension"]) - 1)


@register("nn.NoBackprop")
def no_backprop(source: LuaObject, context: Context) -> nn.Module:
    """Convert `NoBackprop.lua`: a module that Torch7 does not train."""
    inner = source.get("modules")
    if not isinstance(inner, LuaTable):  # Version 1.
        module = nn.Sequential(context.convert(source["inner"], ".inner"))
    else:
        module = nn.Sequential(*context.children(source))
    context.note("frozen: Torch7 passes no gradient to the module inside")
    return module.requires_grad_(False)


@register("nn.ModeSwitch")
def mode_switch(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ModeSwitch.lua`: a module for each mode."""
    return TrainEval(*context.children(source))


@register("nn.SequentialSplitBatch", ignored=("batch_size", "output_", "parent_output"))
def sequential_split_batch(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SequentialSplitBatch.lua`: an nn.Sequential, run on parts of a batch in Torch7."""
    return nn.Sequential(*context.children(source))


@layer
class BoxNorm(nn.Module):
    """`BBoxNorm.lua`: undoes the normalization of boxes, in evaluation mode only.

    Args:
        mean: Mean of each coordinate.
        std: Standard deviation of each coordinate.
    """

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.mean = mean
        self.std = std

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map boxes (N, 4 · k) to the same shape."""
        if self.training:
            return input
        boxes = input.reshape([input.shape[0], -1, 4])
        return (boxes * input.new_tensor(self.std) + input.new_tensor(self.mean)).flatten(1)


@register("nn.BBoxNorm")
def bbox_norm(source: LuaObject, context: Context) -> nn.Module:
    """Convert `BBoxNorm.lua`: boxes times std plus mean."""
    return BoxNorm(numbers(source["mean"]), numbers(source["std"]))


@layer
class Foveal(nn.Module):
    """`Foveal.lua`: each region, and the regions 1.5, 2 and 4 times as large around it."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map regions (N, 5) to (4 · N, 5)."""
        image, start, size = input[:, :1], input[:, 1:3], input[:, 3:] - input[:, 1:3]
        regions = [input]
        for before, factor in ((0.25, 1.5), (0.5, 2.0), (1.5, 4.0)):
            first = start - size * before
            regions.append(torch.cat([image, first, first + size * factor], 1))
        return torch.stack(regions, 1).flatten(0, 1)


@register("nn.Foveal")
def foveal(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Foveal.lua`: regions of four sizes."""
    return Foveal()


@layer
class ContextRegion(nn.Module):
    """`ContextRegion.lua`: maps the coordinates of regions linearly, to make them larger."""

    matrix: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.eye(4))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map regions (N, 5) to regions (N, 5)."""
        return torch.cat([input[:, :1], input[:, 1:] @ self.matrix], 1)


@register("nn.ContextRegion")
def context_region(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ContextRegion.lua` by its matrix `tr`."""
    return context.fill(ContextRegion(), matrix=source["tr"])


@layer
class MoveBoxes(nn.Module):
    """`ConvertFrom.lua`: regions moved and resized by what the network predicts."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map `[regions (N, 5), (dx, dy, log w, log h) (N, 4)]` to regions (N, 5)."""
        regions, moves = input
        start, end = regions[:, 1:3], regions[:, 3:]
        center = (start + end) * 0.5 + moves[:, :2] * (end - start)
        half = moves[:, 2:].exp() * (end - start) * 0.5
        return torch.cat([regions[:, :1], center - half, center + half], 1)


@register("nn.ConvertFrom", ignored=("gradInput1", "gradInput2"))
def convert_from(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ConvertFrom.lua`: regions moved by predicted offsets."""
    return MoveBoxes()


@layer
class SelectBoxes(nn.Module):
    """`SelectBoxes.lua`: the box of the most probable class of each example.

    Args:
        mean: Mean of each coordinate, None for boxes that are not normalized.
        std: Standard deviation of each coordinate.
    """

    def __init__(self, mean: list[float] | None = None, std: list[float] | None = None) -> None:
        super().__init__()
        self.mean = mean
        self.std = std

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map `[scores (N, K), boxes (N, 4 · K)]` to (N, 4)."""
        scores, boxes = input
        best = scores.argmax(1)[:, None, None].expand(-1, 1, 4)
        chosen = boxes.reshape([boxes.shape[0], -1, 4]).gather(1, best)[:, 0]
        if self.mean is None or self.std is None:
            return chosen
        return chosen * chosen.new_tensor(self.std) + chosen.new_tensor(self.mean)


@register(
    "nn.SelectBoxes",
    ignored=("gradInput_classes", "gradInput_boxes", "gradInput2", "maxvals", "maxids", "ids"),
)
def select_boxes(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SelectBoxes.lua`: the box of the best class, times std plus mean if it has them."""
    mean, std = source.get("mean"), source.get("std")
    if std is None:
        return SelectBoxes()
    return SelectBoxes(numbers(mean), numbers(std))


@layer
class TransformImage(nn.Module):
    """`ImageTransformer.lua`: the preprocessing of an image.

    Args:
        mean: Mean of each channel of the result.
        std: Standard deviation of each channel, None for 1.
        scale: What the image is multiplied by before.
        channels: For each channel of the result, the one of the image (from 0) that it is, None
            for the same order.
    """

    def __init__(
        self,
        mean: list[float],
        std: list[float] | None = None,
        scale: float = 1.0,
        channels: list[int] | None = None,
    ) -> None:
        super().__init__()
        self.mean = mean
        self.std = std
        self.scale = scale
        self.channels = channels

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map an image (3, H, W), or a batch (N, 3, H, W), to the same shape."""
        image = input if self.channels is None else input[..., self.channels, :, :]
        image = image * self.scale - image.new_tensor(self.mean)[:, None, None]
        return image if self.std is None else image / image.new_tensor(self.std)[:, None, None]


@register("fbcoco.ImageTransformer")
def image_transformer(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ImageTransformer.lua`: order of channels, scale, mean and std of an image."""
    std, swap = source.get("std"), source.get("swap")
    return TransformImage(
        numbers(source["mean"]),
        None if std is None else numbers(std),
        float(source.get("scale", 1)),
        None if swap is None else [int(number) - 1 for number in numbers(swap)],
    )


def numbers(value: Any) -> list[float]:
    """Return the numbers of a tensor or a table."""
    items = value.to_list() if isinstance(value, LuaTable) else np.asarray(value).reshape(-1)
    return [float(number) for number in items]
