"""Dimensions of Torch7 as dimensions of PyTorch.

Torch7 counts dimensions from 1. If a layer has a field such as `nInputDims`, which holds the number
of dimensions of one example, Torch7 does not count the batch. Converted layers count from 0;
negative dimensions count from the end.
"""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject


def dim_of(source: LuaObject, name: str = "dimension", default: int | None = None) -> int:
    """Return a dimension or index counted from 0; negative ones are unchanged.

    Args:
        source: The Torch7 object.
        name: Name of the field that holds it, counted from 1.
        default: Value of a missing field, counted from 1.

    Raises:
        KeyError: If the field is missing and has no default.
    """
    dim = int(source[name] if default is None else source.get(name, default))
    return dim - 1 if dim > 0 else dim


def num_input_dims(source: LuaObject) -> int | None:
    """Return the number of dimensions of one example, None if the file does not say.

    Depending on the class the field is `nInputDims`, `numInputDims` or `ndim`.
    """
    for name in ("nInputDims", "numInputDims", "ndim"):
        if source.get(name) is not None:
            return int(source[name])
    return None


class AlongDimension(nn.Module):
    """A layer that works along one dimension.

    Args:
        dim: The dimension; it counts the batch if `num_input_dims` is None.
        num_input_dims: Number of dimensions of one example, or None.
    """

    def __init__(self, dim: int = 0, num_input_dims: int | None = None) -> None:
        super().__init__()
        self.dim = dim
        self.num_input_dims = num_input_dims

    def dim_in(self, input: torch.Tensor) -> int:
        """Return the dimension in this input, counting its batch if it has one."""
        batched = self.num_input_dims is not None and input.dim() == self.num_input_dims + 1
        return self.dim + 1 if batched and self.dim >= 0 else self.dim

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        dims = "" if self.num_input_dims is None else f", num_input_dims={self.num_input_dims}"
        return f"dim={self.dim}{dims}"
