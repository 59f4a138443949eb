"""The optimizer of a network, with a learning rate for each layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..heads import find_head
from .options import Freezing, Optimization


def build_optimizer(
    network: nn.Module, options: Optimization, freezing: Freezing
) -> torch.optim.Optimizer:
    """SGD or AdamW over all parameters, frozen ones too: they have no gradient to follow.

    Each group keeps its own full rate as `base_lr`; `set_rates` follows the schedule.
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
    """The parameters with what each is learnt by; those of one rate and decay stand together.

    The rate of a layer is that of the head or, before it, `body_lr`; times `layer_decay` for each
    layer with weights between it and the head (Howard & Ruder, 2018; BEiT, Bao et al., 2021). A
    normalization belongs to the layer before it. Weight decay is for weights with two or more
    dimensions only.

    Args:
        network: a classifier.
        lr: rate of the head.
        weight_decay: of its weights.
        freezing: `body_lr` and `layer_decay`.
    """
    names = dict(network.named_parameters())
    layers = [name.rpartition(".")[0] for name, tensor in names.items() if tensor.dim() > 1]
    order = {layer: index for index, layer in enumerate(dict.fromkeys(layers))}
    alike = freezing.body_lr is None and freezing.layer_decay == 1
    head = "" if alike else find_head(network)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    depth = 0
    for name, parameter in names.items():
        layer = name.rpartition(".")[0]
        depth = order.get(layer, depth)
        rate = lr if alike or layer == head or freezing.body_lr is None else freezing.body_lr
        rate *= freezing.layer_decay ** max(len(order) - 1 - depth, 0)
        decay = weight_decay if parameter.dim() > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "base_lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's learning rate to its full rate times a factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
