"""Elementwise sums and products with learned or fixed values (`CMul.lua`, `AddConstant.lua`, …)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


def shaped_like_features(weight: torch.Tensor, input: torch.Tensor) -> torch.Tensor:
    """Reshape a weight so that it broadcasts over the input as in `CMul.lua`.

    A weight with as many elements as the input takes its shape, whatever the shapes are. Otherwise
    a weight with as many dimensions as the input is returned unchanged, a single value as (1,), and
    any other takes the shape of one example.

    Args:
        weight: Tensor of any shape.
        input: (N, …) or (…).
    """
    if weight.numel() == input.numel():
        return weight.reshape(input.shape)
    if weight.dim() == input.dim():
        return weight
    return weight.reshape(1 if weight.numel() == 1 else input.shape[1:])


@layer
class Add(nn.Module):
    """`Add.lua`, `CAdd.lua`: a learned bias added to each feature.

    Args:
        size: Shape of the bias.
    """

    def __init__(self, size: list[int]) -> None:
        super().__init__()
        self.size = size
        self.bias = nn.Parameter(torch.empty(size))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, …) or (…) to the same shape."""
        return input + shaped_like_features(self.bias, input)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.size}"


@layer
class CMul(nn.Module):
    """`CMul.lua`: each feature multiplied by a learned weight.

    Args:
        size: Shape of the weight.
    """

    def __init__(self, size: list[int]) -> None:
        super().__init__()
        self.size = size
        self.weight = nn.Parameter(torch.empty(size))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, …) or (…) to the same shape."""
        return input * shaped_like_features(self.weight, input)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.size}"


@layer
class Mul(nn.Module):
    """`Mul.lua`: the input multiplied by one learned weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map any shape to the same shape."""
        return input * self.weight


class _WithConstant(nn.Module):
    """A layer with a constant operand.

    Args:
        value: One value, or one for each index of the last dimension.
    """

    def __init__(self, value: float | list[float]) -> None:
        super().__init__()
        self.value = value

    def _operand(self, input: torch.Tensor) -> torch.Tensor | float:
        return input.new_tensor(self.value) if isinstance(self.value, list) else self.value

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.value}"


@layer
class AddConstant(_WithConstant):
    """`AddConstant.lua`: a constant added to the input."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (…, F) to the same shape."""
        return input + self._operand(input)


@layer
class MulConstant(_WithConstant):
    """`MulConstant.lua`: the input multiplied by a constant."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (…, F) to the same shape."""
        return input * self._operand(input)


@layer
class Constant(nn.Module):
    """`Constant.lua`: a fixed tensor, independent of the input's values.

    Args:
        size: Shape of the tensor.
        num_input_dims: Number of dimensions of one example of the input. If the input has more,
            the tensor is repeated for each example; with None it never is.
    """

    value: torch.Tensor

    def __init__(self, size: list[int], num_input_dims: int | None = None) -> None:
        super().__init__()
        self.size = size
        self.num_input_dims = num_input_dims
        self.register_buffer("value", torch.empty(size))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, …) to (N, *size), or (…) to size."""
        if self.num_input_dims is not None and input.dim() > self.num_input_dims:
            return self.value.expand(input.size(0), *self.size)
        return self.value

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.size}"


@register("nn.Add", ignored=("scalar",))
def add(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Add.lua`: x + bias, with one bias for all if `scalar`.

    Whatever the shape of the bias is, it is added to each example in memory order.
    """
    bias = source["bias"]
    return context.fill(Add([bias.size]), bias=bias)


@register("nn.CAdd", ignored=("size",))
def cadd(source: LuaObject, context: Context) -> nn.Module:
    """Convert `CAdd.lua`: x + bias; a bias of the input's rank is repeated along sizes of 1."""
    return context.fill(Add(list(source["bias"].shape)), bias=source["bias"])


@register("nn.CMul", ignored=("size",))
def cmul(source: LuaObject, context: Context) -> nn.Module:
    """Convert `CMul.lua`: x · weight, feature by feature."""
    return context.fill(CMul(list(source["weight"].shape)), weight=source["weight"])


@register("nn.Mul")
def mul(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Mul.lua`: x · weight, with one weight for all features."""
    return context.fill(Mul(), weight=source["weight"])


_CONSTANTS: dict[str, Callable[[float | list[float]], nn.Module]] = {
    "nn.AddConstant": AddConstant,
    "nn.MulConstant": MulConstant,
}


@register(*_CONSTANTS, ignored=("inplace",))
def with_constant(source: LuaObject, context: Context) -> nn.Module:
    """Convert `AddConstant.lua` or `MulConstant.lua`; the constant is a number or a vector."""
    value = source["constant_scalar"]
    value = value.ravel().tolist() if isinstance(value, np.ndarray) else value
    return _CONSTANTS[source.class_name](value)


@register("nn.Constant")
def constant(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Constant.lua`: a fixed tensor, repeated for a batch if `nInputDim` is set."""
    value = source["value"]
    return context.fill(Constant(list(value.shape), source.get("nInputDim")), value=value)
