"""Noise and layers for training only (`Dropout.lua`, `GradientReversal.lua`, `Copy.lua`, …)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..dtypes import dtype_name, tensor_class
from ..registry import layer as layer_of_ours
from ..registry import register


@layer_of_ours
class BernoulliDropout(nn.Module):
    """Torch7's dropouts that `nn.Dropout` is not (`Dropout.lua`, `SpatialDropout.lua`).

    Args:
        p: probability of a zero.
        spatial_dims: trailing dimensions that share one draw; 2 drops whole feature maps.
        rescale: divide what is kept by 1 - p. Otherwise everything is multiplied by 1 - p
            when nothing is drawn.
        stochastic_inference: draw in evaluation mode as well.
    """

    def __init__(
        self,
        p: float,
        spatial_dims: int = 0,
        rescale: bool = False,
        stochastic_inference: bool = False,
    ) -> None:
        super().__init__()
        self.p = p
        self.spatial_dims = spatial_dims
        self.rescale = rescale
        self.stochastic_inference = stochastic_inference

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, …) or (C, …) → the same shape."""
        keep = 1 - self.p
        if not (self.training or self.stochastic_inference):
            return input if self.rescale else input * keep
        drawn = input.dim() - self.spatial_dims
        shape = [*input.shape[:drawn], *[1] * self.spatial_dims]
        mask = torch.bernoulli(torch.full(shape, keep, dtype=input.dtype, device=input.device))
        return input * (mask / keep if self.rescale else mask)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"


@layer_of_ours
class WhiteNoise(nn.Module):
    """`WhiteNoise.lua`: adds Gaussian noise in training, and its mean in evaluation mode.

    Args:
        mean: of the noise.
        std: of the noise.
    """

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean = mean
        self.std = std

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Any shape → the same shape."""
        if self.training:
            return input + torch.randn_like(input) * self.std + self.mean
        return input + self.mean

    def extra_repr(self) -> str:
        """Mean and standard deviation."""
        return f"mean={self.mean}, std={self.std}"


class _ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, factor: float) -> torch.Tensor:
        ctx.factor = factor
        return input.view_as(input)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return grad_outputs[0] * -ctx.factor, None


@layer_of_ours
class GradientReversal(nn.Module):
    """`GradientReversal.lua`: the identity, whose gradient is turned round.

    Args:
        factor: the gradient is multiplied by its negative.
    """

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Any shape → the same tensor."""
        return _ReverseGradient.apply(input, self.factor)

    def extra_repr(self) -> str:
        """The factor."""
        return f"factor={self.factor}"


class _PenaltyGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, weight: float, passes: bool) -> torch.Tensor:
        ctx.save_for_backward(input)
        ctx.weight = weight
        ctx.passes = passes
        return input.view_as(input)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (input,) = ctx.saved_tensors
        penalty = input.sign() * ctx.weight
        return (penalty + grad_outputs[0] if ctx.passes else penalty), None, None


@layer_of_ours
class L1Penalty(nn.Module):
    """`L1Penalty.lua`: the identity, whose gradient also holds that of `weight` · Σ|x|.

    Args:
        weight: of the penalty.
        size_average: divide the weight by the number of elements.
        provide_output: whether the gradient from above passes as well.
    """

    def __init__(
        self, weight: float, size_average: bool = False, provide_output: bool = True
    ) -> None:
        super().__init__()
        self.weight = weight
        self.size_average = size_average
        self.provide_output = provide_output

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Any shape → the same tensor."""
        weight = self.weight / input.numel() if self.size_average else self.weight
        return _PenaltyGradient.apply(input, weight, self.provide_output)

    def extra_repr(self) -> str:
        """The weight."""
        return f"weight={self.weight}"


@layer_of_ours
class ZeroGrad(nn.Module):
    """`ZeroGrad.lua`: the identity, through which no gradient passes."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Any shape → the same tensor."""
        return input.detach()


@layer_of_ours
class Cast(nn.Module):
    """`Copy.lua`: the same numbers in another type.

    Args:
        dtype: name of the type, such as `float32`.
    """

    def __init__(self, dtype: str) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Any shape → the same shape."""
        return input.to(getattr(torch, self.dtype))

    def extra_repr(self) -> str:
        """The type."""
        return self.dtype


@register("nn.Dropout", "cudnn.Dropout")
def dropout(layer: LuaObject, context: Context) -> nn.Module:
    """`Dropout.lua`: with `v2` training rescales; before, and without it, evaluation does."""
    if "v2" not in layer:
        context.note("no v2: an older Dropout, which multiplies by 1 - p in evaluation mode")
    for mode in ("lazy", "mono"):
        if layer.get(mode):
            context.note(f"{mode}: in training every call and every number draws anew here")
    p, rescale, stochastic = layer["p"], bool(layer.get("v2")), _is_stochastic(layer)
    if rescale and not stochastic:
        return nn.Dropout(p)
    return BernoulliDropout(p, rescale=rescale, stochastic_inference=stochastic)


@register("nn.SpatialDropout")
def spatial_dropout(layer: LuaObject, context: Context) -> nn.Module:
    """`SpatialDropout.lua`: whole feature maps; evaluation multiplies by 1 - p."""
    return BernoulliDropout(layer["p"], 2, stochastic_inference=_is_stochastic(layer))


@register("nn.VolumetricDropout")
def volumetric_dropout(layer: LuaObject, context: Context) -> nn.Module:
    """`VolumetricDropout.lua`: whole feature volumes; evaluation multiplies by 1 - p."""
    return BernoulliDropout(layer["p"], 3, stochastic_inference=_is_stochastic(layer))


def _is_stochastic(layer: LuaObject) -> bool:
    return bool(layer.get("stochastic_inference"))


@register("nn.WhiteNoise")
def white_noise(layer: LuaObject, context: Context) -> nn.Module:
    """`WhiteNoise.lua`."""
    return WhiteNoise(layer.get("mean", 0.0), layer.get("std", 0.1))


@register("nn.GradientReversal")
def gradient_reversal(layer: LuaObject, context: Context) -> nn.Module:
    """`GradientReversal.lua`; `lambda` came with its version 2."""
    return GradientReversal(layer.get("lambda", 1.0))


@register("nn.L1Penalty")
def l1_penalty(layer: LuaObject, context: Context) -> nn.Module:
    """`L1Penalty.lua`."""
    return L1Penalty(
        layer["l1weight"], layer.get("sizeAverage", False), layer.get("provideOutput", True)
    )


@register("nn.ZeroGrad")
def zero_grad(layer: LuaObject, context: Context) -> nn.Module:
    """`ZeroGrad.lua`."""
    return ZeroGrad()


@register("nn.Identity", "nn.Contiguous")
def identity(layer: LuaObject, context: Context) -> nn.Module:
    """`Identity.lua`, `Contiguous.lua`: the input, whatever it is."""
    return nn.Identity()


@register("nn.PrintSize")
def print_size(layer: LuaObject, context: Context) -> nn.Module:
    """`PrintSize.lua`: the identity that prints, in Torch7."""
    context.note("sizes are not printed")
    return nn.Identity()


@register("nn.Copy")
def copy(layer: LuaObject, context: Context) -> nn.Module:
    """`Copy.lua`: `gradInput` has the type that comes in, `output` the one that goes out."""
    incoming, outgoing = tensor_class(layer.get("gradInput")), tensor_class(layer.get("output"))
    if incoming is None or outgoing is None:
        context.note("no gradInput and output to tell the types: nothing is cast")
        return nn.Identity()
    dtype = dtype_name(outgoing)
    return nn.Identity() if dtype == dtype_name(incoming) else Cast(dtype)
