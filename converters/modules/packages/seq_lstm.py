"""Recurrent layers of rnn that take a sequence as one tensor (`SeqLSTM.lua`, `SeqGRU.lua`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ...t7 import LuaObject
from ..context import Context
from ..recurrence import Gates, gru_sequence, gru_step, lstm_sequence, scan_steps
from ..registry import layer, register
from .sequencer import remembers


@layer
class SeqLSTM(nn.Module):
    """`SeqLSTM.lua`, `SeqLSTMP.lua`: an LSTM without peepholes.

    It computes the equations of `torch.nn.LSTM`. Its weights are one matrix, (D + R, 4·H), with the
    gates in the order i, f, o, g. Its states are c and h, in this order.

    Args:
        input_size: Number of features D of a step's input.
        hidden_size: Number of features H of the cell.
        output_size: Number of features R of the output if it is projected, otherwise None (R = H).
        batch_first: Whether the sequence is (N, T, D) rather than (T, N, D).
        mask_zero: Whether a step whose input is all zeros outputs zeros and resets the state.
        remember: Whether Torch7 continued from the state of the call before (see `states`).
    """

    num_states = 2

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int | None = None,
        batch_first: bool = False,
        mask_zero: bool = False,
        remember: bool = False,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.output_size = output_size
        self.batch_first = batch_first
        self.mask_zero = mask_zero
        self.remember = remember
        self.memory: list[torch.Tensor] | None = None
        recurrent_size = hidden_size if output_size is None else output_size
        self.weight = nn.Parameter(torch.empty(input_size + recurrent_size, 4 * hidden_size))
        self.bias = nn.Parameter(torch.empty(4 * hidden_size))
        if output_size is not None:
            self.weight_o = nn.Parameter(torch.empty(hidden_size, output_size))

    def forward(self, input: Any) -> torch.Tensor:
        """Map x (T, N, D), `[h0, x]` or `[c0, h0, x]` to (T, N, R); h0 is (N, R), c0 (N, H)."""
        *states, sequence = input if isinstance(input, list) else [*(self.memory or []), input]
        if self.batch_first:
            sequence = sequence.transpose(0, 1)
        batch, gates = sequence.shape[1], self.gates()
        recurrent_size = gates.from_state.shape[1]
        hidden = states[-1] if states else sequence.new_zeros(batch, recurrent_size)
        cell = states[0] if len(states) > 1 else sequence.new_zeros(batch, self.hidden_size)
        if self.output_size is None and not self.mask_zero:
            output, hidden, cell = lstm_sequence(sequence, hidden, cell, gates)
        else:
            sums = functional.linear(sequence, gates.from_input, gates.bias)
            shared = [gates.from_state]
            shared += [] if self.output_size is None else [self.weight_o]
            (hidden, cell), (output,) = scan_steps(
                self._step, [hidden, cell], [sequence, sums], shared
            )
        if self.memory is not None:
            self.memory = [cell, hidden]
        return output.transpose(0, 1) if self.batch_first else output

    def gates(self) -> Gates:
        """Return the weights in the order of torch.nn, i, f, g, o."""
        size = self.hidden_size
        weight, bias = (
            torch.cat([rows[: 2 * size], rows[3 * size :], rows[2 * size : 3 * size]])
            for rows in (self.weight.t(), self.bias)
        )
        from_input, from_state = weight[:, : self.input_size], weight[:, self.input_size :]
        return Gates(from_input, from_state, bias, torch.zeros_like(bias))

    def _step(
        self,
        states: list[torch.Tensor],
        inputs: list[torch.Tensor],
        weights: list[torch.Tensor],
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        (hidden, cell), (step, sums) = states, inputs
        from_state, *projection = weights
        i, f, g, o = (sums + hidden @ from_state.t()).chunk(4, 1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        hidden = o.sigmoid() * cell.tanh()
        if projection:
            hidden = hidden @ projection[0]
        if self.mask_zero:
            padding = (step == 0).all(dim=1, keepdim=True)
            hidden, cell = hidden.masked_fill(padding, 0), cell.masked_fill(padding, 0)
        return [hidden, cell], [hidden]

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        projected = "" if self.output_size is None else f" -> {self.output_size}"
        return f"{self.input_size} -> {self.hidden_size}{projected}"


@layer
class SeqGRU(nn.Module):
    """`SeqGRU.lua`: a GRU, h = (1-u)·tanh(Wx + R(r·h) + b) + u·h.

    The reset gate r is applied before the matrix R; `torch.nn.GRU` applies it after. The weights
    are one matrix, (D + H, 3·H), in the order r, u, candidate.

    Args:
        input_size: Number of features D of a step's input.
        hidden_size: Number of features H of the output.
        batch_first: Whether the sequence is (N, T, D) rather than (T, N, D).
        mask_zero: Whether a step whose input is all zeros outputs zeros and resets the state.
        remember: Whether Torch7 continued from the state of the call before (see `states`).
    """

    num_states = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        batch_first: bool = False,
        mask_zero: bool = False,
        remember: bool = False,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.batch_first = batch_first
        self.mask_zero = mask_zero
        self.remember = remember
        self.memory: list[torch.Tensor] | None = None
        self.weight = nn.Parameter(torch.empty(input_size + hidden_size, 3 * hidden_size))
        self.bias = nn.Parameter(torch.empty(3 * hidden_size))

    def forward(self, input: Any) -> torch.Tensor:
        """Map x (T, N, D), or `[h0, x]` with h0 (N, H), to (T, N, H)."""
        *states, sequence = input if isinstance(input, list) else [*(self.memory or []), input]
        if self.batch_first:
            sequence = sequence.transpose(0, 1)
        gates = self.gates()
        hidden = states[0] if states else sequence.new_zeros(sequence.shape[1], self.hidden_size)
        if self.mask_zero:
            sums = functional.linear(sequence, gates.from_input, gates.bias)
            shared = [gates.from_state, gates.state_bias]
            (hidden,), (output,) = scan_steps(_masked_gru_step, [hidden], [sequence, sums], shared)
        else:
            output, hidden = gru_sequence(sequence, hidden, gates, reset_after=False)
        if self.memory is not None:
            self.memory = [hidden]
        return output.transpose(0, 1) if self.batch_first else output

    def gates(self) -> Gates:
        """Return the weights in the order of torch.nn, r, z, n."""
        weight, size = self.weight.t(), self.input_size
        from_input, from_state = weight[:, :size], weight[:, size:]
        return Gates(from_input, from_state, self.bias, torch.zeros_like(self.bias))

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"{self.input_size} -> {self.hidden_size}"


def _masked_gru_step(
    states: list[torch.Tensor], inputs: list[torch.Tensor], weights: list[torch.Tensor]
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    step, sums = inputs
    (hidden,), _ = gru_step(states, [sums], weights)
    hidden = hidden.masked_fill((step == 0).all(dim=1, keepdim=True), 0)
    return [hidden], [hidden]


#: Sizes, switches and buffers of `SeqLSTM.lua`, `SeqGRU.lua` and torch-rnn's `LSTM.lua`.
SEQUENCE = (
    *(
        "inputsize",
        "outputsize",
        "hiddensize",
        "inputSize",
        "outputSize",
        "input_dim",
        "hidden_dim",
    ),
    *("seqLength", "miniBatch", "recompute_backward", "_return_grad_h0", "_return_grad_c0"),
    *("c0", "h0", "next_h", "next_c", "cell", "gates", "buffer1", "buffer2", "buffer3"),
)


@register("nn.SeqLSTM", "nn.SeqLSTMP", ignored=SEQUENCE)
def seq_lstm(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SeqLSTM.lua`; without a field `batchfirst` the sequences are (N, T, D)."""
    batch_first = source.get("batchfirst")
    if batch_first is None:
        context.note("no field batchfirst: the first version, whose sequences are (N, T, D)")
        batch_first = True
    return fill_seq_lstm(source, context, source["weight"], source.get("weightO"), batch_first)


