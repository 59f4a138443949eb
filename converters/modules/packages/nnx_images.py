"""Layers of nnx that resample, match or process an image at several scales (`SpatialFovea.lua`, …).

They take one image (C, H, W), not a batch.
"""

from __future__ import annotations

from ctypes import c_float
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..layers.container import Concat, Container
from ..registry import layer, register
from .nnx import Repeat2d, Resample, SpatialPadding


@register("nn.SpatialDownSampling")
def spatial_down_sampling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialDownSampling.lua`: means of windows that do not overlap."""
    return nn.AvgPool2d((int(source["rH"]), int(source["rW"])))


@layer
class MaxSample2d(nn.Module):
    """`SpatialMaxSampling.lua`: the largest value of each window, of which there are H'·W'.

    Unlike in `torch.nn.AdaptiveMaxPool2d` the windows never overlap.

    Args:
        output_size: (H', W').
    """

    def __init__(self, output_size: list[int]) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (C, H, W) to (C, H', W')."""
        for dim, count in zip((-2, -1), self.output_size, strict=True):
            edges = _edges(input.shape[dim], count)
            windows = [input.narrow(dim, start, size).amax(dim) for start, size in edges]
            input = torch.stack(windows, dim)
        return input

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.output_size}"


def _edges(size: int, count: int) -> list[tuple[int, int]]:
    """Return start and size of each window; C computes them in single precision."""
    step = c_float(size / count).value
    starts = [int(c_float(number * step).value) for number in range(count + 1)]
    return [(start, max(start + 1, end) - start) for start, end in pairwise(starts)]


@register("nn.SpatialMaxSampling", ignored=("indices",))
def spatial_max_sampling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialMaxSampling.lua`: the largest value of each window."""
    return MaxSample2d([int(source["oheight"]), int(source["owidth"])])


@layer
class ColorMatrix(nn.Module):
    """`SpatialColorTransform.lua`: a fixed linear map of each pixel's colors, with no parameters.

    Args:
        out_channels: Number of channels of the output; the input has three.
    """

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.weight: torch.Tensor
        self.register_buffer("weight", torch.empty(out_channels, 3))
        self.bias: torch.Tensor
        self.register_buffer("bias", torch.empty(out_channels))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (3, H, W) to (channels, H, W)."""
        pixels = self.weight @ input.flatten(1) + self.bias.unsqueeze(1)
        return pixels.reshape([self.out_channels, *input.shape[1:]])

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.out_channels}"


