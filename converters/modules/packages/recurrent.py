"""Layers of rnn that go one time step at a call (`AbstractRecurrent.lua` and its subclasses).

Such a layer keeps what it remembers in `step_state` while a sequence runs through it: a
`Sequencer` sets it to `[]` before the first step and back to None after the last. Called by itself
it is one step from a zero state. The steps share all parameters, so the clones that a file keeps
for each step (`sharedClones`) are not needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from ...t7 import LuaObject, LuaTable
from ..context import Context
from ..registry import layer, register


@layer
class LSTM(nn.ModuleList):
    """`LSTM.lua`, `FastLSTM.lua`: one step; output h(t) of `[x(t), h(t-1), c(t-1)]` → `[h, c]`.

    Args:
        modules: the module of one step, which takes and gives a list.
        hidden_size: features of h and c.
    """

    def __init__(self, *modules: nn.Module, hidden_size: int) -> None:
        super().__init__(modules)
        self.hidden_size = hidden_size
        self.step_state: list[torch.Tensor] | None = None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, in) → (N, hidden_size), or without N."""
        state = self.step_state
        if not state:
            state = [zeros([self.hidden_size], input, 1, self)] * 2
        output, cell = self[0]([input, *state])
        if self.step_state is not None:
            self.step_state = [output, cell]
        return output


@layer
class Recurrence(nn.ModuleList):
    """`Recurrence.lua`, `GRU.lua`, `Mufuru.lua`: one step; h(t) of `[x(t), h(t-1)]`.

    Args:
        modules: the module of one step.
        output_size: shape of h for one example, or a list of such where h is a table.
        input_dims: dimensions of x (or of its first tensor) for one example.
    """

    def __init__(self, *modules: nn.Module, output_size: list[Any], input_dims: int) -> None:
        super().__init__(modules)
        self.output_size = output_size
        self.input_dims = input_dims
        self.step_state: list[Any] | None = None

    def forward(self, input: Any) -> Any:
        """(N, *x) → (N, *output_size), or without N; tables are lists."""
        if self.step_state:
            previous = self.step_state[0]
        else:
            previous = zeros(self.output_size, input, self.input_dims, self)
        output = self[0]([input, previous])
        if self.step_state is not None:
            self.step_state = [output]
        return output


@layer
class Recurrent(nn.ModuleList):
    """`Recurrent.lua`: transfer(merge(input(x(t)), feedback(h(t-1)))).

    The first step has no h(0): there it is transfer(start(input(x(1)))).

    Args:
        modules: start, input, feedback, transfer and merge, in this order.
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__(modules)
        self.step_state: list[torch.Tensor] | None = None

    def forward(self, input: Any) -> torch.Tensor:
        """(N, in) → (N, out)."""
        start, encode, feedback, transfer, merge = self
        encoded = encode(input)
        if self.step_state:
            output = transfer(merge([encoded, feedback(self.step_state[0])]))
        else:
            output = transfer(start(encoded))
        if self.step_state is not None:
            self.step_state = [output]
        return output


def zeros(size: list[Any], input: Any, input_dims: int, module: nn.Module) -> Any:
    """The state before the first step: zeros, with the batch that the input has.

    Args:
        size: shape for one example, or a list of such.
        input: the first step's input; its first tensor tells the batch.
        input_dims: dimensions of that tensor for one example.
        module: its parameters tell number type and device.
    """
    if size and isinstance(size[0], list):
        return [zeros(part, input, input_dims, module) for part in size]
    while isinstance(input, list):
        input = input[0]
    batch = input.shape[: input.dim() - input_dims]
    return next(module.parameters(), input).new_zeros([*batch, *size])


@register("nn.FastLSTM", "nn.BNFastLSTM")
def lstm(source: LuaObject, context: Context) -> nn.Module:
    """`LSTM.lua`: `recurrentModule` is the whole step, gates, peepholes and masks included."""
    hidden_size = int(source["outputSize"])
    return LSTM(step_module(source, context), hidden_size=hidden_size)


@register("nn.GRU", "nn.MuFuRu", "nn.Mufuru")
def gru(source: LuaObject, context: Context) -> nn.Module:
    """`GRU.lua`: (1-z)·h̃ + z·h(t-1), the reset gate before the candidate's linear map."""
    return Recurrence(
        step_module(source, context), output_size=[int(source["outputSize"])], input_dims=1
    )


@register("nn.Recurrence")
def recurrence(source: LuaObject, context: Context) -> nn.Module:
    """`Recurrence.lua`; outputSize is a table, a LongStorage, or a table of these."""
    output_size, input_dims = sizes(source["outputSize"]), int(source["nInputDim"])
    return Recurrence(step_module(source, context), output_size=output_size, input_dims=input_dims)


@register("nn.Recurrent")
def recurrent(source: LuaObject, context: Context) -> nn.Module:
    """`Recurrent.lua`; its `initialModule` and `recurrentModule` are made of the same five."""
    return Recurrent(*context.children(source))


def step_module(source: LuaObject, context: Context) -> nn.Module:
    """The module of one step, with the weights that all steps share."""
    return context.convert(source["recurrentModule"], ".recurrentModule")


def sizes(value: Any) -> list[Any]:
    """A size of `Recurrence.lua` as (nested) lists of int."""
    if isinstance(value, LuaTable):
        return [sizes(part) if not isinstance(part, int) else part for part in value.to_list()]
    return [int(size) for size in np.atleast_1d(value)]
