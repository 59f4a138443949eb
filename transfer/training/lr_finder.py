"""The learning rate range test (Smith, 2017): the loss of a network as its learning rate grows."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator
from torch.nn import functional

from ...converters.saved import SavedModel
from ..data.batches import Batches
from ..errors import TrainingError
from ..freezing import frozen_at, set_frozen
from .loop import build_batches
from .optimizer import build_optimizer
from .options import Experiment
from .processes import seed_everything

#: The first and the last learning rate, and the number of updates.
_FIRST, _LAST, _UPDATES = 1e-6, 10.0, 100
#: The fraction of the smoothed loss that remains in each update.
_SMOOTHING = 0.9
#: The test ends once the loss is this many times the smallest.
_DIVERGED = 4


@dataclass(frozen=True)
class RangeTest:
    """The result of a range test.

    Attributes:
        rates: The learning rate of each update.
        losses: The smoothed loss after each update.
    """

    rates: list[float]
    losses: list[float]

    @property
    def suggestion(self) -> float:
        """A tenth of the rate with the smallest loss, where it still falls fast (as in fastai)."""
        smallest = min(range(len(self.losses)), key=self.losses.__getitem__)
        return float(f"{self.rates[smallest] / 10:.2g}")


def find_rate(model: SavedModel, experiment: Experiment, accelerator: Accelerator) -> RangeTest:
    """Train a copy of a network with a learning rate that grows in each update.

    Each process does the same and has the same result.

    Args:
        model: A network that returns logits; it is not changed.
        experiment: The training images and the optimizer.
        accelerator: The device.

    Raises:
        TrainingError: The loss is not finite from the start.
    """
    seed_everything(experiment.seed)
    batches = build_batches(model, experiment, "train", accelerator, all_processes=False)
    network = copy.deepcopy(model.module).to(accelerator.device)
    set_frozen(network, frozen_at(network, experiment.freezing, 1))
    options = replace(experiment.optimization, lr=_FIRST)
    optimizer = build_optimizer(network, options, experiment.freezing)
    # Layers with a rate of their own have it in the training too, whatever that of the head is.
    has_own_rates = experiment.freezing.body_lr is not None
    growing = [
        group for group in optimizer.param_groups if not has_own_rates or group["base_lr"] == _FIRST
    ]
    network.train()
    rates: list[float] = []
    losses: list[float] = []
    mean = 0.0
    for inputs, targets in _endless(batches):
        growth = (_LAST / _FIRST) ** (len(rates) / (_UPDATES - 1))
        for group in growing:
            group["lr"] = group["base_lr"] * growth
        loss = functional.cross_entropy(network(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss.item()
        smoothed = mean / (1 - _SMOOTHING ** (len(rates) + 1))
        if not math.isfinite(smoothed) or (losses and smoothed > _DIVERGED * min(losses)):
            break
        rates.append(_FIRST * growth)
        losses.append(smoothed)
        if len(rates) == _UPDATES:
            break
    if not rates:
        raise TrainingError("the loss is not finite; check the data, or set a rate such as lr=0.01")
    return RangeTest(rates, losses)


def _endless(batches: Batches) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    epoch = 0
    while True:
        yield from batches.epoch(epoch)
        epoch += 1
