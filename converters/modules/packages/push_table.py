"""A value that leaves a table at one place of a network and enters one at another (nnx)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class PushTable(nn.Module):
    """`PushTable.lua`: takes one value out of a table.

    Args:
        index: Index of the value, from 0.
    """

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, input: list[Any]) -> list[Any]:
        """Map a table to the same table without the value."""
        return [*input[: self.index], *input[self.index + 1 :]]

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.index}"


@layer
class PullTable(nn.Module):
    """`PullTable.lua`: puts the value that a `PushTable` took out into a table.

    Args:
        push: The layer that takes it out, elsewhere in the network. Several may pull its value.
        index: Index that the value has in the output, from 0.
    """

    def __init__(self, push: nn.Module, index: int) -> None:
        super().__init__()
        self.push = push
        self.index = index
        self._pushed: list[Any] = []
        push.register_forward_hook(self._remember)

    def _remember(self, push: Any, inputs: tuple[Any, ...], _: list[Any]) -> None:
        self._pushed[:] = [inputs[0][push.index]]

    def forward(self, input: Any) -> list[Any]:
        """Map a table, or one tensor, to a table with the value in it.

        Raises:
            RuntimeError: If the layer that pushes the value has not run since the last call, or
                if the table is too short for the index.
        """
        values = [input] if isinstance(input, torch.Tensor) else list(input)
        if not self._pushed:
            raise RuntimeError("nothing was pushed: run the network's PushTable first")
        if self.index > len(values):
            raise RuntimeError(f"index {self.index} of a table of {len(values)} values")
        values.insert(self.index, self._pushed.pop())
        return values

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"index={self.index}"


@register("nn.PushTable", ignored=("_pulls", "_gradInput", "_forward"))
def push_table(source: LuaObject, context: Context) -> nn.Module:
    """Convert `PushTable.lua`; the layers that pull its value refer to it."""
    return PushTable(int(source["_index"]) - 1)


@register("nn.PullTable", ignored=("_output",))
def pull_table(source: LuaObject, context: Context) -> nn.Module:
    """Convert `PullTable.lua`; `_push` is the same object as elsewhere in the model."""
    return PullTable(context.convert(source["_push"], "._push"), int(source["_index"]) - 1)
