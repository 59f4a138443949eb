"""Layers that rearrange a tensor (`View.lua`, `Reshape.lua`, `Transpose.lua`, …)."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register
from .dimensions import dim_of, num_input_dims


@layer
class View(nn.Module):
    """`View.lua`: the input's numbers in another shape, with a batch in front if there is one.

    The batch is what is left of the input's elements. Torch7 drops a batch of one unless
    `num_input_dims` says how many dimensions one example has; `keep_batch` keeps it, which is
    what an exported model needs (see `keep_batch_dimension`).

    Args:
        size: shape of one example; -1 stands for what is left, and takes the batch in.
        num_input_dims: dimensions of one example of the input, or None.
        keep_batch: keep a batch of one.
    """

    def __init__(
        self, size: list[int], num_input_dims: int | None = None, keep_batch: bool = False
    ) -> None:
        super().__init__()
        self.size = size
        self.num_input_dims = num_input_dims
        self.keep_batch = keep_batch

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, …) → (N, *size), or (…) → size."""
        dims = self.num_input_dims
        leading = 0 if dims is None else max(input.dim() - dims, 0)
        count = math.prod(input.shape[:leading])
        if -1 not in self.size:
            # An example of another size multiplies the batch only if it is a whole multiple.
            count *= math.prod(input.shape[leading:]) // math.prod(self.size)
        if leading or (self.keep_batch and -1 not in self.size) or count != 1:
            return input.reshape([count, *self.size])
        return input.reshape(self.size)

    def extra_repr(self) -> str:
        """The size, as printed in the parent's listing."""
        dims = "" if self.num_input_dims is None else f", num_input_dims={self.num_input_dims}"
        return f"{self.size}{dims}"


@register("nn.View")
def view(source: LuaObject, context: Context) -> nn.Module:
    """`View.lua`; its `size` is a LongStorage."""
    return View([int(size) for size in source["size"]], num_input_dims(source))


@layer
class Reshape(nn.Module):
    """`Reshape.lua`: the input's numbers in another shape, with or without a batch in front.

    Args:
        size: shape of one example.
        batch_mode: whether the first dimension is a batch; None to find out: it is none only if
            the input is as large as one example and its first dimension is not 1.
        keep_batch: take the first dimension for a batch where `batch_mode` is None.
    """

    def __init__(
        self, size: list[int], batch_mode: bool | None = None, keep_batch: bool = False
    ) -> None:
        super().__init__()
        self.size = size
        self.batch_mode = batch_mode
        self.keep_batch = keep_batch

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, …) → (N, *size), or (…) → size."""
        return input.reshape([input.shape[0], *self.size] if self._batched(input) else self.size)

    def _batched(self, input: torch.Tensor) -> bool:
        if self.batch_mode is not None:
            return self.batch_mode
        # `keep_batch` first: a traced model must not ask for the size of its batch.
        return self.keep_batch or input.numel() != math.prod(self.size) or input.shape[0] == 1

    def extra_repr(self) -> str:
        """The size, as printed in the parent's listing."""
        mode = "" if self.batch_mode is None else f", batch_mode={self.batch_mode}"
        return f"{self.size}{mode}"


@register("nn.Reshape")
def reshape(source: LuaObject, context: Context) -> nn.Module:
    """`Reshape.lua`; its `size` is a LongStorage."""
    return Reshape([int(size) for size in source["size"]], source.get("batchMode"))


@runtime_checkable
class KeepsBatch(Protocol):
    """A layer that can be told to keep a batch of one."""

    keep_batch: bool


def keep_batch_dimension(model: nn.Module) -> None:
    """Make a converted model keep its batch dimension at a batch of one, unlike Torch7.

    Torch7 guesses in nn.View and nn.Reshape whether there is a batch, and nn.Squeeze takes a
    batch of one for a dimension to remove; an exported network must not guess.
    """
    for module in model.modules():
        if isinstance(module, KeepsBatch):
            module.keep_batch = True


