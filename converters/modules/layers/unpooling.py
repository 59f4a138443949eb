"""Max unpooling (`SpatialMaxUnpooling.lua`, `VolumetricMaxUnpooling.lua`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class MaxUnpool(nn.Module):
    """Each value at the position where a pooling layer found its maximum, zeros elsewhere.

    `torch.nn.MaxUnpool2d` takes the positions as an argument. This layer keeps the input of the
    pooling layer, which is elsewhere in the network, from its forward pass until its own.

    Args:
        pooling: The pooling layer.
    """

    def __init__(self, pooling: nn.Module) -> None:
        super().__init__()
        self.pooling = pooling
        self._pooled: list[torch.Tensor] = []
        pooling.register_forward_hook(self._remember)

    def _remember(self, _: nn.Module, inputs: tuple[Any, ...], __: torch.Tensor) -> None:
        self._pooled[:] = inputs[:1]

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map the shape of the pooling layer's output to that of its input.

        Raises:
            RuntimeError: If the pooling layer has not run since the last call.
        """
        if not self._pooled:
            raise RuntimeError(
                "unpooling needs the positions of the maxima: run its pooling layer first"
            )
        return _unpool(self.pooling, self._pooled.pop(), input)


def _unpool(pooling: Any, pooled: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return zeros in the shape of `pooled`, with the values where `pooling` has its maxima."""
    rank = len(pooling.kernel_size)
    pool = functional.max_pool2d if rank == 2 else functional.max_pool3d
    _, indices = pool(
        pooled,
        pooling.kernel_size,
        pooling.stride,
        pooling.padding,
        pooling.dilation,
        ceil_mode=pooling.ceil_mode,
        return_indices=True,
    )
    zeros = torch.zeros_like(pooled).flatten(-rank)
    filled = zeros.scatter(-1, indices.flatten(-rank), values.flatten(-rank))
    return filled.reshape(pooled.shape)


@register("nn.SpatialMaxUnpooling", "nn.VolumetricMaxUnpooling")
def max_unpooling(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialMaxUnpooling.lua` or `VolumetricMaxUnpooling.lua`: max unpooling.

    The field `pooling` is the pooling layer, the same object as elsewhere in the model.
    """
    return MaxUnpool(context.convert(source["pooling"], ".pooling"))
