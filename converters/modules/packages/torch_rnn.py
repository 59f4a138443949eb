"""Layers of torch-rnn, character models whose sequences are (N, T, D) (`LanguageModel.lua`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...t7 import LuaObject, LuaTable
from ..context import Context
from ..registry import layer, register
from .recurrent import lstm
from .seq_lstm import fill_seq_lstm
from .sequencer import note_remember


@layer
class VanillaRNN(nn.Module):
    """`VanillaRNN.lua`: h(t) = tanh(W [x(t), h(t-1)] + b).

    Args:
        input_size: features D of a step's input.
        hidden_size: features H of the output.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.weight = nn.Parameter(torch.empty(input_size + hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(hidden_size))

    def forward(self, input: Any) -> torch.Tensor:
        """(N, T, D), or `[h0, x]` with h0 (N, H) → (N, T, H)."""
        *states, sequence = input if isinstance(input, list) else [input]
        from_input, from_output = self.weight.split([self.input_size, self.hidden_size])
        hidden = states[0] if states else sequence.new_zeros(len(sequence), self.hidden_size)
        outputs = []
        for step in (sequence @ from_input + self.bias).unbind(1):
            hidden = (step + hidden @ from_output).tanh()
            outputs.append(hidden)
        return torch.stack(outputs, dim=1)

    def extra_repr(self) -> str:
        """The sizes, as printed in the parent's listing."""
        return f"{self.input_size} -> {self.hidden_size}"


@layer
class TemporalAdapter(nn.ModuleList):
    """`TemporalAdapter.lua`: modules that know no time, at every step of (N, T, …).

    Args:
        modules: what is done at each step, one after the other.
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__(modules)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, T, A) → (N, T, B)."""
        output = input.flatten(0, 1)
        for module in self:
            output = module(output)
        return output.reshape([*input.shape[:2], *output.shape[1:]])


@register("nn.LSTM")
def either_lstm(source: LuaObject, context: Context) -> nn.Module:
    """`LSTM.lua` of torch-rnn has a `weight`; that of the package rnn a `recurrentModule`."""
    if "weight" not in source:
        return lstm(source, context)
    note_remember(source, context)
    return fill_seq_lstm(source, context, source["weight"], None, batch_first=True)


@register("nn.VanillaRNN")
def vanilla_rnn(source: LuaObject, context: Context) -> nn.Module:
    """`VanillaRNN.lua`."""
    note_remember(source, context)
    weight = source["weight"]
    hidden_size = weight.shape[1]
    with torch.device("meta"):
        module = VanillaRNN(len(weight) - hidden_size, hidden_size)
    return context.fill(module, weight=weight, bias=source["bias"])


@register("nn.TemporalAdapter")
def temporal_adapter(source: LuaObject, context: Context) -> nn.Module:
    """`TemporalAdapter.lua`: what stands between the two nn.View, whose sizes change with T."""
    children = source["net"]["modules"].to_list()
    return TemporalAdapter(
        *(
            context.convert(child, f".net.modules[{index}]")
            for index, child in enumerate(children[1:-1], 2)
        )
    )


@register("nn.LanguageModel")
def language_model(source: LuaObject, context: Context) -> nn.Module:
    """`LanguageModel.lua`: scores (N, T, vocabulary) of the token after each of (N, T) indices.

    What stands between its nn.View, whose sizes are set at every call, becomes a TemporalAdapter.
    """
    entering = [source["view1"], *entries(source, "bn_view_in")]
    leaving = [source["view2"], *entries(source, "bn_view_out")]
    modules: list[nn.Module] = []
    group: list[nn.Module] | None = None
    for index, child in enumerate(source["net"]["modules"].to_list(), 1):
        if any(child is view for view in entering):
            group = []
        elif any(child is view for view in leaving):
            modules.append(TemporalAdapter(*(group or [])))
            group = None
        else:
            module = context.convert(child, f".net.modules[{index}]")
            (modules if group is None else group).append(module)
    return nn.Sequential(*modules)


def entries(source: LuaObject, name: str) -> list[Any]:
    """The entries of a table that old files do not have."""
    return list(source.get(name, LuaTable()).to_list())
