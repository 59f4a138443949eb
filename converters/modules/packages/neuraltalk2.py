"""Layers of neuraltalk2, which describes images (`LanguageModel.lua`, `FeatExpander.lua`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..recurrence import scan_module
from ..registry import layer, register


@layer
class CaptionModel(nn.Module):
    """`LanguageModel.lua` of neuraltalk2: log-probabilities of the words of captions.

    The first step gets the code of the image, the second one the start token, and each later one a
    word of the caption.

    Args:
        core: One step, from `[input, *states]` to `[*states, log-probabilities]`.
        lookup_table: The vectors of the words, and of the start token after them.
        vocab_size: Number of words V; the start and the end token are V+1.
        rnn_size: Number of features of a state.
        num_states: Number of states.
    """

    def __init__(
        self,
        core: nn.Module,
        lookup_table: nn.Module,
        vocab_size: int,
        rnn_size: int,
        num_states: int,
    ) -> None:
        super().__init__()
        self.core = core
        self.lookup_table = lookup_table
        self.vocab_size = vocab_size
        self.rnn_size = rnn_size
        self.num_states = num_states

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        """Map `[codes (N, E), words (T, N)]`, 0 behind a caption, to (T+2, N, V+1).

        The steps after the last word of all captions are zeros.
        """
        codes, words = input
        start = torch.full_like(words[:1], self.vocab_size + 1)
        # As in Torch7, any word stands in for the missing ones.
        vectors = self.lookup_table(torch.cat([start, words.clamp(min=1)]))
        states = [codes.new_zeros(codes.shape[0], self.rnn_size)] * self.num_states

        def step(
            run: Callable[[Any], Any], states: list[torch.Tensor], inputs: list[torch.Tensor]
        ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
            *states, output = run([*inputs, *states])
            return states, [output]

        _, (result,) = scan_module(self.core, step, states, [torch.cat([codes[None], vectors])])
        # The code and the start token are always read.
        read = torch.cat([words.new_ones(2), words.sum(1)]) != 0
        return torch.where(read[:, None, None], result, torch.zeros_like(result))


@register(
    "nn.LanguageModel",
    fields=("core", "lookup_table"),
    ignored=(
        *("input_encoding_size", "num_layers", "seq_length", "clones", "lookup_tables"),
        *("state", "inputs", "lookup_tables_inputs", "tmax"),
    ),
)
def caption_model(source: LuaObject, context: Context) -> nn.Module:
    """Convert `LanguageModel.lua` of neuraltalk2; its clones for each step share the weights."""
    states = source.get("init_state")
    layers = int(source.get("num_layers", 1))
    return CaptionModel(
        context.convert(source["core"], ".core"),
        context.convert(source["lookup_table"], ".lookup_table"),
        int(source["vocab_size"]),
        int(source["rnn_size"]),
        int(source.get("num_state", len(states) if states else 2 * layers)),
    )


@layer
class RepeatRows(nn.Module):
    """`FeatExpander.lua`: repeats each row, so that every caption of an image has its features.

    Args:
        times: How often a row stands in the output, one after the other.
    """

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, D) to (N · times, D)."""
        return input.repeat_interleave(self.times, 0)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.times}"


@register("nn.FeatExpander")
def feat_expander(source: LuaObject, context: Context) -> nn.Module:
    """Convert `FeatExpander.lua`: each row repeated n times."""
    return RepeatRows(int(source["n"]))
