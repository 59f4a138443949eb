"""A moving average of the weights, which is often better than the last of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


def averaged_copy(network: nn.Module, decay: float, device: torch.device) -> AveragedModel:
    """A copy of a network whose `update_parameters(network)` moves it towards that network.

    The buffers (running statistics) are averaged too. In the first updates the decay is smaller,
    (1 + n) / (10 + n), so that the random weights of the beginning are soon forgotten
    (`tf.train.ExponentialMovingAverage`).

    Args:
        network: what is averaged.
        decay: fraction of the old average that stays in each update.
        device: where the copy lives.
    """

    def average(
        averages: Sequence[torch.Tensor],
        values: Sequence[torch.Tensor],
        updates: torch.Tensor | int,
    ) -> None:
        batch_slice = 1 - min(decay, (1 + int(updates)) / (10 + int(updates)))
        for old, value in zip(averages, values, strict=True):
            if old.is_floating_point():
                old.lerp_(value, batch_slice)
            else:
                old.copy_(value)

    copy = AveragedModel(network, device=device, multi_avg_fn=average, use_buffers=True)
    return copy.eval()
