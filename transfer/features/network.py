"""A network that ends where the last wanted features are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from ..errors import LayerError
from ..layers import Tap


class _AllReached(Exception):  # noqa: N818  # no error: it ends a pass that has all it needs
    """Every wanted value is there."""


class FeatureNetwork(nn.Module):
    """The part of a network that some features need; what comes after them is never computed.

    The network's own code runs, whatever it does between its layers, until the last wanted value
    is there. Hooks are set for one pass only; threads need a copy each (`inference_copy`).

    Args:
        network: a network in evaluation mode; it is not changed.
        taps: where features are taken.
        stop: end a pass at the last tap. Otherwise it goes on to its end: that shows layers that
            run more than once, and is what an exporter can follow, which leaves out by itself
            what no output needs.
    """

    def __init__(self, network: nn.Module, taps: Sequence[Tap], stop: bool = True) -> None:
        super().__init__()
        self.network = network
        self.taps = list(taps)
        self.stop = stop

    def forward(self, input: torch.Tensor) -> list[torch.Tensor]:
        """(N, C, H, W) → the features of each tap: (N, …).

        Raises:
            LayerError: when a layer does not run, runs twice, or gives no tensor with a row an
                example.
        """
        found: dict[str, torch.Tensor] = {}

        def keep(tap: Tap, value: Any) -> None:
            if tap.name in found:
                raise LayerError(
                    f"{tap} is reached more than once in a pass, so that the name does not say "
                    "which features are meant: name the layer around it, or one that follows"
                )
            _check(tap, value, input.shape[0])
            if self.stop and len(found) + 1 == len(self.taps):
                found[tap.name] = value
                raise _AllReached
            # A later layer may work in place on what it is given.
            found[tap.name] = value.clone()

        with ExitStack() as hooks:
            for tap in self.taps:
                hooks.enter_context(_hook(self.network.get_submodule(tap.layer), tap, keep))
            with suppress(_AllReached):
                self.network(input)
        missing = [str(tap) for tap in self.taps if tap.name not in found]
        if missing:
            raise LayerError(f"never reached in a pass in evaluation mode: {', '.join(missing)}")
        return [found[tap.name] for tap in self.taps]


def _check(tap: Tap, value: Any, batch: int) -> None:
    if not isinstance(value, torch.Tensor):
        raise LayerError(f"{tap} is a {type(value).__name__}, features are one tensor")
    if value.dim() == 0 or value.shape[0] != batch:
        shape = "×".join(map(str, value.shape))
        raise LayerError(f"{tap} has the shape {shape} for {batch} examples: not a row each")


def _hook(layer: nn.Module, tap: Tap, keep: Callable[[Tap, Any], None]) -> RemovableHandle:
    """Have a layer's input or output kept, until the handle is closed."""
    if tap.before:
        return layer.register_forward_pre_hook(
            lambda _layer, inputs: keep(tap, inputs[0] if inputs else None)
        )
    return layer.register_forward_hook(lambda _layer, _inputs, output: keep(tap, output))
