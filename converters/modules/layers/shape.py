"""Layers that change the shape of a tensor (`View.lua`, `Reshape.lua`, `Transpose.lua`, …)."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..errors import ConversionError
from ..registry import layer, register
from .dimensions import num_input_dims

#: The dimensions that PyTorch's operations take at most.
_MOST_DIMENSIONS = 64


@layer
class View(nn.Module):
    """`View.lua`: the input in another shape, with a batch in front if it has one.

    The batch size is the number of elements divided by that of one example. Torch7 drops a batch of
    one if `num_input_dims` is None; `keep_batch` keeps it, which an exported model needs (see
    `keep_batch_dimension`).

    Args:
        size: Shape of one example; a -1 in it is inferred and takes in the batch.
        num_input_dims: Number of dimensions of one example of the input, or None.
        keep_batch: Whether to keep a batch of one.
    """

    def __init__(
        self, size: list[int], num_input_dims: int | None = None, keep_batch: bool = False
    ) -> None:
        super().__init__()
        self.size = size
        self.num_input_dims = num_input_dims
        self.keep_batch = keep_batch

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, …) to (N, *size), or (…) to size."""
        if self.holds_batch(input):
            return input.reshape([input.shape[0], *self.size[1:]])
        dims = self.num_input_dims
        leading = 0 if dims is None else max(input.dim() - dims, 0)
        count = math.prod(input.shape[:leading])
        if -1 not in self.size:
            # An example that is n times as large as `size` makes n examples of it.
            count *= math.prod(input.shape[leading:]) // math.prod(self.size)
        if leading or (self.keep_batch and -1 not in self.size) or count != 1:
            return input.reshape([count, *self.size])
        return input.reshape(self.size)

    def holds_batch(self, input: torch.Tensor) -> bool:
        """Return whether the first size is the batch of the training, and any batch is taken."""
        return self.keep_batch and self.num_input_dims is None and _holds_batch(self.size, input)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        dims = "" if self.num_input_dims is None else f", num_input_dims={self.num_input_dims}"
        return f"{self.size}{dims}"


@register("nn.View", ignored=("numElements",))
def view(source: LuaObject, context: Context) -> nn.Module:
    """Convert `View.lua`: another shape, given by the LongStorage `size`."""
    return View(_sizes(source), num_input_dims(source))


@layer
class Reshape(nn.Module):
    """`Reshape.lua`: the input in another shape, with or without a batch in front.

    Args:
        size: Shape of one example.
        batch_mode: Whether the first dimension is a batch. With None it is one unless the input has
            as many elements as one example and its first dimension is not 1.
        keep_batch: Whether the first dimension is a batch if `batch_mode` is None.
    """

    def __init__(
        self, size: list[int], batch_mode: bool | None = None, keep_batch: bool = False
    ) -> None:
        super().__init__()
        self.size = size
        self.batch_mode = batch_mode
        self.keep_batch = keep_batch

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, …) to (N, *size), or (…) to size."""
        if self.holds_batch(input):
            return input.reshape([input.shape[0], *self.size[1:]])
        return input.reshape([input.shape[0], *self.size] if self._batched(input) else self.size)

    def holds_batch(self, input: torch.Tensor) -> bool:
        """Return whether the first size is the batch of the training, and any batch is taken."""
        return self.keep_batch and not self.batch_mode and _holds_batch(self.size, input)

    def _batched(self, input: torch.Tensor) -> bool:
        if self.batch_mode is not None:
            return self.batch_mode
        # `keep_batch` comes first, so that tracing does not depend on the batch size.
        return self.keep_batch or input.numel() != math.prod(self.size) or input.shape[0] == 1

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        mode = "" if self.batch_mode is None else f", batch_mode={self.batch_mode}"
        return f"{self.size}{mode}"


@register("nn.Reshape", ignored=("nelement", "batchsize"))
def reshape(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Reshape.lua`: another shape, given by the LongStorage `size`."""
    return Reshape(_sizes(source), source.get("batchMode"))


