"""Layers of torch-rnn, whose sequences are (N, T, D) (`LanguageModel.lua`, `VanillaRNN.lua`, …)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...t7 import LuaObject, LuaTable
from ..context import Context
from ..layers.container import Container
from ..recurrence import Gates, rnn_sequence
from ..registry import layer, register
from .seq_lstm import SEQUENCE, fill_seq_lstm
from .sequencer import remembers


@layer
class VanillaRNN(nn.Module):
    """`VanillaRNN.lua`: h(t) = tanh(W [x(t), h(t-1)] + b), as `torch.nn.RNN` with one bias.

    Args:
        input_size: Number of features D of a step's input.
        hidden_size: Number of features H of the output.
        remember: Whether Torch7 continued from the state of the call before (see `states`).
    """

    num_states = 1

    def __init__(self, input_size: int, hidden_size: int, remember: bool = False) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.remember = remember
        self.memory: list[torch.Tensor] | None = None
        self.weight = nn.Parameter(torch.empty(input_size + hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(hidden_size))

    def forward(self, input: Any) -> torch.Tensor:
        """Map x (N, T, D), or `[h0, x]` with h0 (N, H), to (N, T, H)."""
        *states, sequence = input if isinstance(input, list) else [*(self.memory or []), input]
        hidden = states[0] if states else sequence.new_zeros(sequence.shape[0], self.hidden_size)
        output, hidden = rnn_sequence(sequence.transpose(0, 1), hidden, self.gates())
        if self.memory is not None:
            self.memory = [hidden]
        return output.transpose(0, 1)

    def gates(self) -> Gates:
        """Return the weights as they are in torch.nn."""
        weight, size = self.weight.t(), self.input_size
        from_input, from_state = weight[:, :size], weight[:, size:]
        return Gates(from_input, from_state, self.bias, torch.zeros_like(self.bias))

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.input_size} -> {self.hidden_size}"


@layer
class TemporalAdapter(Container):
    """`TemporalAdapter.lua`: applies modules to every step of (N, T, …) as one batch.

    Args:
        modules: The modules, applied one after the other.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, T, …) to (N, T, …)."""
        output = input.flatten(0, 1)
        for module in self:
            output = module(output)
        return output.reshape([*input.shape[:2], *output.shape[1:]])


@register("nn.LSTM", fields=("weight",), ignored=SEQUENCE)
def lstm(source: LuaObject, context: Context) -> nn.Module:
    """Convert `LSTM.lua` of torch-rnn: an LSTM over a whole sequence."""
    return fill_seq_lstm(source, context, source["weight"], None, batch_first=True)


@register("nn.VanillaRNN", ignored=SEQUENCE)
def vanilla_rnn(source: LuaObject, context: Context) -> nn.Module:
    """Convert `VanillaRNN.lua`: a recurrent layer with tanh."""
    weight = source["weight"]
    hidden_size = weight.shape[1]
    with torch.device("meta"):
        module = VanillaRNN(
            len(weight) - hidden_size, hidden_size, remember=remembers(source, context)
        )
    return context.fill(module, weight=weight, bias=source["bias"])


@register("nn.TemporalAdapter")
def temporal_adapter(source: LuaObject, context: Context) -> nn.Module:
    """Convert `TemporalAdapter.lua` by the modules between its two nn.View."""
    children = source["net"]["modules"].to_list()
    return TemporalAdapter(
        *(
            context.convert(child, f".net.modules[{index}]")
            for index, child in enumerate(children[1:-1], 2)
        )
    )


@register(
    "nn.LanguageModel",
    fields=("net", "view1", "view2"),
    ignored=(
        "rnns",
        "model_type",
        "rnn_size",
        "num_layers",
        "dropout",
        "batchnorm",
        "vocab_size",
        "wordvec_dim",
        "idx_to_token",
        "token_to_idx",
    ),
)
def language_model(source: LuaObject, context: Context) -> nn.Module:
    """Convert `LanguageModel.lua`: scores (N, T, vocabulary) for the token after each of (N, T).

    The modules between two nn.View, whose sizes Torch7 sets at every call, become a
    TemporalAdapter.
    """
    flattening = [source["view1"], *entries(source, "bn_view_in")]
    restoring = [source["view2"], *entries(source, "bn_view_out")]
    modules: list[nn.Module] = []
    group: list[nn.Module] | None = None
    for index, child in enumerate(source["net"]["modules"].to_list(), 1):
        if any(child is view for view in flattening):
            group = []
        elif any(child is view for view in restoring):
            modules.append(TemporalAdapter(*(group or [])))
            group = None
        else:
            module = context.convert(child, f".net.modules[{index}]")
            (modules if group is None else group).append(module)
    return nn.Sequential(*modules)


def entries(source: LuaObject, name: str) -> list[Any]:
    """Return the entries of a table, or none if the file has no such table."""
    return list(source.get(name, LuaTable()).to_list())
