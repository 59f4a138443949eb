"""Layers that add or remove dimensions (`Squeeze.lua`, `Unsqueeze.lua`, `Replicate.lua`)."""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .dimensions import dim_of, num_input_dims


@layer
class Replicate(nn.Module):
    """`Replicate.lua`: the input repeated along a new dimension.

    Args:
        times: Number of repetitions.
        dim: Position of the new dimension; it counts the batch if `num_input_dims` is None.
        num_input_dims: Number of dimensions of one example, or None.
    """

    def __init__(self, times: int, dim: int = 0, num_input_dims: int | None = None) -> None:
        super().__init__()
        self.times = times
        self.dim = dim
        self.num_input_dims = num_input_dims

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (…) to (…, times, …), a view of the input."""
        batched = self.num_input_dims is not None and input.dim() > self.num_input_dims
        dim = self.dim + 1 if batched else self.dim
        sizes = [-1] * input.dim()
        return input.unsqueeze(dim).expand([*sizes[:dim], self.times, *sizes[dim:]])

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.times}, dim={self.dim}, num_input_dims={self.num_input_dims}"


@register("nn.Replicate")
def replicate(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Replicate.lua`: repetition along a new dimension, the first by default."""
    return Replicate(
        int(source["nfeatures"]), dim_of(source, "dim", default=1), num_input_dims(source)
    )


@layer
class Squeeze(nn.Module):
    """`Squeeze.lua`: dimensions of size 1 removed; one dimension always remains.

    Args:
        dim: The only dimension to remove, or None for all; it counts the batch if
            `num_input_dims` is None.
        num_input_dims: Number of dimensions of one example; with it a batch is never removed.
        keep_batch: Whether to keep the first dimension if `dim` is None.
    """

    def __init__(
        self,
        dim: int | None = None,
        num_input_dims: int | None = None,
        keep_batch: bool = False,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.num_input_dims = num_input_dims
        self.keep_batch = keep_batch

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, 1, C, 1) to (N, C), or remove only `dim`."""
        batched = self.num_input_dims is not None and input.dim() == self.num_input_dims + 1
        if self.dim is not None:
            dim = self.dim + int(batched)
            # ONNX's Squeeze does not accept another size than 1.
            return input.squeeze(dim) if input.dim() > 1 and input.shape[dim] == 1 else input
        kept = [
            size
            for dim, size in enumerate(input.shape)
            if (dim == 0 and (batched or self.keep_batch)) or size != 1
        ]
        return input.reshape(kept or [1])

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"dim={self.dim}, num_input_dims={self.num_input_dims}"


@register("nn.Squeeze")
def squeeze(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Squeeze.lua`: dimensions of size 1 removed."""
    dim = None if source.get("dim") is None else dim_of(source, "dim")
    return Squeeze(dim, num_input_dims(source))


@layer
class Unsqueeze(nn.Module):
    """`Unsqueeze.lua`: a new dimension of size 1.

    Args:
        dim: Position of the new dimension; it counts the batch if `num_input_dims` is None. With
            `num_input_dims`, -1 is the position before the example, and so on.
        num_input_dims: Number of dimensions of one example, or None.
    """

    def __init__(self, dim: int, num_input_dims: int | None = None) -> None:
        super().__init__()
        self.dim = dim
        self.num_input_dims = num_input_dims

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (…) to (…, 1, …).

        Raises:
            IndexError: If the position is outside the input.
        """
        offset = 0 if self.num_input_dims is None else input.dim() - self.num_input_dims
        if self.dim + offset < 0:
            raise IndexError(f"no position {self.dim} before an input {tuple(input.shape)}")
        return input.unsqueeze(self.dim + offset)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"dim={self.dim}, num_input_dims={self.num_input_dims}"


@register("nn.Unsqueeze")
def unsqueeze(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Unsqueeze.lua`: a new dimension of size 1 at `pos`."""
    return Unsqueeze(int(source["pos"]) - 1, num_input_dims(source))
