"""Skip connections as Torch7 builds them, so that a saved model can hold them."""

from __future__ import annotations

from torch import nn

from ...converters.modules.layers.container import ConcatTable
from ...converters.modules.layers.table_arithmetic import CAddTable


def residual(*layers: nn.Module, skip: nn.Module | None = None) -> nn.Sequential:
    """Layers and a way around them, whose outputs are added.

    Args:
        layers: one after the other.
        skip: what stands in the way around: nothing, or a projection to the layers' output.
    """
    return nn.Sequential(
        ConcatTable(nn.Sequential(*layers), skip or nn.Identity()),
        CAddTable(),
    )
