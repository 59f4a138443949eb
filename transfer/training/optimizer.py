"""The optimizer, the schedule of its learning rates, and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ..freezing import Freezing
from ..heads import find_head
from .options import Optimization

#: `torch.optim.lr_scheduler.OneCycleLR`: the fraction of the steps in which the rate rises, and
#: what the largest rate is divided by at the start and at the end (Smith & Topin, 2018).
_RISE, _START, _END = 0.3, 25, 25e4


def build_optimizer(
    network: nn.Module, options: Optimization, freezing: Freezing
) -> torch.optim.Optimizer:
    """Return SGD or AdamW over all parameters, frozen ones included: they have no gradients.

    Each group keeps its rate before the schedule as `base_lr` (see `set_learning_rates`).
    """
    assert options.lr != "find"
    groups = parameter_groups(network, options.lr, options.weight_decay, freezing)
    if options.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=options.lr)
    return torch.optim.SGD(
        groups, lr=options.lr, momentum=options.momentum, dampening=options.dampening
    )


def parameter_groups(
    network: nn.Module, lr: float, weight_decay: float, freezing: Freezing
) -> list[dict[str, Any]]:
    """Return the parameter groups of an optimizer, one for each learning rate and weight decay.

    The rate of a layer is that of the head or, before the head, `body_lr`; times `layer_decay` for
    each layer with weights between it and the head (Howard & Ruder, 2018; BEiT, Bao et al., 2021).
    A normalization layer has the rate of the layer before it. Only weights with two or more
    dimensions decay.

    Args:
        network: A classifier.
        lr: Learning rate of the head.
        weight_decay: Weight decay.
        freezing: `body_lr` and `layer_decay`.
    """
    parameters = dict(network.named_parameters())
    layers = [name.rpartition(".")[0] for name, tensor in parameters.items() if tensor.dim() > 1]
    order = {layer: index for index, layer in enumerate(dict.fromkeys(layers))}
    uniform = freezing.body_lr is None and freezing.layer_decay == 1
    head = "" if uniform else find_head(network)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    depth = 0
    for name, parameter in parameters.items():
        layer = name.rpartition(".")[0]
        depth = order.get(layer, depth)
        rate = lr if uniform or layer == head or freezing.body_lr is None else freezing.body_lr
        rate *= freezing.layer_decay ** max(len(order) - 1 - depth, 0)
        decay = weight_decay if parameter.dim() > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": members, "lr": rate, "base_lr": rate, "weight_decay": decay}
        for (rate, decay), members in groups.items()
    ]


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set the learning rate of each group to `base_lr` times a factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def schedule_factor(options: Optimization, step: int, steps_per_epoch: int) -> float:
    """Return the factor on the learning rate in one update.

    It depends on the step alone, so that there is no state of a scheduler to save and resume.

    Args:
        options: The schedule, its warm-up and the number of epochs.
        step: The number of the update in the whole training, from 0.
        steps_per_epoch: Updates in an epoch.
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


def moving_average(network: nn.Module, decay: float, device: torch.device) -> AveragedModel:
    """Return a copy of a network that `update_parameters(network)` moves towards the network.

    The buffers (running statistics) are averaged too. The decay is smaller in the first updates,
    (1 + n) / (10 + n), so that the random weights of the beginning soon lose their influence
    (`tf.train.ExponentialMovingAverage`).

    Args:
        network: The network to average.
        decay: Fraction of the old average that remains in each update.
        device: Device of the copy.
    """

    def average(
        averages: Sequence[torch.Tensor],
        values: Sequence[torch.Tensor],
        updates: torch.Tensor | int,
    ) -> None:
        weight = 1 - min(decay, (1 + int(updates)) / (10 + int(updates)))
        for old, value in zip(averages, values, strict=True):
            if old.is_floating_point():
                old.lerp_(value, weight)
            else:
                old.copy_(value)

    copy = AveragedModel(network, device=device, multi_avg_fn=average, use_buffers=True)
    return copy.eval()


def _one_cycle(step: int, total: int) -> float:
    """Rise and fall along two halves of a cosine."""
    top = _RISE * total - 1
    if step <= top:
        return _cosine(1 / _START, 1, step / top if top else 1)
    return _cosine(1, 1 / _END, (step - top) / (total - 1 - top))


def _cosine(first: float, last: float, progress: float) -> float:
    """Interpolate along half a cosine, from `first` at progress 0 to `last` at 1."""
    return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2
