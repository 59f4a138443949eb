"""The dimension that a layer works along, counted with or without a batch.

Torch7 counts dimensions from 1 and, for layers that know how many dimensions one example has,
from the first one after the batch. The layers count from 0; negative ones count from the end.
"""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject


def dim_of(source: LuaObject, name: str = "dimension", default: int | None = None) -> int:
    """A dimension (or index) that Torch7 counts from 1, counted from 0; negative ones stay.

    Args:
        source: the Torch7 object.
        name: its field.
        default: what a missing field means, counted from 1.

    Raises:
        KeyError: when the field is missing and nothing stands for it.
    """
    dim = int(source[name] if default is None else source.get(name, default))
    return dim - 1 if dim > 0 else dim


def num_input_dims(source: LuaObject) -> int | None:
    """Dimensions of one example, where the layer was told (`nInputDims` and its other names)."""
    for name in ("nInputDims", "numInputDims", "ndim"):
        if source.get(name) is not None:
            return int(source[name])
    return None


class AlongDimension(nn.Module):
    """A layer that works along one dimension.

    Args:
        dim: the dimension, of one example where `num_input_dims` is given.
        num_input_dims: dimensions of one example, or None where `dim` counts the batch.
    """

    def __init__(self, dim: int = 0, num_input_dims: int | None = None) -> None:
        super().__init__()
        self.dim = dim
        self.num_input_dims = num_input_dims

    def _dim(self, input: torch.Tensor) -> int:
        """The dimension of this input: one further where it has a batch in front."""
        batched = self.num_input_dims is not None and input.dim() == self.num_input_dims + 1
        return self.dim + 1 if batched and self.dim >= 0 else self.dim

    def extra_repr(self) -> str:
        """The dimension."""
        dims = "" if self.num_input_dims is None else f", num_input_dims={self.num_input_dims}"
        return f"dim={self.dim}{dims}"
