"""Learned and fixed sums and factors for each number (`CMul.lua`, `AddConstant.lua`, …)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


def shaped_like_features(weight: torch.Tensor, input: torch.Tensor) -> torch.Tensor:
    """A weight in a shape that broadcasts over the input, as `CMul.lua` reads it.

    With as many dimensions as the input it broadcasts as it is, and one number goes everywhere.
    Otherwise its numbers go with those of one example, or of an input without a batch.

    Args:
        weight: any shape.
        input: (N, …) or (…).
    """
    if weight.dim() == input.dim():
        return weight
    if weight.numel() == 1:
        return weight.reshape(1)
    features = input.shape[1:]
    return weight.reshape(features if math.prod(features) == weight.numel() else input.shape)


@layer
class Add(nn.Module):
    """`Add.lua`, `CAdd.lua`: adds a learned number to each feature.

    Args:
        size: shape of the bias.
    """

    def __init__(self, size: list[int]) -> None:
        super().__init__()
        self.size = size
        self.bias = nn.Parameter(torch.empty(size))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, …) or (…) → the same shape."""
        return input + shaped_like_features(self.bias, input)

    def extra_repr(self) -> str:
        """The shape of the bias."""
        return f"{self.size}"


@layer
class CMul(nn.Module):
    """`CMul.lua`: multiplies each feature by a learned number.

    Args:
        size: shape of the weight.
    """

    def __init__(self, size: list[int]) -> None:
        super().__init__()
        self.size = size
        self.weight = nn.Parameter(torch.empty(size))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, …) or (…) → the same shape."""
        return input * shaped_like_features(self.weight, input)

    def extra_repr(self) -> str:
        """The shape of the weight."""
        return f"{self.size}"


@layer
class Mul(nn.Module):
    """`Mul.lua`: multiplies everything by one learned number."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Any shape → the same shape."""
        return input * self.weight


@layer
class AddConstant(nn.Module):
    """`AddConstant.lua`: adds a fixed number, or one for each index of the last dimension.

    Args:
        value: the number or the numbers.
    """

    def __init__(self, value: float | list[float]) -> None:
        super().__init__()
        self.value = value

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…, F) → (…, F)."""
        value = self.value
        return input + (input.new_tensor(value) if isinstance(value, list) else value)

    def extra_repr(self) -> str:
        """The constant."""
        return f"{self.value}"


@layer
class MulConstant(nn.Module):
    """`MulConstant.lua`: multiplies by a fixed number, or one for each index of the last dimension.

    Args:
        value: the number or the numbers.
    """

    def __init__(self, value: float | list[float]) -> None:
        super().__init__()
        self.value = value

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…, F) → (…, F)."""
        value = self.value
        return input * (input.new_tensor(value) if isinstance(value, list) else value)

    def extra_repr(self) -> str:
        """The constant."""
        return f"{self.value}"


@layer
class Constant(nn.Module):
    """`Constant.lua`: a fixed tensor, whatever the input.

    Args:
        size: shape of the tensor.
        num_input_dims: dimensions of one example of the input; where the input has more, the
            tensor is repeated for each example. None: never.
    """

    value: torch.Tensor

    def __init__(self, size: list[int], num_input_dims: int | None = None) -> None:
        super().__init__()
        self.size = size
        self.num_input_dims = num_input_dims
        self.register_buffer("value", torch.empty(size))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, …) → (N, *size), or (…) → size."""
        if self.num_input_dims is not None and input.dim() > self.num_input_dims:
            return self.value.expand(input.size(0), *self.size)
        return self.value

    def extra_repr(self) -> str:
        """The shape of the tensor."""
        return f"{self.size}"


@register("nn.Add", "nn.CAdd")
def add(source: LuaObject, context: Context) -> nn.Module:
    """`Add.lua`, whose `scalar` has a bias of one number, and `CAdd.lua`."""
    return context.fill(Add(list(source["bias"].shape)), bias=source["bias"])


@register("nn.CMul")
def cmul(source: LuaObject, context: Context) -> nn.Module:
    """`CMul.lua`."""
    return context.fill(CMul(list(source["weight"].shape)), weight=source["weight"])


@register("nn.Mul")
def mul(source: LuaObject, context: Context) -> nn.Module:
    """`Mul.lua`."""
    return context.fill(Mul(), weight=source["weight"])


_CONSTANTS: dict[str, Callable[[float | list[float]], nn.Module]] = {
    "nn.AddConstant": AddConstant,
    "nn.MulConstant": MulConstant,
}


@register(*_CONSTANTS)
def with_constant(source: LuaObject, context: Context) -> nn.Module:
    """`AddConstant.lua`, `MulConstant.lua`; the constant may be a vector."""
    value = source["constant_scalar"]
    value = value.ravel().tolist() if isinstance(value, np.ndarray) else value
    return _CONSTANTS[source.class_name](value)


@register("nn.Constant")
def constant(source: LuaObject, context: Context) -> nn.Module:
    """`Constant.lua`."""
    value = source["value"]
    return context.fill(Constant(list(value.shape), source.get("nInputDim")), value=value)
