"""Layers of rnn that compute one time step per call (`AbstractRecurrent.lua` and subclasses).

While a sequence is processed, such a layer keeps its state in `step_state`: a `Sequencer` sets it
to `[]` before the first step and back to None after the last. A call outside a sequencer is one
step from a zero state. All steps share their parameters, so that the clones that a file holds for
each step (`sharedClones`) are not needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from ...t7 import LuaObject, LuaTable
from ..context import Context
from ..layers.container import Container
from ..registry import layer, register


@layer
class LSTM(Container):
    """`LSTM.lua`, `FastLSTM.lua`: one step of an LSTM, returning h(t).

    Args:
        modules: The module of one step, from `[x(t), h(t-1), c(t-1)]` to `[h(t), c(t)]`.
        hidden_size: Number of features of h and c.
    """

    num_states = 2

    def __init__(self, *modules: nn.Module, hidden_size: int) -> None:
        super().__init__(*modules)
        self.hidden_size = hidden_size
        self.step_state: list[torch.Tensor] | None = None

    def nested(self, states: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return tensors as `step_state` holds them."""
        return states

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, in) to (N, hidden_size), or both without N."""
        state = self.step_state
        if not state:
            state = [zeros([self.hidden_size], input, 1, self)] * 2
        output: torch.Tensor
        output, cell = self[0]([input, *state])
        if self.step_state is not None:
            self.step_state = [output, cell]
        return output


@layer
class Recurrence(Container):
    """`Recurrence.lua`, `GRU.lua`, `Mufuru.lua`: one step of a recurrent layer, returning h(t).

    Args:
        modules: The module of one step, from `[x(t), h(t-1)]` to h(t).
        output_size: Shape of h for one example, or a list of shapes if h is a list.
        input_dims: Number of dimensions of x (or of its first tensor) for one example.
    """

    def __init__(self, *modules: nn.Module, output_size: list[Any], input_dims: int) -> None:
        super().__init__(*modules)
        self.output_size = output_size
        self.input_dims = input_dims
        self.step_state: list[Any] | None = None

    @property
    def num_states(self) -> int:
        """How many tensors h is."""
        return _count(self.output_size)

    def nested(self, states: list[torch.Tensor]) -> list[Any]:
        """Return tensors as `step_state` holds them."""
        return [_nested(self.output_size, iter(states))] if states else []

    def forward(self, input: Any) -> Any:
        """Map (N, …) to (N, *output_size), or both without N; tables are lists."""
        if self.step_state:
            previous = self.step_state[0]
        else:
            previous = zeros(self.output_size, input, self.input_dims, self)
        output = self[0]([input, previous])
        if self.step_state is not None:
            self.step_state = [output]
        return output


@layer
class Recurrent(Container):
    """`Recurrent.lua`: h(t) = transfer(merge(input(x(t)), feedback(h(t-1)))).

    At the first step, which has no h(0), h(1) = transfer(start(input(x(1)))).

    Args:
        modules: start, input, feedback, transfer and merge, in this order.
    """

    #: A graph has one body for all steps: whether a step is not the first is a state of its own.
    first_step_differs = True
    num_states = 1

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__(*modules)
        self.step_state: list[torch.Tensor] | None = None

    def nested(self, states: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return tensors as `step_state` holds them."""
        return states

    def forward(self, input: Any) -> torch.Tensor:
        """Map (N, in) to (N, out)."""
        start, encode, feedback, transfer, merge = self
        encoded = encode(input)
        previous, not_first = (self.step_state or [])[:1], (self.step_state or [])[1:]
        output: torch.Tensor
        if previous:
            output = transfer(merge([encoded, feedback(previous[0])]))
        else:
            output = transfer(start(encoded))
        if not_first:
            output = torch.where(not_first[0], output, transfer(start(encoded)))
        if self.step_state is not None:
            self.step_state = [output, *map(torch.ones_like, not_first)]
        return output


