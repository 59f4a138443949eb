"""Layers of mc-cnn, which matches the two images of a stereo camera (`StereoJoin.lua`, …)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class NormalizePixels(nn.Module):
    """`Normalize2.lua`: divides the features of each pixel by their norm.

    Args:
        eps: Value added to the squared norm.
    """

    def __init__(self, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to the same shape."""
        return input * (input.square().sum(1, keepdim=True) + self.eps).rsqrt()


@register("nn.Normalize2", ignored=("norm",))
def normalize2(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Normalize2.lua`: features of norm 1."""
    return NormalizePixels()


@layer
class StereoSimilarity(nn.Module):
    """`StereoJoin1.lua`: the products of the features of left and right images, summed."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (2 · N, C, H, W), left and right in turns, to (N, 1, H, W)."""
        return (input[::2] * input[1::2]).sum(1, keepdim=True)


@register("nn.StereoJoin1", ignored=("tmp",))
def stereo_join1(source: LuaObject, context: Context) -> nn.Module:
    """Convert `StereoJoin1.lua`: the similarity of pairs of images at every pixel."""
    return StereoSimilarity()


@layer
class StereoCosts(nn.Module):
    """`StereoJoin.lua`: how little each pixel of the left image is like those of the right image.

    Torch7 leaves what lies outside of the right image unset; here it is NaN, which mc-cnn's main
    script fills in as well.

    Args:
        shifts: Number of shifts that are tried, from 0 to the left.
    """

    def __init__(self, shifts: int) -> None:
        super().__init__()
        self.shifts = shifts

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map the left and the right image (2, C, H, W) to (1, shifts, H, W)."""
        left, right = input[:1], input[1:]
        width = input.shape[3]
        costs = []
        for shift in range(self.shifts):
            kept = max(width - shift, 0)
            cost = -(left[..., width - kept :] * right[..., :kept]).sum(1)
            costs.append(functional.pad(cost, [width - kept, 0], value=float("nan")))
        return torch.stack(costs, 1)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.shifts}"


@register("nn.StereoJoin", ignored=("output_L",))
def stereo_join(source: LuaObject, context: Context) -> nn.Module:
    """Convert `StereoJoin.lua`: minus the similarity of two images for every shift."""
    context.choice(source, "direction", [-1])
    context.note("places without a counterpart are NaN; Torch7 left there what was in memory")
    return StereoCosts(int(source["disp_max"]))


@register("nn.SpatialConvolution1_fw")
def spatial_convolution1_fw(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialConvolution1_fw.lua`: a convolution of single pixels, weight (out, in)."""
    weight = source["weight"]
    module = nn.Conv2d(weight.shape[1], weight.shape[0], 1, device="meta")
    return context.fill(module, weight=weight, bias=source["bias"])
