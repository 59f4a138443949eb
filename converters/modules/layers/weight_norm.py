"""Weights kept as a direction and a length (`WeightNorm.lua`, `LinearWeightNorm.lua`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from ...t7 import LuaObject, LuaTable
from ..context import Context
from ..registry import layer, register


@layer
class WeightNorm(nn.Module):
    """`WeightNorm.lua`: runs a layer with the weight g · v / √(‖v‖² + eps), a norm for each output.

    Args:
        module: the layer; its weight's shape becomes that of v, and it keeps none of its own.
        dim: dimension of the weight that counts the outputs.
        eps: added to the squared norm.
        name: of the weight, which may be that of a layer inside: `module.weight`.
    """

    def __init__(
        self, module: nn.Module, dim: int = 0, eps: float = 1e-4, name: str = "weight"
    ) -> None:
        super().__init__()
        weight = module.get_parameter(name)
        self.dim = dim
        self.eps = eps
        self.name = name
        self.v = nn.Parameter(torch.empty_like(weight))
        lengths = [size if axis == dim else 1 for axis, size in enumerate(weight.shape)]
        self.g = nn.Parameter(weight.new_empty(lengths))
        owner, _, own_name = name.rpartition(".")
        module.get_submodule(owner).register_parameter(own_name, None)
        self.module = module

    def forward(self, input: Any) -> Any:
        """What the layer takes → what it gives."""
        others = [axis for axis in range(self.v.dim()) if axis != self.dim]
        norm = (self.v.square().sum(dim=others, keepdim=True) + self.eps).sqrt()
        weight = self.v * (self.g / norm)
        return torch.func.functional_call(self.module, {self.name: weight}, (input,))

    def extra_repr(self) -> str:
        """The dimension of the outputs."""
        return f"dim={self.dim}"


@register("nn.WeightNorm")
def weight_norm(source: LuaObject, context: Context) -> nn.Module:
    """`WeightNorm.lua`: v is (out, rest), with the outputs in front; files leave the weight out.

    The layer inside is converted with v as its weight, and so says how PyTorch orders it.
    """
    v, g, child = source["v"], source["g"], source["modules"][1]
    dim = int(source.get("outputDim", 1)) - 1
    direction = np.moveaxis(v.reshape([int(size) for size in source["viewOut"]]), 0, dim)
    module = context.convert(with_weight(child, direction), ".modules[1]")
    weights = {
        name: parameter
        for name, parameter in module.named_parameters()
        if name.rpartition(".")[2] == "weight"
    }
    if len(weights) != 1:
        raise context.error(f"WeightNorm: {child.class_name} has {len(weights)} weights, not one")
    ((name, weight),) = weights.items()
    if weight.shape[dim] != g.size:
        raise context.error(
            f"WeightNorm: g has {g.size} numbers, and the weight of {child.class_name} "
            f"{tuple(weight.shape)}, of which dimension {dim + 1} should count the outputs"
        )
    result = WeightNorm(module, dim, name=name)
    result.v = weight
    return context.fill(result, g=g)


@register("nn.LinearWeightNorm")
def linear_weight_norm(source: LuaObject, context: Context) -> nn.Module:
    """`LinearWeightNorm.lua`: the norm is at least `eps`, which only matters for a row of zeros."""
    v, bias = source["v"], source.get("bias")
    n_out, n_in = v.shape
    linear = nn.Linear(n_in, n_out, bias=bias is not None, device="meta")
    module = WeightNorm(context.fill(linear, bias=bias), eps=source.get("eps", 1e-16) ** 2)
    return context.fill(module, v=v, g=source["g"])


def with_weight(source: LuaObject, weight: np.ndarray) -> LuaObject:
    """The same Torch7 layer with another weight; the object of the file stays as it is."""
    fields = LuaTable(source.fields)
    fields["weight"] = weight
    return LuaObject(source.class_name, fields, source.version)
