"""Layers of crnn, which reads words in images (`LstmLayer.lua`, `BiRnnJoin.lua`, …).

A sequence is a list of T tensors (N, …). The clones that a file holds for each step share the
weights of the first, and are not needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..layers.container import Container
from ..recurrence import scan_module
from ..registry import layer, register
from .whole_sequences import each_step

_CLONES = ("clones", "maxT", "initState", "rnnState", "drnnState", "dropout", "modules")


@layer
class LstmLayer(Container):
    """`LstmLayer.lua`: an LSTM over a sequence, from its first or from its last step.

    Args:
        modules: One step, from `[x, c, h]` to `[c, h, output]`.
        hidden_size: Number of features of c and h.
        reverse: Whether to begin with the last step.
    """

    def __init__(self, *modules: nn.Module, hidden_size: int, reverse: bool = False) -> None:
        super().__init__(*modules)
        self.hidden_size = hidden_size
        self.reverse = reverse

    def forward(self, input: list[torch.Tensor]) -> list[torch.Tensor]:
        """Map a list of T tensors (N, in) to T tensors (N, hidden_size)."""
        zero = input[0].new_zeros(input[0].shape[0], self.hidden_size)
        sequence = torch.stack(input[::-1] if self.reverse else input)

        def step(
            run: Callable[[Any], Any], states: list[torch.Tensor], inputs: list[torch.Tensor]
        ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
            *states, output = run([*inputs, *states])
            return states, [output]

        _, (outputs,) = scan_module(self[0], step, [zero, zero], [sequence])
        steps = list(outputs)
        return steps[::-1] if self.reverse else steps


@register("nn.LstmLayer", ignored=_CLONES)
def lstm_layer(source: LuaObject, context: Context) -> nn.Module:
    """Convert `LstmLayer.lua` by the module of one step."""
    return LstmLayer(
        context.convert(source["lstmUnit"], ".lstmUnit"),
        hidden_size=int(source["nHidden"]),
        reverse=bool(source.get("reverse", False)),
    )


@layer
class JoinDirections(Container):
    """`BiRnnJoin.lua`: joins two sequences step by step.

    Args:
        modules: What makes one output of a pair of steps.
    """

    def forward(self, input: list[list[torch.Tensor]]) -> list[Any]:
        """Map `[T tensors, T tensors]` to T outputs."""
        pairs = [[first, second] for first, second in zip(*input, strict=True)]
        return each_step(self[0], pairs)[0]


@register("nn.BiRnnJoin", ignored=_CLONES)
def bi_rnn_join(source: LuaObject, context: Context) -> nn.Module:
    """Convert `BiRnnJoin.lua`: the sum of two linear maps at each step."""
    return JoinDirections(context.convert(source["joinUnit"], ".joinUnit"))


@layer
class EachStep(Container):
    """`SharedParallelTable.lua`: one module on every step of a sequence.

    Args:
        modules: The module.
    """

    def forward(self, input: list[Any]) -> list[Any]:
        """Map a list of T values to T outputs."""
        return each_step(self[0], input)[0]


@register("nn.SharedParallelTable", ignored=_CLONES)
def shared_parallel_table(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SharedParallelTable.lua`: one module on every entry of a table."""
    return EachStep(context.convert(source["unit"], ".unit"))
