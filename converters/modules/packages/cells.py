"""Recognition of the LSTM, GRU and plain recurrent cells among the networks of one step.

Packages build a cell of small layers, in several ways and orders of the gates. Which cell it is,
and in which order the gates are, is found by numbers: a copy with random weights must compute what
the equations of the cell give, in double precision, on random and on zero inputs.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product

import torch
from torch import nn

from ..layers.arithmetic import CMul
from ..recurrence import Gates, gru_sequence, lstm_sequence, rnn_sequence
from .recurrent import LSTM, Recurrence

#: Double precision: only the order of summation differs.
_EXACT = 1e-12
#: Orders of the gates that packages use, of those that torch.nn has; then all others.
_USUAL_ORDERS = ((0, 2, 1, 3), (0, 1, 2, 3), (0, 1, 2))
_ACTIVATIONS = ("tanh", "sigmoid", "relu")


@dataclass(frozen=True)
class Cell:
    """A step that is an LSTM, a GRU (whose reset gate is multiplied with h) or a plain one.

    Attributes:
        from_input: The linear layers of the input, in the order of their gates.
        from_state: Those of h.
        order: The position of each gate of torch.nn (see `Gates`) in these layers.
        peepholes: The layers that multiply c, for the gates i, f and o.
        activation: That of a plain recurrent layer.
    """

    from_input: Sequence[nn.Linear]
    from_state: Sequence[nn.Linear]
    order: tuple[int, ...]
    peepholes: Sequence[CMul] = ()
    activation: str = "tanh"

    def run(
        self, sequence: torch.Tensor, states: Sequence[torch.Tensor] = ()
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Map (T, N, D) to the outputs (T, N, H) and the last states.

        Args:
            sequence: The inputs.
            states: h, and c of an LSTM, before the first step, each (N, H); none for zeros.
        """
        gates = self._gates()
        zero = sequence.new_zeros(sequence.shape[1], gates.from_state.shape[1])
        hidden, cell = (*states, zero, zero)[:2] if states else (zero, zero)
        if len(self.order) == 4:
            peepholes = None
            if self.peepholes:
                peepholes = torch.cat([layer.weight.reshape(1, -1) for layer in self.peepholes])
            output, *after = lstm_sequence(sequence, hidden, cell, gates, peepholes)
        elif len(self.order) == 3:
            output, *after = gru_sequence(sequence, hidden, gates, reset_after=False)
        else:
            output, *after = rnn_sequence(sequence, hidden, gates, self.activation)
        return output, after

    def _gates(self) -> Gates:
        weights, biases = [], []
        for layers in (self.from_input, self.from_state):
            rows = torch.cat([layer.weight for layer in layers])
            bias = torch.cat(
                [
                    layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias
                    for layer in layers
                ]
            )
            size = len(rows) // len(self.order)
            weights.append(torch.cat([rows[g * size : (g + 1) * size] for g in self.order]))
            biases.append(torch.cat([bias[g * size : (g + 1) * size] for g in self.order]))
        return Gates(*weights, *biases)


def find_cells(module: nn.Module) -> dict[nn.Module, Cell]:
    """Return the cells among the steps of a module, by the layers `LSTM` and `Recurrence`."""
    steps = [layer for layer in module.modules() if isinstance(layer, (LSTM, Recurrence))]
    found = ((layer, _cell_of(layer)) for layer in steps)
    return {layer: cell for layer, cell in found if cell is not None}


def _cell_of(layer: LSTM | Recurrence) -> Cell | None:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        trial = copy.deepcopy(layer).double().eval()
        for tensor in trial.parameters():
            tensor.copy_(torch.randn_like(tensor))
        originals = dict(zip(trial.modules(), layer.modules(), strict=True))
        sequence = expected = None
        for candidate in _candidates(trial):
            features = candidate.from_input[0].in_features
            if sequence is None or sequence.shape[2] != features:
                sequence = _trial_sequence(features)
                expected = _outputs(trial, sequence)
            if expected is None:
                continue
            actual, _ = candidate.run(sequence)
            if actual.shape == expected.shape and (actual - expected).abs().max() < _EXACT:
                return Cell(
                    [originals[linear] for linear in candidate.from_input],  # type: ignore[misc]
                    [originals[linear] for linear in candidate.from_state],  # type: ignore[misc]
                    candidate.order,
                    [originals[peephole] for peephole in candidate.peepholes],  # type: ignore[misc]
                    candidate.activation,
                )
    return None


def _candidates(layer: LSTM | Recurrence) -> Iterator[Cell]:
    """Yield the cells that the parameters of a step could be those of."""
    linear = [inner for inner in layer.modules() if isinstance(inner, nn.Linear)]
    peepholes = [inner for inner in layer.modules() if isinstance(inner, CMul)]
    of_cell = {id(tensor) for inner in (*linear, *peepholes) for tensor in inner.parameters()}
    size = layer.hidden_size if isinstance(layer, LSTM) else _flat_size(layer)
    if size is None or any(id(tensor) not in of_cell for tensor in layer.parameters()):
        return
    gates = (
        4 if isinstance(layer, LSTM) else sum(inner.out_features for inner in linear) // size // 2
    )
    if gates not in (1, 3, 4) or len(peepholes) not in (0, 3):
        return
    for from_input, from_state in _splits(linear, gates * size, size):
        if gates == 1:
            for activation in _ACTIVATIONS:
                yield Cell(from_input, from_state, (0,), (), activation)
            continue
        usual = [order for order in _USUAL_ORDERS if len(order) == gates]
        for order, weights in product(
            dict.fromkeys([*usual, *permutations(range(gates))]),
            permutations(peepholes),
        ):
            yield Cell(from_input, from_state, order, weights)


def _flat_size(layer: Recurrence) -> int | None:
    sizes = layer.output_size
    is_flat = len(sizes) == 1 and isinstance(sizes[0], int) and layer.input_dims == 1
    return sizes[0] if is_flat else None


def _splits(
    linear: list[nn.Linear], rows: int, size: int
) -> Iterator[tuple[list[nn.Linear], list[nn.Linear]]]:
    """Yield the ways to take linear layers for those of the input and those of h."""
    with_bias = [layer for layer in linear if layer.bias is not None]
    without = [layer for layer in linear if layer.bias is None]
    for ways in ((with_bias, without), (linear[::2], linear[1::2]), (linear[1::2], linear[::2])):
        from_input, from_state = ways
        if (
            all(sum(layer.out_features for layer in layers) == rows for layers in ways)
            and all(layer.in_features == size for layer in from_state)
            and len({layer.in_features for layer in from_input}) == 1
        ):
            yield from_input, from_state


def _trial_sequence(features: int) -> torch.Tensor:
    """Return random steps (T, N, features), zeros among them, which a masked cell treats apart."""
    sequence = torch.randn(4, 3, features, dtype=torch.float64)
    sequence[1, 0], sequence[:, 1] = 0, 0
    return sequence


def _outputs(layer: LSTM | Recurrence, sequence: torch.Tensor) -> torch.Tensor | None:
    """Return the outputs of a layer for all steps; None if it does not take them."""
    layer.step_state = []
    try:
        return torch.stack([layer(step) for step in sequence])
    except (RuntimeError, ValueError, TypeError, IndexError):
        return None
