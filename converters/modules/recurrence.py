"""Recurrences over a sequence: loops in PyTorch, single operators where a graph is made of them.

`torch.export` would copy the body of a loop once for every step. So the layers say what one step
computes, or that they are an LSTM, a GRU or a plain recurrent layer, and a graph gets one operator:
`torch.ops.higher_order.scan`, or what `recurrent_operators` names, such as ONNX's LSTM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

#: One step: from the states, a step of each sequence and the weights to the new states and outputs.
CellStep = Callable[
    [list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]],
    tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]],
]

#: Operators that stand for `lstm_sequence`, `gru_sequence` and `rnn_sequence` while a graph is
#: made; nothing else of a run depends on it.
_OPERATORS: ContextVar[Mapping[str, Callable[..., Any]] | None] = ContextVar(
    "recurrent operators", default=None
)
#: The steps of a network that are one of these three, while a graph is made.
_CELLS: ContextVar[Mapping[nn.Module, Any] | None] = ContextVar("recurrent cells", default=None)


class Gates(NamedTuple):
    """The weights of a recurrent layer, its gates one after the other along the first axis.

    The gates have the order of torch.nn: i, f, g, o of an LSTM, r, z, n of a GRU.

    Attributes:
        from_input: (gates · H, D).
        from_state: (gates · H, H).
        bias: (gates · H,), added to the product with the input.
        state_bias: (gates · H,), added to the product with the state.
    """

    from_input: torch.Tensor
    from_state: torch.Tensor
    bias: torch.Tensor
    state_bias: torch.Tensor


@contextmanager
def recurrent_operators(
    operators: Mapping[str, Callable[..., Any]], cells: Mapping[nn.Module, Any]
) -> Iterator[None]:
    """Have the functions of this file call operators.

    Args:
        operators: The operators, by the functions' names.
        cells: What `cells.find_cells` found in the network.
    """
    tokens = _OPERATORS.set(operators), _CELLS.set(cells)
    try:
        yield
    finally:
        _OPERATORS.reset(tokens[0])
        _CELLS.reset(tokens[1])


def known_cell(module: nn.Module) -> Any:
    """Return the cell that a module computes one step of, while a graph is made of operators."""
    return (_CELLS.get() or {}).get(module)


def scan_steps(
    step: CellStep,
    states: Sequence[torch.Tensor],
    sequences: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor] = (),
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Apply a function to every step of sequences, the states of one step given to the next.

    Args:
        step: The function. It uses no other tensors than those it is given.
        states: The states before the first step.
        sequences: Tensors (T, …).
        weights: What all steps share.

    Returns:
        The states after the last step, and the outputs, each (T, …).

    Example:
        >>> def add(states, inputs, weights):
        ...     total = states[0] + inputs[0]
        ...     return [total], [total]
        >>> scan_steps(add, [torch.zeros(())], [torch.tensor([1.0, 2.0, 3.0])])
        ([tensor(6.)], [tensor([1., 3., 6.])])
    """
    if torch.compiler.is_exporting():
        return _scan_operator(step, states, sequences, weights)
    current, outputs = list(states), []
    for inputs in zip(*(sequence.unbind(0) for sequence in sequences), strict=True):
        new, output = step(current, list(inputs), list(weights))
        current = list(new)
        outputs.append(output)
    return current, [torch.stack(column) for column in zip(*outputs, strict=True)]


def _scan_operator(
    step: CellStep,
    states: Sequence[torch.Tensor],
    sequences: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    first, second = len(states), len(states) + len(sequences)

    def body(*values: torch.Tensor) -> list[torch.Tensor]:
        given = list(values)
        new, outputs = step(given[:first], given[first:second], given[second:])
        # What the operator gives may not share memory with what it takes, or with itself.
        return [value.clone() for value in (*new, *outputs)]

    # Two states may begin as one tensor of zeros.
    first_states = [value.clone(memory_format=torch.contiguous_format) for value in states]
    result = torch.ops.higher_order.scan(body, first_states, list(sequences), tuple(weights))
    return list(result[:first]), list(result[first:])


def scan_module(
    module: nn.Module,
    step: Callable[
        [Callable[[Any], Any], list[torch.Tensor], list[torch.Tensor]],
        tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]],
    ],
    states: Sequence[torch.Tensor],
    sequences: Sequence[torch.Tensor],
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Apply a function that calls a module to every step of sequences (see `scan_steps`).

    Args:
        module: The module, whose parameters all steps share.
        step: From the module to call, the states and the inputs of one step to the new states and
            outputs.
        states: As for `scan_steps`.
        sequences: As for `scan_steps`.
    """
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}

    def pure(
        states: list[torch.Tensor], inputs: list[torch.Tensor], weights: list[torch.Tensor]
    ) -> tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]:
        given = dict(zip(tensors, weights, strict=True))
        return step(lambda value: functional_call(module, given, (value,)), states, inputs)

    if torch.compiler.is_exporting():
        # torch.export puts a proxy in its place, which loses a module that is in it twice.
        module = getattr(module, "get_base", lambda: module)()
        return scan_steps(pure, states, sequences, list(tensors.values()))
    return scan_steps(lambda *given: step(module, *given[:2]), states, sequences)


def lstm_sequence(
    sequence: torch.Tensor,
    hidden: torch.Tensor,
    cell: torch.Tensor,
    gates: Gates,
    peepholes: torch.Tensor | None = None,
    reverse: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the outputs (T, N, H) of an LSTM, and its last h and c.

    Args:
        sequence: (T, N, D).
        hidden: (N, H), h before the first step.
        cell: (N, H), c before the first step.
        gates: The weights; i, f, g, o.
        peepholes: (3, H), what c is multiplied with in the gates i, f and o; c(t) in the last.
        reverse: Whether the last step is computed first.
    """
    if operators := _OPERATORS.get():
        given = (sequence, hidden, cell, *gates, peepholes, reverse)
        outcome: tuple[torch.Tensor, ...] = operators["lstm_sequence"](*given)
        return outcome[0], outcome[1], outcome[2]
    sequence = sequence.flip(0) if reverse else sequence
    sums = functional.linear(sequence, gates.from_input, gates.bias)
    shared = [gates.from_state, gates.state_bias]
    shared += [] if peepholes is None else [peepholes]
    (hidden, cell), (output,) = scan_steps(_lstm_step, [hidden, cell], [sums], shared)
    return (output.flip(0) if reverse else output), hidden, cell


