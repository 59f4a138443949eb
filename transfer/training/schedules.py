"""The learning rate as a function of the step: nothing is kept, so nothing is lost on resuming."""

from __future__ import annotations

import math

from .options import Optimization

#: `torch.optim.lr_scheduler.OneCycleLR`: the fraction of the steps that rise, and how far below the
#: largest rate it begins and ends (Smith & Topin, 2018).
_RISE, _START, _END = 0.3, 25, 25e4


def rate_factor(options: Optimization, step: int, steps_per_epoch: int) -> float:
    """What the learning rate is multiplied by in one update.

    Args:
        options: the schedule, its warm-up and the number of epochs.
        step: the number of the update in the whole training, from 0.
        steps_per_epoch: updates of an epoch.
    """
    total = options.epochs * steps_per_epoch
    warmup = round(options.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if options.schedule == "cosine":
        return (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2
    if options.schedule == "step":
        return options.step_factor ** (step // steps_per_epoch // options.step_epochs)
    if options.schedule == "one-cycle":
        return _one_cycle(step, total)
    return 1.0


def _one_cycle(step: int, total: int) -> float:
    """Up and down along two halves of a cosine."""
    top = _RISE * total - 1
    if step <= top:
        return _between(1 / _START, 1, step / top if top else 1)
    return _between(1, 1 / _END, (step - top) / (total - 1 - top))


def _between(first: float, last: float, batch_slice: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * batch_slice)) / 2
