"""Weight normalization (`WeightNorm.lua`, `LinearWeightNorm.lua`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..fields import with_fields
from ..registry import layer, register


@layer
class WeightNorm(nn.Module):
    """A layer with the weight g · v / √(‖v‖² + eps), with one norm per output.

    `WeightNorm.lua` adds eps; `LinearWeightNorm.lua` has a least norm instead.
    `torch.nn.utils.parametrizations.weight_norm` has neither.

    Args:
        module: The layer; its weight is removed, and v takes the weight's shape.
        dim: Dimension of the weight that corresponds to the outputs.
        eps: Value added to the squared norm.
        name: Name of the weight, which may be that of a submodule, such as `module.weight`.
        min_norm: Least value of the norm.
        keeps_weight: Whether evaluation uses the weight of the last forward pass in training, a
            buffer `weight`, as `LinearWeightNorm.lua` does.
    """

    weight: torch.Tensor

    def __init__(
        self,
        module: nn.Module,
        dim: int = 0,
        eps: float = 1e-4,
        name: str = "weight",
        min_norm: float = 0.0,
        keeps_weight: bool = False,
    ) -> None:
        super().__init__()
        weight = module.get_parameter(name)
        self.dim = dim
        self.eps = eps
        self.name = name
        self.min_norm = min_norm
        self.keeps_weight = keeps_weight
        if keeps_weight:
            self.register_buffer("weight", torch.empty_like(weight))
        self.v = nn.Parameter(torch.empty_like(weight))
        shape = [size if axis == dim else 1 for axis, size in enumerate(weight.shape)]
        self.g = nn.Parameter(weight.new_empty(shape))
        owner, _, attribute = name.rpartition(".")
        module.get_submodule(owner).register_parameter(attribute, None)
        self.module = module

    def normalized(self) -> torch.Tensor:
        """Return the weight of the layer, in the shape of v."""
        squares = self.v.square()
        others = [axis for axis in range(self.v.dim()) if axis != self.dim]
        if others:  # torch.sum takes no dimension for all of them.
            squares = squares.sum(dim=others, keepdim=True)
        norm = (squares + self.eps).clamp(min=self.min_norm**2).sqrt()
        return self.v * (self.g / norm)

    def forward(self, input: Any) -> Any:
        """Map an input of the layer to its output."""
        weight = self.normalized()
        if self.keeps_weight and self.training:
            self.weight.copy_(weight.detach())
        elif self.keeps_weight:
            # The kept values; the gradient is that of v and g.
            weight = weight + (self.weight - weight).detach()
        return torch.func.functional_call(self.module, {self.name: weight}, (input,))

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"dim={self.dim}"


@register("nn.WeightNorm", ignored=("viewIn", "weightSize", "otherDims", "bias"))
def weight_norm(source: LuaObject, context: Context) -> nn.Module:
    """Convert `WeightNorm.lua`: a layer with a normalized weight.

    The file holds v as (out, rest) and no weight. The layer is converted with v as its weight, so
    that its converter puts v in PyTorch's order.
    """
    v, g, child = source["v"], source["g"], source["modules"][1]
    dim = int(source.get("outputDim", 1)) - 1
    direction = np.moveaxis(v.reshape([int(size) for size in source["viewOut"]]), 0, dim)
    module = context.convert(with_fields(child, child.class_name, weight=direction), ".modules[1]")
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
            f"WeightNorm: g has {g.size} elements, but dimension {dim + 1} of the weight "
            f"{tuple(weight.shape)} of {child.class_name} has {weight.shape[dim]}"
        )
    result = WeightNorm(module, dim, name=name)
    result.v = weight
    return context.fill(result, g=g)


@register("nn.LinearWeightNorm", ignored=("norm", "scale", "inputSize", "outputSize"))
def linear_weight_norm(source: LuaObject, context: Context) -> nn.Module:
    """Convert `LinearWeightNorm.lua`: a linear layer with a normalized weight.

    Here `eps` is the least value of the norm. Only training computes the weight: in evaluation mode
    Torch7 uses the one in the file, unless it was cleared.
    """
    v, bias, weight = source["v"], source.get("bias"), source.get("weight")
    n_out, n_in = v.shape
    linear = nn.Linear(n_in, n_out, bias=bias is not None, device="meta")
    eps = float(source.get("eps", 1e-16))
    kept = weight if isinstance(weight, np.ndarray) and weight.size == v.size else None
    module = WeightNorm(
        context.fill(linear, bias=bias), eps=0.0, min_norm=eps, keeps_weight=kept is not None
    )
    return context.fill(module, v=v, g=source["g"], weight=kept)
