"""The order in memory in which a network's convolutions are fastest."""

from __future__ import annotations

import torch
from torch import nn


def to_channels_last(network: nn.Module, example: torch.Tensor) -> None:
    """Lay out a network's weights with the channels of a pixel side by side, if it bears that.

    Convolutions and pooling are then faster, and compute the same but for rounding. A network
    that takes a feature map for flat memory (`x.view(len(x), -1)`) cannot run so, and is left as
    it was.

    Args:
        network: the order of its weights in memory is changed; it is left in evaluation mode.
        example: inputs (N, C, H, W) that it takes.
    """
    network.eval().to(memory_format=torch.channels_last)
    try:
        with torch.no_grad():
            network(example)
    except RuntimeError:
        network.to(memory_format=torch.contiguous_format)
