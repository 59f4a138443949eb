"""Conversion between layouts named by letters, such as `bchw` (`Convert.lua`)."""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..dtypes import module_dtype
from ..registry import layer, register


@layer
class Convert(nn.Module):
    """`Convert.lua`: a change of dtype and layout.

    A layout has a letter for each dimension, `b` for the batch: `bchw` to `bhwc` moves the
    channels, `bchw` to `bf` flattens each example, `bt` to `b` takes the first column.

    Args:
        source: Layout of the input; an input with one dimension less has no batch.
        target: Layout of the output; equal to `source` if only the dtype changes.
        dtype: Name of the output's dtype, such as `float32`.
    """

    def __init__(self, source: str, target: str, dtype: str = "float32") -> None:
        super().__init__()
        self.source = source
        self.target = target
        self.dtype = dtype

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map a tensor in the source layout to the target layout."""
        input = input.to(getattr(torch, self.dtype))
        if self.source == self.target:
            return input
        if input.dim() < len(self.source):
            batch = input.unsqueeze(self.source.index("b"))
            return self._rearrange(batch).squeeze(self.target.index("b"))
        return self._rearrange(input)

    def _rearrange(self, input: torch.Tensor) -> torch.Tensor:
        batch = self.source.index("b")
        if sorted(self.source) == sorted(self.target):
            return input.permute([self.source.index(letter) for letter in self.target])
        if self.target == "b":
            return input.select(1 - batch, 0)
        input = input.transpose(0, batch)
        return input.unsqueeze(1) if input.dim() == 1 else input.flatten(1)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.source} to {self.target}, dtype={self.dtype}"


@register("nn.Convert", ignored=("nInputDim", "nOutputDim", "inputBatchDim", "outputBatchDim"))
def convert_layout(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Convert.lua`: a change of dtype and layout.

    Torch7 builds the modules for it in the first forward pass; they are ignored.
    """
    before, after = source["inputShape"], source["outputShape"]
    supported = (
        sorted(before) == sorted(after)
        or (after == "bf" and before != "bt")
        or (after == "b" and before in ("bt", "tb", "bf", "fb"))
        or (after, before) == ("bt", "b")
    )
    if not supported:
        raise context.error(f"nn.Convert cannot change the layout {before!r} to {after!r}")
    return Convert(before, after, module_dtype(source))