def _holds_batch(size: list[int], input: torch.Tensor) -> bool:
    """Return whether the first of the sizes of an example must be that of a batch.

    Each of the examples then has as many elements as the other sizes make, and less than all make.
    Sizes that are free in a traced network tell nothing.
    """
    example = math.prod(input.shape[1:])
    return (
        len(size) > 1
        and size[0] > 1
        and isinstance(example, int)
        and example == math.prod(size[1:]) > 0
    )


def _sizes(source: LuaObject) -> list[int]:
    """Return the sizes of the output's dimensions.

    Raises:
        ConversionError: If there are more than a tensor of PyTorch can have.
    """
    sizes = source["size"]
    if len(sizes) > _MOST_DIMENSIONS:
        raise ConversionError(
            f"size has {len(sizes):,} dimensions; PyTorch has at most {_MOST_DIMENSIONS}"
        )
    return [int(size) for size in sizes]


@runtime_checkable
class KeepsBatch(Protocol):
    """A layer with the option to keep a batch of one."""

    keep_batch: bool


def keep_batch_dimension(model: nn.Module) -> None:
    """Make a converted model keep its batch dimension for a batch of one, unlike Torch7.

    Torch7's nn.View and nn.Reshape guess whether the input has a batch, and nn.Squeeze removes a
    batch of one. The output of an exported model must not depend on such a guess.

    Args:
        model: The model, which is changed in place.

    Example:
        >>> import torch
        >>> from torchlift.converters.modules.layers.shape import View
        >>> view = View([4])
        >>> view(torch.zeros(1, 2, 2)).shape
        torch.Size([4])
        >>> keep_batch_dimension(view)
        >>> view(torch.zeros(1, 2, 2)).shape
        torch.Size([1, 4])
    """
    for module in model.modules():
        if isinstance(module, KeepsBatch):
            module.keep_batch = True


@layer
class Collapse(nn.Module):
    """`Collapse.lua`: all dimensions but the batch flattened into one.

    Args:
        num_input_dims: Number of dimensions of one example; an input with more has a batch.
    """

    def __init__(self, num_input_dims: int) -> None:
        super().__init__()
        self.num_input_dims = num_input_dims

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, …) to (N, D), or (…) to (D,)."""
        return input.flatten(1 if input.dim() > self.num_input_dims else 0)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"num_input_dims={self.num_input_dims}"


@register("nn.Collapse")
def collapse(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Collapse.lua`: all dimensions but the batch flattened."""
    return Collapse(int(source["nInputDim"]))


@layer
class Transpose(nn.Module):
    """`Transpose.lua`: pairs of dimensions swapped, one pair after the other.

    Args:
        swaps: The pairs; they count the batch if `num_input_dims` is None.
        num_input_dims: Number of dimensions of one example, or None.
    """

    def __init__(self, swaps: list[list[int]], num_input_dims: int | None = None) -> None:
        super().__init__()
        self.swaps = swaps
        self.num_input_dims = num_input_dims

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map any shape to the same dimensions in another order."""
        offset = 0 if self.num_input_dims is None else input.dim() - self.num_input_dims
        for first, second in self.swaps:
            input = input.transpose(first + offset, second + offset)
        return input

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        dims = "" if self.num_input_dims is None else f", num_input_dims={self.num_input_dims}"
        return f"{self.swaps}{dims}"


@register("nn.Transpose")
def transpose(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Transpose.lua`: swaps of dimensions, pairs counted from 1 in `permutations`."""
    swaps = [[int(dim) - 1 for dim in pair.to_list()] for pair in source["permutations"].to_list()]
    return Transpose(swaps, num_input_dims(source))


@register("nn.PixelShuffle", ignored=("upscaleFactorSquared",))
def pixel_shuffle(source: LuaObject, context: Context) -> nn.Module:
    """Convert `PixelShuffle.lua`: (N, C·r², H, W) to (N, C, H·r, W·r), as torch.nn's class."""
    return nn.PixelShuffle(int(source["upscaleFactor"]))
