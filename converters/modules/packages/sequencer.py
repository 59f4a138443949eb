"""Layers of rnn that apply others to every step of a sequence (`Sequencer.lua`, `Repeater.lua`, …).

A sequence is a list of T tensors. Every call starts from a zero state and discards the last one. In
Torch7, `remember()` made a call continue from the state of the call before: this is noted, not
done, so that equal inputs always give equal outputs (see `states`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..layers.container import Container
from ..registry import layer, register
from .recurrent import RECURRENT
from .whole_sequences import each_step, one_sequence, recurrent_layers, run_on_sequence


@layer
class Sequencer(Container):
    """`Sequencer.lua`: applies a module to every step of a sequence.

    Args:
        modules: The module of one step.
        remember: Whether Torch7 continued from the state of the call before (see `states`).
    """

    def __init__(self, *modules: nn.Module, remember: bool = False) -> None:
        super().__init__(*modules)
        self.remember = remember
        self.memory: list[torch.Tensor] | None = None

    @property
    def num_states(self) -> int:
        """How many tensors the states of the layers inside are."""
        return sum(getattr(layer, "num_states", 0) for layer in recurrent_layers(self))

    def forward(self, input: Any) -> Any:
        """Map a list of T tensors (N, …) to T outputs, or a tensor (T, N, …) to a tensor."""
        output: Any
        if not isinstance(input, torch.Tensor):
            output, memory = each_step(self[0], input, self.memory or ())
        elif torch.compiler.is_exporting():
            output, memory = run_on_sequence(self[0], input, self.memory or ())
        else:
            steps, memory = each_step(self[0], list(input), self.memory or ())
            output = torch.stack(steps)
        if self.memory is not None:
            self.memory = memory
        return output


@layer
class Repeater(Container):
    """`Repeater.lua`: applies a recurrent module to the same input at every step.

    Args:
        modules: The recurrent module.
        steps: Number of steps.
    """

    def __init__(self, *modules: nn.Module, steps: int) -> None:
        super().__init__(*modules)
        self.steps = steps

    def forward(self, input: Any) -> list[Any]:
        """Map one input to the list of the outputs of all steps."""
        return each_step(self[0], [input] * self.steps)[0]


@layer
class RecurrentAttention(Container):
    """`RecurrentAttention.lua`: a recurrent module that chooses a location at each step.

    Args:
        modules: The recurrent module, which takes `[input, action]`, and the module that computes
            an action from its last output (from zeros at the first step).
        steps: Number of steps.
        hidden_size: Shape of the recurrent module's output for one example.
        forward_actions: Whether to return `[output, action]` for each step.
    """

    def __init__(
        self,
        *modules: nn.Module,
        steps: int,
        hidden_size: list[int],
        forward_actions: bool = False,
    ) -> None:
        super().__init__(*modules)
        self.steps = steps
        self.hidden_size = hidden_size
        self.forward_actions = forward_actions

    def forward(self, input: torch.Tensor) -> list[Any]:
        """Map (N, …) to the list of the outputs of all steps."""
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
class BiSequencerLM(Container):
    """`BiSequencerLM.lua`: for each step, the merged outputs for the steps before and after it.

    Args:
        modules: The forward module (over steps 1 to T-1), the backward module (over steps 2 to T),
            and the module that merges their outputs, padded with zeros to T steps.
    """

    def forward(self, input: list[Any]) -> Any:
        """Map a list of T > 1 tensors (N, …) to T outputs."""
        forward, backward, merge = self
        before, after = forward(input[:-1]), backward(input[1:])
        first, last = torch.zeros_like(before[0]), torch.zeros_like(after[0])
        return merge([[first, *before], [*after, last]])


@register("nn.Sequencer", ignored=("tablegradinput",))
def sequencer(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Sequencer.lua`: a module applied to every step of a sequence."""
    return Sequencer(*context.children(source), remember=remembers(source, context))


@register("nn.Repeater")
def repeater(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Repeater.lua`; the number of steps is `nStep`, in newer files `rho`."""
    steps = source["nStep"] if "nStep" in source else source["rho"]
    return Repeater(*context.children(source), steps=int(steps))


@register("nn.RecurrentAttention")
def recurrent_attention(source: LuaObject, context: Context) -> nn.Module:
    """Convert `RecurrentAttention.lua`, whose `hiddenSize` is a table."""
    return RecurrentAttention(
        *context.children(source),
        steps=int(source["nStep"]),
        hidden_size=[int(size) for size in source["hiddenSize"].to_list()],
        forward_actions=bool(source.get("forwardActions", False)),
    )


@register("nn.BiSequencerLM")
def bi_sequencer_lm(source: LuaObject, context: Context) -> nn.Module:
    """Convert `BiSequencerLM.lua` by its three children: forward, backward and merge."""
    return BiSequencerLM(*context.children(source))


@register("nn.BiSequencer", "nn.SeqBRNN", "nn.Recursor", ignored=(*RECURRENT, "dim"))
def decorator(source: LuaObject, context: Context) -> nn.Module:
    """Convert `BiSequencer.lua`, `SeqBRNN.lua` or `Recursor.lua` to the module inside."""
    return nn.Sequential(*context.children(source))


def remembers(source: LuaObject, context: Context) -> bool:
    """Return whether a layer kept its state between calls of Torch7 in evaluation, with a note.

    It is `Sequencer:remember` of rnn, and `remember_states` of torch-rnn.
    """
    remember = source.get("_remember", "neither")
    if remember != "neither" or source.get("remember_states"):
        when = {"train": "in training", "eval": "in evaluation"}.get(remember, "always")
        context.note(
            f"Torch7 continued from the state of the call before ({when}); "
            "here every call starts from zero: an exported .onnx takes and returns the states"
        )
    return bool(source.get("remember_states")) or remember in ("both", "eval")
