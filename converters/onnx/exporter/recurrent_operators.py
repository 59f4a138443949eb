"""ONNX's LSTM, GRU and RNN, which a traced graph gets in place of a loop over the steps.

While a module is traced, `recurrence` calls operators that are defined here, and the exporter
translates each to one node. PyTorch runs them as any other operator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset18

from ...modules import recurrence
from ...modules.recurrence import Gates

#: Its annotations are of the arguments of onnxscript functions, not of values while tracing.
op: Any = opset18

#: The gates in ONNX's order, as positions in that of torch.nn.
_LSTM_ORDER = (0, 3, 1, 2)
_GRU_ORDER = (1, 0, 2)
_PEEPHOLE_ORDER = (0, 2, 1)


@torch.library.custom_op("torchlift::lstm_sequence", mutates_args=())
def lstm_sequence(
    sequence: torch.Tensor,
    hidden: torch.Tensor,
    cell: torch.Tensor,
    from_input: torch.Tensor,
    from_state: torch.Tensor,
    bias: torch.Tensor,
    state_bias: torch.Tensor,
    peepholes: torch.Tensor | None,
    reverse: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """See `recurrence.lstm_sequence`."""
    gates = Gates(from_input, from_state, bias, state_bias)
    return recurrence.lstm_sequence(sequence, hidden, cell, gates, peepholes, reverse)


@torch.library.custom_op("torchlift::gru_sequence", mutates_args=())
def gru_sequence(
    sequence: torch.Tensor,
    hidden: torch.Tensor,
    from_input: torch.Tensor,
    from_state: torch.Tensor,
    bias: torch.Tensor,
    state_bias: torch.Tensor,
    reset_after: bool,
    reverse: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `recurrence.gru_sequence`."""
    gates = Gates(from_input, from_state, bias, state_bias)
    return recurrence.gru_sequence(sequence, hidden, gates, reset_after, reverse)


@torch.library.custom_op("torchlift::rnn_sequence", mutates_args=())
def rnn_sequence(
    sequence: torch.Tensor,
    hidden: torch.Tensor,
    from_input: torch.Tensor,
    from_state: torch.Tensor,
    bias: torch.Tensor,
    state_bias: torch.Tensor,
    activation: str,
    reverse: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `recurrence.rnn_sequence`."""
    gates = Gates(from_input, from_state, bias, state_bias)
    return recurrence.rnn_sequence(sequence, hidden, gates, activation, reverse)


@lstm_sequence.register_fake
def _(sequence: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor, *_: Any) -> Any:
    return _outputs_like(sequence, hidden), torch.empty_like(hidden), torch.empty_like(cell)


@gru_sequence.register_fake
@rnn_sequence.register_fake
def _(sequence: torch.Tensor, hidden: torch.Tensor, *_: Any) -> Any:
    return _outputs_like(sequence, hidden), torch.empty_like(hidden)


def _outputs_like(sequence: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    return sequence.new_empty([*sequence.shape[:2], hidden.shape[1]])


#: For `recurrence.recurrent_operators`.
OPERATORS = {
    "lstm_sequence": lstm_sequence,
    "gru_sequence": gru_sequence,
    "rnn_sequence": rnn_sequence,
}


def _lstm_node(
    sequence: Any,
    hidden: Any,
    cell: Any,
    from_input: Any,
    from_state: Any,
    bias: Any,
    state_bias: Any,
    peepholes: Any,
    reverse: bool,
) -> Any:
    weights = _weights((from_input, from_state, bias, state_bias), _LSTM_ORDER)
    if peepholes is not None:
        rows = _reordered(peepholes, _PEEPHOLE_ORDER)
        peepholes = op.Reshape(rows, op.Constant(value_ints=[1, -1]))
    output, last, last_cell = op.LSTM(
        sequence,
        *weights,
        None,
        _with_direction(hidden),
        _with_direction(cell),
        peepholes,
        direction=_direction(reverse),
        hidden_size=hidden.shape[1],
    )
    return _without_direction(output, 1), _without_direction(last), _without_direction(last_cell)


def _gru_node(
    sequence: Any,
    hidden: Any,
    from_input: Any,
    from_state: Any,
    bias: Any,
    state_bias: Any,
    reset_after: bool,
    reverse: bool,
) -> Any:
    output, last = op.GRU(
        sequence,
        *_weights((from_input, from_state, bias, state_bias), _GRU_ORDER),
        None,
        _with_direction(hidden),
        direction=_direction(reverse),
        hidden_size=hidden.shape[1],
        linear_before_reset=int(reset_after),
    )
    return _without_direction(output, 1), _without_direction(last)


def _rnn_node(
    sequence: Any,
    hidden: Any,
    from_input: Any,
    from_state: Any,
    bias: Any,
    state_bias: Any,
    activation: str,
    reverse: bool,
) -> Any:
    output, last = op.RNN(
        sequence,
        *_weights((from_input, from_state, bias, state_bias), (0,)),
        None,
        _with_direction(hidden),
        activations=[activation.capitalize()],
        direction=_direction(reverse),
        hidden_size=hidden.shape[1],
    )
    return _without_direction(output, 1), _without_direction(last)


def _weights(gates: tuple[Any, ...], order: tuple[int, ...]) -> list[Any]:
    """Return W, R and B of an ONNX operator, which has one direction."""
    from_input, from_state, *biases = (_reordered(weight, order) for weight in gates)
    bias = op.Concat(*biases, axis=0)
    return [_with_direction(weight) for weight in (from_input, from_state, bias)]


def _reordered(weight: Any, order: tuple[int, ...]) -> Any:
    if len(order) == 1:
        return weight
    size = weight.shape[0] // len(order)
    rows = [row for gate in order for row in range(gate * size, (gate + 1) * size)]
    return op.Gather(weight, op.Constant(value_ints=rows), axis=0)


def _with_direction(value: Any) -> Any:
    return op.Unsqueeze(value, op.Constant(value_ints=[0]))


def _without_direction(value: Any, axis: int = 0) -> Any:
    return op.Squeeze(value, op.Constant(value_ints=[axis]))


def _direction(reverse: bool) -> str:
    return "reverse" if reverse else "forward"


#: For `torch.onnx.export`: how each operator is translated.
TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.torchlift.lstm_sequence.default: _lstm_node,
    torch.ops.torchlift.gru_sequence.default: _gru_node,
    torch.ops.torchlift.rnn_sequence.default: _rnn_node,
}
