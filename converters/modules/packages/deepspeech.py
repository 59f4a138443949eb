"""Layers of deepspeech.torch (`BatchBRNN.lua`, `BatchBRNNReLU.lua`)."""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..layers.container import Container
from ..registry import layer, register


@layer
class BatchBRNN(Container):
    """`BatchBRNN.lua`: recurrent layers behind a linear layer and a normalization of all steps.

    The outputs of both directions are added.

    Args:
        modules: The linear layer and the batch normalization, the recurrent layers, and what comes
            after them and before the sum.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (T, N, in) to (T, N, out)."""
        linear, normalization, rnn, *behind = self
        steps = normalization(linear(input.flatten(0, 1))).unflatten(0, input.shape[:2])
        output: torch.Tensor = rnn(steps)
        for module in behind:
            output = module(output)
        return output.reshape([*output.shape[:2], 2, -1]).sum(2)


@register("cudnn.BatchBRNN", "cudnn.BatchBRNNReLU", ignored=("view_in", "view_out", "rnn"))
def batch_brnn(source: LuaObject, context: Context) -> nn.Module:
    """Convert `BatchBRNN.lua`; the views between its modules get their sizes at every call."""
    known = ("nn.View", "nn.Sum")
    modules = [
        context.convert(child, f".modules[{index}]")
        for index, child in enumerate(source["modules"].to_list(), 1)
        if getattr(child, "class_name", "") not in known
    ]
    return BatchBRNN(*modules)
