"""Spatial transformers on (N, H, W, C), of stn (`AffineGridGeneratorBHWD.lua`, …).

Coordinates go from -1 to 1 between the centers of the outermost pixels (`align_corners=True`).
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
    """`AffineTransformMatrixGenerator.lua`: matrices of rotations, scalings and translations.

    A matrix is the product rotation · scaling · translation. Without any of the three, the six
    values of the input are the matrix.

    Args:
        rotation: Whether a value of the input is an angle.
        scale: Whether one value is a factor, or two are, for x and y.
        translation: Whether two values are a translation.
    """

    def __init__(
        self, rotation: bool = False, scale: bool = False, translation: bool = False
    ) -> None:
        super().__init__()
        self.rotation = rotation
        self.scale = scale
        self.translation = translation

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, values) or (values,) to (N, 2, 3) or (2, 3)."""
        batch = list(input.shape[:-1])
        if not (self.rotation or self.scale or self.translation):
            return input.reshape([*batch, 2, 3])
        values = list(input.unbind(-1))
        one, zero = torch.ones_like(values[0]), torch.zeros_like(values[0])
        linear = torch.stack([one, zero, zero, one], dim=-1).reshape([*batch, 2, 2])
        if self.rotation:
            angle = values.pop(0)
            rotation = [angle.cos(), -angle.sin(), angle.sin(), angle.cos()]
            linear = torch.stack(rotation, dim=-1).reshape([*batch, 2, 2])
        shift = [values.pop(-2), values.pop(-1)] if self.translation else [zero, zero]
        if self.scale:
            # The remaining values: one factor, or one for each column.
            linear = linear * torch.stack(values, dim=-1).unsqueeze(-2)
        shifts = torch.stack(shift, dim=-1).unsqueeze(-1)
        return torch.cat([linear, linear @ shifts], dim=-1)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        names = "rotation", "scale", "translation"
        return ", ".join(name for name in names if getattr(self, name)) or "any affine matrix"


@register(
    "nn.AffineTransformMatrixGenerator",
    ignored=("fullMode", "scaleOutput", "rotationOutput", "translationOutput"),
)
def affine_transform_matrix_generator(source: LuaObject, context: Context) -> nn.Module:
    """Convert `AffineTransformMatrixGenerator.lua`: matrices of angles, factors and shifts."""
    names = "useRotation", "useScale", "useTranslation"
    return AffineMatrix(*(bool(source.get(name, False)) for name in names))


@layer
class AffineGrid(nn.Module):
    """`AffineGridGeneratorBHWD.lua`: the coordinates (y, x) that an affine map gives every pixel.

    `torch.nn.functional.affine_grid` returns (x, y).

    Args:
        height: Height of the grid.
        width: Width of the grid.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height = height
        self.width = width

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map matrices (N, 2, 3) or (2, 3) to (N, H, W, 2) or (H, W, 2)."""
        y = torch.linspace(-1, 1, self.height, dtype=input.dtype, device=input.device)
        x = torch.linspace(-1, 1, self.width, dtype=input.dtype, device=input.device)
        y, x = torch.meshgrid(y, x, indexing="ij")
        base = torch.stack([y, x, torch.ones_like(x)], dim=-1).flatten(0, 1)
        grid = base @ input.transpose(-2, -1)
        return grid.reshape([*input.shape[:-2], self.height, self.width, 2])

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.height}, {self.width}"


@register("nn.AffineGridGeneratorBHWD", ignored=("baseGrid", "batchGrid"))
def affine_grid_generator(source: LuaObject, context: Context) -> nn.Module:
    """Convert `AffineGridGeneratorBHWD.lua`: the sampling grid of an affine map."""
    return AffineGrid(int(source["height"]), int(source["width"]))


@layer
class BilinearSampler(nn.Module):
    """`BilinearSamplerBHWD.lua`: samples images at the coordinates of a grid, zeros outside."""

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map `[images (N, H, W, C), grid (N, h, w, 2)]` to (N, h, w, C), or all without N."""
        images, grid = input[0], input[1]
        if images.dim() == 3:
            return self.forward([images.unsqueeze(0), grid.reshape(1, *grid.shape[-3:])])[0]
        # grid_sample takes channels first, and (x, y).
        sampled = functional.grid_sample(
            images.permute(0, 3, 1, 2), grid.flip(-1), padding_mode="zeros", align_corners=True
        )
        return sampled.permute(0, 2, 3, 1)


@register("nn.BilinearSamplerBHWD")
def bilinear_sampler(source: LuaObject, context: Context) -> nn.Module:
    """Convert `BilinearSamplerBHWD.lua`: bilinear sampling of an image at a grid."""
    return BilinearSampler()


@layer
class InverseCrop(nn.Module):
    """`CropInvert.lua`: the matrix of a crop, a scaling and a translation, inverted."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map matrices (N, 2, 3) to matrices (N, 2, 3)."""
        scales = input[:, :, :2].diagonal(dim1=1, dim2=2)
        return torch.cat([(1 / scales).diag_embed(), (-input[:, :, 2] / scales)[:, :, None]], 2)


@register("nn.CropInvert")
def crop_invert(source: LuaObject, context: Context) -> nn.Module:
    """Convert `CropInvert.lua` of nips2016, which draws birds at places that are told."""
    return InverseCrop()
