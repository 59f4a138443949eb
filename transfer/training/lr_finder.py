"""A learning-rate range test (Smith, 2017): how large a learning rate does a network bear?"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional

from ..data.batches import Batches
from ..errors import TrainingError
from ..freezing import frozen_at, set_frozen
from .optimizers import build_optimizer, set_rates
from .options import Freezing, Optimization

#: The rates that are tried, and in how many updates.
_FIRST, _LAST, _UPDATES = 1e-6, 10.0, 100
#: How much of the loss so far stays in its smoothed value.
_SMOOTHING = 0.9
#: The loss has left for good when it is so many times the smallest.
_BEYOND = 4


@dataclass(frozen=True)
class RangeTest:
    """What a range test showed.

    Attributes:
        rates: the learning rate of each update.
        losses: the smoothed loss after each.
    """

    rates: list[float]
    losses: list[float]

    @property
    def suggestion(self) -> float:
        """A tenth of the rate with the smallest loss: near where it still falls fast (fastai)."""
        smallest = min(range(len(self.losses)), key=self.losses.__getitem__)
        return float(f"{self.rates[smallest] / 10:.2g}")


def find_rate(
    network: nn.Module,
    train: Batches,
    options: Optimization,
    freezing: Freezing,
    device: torch.device,
) -> RangeTest:
    """Train a copy of a network with a rate that grows at each update, and watch the loss.

    Args:
        network: gives logits; it is not changed.
        train: training images, all of them in this process.
        options: the optimizer.
        freezing: which layers are learnt.
        device: where the batches are.

    Raises:
        TrainingError: when the loss is not finite from the start.
    """
    network = copy.deepcopy(network).to(device)
    set_frozen(network, frozen_at(network, freezing, 1))
    optimizer = build_optimizer(network, replace(options, lr=_FIRST), freezing)
    network.train()
    rates: list[float] = []
    losses: list[float] = []
    mean = 0.0
    for inputs, targets in _endless(train):
        growth = (_LAST / _FIRST) ** (len(rates) / (_UPDATES - 1))
        set_rates(optimizer, growth)
        loss = functional.cross_entropy(network(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss.item()
        smoothed = mean / (1 - _SMOOTHING ** (len(rates) + 1))
        if not math.isfinite(smoothed) or (losses and smoothed > _BEYOND * min(losses)):
            break
        rates.append(_FIRST * growth)
        losses.append(smoothed)
        if len(rates) == _UPDATES:
            break
    if not rates:
        raise TrainingError("the loss is not finite: look at the data, or give --lr a number")
    return RangeTest(rates, losses)


def _endless(train: Batches) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    epoch = 0
    while True:
        yield from train.epoch(epoch)
        epoch += 1