def fill_seq_lstm(
    source: LuaObject,
    context: Context,
    weight: np.ndarray,
    projection: np.ndarray | None,
    batch_first: bool,
) -> nn.Module:
    """Return a SeqLSTM with the given weights, and the bias and flags of a Torch7 layer."""
    hidden_size = weight.shape[1] // 4
    output_size = None if projection is None else projection.shape[1]
    recurrent_size = hidden_size if output_size is None else output_size
    mask_zero = bool(source.get("maskzero", False))
    with torch.device("meta"):
        module = SeqLSTM(
            len(weight) - recurrent_size,
            hidden_size,
            output_size,
            batch_first,
            mask_zero,
            remembers(source, context),
        )
    if projection is not None:
        context.fill(module, weight_o=projection)
    return context.fill(module, weight=weight, bias=source["bias"])


@register("nn.SeqGRU", ignored=SEQUENCE)
def seq_gru(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SeqGRU.lua`: a GRU over a whole sequence."""
    return fill_seq_gru(source, context, source["weight"])


def fill_seq_gru(source: LuaObject, context: Context, weight: np.ndarray) -> nn.Module:
    """Return a SeqGRU with the given weight, and the bias and flags of a Torch7 layer."""
    hidden_size = weight.shape[1] // 3
    with torch.device("meta"):
        module = SeqGRU(
            len(weight) - hidden_size,
            hidden_size,
            batch_first=bool(source.get("batchfirst", False)),
            mask_zero=bool(source.get("maskzero", False)),
            remember=remembers(source, context),
        )
    return context.fill(module, weight=weight, bias=source["bias"])


@register("nn.SeqLSTM_WN", "nn.SeqLSTMP_WN")
def seq_lstm_weight_norm(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SeqLSTM_WN.lua`, whose input and recurrent weights are normalized separately."""
    inputs = int(source["inputsize"])
    weight = folded(source["v"], source["g"], [inputs], context)
    projection = folded(source["vO"], source["gO"], [], context) if "vO" in source else None
    return fill_seq_lstm(source, context, weight, projection, bool(source.get("batchfirst", False)))


@register("nn.SeqGRU_WN")
def seq_gru_weight_norm(source: LuaObject, context: Context) -> nn.Module:
    """Convert `SeqGRU_WN.lua`, whose input and recurrent weights are normalized separately."""
    weight = folded(source["v"], source["g"], [int(source["inputSize"])], context)
    return fill_seq_gru(source, context, weight)


def folded(
    direction: np.ndarray, length: np.ndarray, cuts: list[int], context: Context
) -> np.ndarray:
    """Return the weight whose columns have the given directions and norms (weight normalization).

    Args:
        direction: (rows, columns).
        length: (blocks, columns): the norms of the columns in each block of rows.
        cuts: The first row of each block but the first.
        context: Gets a note: training changes the weight as a whole from now on.
    """
    context.note("weight normalization is folded into the weight")
    blocks = [
        block * (row / np.maximum(np.linalg.norm(block, axis=0), 1e-16))
        for block, row in zip(np.split(direction, cuts), length, strict=True)
    ]
    return np.concatenate(blocks)
