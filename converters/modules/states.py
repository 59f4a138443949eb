"""States that a layer keeps from call to call, as inputs and outputs of the network.

In Torch7 a layer of which `remember` is true continues from the state of the call before. Here
every call starts from zeros, unless the layer's `memory` is set: to `[]` for a first call, after
which it holds the states to continue from, each (N, …).
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from torch import nn


def remembering_layers(module: nn.Module) -> list[Any]:
    """Return the layers of a module that kept a state from call to call in Torch7."""
    return [
        layer
        for layer in module.modules()
        if getattr(layer, "remember", False)
        # Layers that do not say what their state is, or that begin in another way, start anew.
        and not any(
            getattr(inner, "first_step_differs", False)
            or (hasattr(inner, "step_state") and not hasattr(inner, "nested"))
            for inner in layer.modules()
        )
    ]


def state_count(module: nn.Module) -> int:
    """Return how many tensors the states of these layers are."""
    return sum(layer.num_states for layer in remembering_layers(module))


class WithStates(nn.Module):
    """A network that takes the states of its layers behind its inputs, and returns the new ones.

    Args:
        module: The network.
        count: How many inputs it has; a table counts once.
    """

    def __init__(self, module: nn.Module, count: int = 1) -> None:
        super().__init__()
        self.module = module
        self.count = count

    def forward(self, input: list[Any]) -> list[Any]:
        """Map `[*inputs, *states]` to `[output, *new states]`; without states they are zeros."""
        states = iter(input[self.count :])
        layers = remembering_layers(self.module)
        try:
            for layer in layers:
                layer.memory = list(islice(states, layer.num_states))
            output = self.module(self.named_inputs(input))
            return [output, *(state for layer in layers for state in layer.memory)]
        finally:
            for layer in layers:
                layer.memory = None

    def named_inputs(self, input: list[Any]) -> Any:
        """Return what the network itself is called with."""
        return input[0] if self.count == 1 else input[: self.count]
