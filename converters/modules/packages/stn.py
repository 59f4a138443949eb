"""Layers of stn, spatial transformers on (N, H, W, C) (`AffineGridGeneratorBHWD.lua`, …).

Coordinates go from -1 to 1 between the centres of the outermost pixels.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class AffineMatrix(nn.Module):
    """`AffineTransformMatrixGenerator.lua`: matrices of a rotation, then scaling, then a shift.

    Without any of the three the input's six numbers are the matrix.

    Args:
        rotation: one number of the input is an angle.
        scale: one is a factor, or two are, for x and y.
        translation: two are shifts.
    """

    def __init__(
        self, rotation: bool = False, scale: bool = False, translation: bool = False
    ) -> None:
        super().__init__()
        self.rotation = rotation
        self.scale = scale
        self.translation = translation

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, numbers) or (numbers,) → (N, 2, 3) or (2, 3)."""
        batch = list(input.shape[:-1])
        if not (self.rotation or self.scale or self.translation):
            return input.reshape([*batch, 2, 3])
        numbers = list(input.unbind(-1))
        one, zero = torch.ones_like(numbers[0]), torch.zeros_like(numbers[0])
        linear = torch.stack([one, zero, zero, one], dim=-1).reshape([*batch, 2, 2])
        if self.rotation:
            angle = numbers.pop(0)
            turned = [angle.cos(), -angle.sin(), angle.sin(), angle.cos()]
            linear = torch.stack(turned, dim=-1).reshape([*batch, 2, 2])
        shift = [numbers.pop(-2), numbers.pop(-1)] if self.translation else [zero, zero]
        if self.scale:
            # What is left: one factor, or one for each column.
            linear = linear * torch.stack(numbers, dim=-1).unsqueeze(-2)
        shifts = torch.stack(shift, dim=-1).unsqueeze(-1)
        return torch.cat([linear, linear @ shifts], dim=-1)

    def extra_repr(self) -> str:
        """The parts, as printed in the parent's listing."""
        parts = "rotation", "scale", "translation"
        return ", ".join(part for part in parts if getattr(self, part)) or "any affine matrix"


@register("nn.AffineTransformMatrixGenerator")
def affine_transform_matrix_generator(source: LuaObject, context: Context) -> nn.Module:
    """`AffineTransformMatrixGenerator.lua`."""
    names = "useRotation", "useScale", "useTranslation"
    return AffineMatrix(*(bool(source.get(name, False)) for name in names))


@layer
class AffineGrid(nn.Module):
    """`AffineGridGeneratorBHWD.lua`: where an affine map takes every pixel, as (y, x).

    Args:
        height: of the grid.
        width: of the grid.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height = height
        self.width = width

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Matrices (N, 2, 3) or (2, 3) → (N, H, W, 2) or (H, W, 2)."""
        y = torch.linspace(-1, 1, self.height, dtype=input.dtype, device=input.device)
        x = torch.linspace(-1, 1, self.width, dtype=input.dtype, device=input.device)
        y, x = torch.meshgrid(y, x, indexing="ij")
        base = torch.stack([y, x, torch.ones_like(x)], dim=-1).flatten(0, 1)
        grid = base @ input.transpose(-2, -1)
        return grid.reshape([*input.shape[:-2], self.height, self.width, 2])

    def extra_repr(self) -> str:
        """The size, as printed in the parent's listing."""
        return f"{self.height}, {self.width}"


@register("nn.AffineGridGeneratorBHWD")
def affine_grid_generator(source: LuaObject, context: Context) -> nn.Module:
    """`AffineGridGeneratorBHWD.lua`."""
    return AffineGrid(int(source["height"]), int(source["width"]))


@layer
class BilinearSampler(nn.Module):
    """`BilinearSamplerBHWD.lua`: images read at the places of a grid, zeros outside."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """`[images (N, H, W, C), grid (N, h, w, 2)]`, or without N → (N, h, w, C)."""
        images, grid = input[0], input[1]
        if images.dim() == 3:
            return self.forward([images.unsqueeze(0), grid.reshape(1, *grid.shape[-3:])])[0]
        # torch.nn wants channels first, and (x, y).
        sampled = functional.grid_sample(
            images.permute(0, 3, 1, 2), grid.flip(-1), padding_mode="zeros", align_corners=True
        )
        return sampled.permute(0, 2, 3, 1)


@register("nn.BilinearSamplerBHWD")
def bilinear_sampler(source: LuaObject, context: Context) -> nn.Module:
    """`BilinearSamplerBHWD.lua`."""
    return BilinearSampler()