def zeros(size: list[Any], input: Any, input_dims: int, module: nn.Module) -> Any:
    """Return the state before the first step: zeros, with the batch size of the input.

    Args:
        size: Shape for one example, or a list of shapes.
        input: The input of the first step, whose first tensor has the batch size.
        input_dims: Number of dimensions of that tensor for one example.
        module: A module whose parameters have the dtype and device of the result.
    """
    if size and isinstance(size[0], list):
        return [zeros(inner, input, input_dims, module) for inner in size]
    first = first_tensor(input)
    batch = first.shape[: first.dim() - input_dims]
    return next(module.parameters(), first).new_zeros([*batch, *size])


def _count(size: list[Any]) -> int:
    """Return how many tensors a size describes (see `Recurrence`)."""
    is_table = bool(size) and isinstance(size[0], list)
    return sum(_count(inner) for inner in size) if is_table else 1


def _nested(size: list[Any], tensors: Iterator[torch.Tensor]) -> Any:
    if size and isinstance(size[0], list):
        return [_nested(inner, tensors) for inner in size]
    return next(tensors)


def first_tensor(value: Any) -> torch.Tensor:
    """Return the first tensor of a (nested) list, or the tensor itself."""
    while isinstance(value, list):
        value = value[0]
    tensor: torch.Tensor = value
    return tensor


#: Steps, clones and settings that `AbstractRecurrent.lua` and its subclasses keep beside the
#: module of one step.
RECURRENT = (
    *("inputSize", "rho", "step", "sharedClones", "rmInSharedClones", "nSharedClone", "modules"),
    *("updateGradInputStep", "accGradParametersStep", "outputs", "cells", "cell", "zeroTensor"),
    *("typeTensor", "p", "mono", "i2g", "o2g", "module", "recurrentModule", "initialModule"),
)


@register("nn.FastLSTM", "nn.BNFastLSTM", ignored=(*RECURRENT, "cell2gate", "affine"))
@register("nn.LSTM", fields=("recurrentModule",), ignored=(*RECURRENT, "cell2gate"))
def lstm(source: LuaObject, context: Context) -> nn.Module:
    """Convert `LSTM.lua`; `recurrentModule` is a whole step with gates, peepholes and masks."""
    hidden_size = int(source["outputSize"])
    return LSTM(step_module(source, context), hidden_size=hidden_size)


@register("nn.GRU", "nn.MuFuRu", "nn.Mufuru", ignored=(*RECURRENT, "ops", "num_ops", "operations"))
def gru(source: LuaObject, context: Context) -> nn.Module:
    """Convert `GRU.lua`: (1-z)·h̃ + z·h(t-1), the reset gate applied before the candidate's weights.

    `torch.nn.GRU` applies it after them.
    """
    return Recurrence(
        step_module(source, context), output_size=[int(source["outputSize"])], input_dims=1
    )


@register("nn.Recurrence", ignored=RECURRENT)
def recurrence(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Recurrence.lua`; `outputSize` is a number, a table, a LongStorage, or nested."""
    output_size, input_dims = sizes(source["outputSize"]), int(source["nInputDim"])
    return Recurrence(step_module(source, context), output_size=output_size, input_dims=input_dims)


@register("nn.Recurrent", ignored=RECURRENT)
def recurrent(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Recurrent.lua` by its five children, of which its other modules are built."""
    return Recurrent(*context.children(source))


def step_module(source: LuaObject, context: Context) -> nn.Module:
    """Return the module of one step, with the weights that all steps share."""
    return context.convert(source["recurrentModule"], ".recurrentModule")


def sizes(value: Any) -> list[Any]:
    """Return a size of `Recurrence.lua` as (nested) lists of int."""
    if isinstance(value, LuaTable):
        return [item if isinstance(item, int) else sizes(item) for item in value.to_list()]
    return [int(size) for size in np.atleast_1d(value)]