@register("nn.SpatialColorTransform", ignored=("usage", "islinear"))
def spatial_color_transform(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialColorTransform.lua`, whose linear transforms are a layer `linear`.

    Torch7 itself fails in the others: they swap the input and the output of `image.rgb2hsl`.
    """
    context.choice(source, "transform", ("rgb2yuv", "yuv2rgb", "rgb2y"))
    linear = source["linear"]
    with torch.device("meta"):
        module = ColorMatrix(len(linear["weight"]))
    return context.fill(module, weight=linear["weight"], bias=linear["bias"])


@layer
class SpatialMatching(nn.Module):
    """`SpatialMatching.lua`: distances of each pixel from those around its place in another image.

    Args:
        window: (H, W) of the window.
        full_output: Whether the window is centered, and places outside the image are 1e30;
            otherwise it begins at the pixel's place.
    """

    def __init__(self, window: list[int], full_output: bool) -> None:
        super().__init__()
        self.window = window
        self.full_output = full_output

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map `[first (C, H, W), second (C, H', W')]` to squares (H, W, rows, columns)."""
        first, second = input
        rows, columns = self.window
        inside = torch.ones_like(second[:1])
        if self.full_output:
            before = [(size + 1) // 2 - 1 for size in self.window]
            after = [size // 2 for size in self.window]
            margins = [before[1], after[1], before[0], after[0]]
            second, inside = functional.pad(second, margins), functional.pad(inside, margins)
        height, width = first.shape[1:]
        distances = []
        for y in range(rows):
            for x in range(columns):
                other = second[:, y : y + height, x : x + width]
                distance = (first - other).square().sum(0)
                outside = inside[0, y : y + height, x : x + width] == 0
                distances.append(distance.masked_fill(outside, 1e30))
        return torch.stack(distances, -1).reshape(height, width, rows, columns)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.window}, full_output={self.full_output}"


@register("nn.SpatialMatching", ignored=("gradInput1", "gradInput2"))
def spatial_matching(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialMatching.lua`: distances of pixels within a window."""
    window = [int(source["maxh"]), int(source["maxw"])]
    return SpatialMatching(window, bool(source["full_output"]))


def _is_whole(source: LuaObject, context: Context) -> None:
    """Refuse a layer that looks at one place.

    Raises:
        ConversionError: If it does.
    """
    if source.get("focused"):
        raise context.error(
            "it looks at one place of the image only: focus(nil) in Torch7 makes it process all"
        )


@layer
class SpatialPyramid(Container):
    """`SpatialPyramid.lua`: networks for several scales of an image, as a table of their outputs.

    Args:
        modules: The network of each scale, from and to the image's own size.
        ratios: By which each scale is smaller; the sizes of an image must be multiples.
    """

    def __init__(self, *modules: nn.Module, ratios: list[float]) -> None:
        super().__init__(*modules)
        self.ratios = ratios

    def forward(self, input: Any) -> list[torch.Tensor]:
        """Map (C, H, W), or a list of an image for each scale, to a list of (C', H', W')."""
        if isinstance(input, torch.Tensor):
            if any(size % ratio for ratio in self.ratios for size in input.shape[1:3]):
                raise ValueError(f"height and width must be multiples of {self.ratios}")
            input = [input] * len(self)
        return [module(image) for module, image in zip(self, input, strict=True)]

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"ratios={self.ratios}"


@register(
    "nn.SpatialPyramid",
    ignored=(
        *("processors", "focused_pipeline", "prescaled_input", "kH", "kW", "dH", "dW"),
        *("x", "y", "wFocus", "hFocus", "winWidth", "winHeight"),
    ),
)
def spatial_pyramid(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialPyramid.lua`, which processes the whole image."""
    _is_whole(source, context)
    pipeline = source["unfocused_pipeline"]["modules"]
    modules = [
        context.convert(module, f".unfocused_pipeline.modules[{number}]")
        for number, module in enumerate(pipeline.to_list(), 1)
    ]
    return SpatialPyramid(*modules, ratios=[float(ratio) for ratio in source["ratios"].to_list()])


@register(
    "nn.SpatialFovea",
    ignored=(
        *("nInputPlane", "fov", "sub", "cachePrePreproc", "cachedPreProcessed", "modules"),
        *("downsamplers", "padders", "upsamplers", "pyramid", "preProcessed", "padded", "narrowed"),
        *("processed", "upsampled", "gradUpsampled", "gradProcessed", "gradNarrowed", "gradPadded"),
        *("gradPreProcessed", "gradPyramid", "x", "y"),
    ),
)
def spatial_fovea(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialFovea.lua`: an image at several scales, each processed and made large again.

    Torch7 makes the layers that resample and pad anew in every pass.
    """
    _is_whole(source, context)
    margin = int(source["padding"]) // 2
    before, scales = source.get("preProcessors"), []
    for number, ratio in enumerate(source["ratios"].to_list(), 1):
        bilinear = bool(source.get("bilinear"))
        smaller = Resample("bilinear", ratio_y=1 / ratio, ratio_x=1 / ratio, round_size=False)
        larger = Resample("bilinear", ratio_y=ratio, ratio_x=ratio, round_size=False)
        steps: list[nn.Module] = [smaller if bilinear else nn.AvgPool2d(int(ratio))]
        if before is not None and before.get(number) is not None:
            steps.append(context.convert(before[number], f".preProcessors[{number}]"))
        if int(source["padding"]):
            steps.append(SpatialPadding([margin] * 4, 1, 2))
        steps.append(context.convert(source["processors"][number], f".processors[{number}]"))
        steps.append(larger if bilinear else Repeat2d(int(ratio), int(ratio), 1))
        scales.append(nn.Sequential(*steps))
    return Concat(*scales, dim=0)