def _lstm_step(
    states: list[torch.Tensor], inputs: list[torch.Tensor], weights: list[torch.Tensor]
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    hidden, cell = states
    from_state, bias, *peepholes = weights
    i, f, g, o = (inputs[0] + functional.linear(hidden, from_state, bias)).chunk(4, 1)
    if peepholes:
        i, f = i + peepholes[0][0] * cell, f + peepholes[0][1] * cell
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    o = o + peepholes[0][2] * cell if peepholes else o
    hidden = o.sigmoid() * cell.tanh()
    return [hidden, cell], [hidden]


def gru_sequence(
    sequence: torch.Tensor,
    hidden: torch.Tensor,
    gates: Gates,
    reset_after: bool,
    reverse: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the outputs (T, N, H) of a GRU, and its last h.

    Args:
        sequence: (T, N, D).
        hidden: (N, H), h before the first step.
        gates: The weights; r, z, n.
        reset_after: Whether the reset gate is multiplied with the product of h and its weights, as
            in torch.nn, and not with h.
        reverse: Whether the last step is computed first.
    """
    if operators := _OPERATORS.get():
        given = (sequence, hidden, *gates, reset_after, reverse)
        outcome: tuple[torch.Tensor, ...] = operators["gru_sequence"](*given)
        return outcome[0], outcome[1]
    sequence = sequence.flip(0) if reverse else sequence
    sums = functional.linear(sequence, gates.from_input, gates.bias)
    step = _gru_step_reset_after if reset_after else gru_step
    (hidden,), (output,) = scan_steps(step, [hidden], [sums], [gates.from_state, gates.state_bias])
    return (output.flip(0) if reverse else output), hidden


def gru_step(
    states: list[torch.Tensor], inputs: list[torch.Tensor], weights: list[torch.Tensor]
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Compute one step of a GRU that multiplies the reset gate with h (see `CellStep`)."""
    hidden, size = states[0], states[0].shape[1]
    (to_gates, to_new), (gates_bias, new_bias) = (
        weight.split([2 * size, size]) for weight in weights
    )
    from_state = functional.linear(hidden, to_gates, gates_bias)
    r, z = (inputs[0][:, : 2 * size] + from_state).sigmoid().chunk(2, 1)
    n = (inputs[0][:, 2 * size :] + functional.linear(r * hidden, to_new, new_bias)).tanh()
    hidden = n + z * (hidden - n)
    return [hidden], [hidden]


def _gru_step_reset_after(
    states: list[torch.Tensor], inputs: list[torch.Tensor], weights: list[torch.Tensor]
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    hidden = states[0]
    input_r, input_z, input_n = inputs[0].chunk(3, 1)
    state_r, state_z, state_n = functional.linear(hidden, *weights).chunk(3, 1)
    n = (input_n + (input_r + state_r).sigmoid() * state_n).tanh()
    hidden = n + (input_z + state_z).sigmoid() * (hidden - n)
    return [hidden], [hidden]


def rnn_sequence(
    sequence: torch.Tensor,
    hidden: torch.Tensor,
    gates: Gates,
    activation: str = "tanh",
    reverse: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the outputs (T, N, H) of a plain recurrent layer, and its last h.

    Args:
        sequence: (T, N, D).
        hidden: (N, H), h before the first step.
        gates: The weights, of one gate.
        activation: `tanh`, `relu` or `sigmoid`.
        reverse: Whether the last step is computed first.
    """
    if operators := _OPERATORS.get():
        given = (sequence, hidden, *gates, activation, reverse)
        outcome: tuple[torch.Tensor, ...] = operators["rnn_sequence"](*given)
        return outcome[0], outcome[1]

    def step(
        states: list[torch.Tensor], inputs: list[torch.Tensor], weights: list[torch.Tensor]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        hidden = getattr(inputs[0] + functional.linear(states[0], *weights), activation)()
        return [hidden], [hidden]

    sequence = sequence.flip(0) if reverse else sequence
    sums = functional.linear(sequence, gates.from_input, gates.bias)
    (hidden,), (output,) = scan_steps(step, [hidden], [sums], [gates.from_state, gates.state_bias])
    return (output.flip(0) if reverse else output), hidden
