"""Convolutional LSTMs of viorik's ConvLSTM (`ConvLSTM.lua`, `UntiedConvLSTM.lua`).

They keep their state as the layers in `recurrent` do.
"""

from __future__ import annotations

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..layers.container import Container
from ..registry import layer, register
from .alias import convert_as
from .recurrent import RECURRENT, step_module


@layer
class ConvLSTM(Container):
    """`ConvLSTM.lua`: one step of an LSTM whose states are images.

    Args:
        modules: A step, from `[x(t), h(t-1), c(t-1)]` to `[h(t), c(t)]`; in `UntiedConvLSTM.lua`
            also the first step, from x(1).
        out_channels: Number of channels of h and c.
    """

    num_states = 2

    def __init__(self, *modules: nn.Module, out_channels: int) -> None:
        super().__init__(*modules)
        self.out_channels = out_channels
        #: As in `Recurrent`.
        self.first_step_differs = len(modules) > 1
        self.step_state: list[torch.Tensor] | None = None

    def nested(self, states: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return tensors as `step_state` holds them."""
        return states

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, out_channels, H, W), or both without N."""
        state, not_first = (self.step_state or [])[:2], (self.step_state or [])[2:]
        output: torch.Tensor
        if not state and self.first_step_differs:
            output, cell = self[1](input)
        else:
            shape = [*input.shape[:-3], self.out_channels, *input.shape[-2:]]
            output, cell = self[0]([input, *(state or [input.new_zeros(shape)] * 2)])
        if not_first:
            first = self[1](input)
            output, cell = (
                torch.where(not_first[0], later, value)
                for later, value in zip((output, cell), first, strict=True)
            )
        if self.step_state is not None:
            self.step_state = [output, cell, *map(torch.ones_like, not_first)]
        return output


_SIZES = ("kc", "km", "padc", "padm", "stride", "batchSize", "cell2gate")
#: Parts of the step, which stand in it too.
_GATES = (
    *("inputGate", "forgetGate", "cellGate", "outputGate"),
    *("inputGateUntied", "cellGateUntied", "outputGateUntied"),
)


@register("nn.ConvLSTM", ignored=(*RECURRENT, *_SIZES, *_GATES))
def conv_lstm(source: LuaObject, context: Context) -> nn.Module:
    """Convert `ConvLSTM.lua`; `recurrentModule` is a whole step."""
    return ConvLSTM(step_module(source, context), out_channels=int(source["outputSize"]))


@register("nn.UntiedConvLSTM", ignored=(*RECURRENT, *_SIZES, *_GATES))
def untied_conv_lstm(source: LuaObject, context: Context) -> nn.Module:
    """Convert `UntiedConvLSTM.lua`, whose first step has weights of its own."""
    first = context.convert(source["untiedModule"], ".untiedModule")
    return ConvLSTM(step_module(source, context), first, out_channels=int(source["outputSize"]))


@register("nn.SpatialConvolutionNoBias", "cudnn.SpatialConvolutionNoBias")
def spatial_convolution_no_bias(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SpatialConvolutionNoBias.lua` of extracunn: a convolution without a bias."""
    return convert_as("nn.SpatialConvolution", source, context, bias=None)
