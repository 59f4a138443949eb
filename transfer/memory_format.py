"""The memory format in which a network's convolutions are fastest."""

from __future__ import annotations

import torch
from torch import nn


def to_channels_last(network: nn.Module, example: torch.Tensor) -> None:
    """Convert a network's weights to channels_last, if the network runs that way.

    Convolutions and pooling are faster then, and differ in rounding only. A network that expects
    contiguous feature maps (`x.view(len(x), -1)`) fails, and is converted back.

    Args:
        network: Changed in place; it is left in evaluation mode.
        example: Inputs (N, C, H, W) that the network accepts.
    """
    network.eval().to(memory_format=torch.channels_last)
    try:
        with torch.no_grad():
            network(example)
    except RuntimeError:
        network.to(memory_format=torch.contiguous_format)
