"""Layers of rnn that run others over a sequence (`Sequencer.lua`, `Repeater.lua`, …).

A sequence is a list of T tensors. Every call starts from a zero state and ends without one; what
`remember()` did in Torch7, going on where the last call had stopped, is noted and not done, so that
the same input always gives the same output.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@contextmanager
def one_sequence(module: nn.Module) -> Iterator[None]:
    """While it lasts, the recurrent layers inside a module go on from step to step."""
    recurrent: list[Any] = [part for part in module.modules() if hasattr(part, "step_state")]
    try:
        for part in recurrent:
            part.step_state = []
        yield
    finally:
        for part in recurrent:
            part.step_state = None


@layer
class Sequencer(nn.ModuleList):
    """`Sequencer.lua`: a module at every step of a sequence.

    Args:
        modules: the module of one step.
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__(modules)

    def forward(self, input: Any) -> Any:
        """T tensors (N, …) → T outputs; a tensor (T, N, …) gives one of the same kind."""
        with one_sequence(self):
            outputs = [self[0](step) for step in input]
        return torch.stack(outputs) if isinstance(input, torch.Tensor) else outputs


@layer
class Repeater(nn.ModuleList):
    """`Repeater.lua`: a recurrent module that gets the same input at every step.

    Args:
        modules: the recurrent module.
        steps: how many steps.
    """

    def __init__(self, *modules: nn.Module, steps: int) -> None:
        super().__init__(modules)
        self.steps = steps

    def forward(self, input: Any) -> list[Any]:
        """One input → a list of the outputs of all steps."""
        with one_sequence(self):
            return [self[0](input) for _ in range(self.steps)]


@layer
class RecurrentAttention(nn.ModuleList):
    """`RecurrentAttention.lua`: a recurrent module that chooses at each step where to look.

    Args:
        modules: the recurrent module, of `[input, action]`, and the module that makes an action
            of its last output (of zeros at the first step).
        steps: how many steps.
        hidden_size: shape of the recurrent module's output for one example.
        forward_actions: give `[output, action]` at every step.
    """

    def __init__(
        self,
        *modules: nn.Module,
        steps: int,
        hidden_size: list[int],
        forward_actions: bool = False,
    ) -> None:
        super().__init__(modules)
        self.steps = steps
        self.hidden_size = hidden_size
        self.forward_actions = forward_actions

    def forward(self, input: torch.Tensor) -> list[Any]:
        """(N, …) → a list of the outputs of all steps."""
        recurrent, choose = self
        hidden = input.new_zeros([input.shape[0], *self.hidden_size])
        outputs: list[Any] = []
        with one_sequence(self):
            for _ in range(self.steps):
                action = choose(hidden)
                hidden = recurrent([input, action])
                outputs.append([hidden, action] if self.forward_actions else hidden)
        return outputs


@layer
class BiSequencerLM(nn.ModuleList):
    """`BiSequencerLM.lua`: at each step what came before it and what comes after, merged.

    Args:
        modules: forward (over steps 1 to T-1), backward (over steps 2 to T), and the merge of
            both lists, each filled with zeros where nothing is known.
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__(modules)

    def forward(self, input: list[Any]) -> Any:
        """T tensors (N, …), T > 1 → T outputs."""
        forward, backward, merge = self
        before, after = forward(input[:-1]), backward(input[1:])
        first, last = torch.zeros_like(before[0]), torch.zeros_like(after[0])
        return merge([[first, *before], [*after, last]])


@register("nn.Sequencer")
def sequencer(source: LuaObject, context: Context) -> nn.Module:
    """`Sequencer.lua`."""
    note_remember(source, context)
    return Sequencer(*context.children(source))


@register("nn.Repeater")
def repeater(source: LuaObject, context: Context) -> nn.Module:
    """`Repeater.lua`; the number of steps was first called `nStep`, then `rho`."""
    steps = source["nStep"] if "nStep" in source else source["rho"]
    return Repeater(*context.children(source), steps=int(steps))


@register("nn.RecurrentAttention")
def recurrent_attention(source: LuaObject, context: Context) -> nn.Module:
    """`RecurrentAttention.lua`; hiddenSize is a table."""
    return RecurrentAttention(
        *context.children(source),
        steps=int(source["nStep"]),
        hidden_size=[int(size) for size in source["hiddenSize"].to_list()],
        forward_actions=bool(source.get("forwardActions", False)),
    )


@register("nn.BiSequencerLM")
def bi_sequencer_lm(source: LuaObject, context: Context) -> nn.Module:
    """`BiSequencerLM.lua`; forward, backward and merge are Sequencers with what is around them."""
    return BiSequencerLM(*context.children(source))


@register("nn.BiSequencer", "nn.SeqBRNN", "nn.Recursor")
def decorator(source: LuaObject, context: Context) -> nn.Module:
    """`BiSequencer.lua`, `SeqBRNN.lua`, `Recursor.lua`: all is done by the module inside."""
    return nn.Sequential(*context.children(source))


def note_remember(source: LuaObject, context: Context) -> None:
    """Tell that a layer kept its state between calls in Torch7 (`Sequencer:remember`)."""
    remember = source.get("_remember", "neither")
    if remember != "neither" or source.get("remember_states"):
        when = {"train": "in training", "eval": "in evaluation"}.get(remember, "always")
        context.note(
            f"Torch7 went on from the state of the call before ({when}); "
            "here every call starts from zero"
        )
