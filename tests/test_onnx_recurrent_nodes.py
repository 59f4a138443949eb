"""ONNX's recurrent operators as the exporter writes them, in either direction, against NumPy.

onnxscript runs an operator at once where it is given arrays, so that nothing is traced here. What
PyTorch computes in their place while a network is traced is compared with the same numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from torchlift.converters.onnx.exporter.recurrent_operators import (
    OPERATORS,
    _gru_node,
    _lstm_node,
    _rnn_node,
)

STEPS, BATCH, WIDTH, STATES = 4, 2, 3, 2
RANDOM = np.random.default_rng(0)


def numbers(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def weights(gates: int) -> tuple[np.ndarray, ...]:
    """Return the weights of the input and of the state, and both biases."""
    rows = gates * STATES
    return numbers(rows, WIDTH), numbers(rows, STATES), numbers(rows), numbers(rows)


SEQUENCE, HIDDEN, CELL = (
    numbers(STEPS, BATCH, WIDTH),
    numbers(BATCH, STATES),
    numbers(BATCH, STATES),
)
PEEPHOLES = numbers(3, STATES)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def steps_of(reverse: bool) -> list[int]:
    return list(range(STEPS))[:: -1 if reverse else 1]


def compared(found: Any, outputs: dict[int, np.ndarray], *states: np.ndarray) -> None:
    expected = [np.stack([outputs[step] for step in range(STEPS)]), *states]
    for actual, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(getattr(actual, "value", actual), wanted, rtol=1e-4, atol=1e-5)


def in_torch(name: str, *given: Any) -> list[np.ndarray]:
    """Return what the operator of a traced graph gives in PyTorch, once its sizes are as told."""
    tensors = [torch.as_tensor(one) if isinstance(one, np.ndarray) else one for one in given]
    found = OPERATORS[name](*tensors)
    meta = [one.to("meta") if isinstance(one, torch.Tensor) else one for one in tensors]
    told = OPERATORS[name](*meta)
    assert [one.shape for one in told] == [one.shape for one in found]
    assert [one.dtype for one in told] == [torch.float32] * len(found)
    return [one.numpy() for one in found]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("peepholes", [None, PEEPHOLES], ids=["plain", "peepholes"])
def test_an_lstm_has_its_gates_in_the_order_of_onnx(
    peepholes: np.ndarray | None, reverse: bool
) -> None:
    from_input, from_state, *biases = weights(4)
    h, c, outputs = HIDDEN, CELL, {}
    at_input, at_forget, at_output = np.zeros((3, STATES)) if peepholes is None else peepholes
    for step in steps_of(reverse):
        gates = SEQUENCE[step] @ from_input.T + h @ from_state.T + sum(biases)
        i, f, g, o = np.split(gates, 4, axis=1)
        new = sigmoid(f + at_forget * c) * c + sigmoid(i + at_input * c) * np.tanh(g)
        h, c = sigmoid(o + at_output * new) * np.tanh(new), new
        outputs[step] = h
    given = (SEQUENCE, HIDDEN, CELL, from_input, from_state, *biases, peepholes, reverse)
    compared(_lstm_node(*given), outputs, h, c)
    compared(in_torch("lstm_sequence", *given), outputs, h, c)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("reset_after", [False, True])
def test_a_gru_resets_before_or_behind_the_product(reset_after: bool, reverse: bool) -> None:
    from_input, from_state, bias, state_bias = weights(3)
    h, outputs = HIDDEN, {}
    for step in steps_of(reverse):
        of_input = np.split(SEQUENCE[step] @ from_input.T + bias, 3, axis=1)
        of_state = np.split(h @ from_state.T + state_bias, 3, axis=1)
        r, z = (sigmoid(of_input[gate] + of_state[gate]) for gate in (0, 1))
        new = (r * h) @ from_state[-STATES:].T + state_bias[-STATES:]
        n = np.tanh(of_input[2] + (r * of_state[2] if reset_after else new))
        h = (1 - z) * n + z * h
        outputs[step] = h
    given = (SEQUENCE, HIDDEN, from_input, from_state, bias, state_bias, reset_after, reverse)
    compared(_gru_node(*given), outputs, h)
    compared(in_torch("gru_sequence", *given), outputs, h)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
def test_a_plain_recurrent_layer_has_its_activation(activation: str, reverse: bool) -> None:
    apply = {"tanh": np.tanh, "relu": lambda x: np.maximum(x, 0), "sigmoid": sigmoid}[activation]
    from_input, from_state, *biases = weights(1)
    h, outputs = HIDDEN, {}
    for step in steps_of(reverse):
        h = apply(SEQUENCE[step] @ from_input.T + h @ from_state.T + sum(biases))
        outputs[step] = h
    given = (SEQUENCE, HIDDEN, from_input, from_state, *biases, activation, reverse)
    compared(_rnn_node(*given), outputs, h)
    compared(in_torch("rnn_sequence", *given), outputs, h)
