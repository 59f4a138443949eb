"""A network that ends at the last requested features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from ..errors import LayerError
from ..find_layers import Tap


class _AllReached(Exception):  # noqa: N818  # not an error: it ends a pass that has all it needs
    """Every requested value was computed."""


class FeatureNetwork(nn.Module):
    """The part of a network up to some features; what comes after them is never computed.

    The network's own code runs, whatever it does between its layers, until the last requested
    value is computed. Hooks are set for one pass only; each thread needs its own copy
    (`inference_copy`).

    Args:
        network: A network in evaluation mode; it is not changed.
        taps: The places where features are taken.
        stop: End a pass at the last tap. Otherwise the pass runs to its end, which reveals layers
            that run more than once. An exporter needs it, and leaves out by itself what no output
            depends on.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from torchlift.transfer.features.network import FeatureNetwork
        >>> from torchlift.transfer.find_layers import find_taps
        >>> network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
        >>> features = FeatureNetwork(network, find_taps(network, ["0", "penultimate"]))
        >>> [tuple(value.shape) for value in features(torch.zeros(5, 4))]
        [(5, 3), (5, 3)]
    """

    def __init__(self, network: nn.Module, taps: Sequence[Tap], stop: bool = True) -> None:
        super().__init__()
        self.network = network
        self.taps = list(taps)
        self.stop = stop

    def forward(self, input: torch.Tensor) -> list[torch.Tensor]:
        """Return the features of each tap, (N, …), for an input (N, C, H, W).

        Raises:
            LayerError: If a layer does not run, runs twice, or does not return a tensor with one
                row per example.
        """
        features: dict[str, torch.Tensor] = {}

        def keep(tap: Tap, value: Any) -> None:
            if tap.name in features:
                raise LayerError(
                    f"{tap} is reached more than once in a pass, so the name is ambiguous: name "
                    "the layer around it, or a layer after it"
                )
            _check(tap, value, input.shape[0])
            if self.stop and len(features) + 1 == len(self.taps):
                features[tap.name] = value
                raise _AllReached
            # A later layer may change its input in place.
            features[tap.name] = value.clone()

        with ExitStack() as hooks:
            for tap in self.taps:
                hooks.enter_context(_hook(self.network.get_submodule(tap.layer), tap, keep))
            with suppress(_AllReached):
                self.network(input)
        missing = [str(tap) for tap in self.taps if tap.name not in features]
        if missing:
            raise LayerError(f"never reached in a pass in evaluation mode: {', '.join(missing)}")
        return [features[tap.name] for tap in self.taps]


def _check(tap: Tap, value: Any, batch: int) -> None:
    if not isinstance(value, torch.Tensor):
        raise LayerError(f"{tap} is a {type(value).__name__}; features are a single tensor")
    if value.dim() == 0 or value.shape[0] != batch:
        shape = "×".join(map(str, value.shape))
        raise LayerError(f"{tap} has the shape {shape} for {batch} examples: not one row each")


def _hook(layer: nn.Module, tap: Tap, keep: Callable[[Tap, Any], None]) -> RemovableHandle:
    """Pass a layer's input or output to `keep`, until the handle is closed."""
    if tap.before:
        return layer.register_forward_pre_hook(
            lambda _layer, inputs: keep(tap, inputs[0] if inputs else None)
        )
    return layer.register_forward_hook(lambda _layer, _inputs, output: keep(tap, output))
