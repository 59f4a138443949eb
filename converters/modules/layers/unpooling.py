"""Putting values back where a maximum came from (`SpatialMaxUnpooling.lua`)."""

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
    """Puts each value where a pooling layer found its maximum in its last input; zero elsewhere.

    The pooling layer stands elsewhere in the network. Whenever it runs, this layer keeps its
    input until it has used it.

    Args:
        pooling: that layer.
    """

    def __init__(self, pooling: nn.Module) -> None:
        super().__init__()
        self.pooling = pooling
        self._pooled: list[torch.Tensor] = []
        pooling.register_forward_hook(self._remember)

    def _remember(self, _: nn.Module, inputs: tuple[Any, ...], __: torch.Tensor) -> None:
        self._pooled[:] = inputs[:1]

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, C, H', W') or (C, H', W') to the pooling layer's input size; or (…, T, H, W).

        Raises:
            RuntimeError: when the pooling layer has not run since the last time.
        """
        if not self._pooled:
            raise RuntimeError("unpooling needs the places of maxima: run its pooling layer first")
        return _places(self.pooling, self._pooled.pop(), input)


def _places(pooling: Any, pooled: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Zeros of the size of `pooled`, but for the values where `pooling` found its maxima."""
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
    """`SpatialMaxUnpooling.lua`; `pooling` is the very layer that pools, elsewhere in the model."""
    return MaxUnpool(context.convert(source["pooling"], ".pooling"))
