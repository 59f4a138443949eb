"""The states of layers that remember them, as further inputs and outputs of an exported file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ...input_shapes import BATCH, InputShape, InputShapes
from ...modules.states import WithStates


def state_names(count: int) -> list[str]:
    """Return the names of the inputs that are states."""
    return [f"state_{number}" for number in range(1, count + 1)]


def new_state_names(count: int) -> list[str]:
    """Return the names of the outputs that are the states after a call, in the same order."""
    return [f"new_{name}" for name in state_names(count)]


def with_states(
    module: nn.Module, shapes: InputShapes, example: Any
) -> tuple[nn.Module, InputShapes, list[Any]]:
    """Return a network that takes and returns the states of its layers, and what it then takes.

    Args:
        module: The network, some of whose layers remember a state.
        shapes: What it takes.
        example: An example of that.
    """
    count = len(shapes.entries)
    network = WithStates(module, count)
    inputs = list(example) if count > 1 else [example]
    with torch.no_grad():
        _, *states = network(inputs)
    entries = [
        InputShape((BATCH, *state.shape[1:]), name=name)
        for name, state in zip(state_names(len(states)), states, strict=True)
    ]
    # One input stays `input`, and is not the first of several.
    named = shapes.with_leaves(
        [
            replace(leaf, name=name)
            for leaf, name in zip(shapes.leaves(), shapes.names(), strict=True)
        ]
    )
    return network, InputShapes([*named.entries, *entries]), [*inputs, *states]
