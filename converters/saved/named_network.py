"""What the networks have in common that another library builds by a name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


class NamedNetwork(nn.Module):
    """A classifier of another library as one layer, so that a saved model can name it.

    Attributes:
        network: The library's module.

    Example:
        >>> class Own(NamedNetwork):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
        >>> Own().num_classes, Own()(torch.zeros(1, 3, 2, 2)).shape
        (5, torch.Size([1, 5]))
    """

    network: nn.Module

    @property
    def classifier(self) -> nn.Module:
        """The part of the network in which its head is."""
        return self.network

    @property
    def num_classes(self) -> int:
        """Number of outputs, also after the head was replaced."""
        return len(self.get_parameter(f"{last_weights(self)}.weight"))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, 3, H, W) to logits (N, num_classes)."""
        output: torch.Tensor = self.network(input)
        return output


def last_weights(network: nn.Module) -> str | None:
    """Return the name of the last Linear or, in a network without one, of the last Conv2d.

    Returns:
        The name; empty if it is the whole network, None if there is no such layer.

    Example:
        >>> last_weights(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 2)))
        '2'
    """
    part = network.classifier if isinstance(network, NamedNetwork) else network
    inside = set(part.modules())
    layers = [
        (name, layer)
        for name, layer in network.named_modules(remove_duplicate=False)
        if layer in inside
    ]
    for kind in (nn.Linear, nn.Conv2d):
        names = [name for name, layer in layers if isinstance(layer, kind)]
        if names:
            return str(names[-1])
    return None


def build_with_buffers(make: Callable[[], nn.Module]) -> nn.Module:
    """Build a network whose buffers are not all saved, also where the default device is `meta`.

    Such buffers, as the positions in a transformer, have their values from the constructor alone.
    """
    if torch.get_default_device().type != "meta":
        return make()
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        return make()