@layer
class Collapse(nn.Module):
    """`Collapse.lua`: everything but the batch becomes one dimension.

    Args:
        num_input_dims: dimensions of one example; an input with more has a batch in front.
    """

    def __init__(self, num_input_dims: int) -> None:
        super().__init__()
        self.num_input_dims = num_input_dims

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, …) → (N, D), or (…) → (D,)."""
        return input.flatten(1 if input.dim() > self.num_input_dims else 0)

    def extra_repr(self) -> str:
        """Dimensions of one example."""
        return f"num_input_dims={self.num_input_dims}"


@register("nn.Collapse")
def collapse(source: LuaObject, context: Context) -> nn.Module:
    """`Collapse.lua`."""
    return Collapse(int(source["nInputDim"]))


@layer
class Transpose(nn.Module):
    """`Transpose.lua`: pairs of dimensions swapped, one pair after the other.

    Args:
        swaps: the pairs, of one example where `num_input_dims` is given.
        num_input_dims: dimensions of one example, or None where the pairs count the batch.
    """

    def __init__(self, swaps: list[list[int]], num_input_dims: int | None = None) -> None:
        super().__init__()
        self.swaps = swaps
        self.num_input_dims = num_input_dims

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """The same numbers, with the dimensions in another order."""
        offset = 0 if self.num_input_dims is None else input.dim() - self.num_input_dims
        for first, second in self.swaps:
            input = input.transpose(first + offset, second + offset)
        return input

    def extra_repr(self) -> str:
        """The pairs."""
        dims = "" if self.num_input_dims is None else f", num_input_dims={self.num_input_dims}"
        return f"{self.swaps}{dims}"


@register("nn.Transpose")
def transpose(source: LuaObject, context: Context) -> nn.Module:
    """`Transpose.lua`; `permutations` is a list of pairs counted from 1."""
    swaps = [[int(dim) - 1 for dim in pair.to_list()] for pair in source["permutations"].to_list()]
    return Transpose(swaps, num_input_dims(source))


@layer
class Replicate(nn.Module):
    """`Replicate.lua`: a new dimension with copies of the input.

    Args:
        times: number of copies.
        dim: where the new dimension stands, in one example where `num_input_dims` is given.
        num_input_dims: dimensions of one example; an input with more has a batch in front.
    """

    def __init__(self, times: int, dim: int = 0, num_input_dims: int | None = None) -> None:
        super().__init__()
        self.times = times
        self.dim = dim
        self.num_input_dims = num_input_dims

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…) → (…, times, …), a view."""
        batched = self.num_input_dims is not None and input.dim() > self.num_input_dims
        dim = self.dim + 1 if batched else self.dim
        sizes = [-1] * input.dim()
        return input.unsqueeze(dim).expand([*sizes[:dim], self.times, *sizes[dim:]])

    def extra_repr(self) -> str:
        """The number of copies and where they stand."""
        return f"{self.times}, dim={self.dim}, num_input_dims={self.num_input_dims}"


@register("nn.Replicate")
def replicate(source: LuaObject, context: Context) -> nn.Module:
    """`Replicate.lua`; older files have no `dim`: the first."""
    return Replicate(
        int(source["nfeatures"]), dim_of(source, "dim", default=1), num_input_dims(source)
    )


@layer
class Squeeze(nn.Module):
    """`Squeeze.lua`: dimensions of size 1 removed; the last one stays.

    Args:
        dim: the only dimension to look at, of one example where `num_input_dims` is given.
        num_input_dims: dimensions of one example; a batch is never removed.
        keep_batch: keep the first dimension where `dim` is None, whatever its size.
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
        """(N, 1, C, 1) → (N, C), or as `dim` says."""
        batched = self.num_input_dims is not None and input.dim() == self.num_input_dims + 1
        if self.dim is not None:
            return input if input.dim() == 1 else input.squeeze(self.dim + int(batched))
        kept = [
            size
            for dim, size in enumerate(input.shape)
            if (dim == 0 and (batched or self.keep_batch)) or size != 1
        ]
        return input.reshape(kept or [1])

    def extra_repr(self) -> str:
        """The dimension."""
        return f"dim={self.dim}, num_input_dims={self.num_input_dims}"


@register("nn.Squeeze")
def squeeze(source: LuaObject, context: Context) -> nn.Module:
    """`Squeeze.lua`."""
    dim = None if source.get("dim") is None else dim_of(source, "dim")
    return Squeeze(dim, num_input_dims(source))


@layer
class Unsqueeze(nn.Module):
    """`Unsqueeze.lua`: a new dimension of size 1.

    Args:
        dim: where it stands, in one example where `num_input_dims` is given.
        num_input_dims: dimensions of one example, or None where `dim` counts the batch.
    """

    def __init__(self, dim: int, num_input_dims: int | None = None) -> None:
        super().__init__()
        self.dim = dim
        self.num_input_dims = num_input_dims

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…) → (…, 1, …)."""
        offset = 0 if self.num_input_dims is None else input.dim() - self.num_input_dims
        return input.unsqueeze(self.dim + offset)

    def extra_repr(self) -> str:
        """The dimension."""
        return f"dim={self.dim}, num_input_dims={self.num_input_dims}"


@register("nn.Unsqueeze")
def unsqueeze(source: LuaObject, context: Context) -> nn.Module:
    """`Unsqueeze.lua`."""
    return Unsqueeze(dim_of(source, "pos"), num_input_dims(source))


@register("nn.PixelShuffle")
def pixel_shuffle(source: LuaObject, context: Context) -> nn.Module:
    """`PixelShuffle.lua`: (N, C·r², H, W) → (N, C, H·r, W·r), in PyTorch's order of channels."""
    return nn.PixelShuffle(int(source["upscaleFactor"]))
