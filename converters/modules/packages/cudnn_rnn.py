"""Recurrent layers of cudnn.torch (`RNN.lua` and its subclasses).

cuDNN stores all weights in one vector: for each layer, and within it for each direction, the
matrices of the input and then those of the state, gate by gate, row by row; after all matrices all
biases in the same order. The gates have the order of torch.nn (LSTM: i, f, g, o; GRU: r, z, n) and
its equations. MXNet's FusedRNNCell and Keras' CuDNN layers read the vector in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import nn

from ...t7 import LuaObject
from ...t7.tensors import tensor
from ..context import Context
from ..recurrence import Gates, gru_sequence, lstm_sequence, rnn_sequence
from ..registry import layer, register

#: Gates of a layer.
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@layer
class RecurrentLayers(nn.Module):
    """`RNN.lua` of cudnn.torch: the outputs of torch.nn's LSTM, GRU or RNN, without the last state.

    Args:
        mode: `LSTM`, `GRU`, `RNN_TANH` or `RNN_RELU`.
        input_size: Number of features of a step's input.
        hidden_size: Number of features of the output of one direction.
        num_layers: Number of stacked layers.
        bidirectional: Whether a second direction runs from the last step to the first.
        batch_first: Whether sequences are (N, T, …) rather than (T, N, …).
        dropout: Dropout probability between two layers in training mode.
        skip_input: Whether the first layer adds its input to its gates as it is, without a matrix;
            it has as many features as the output.
        remember: Whether Torch7 continued from the state of the call before (see `states`).
    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        batch_first: bool = False,
        dropout: float = 0.0,
        skip_input: bool = False,
        remember: bool = False,
    ) -> None:
        super().__init__()
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.batch_first = batch_first
        self.dropout = dropout
        self.skip_input = skip_input
        self.remember = remember
        self.memory: list[torch.Tensor] | None = None
        kind, _, nonlinearity = mode.partition("_")
        settings = {"nonlinearity": nonlinearity.lower()} if nonlinearity else {}
        self.rnn: nn.RNNBase = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}[kind](
            input_size,
            hidden_size,
            num_layers,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=bidirectional,
            **settings,
        )
        if skip_input:
            # The matrix that hands every feature on to each gate; it is no parameter.
            for name in self.without_matrix():
                matrix = torch.eye(hidden_size).repeat(GATES[kind], 1)
                del self.rnn._parameters[name]
                self.rnn.register_buffer(name, matrix)
                setattr(self.rnn, name, matrix)

    def without_matrix(self) -> list[str]:
        """Return the names of the input matrices that the layer does not have."""
        return [f"weight_ih_l0{direction}" for direction in self._directions if self.skip_input]

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map (T, N, in) to (T, N, directions · hidden); N comes first if `batch_first`."""
        if self.memory is None and not torch.compiler.is_exporting():
            output: torch.Tensor = self.rnn(input)[0]
            return output
        sequence = input.transpose(0, 1) if self.batch_first else input
        states, after = iter(self.memory or []), []
        for index in range(self.num_layers):
            outputs = []
            for direction in self._directions:
                before = list(islice(states, self._states_of_one))
                outcome, *new = self._run(sequence, f"l{index}{direction}", before)
                outputs.append(outcome)
                after += new
            sequence = torch.cat(outputs, 2) if self.bidirectional else outputs[0]
        if self.memory is not None:
            self.memory = after
        return sequence.transpose(0, 1) if self.batch_first else sequence

    @property
    def num_states(self) -> int:
        """How many tensors h, and c of an LSTM, are in all layers and directions."""
        return self.num_layers * len(self._directions) * self._states_of_one

    @property
    def _states_of_one(self) -> int:
        return 2 if self.mode == "LSTM" else 1

    @property
    def _directions(self) -> list[str]:
        return ["", "_reverse"] if self.bidirectional else [""]

    def _run(
        self, sequence: torch.Tensor, suffix: str, states: list[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """Return the outputs and last states of one layer in one direction."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        gates = Gates(*(getattr(self.rnn, f"{name}_{suffix}") for name in names))
        reverse = suffix.endswith("_reverse")
        zero = sequence.new_zeros(sequence.shape[1], self.hidden_size)
        hidden, *cell = states or [zero, zero]
        if self.mode == "LSTM":
            return lstm_sequence(sequence, hidden, cell[0], gates, reverse=reverse)
        if self.mode == "GRU":
            return gru_sequence(sequence, hidden, gates, reset_after=True, reverse=reverse)
        activation = self.mode.removeprefix("RNN_").lower()
        return rnn_sequence(sequence, hidden, gates, activation, reverse)


@register(
    "cudnn.RNN",
    "cudnn.RNNReLU",
    "cudnn.RNNTanh",
    "cudnn.LSTM",
    "cudnn.BLSTM",
    "cudnn.GRU",
    "cudnn.BGRU",
)
def cudnn_rnn(source: LuaObject, context: Context) -> nn.Module:
    """Convert `RNN.lua` of cudnn.torch; packed sequences of different lengths are not supported."""
    if source.get("rememberStates"):
        context.note(
            "rememberStates: here every call starts from a zero state; an exported .onnx takes and "
            "returns the states"
        )
    modes = ["CUDNN_LINEAR_INPUT", "CUDNN_SKIP_INPUT"]
    skip_input = context.choice(source, "inputMode", modes) == modes[1]
    if skip_input and source["inputSize"] != source["hiddenSize"]:
        raise context.error("CUDNN_SKIP_INPUT needs an inputSize that is the hiddenSize")
    directions = ["CUDNN_UNIDIRECTIONAL", "CUDNN_BIDIRECTIONAL"]
    with torch.device("meta"):
        module = RecurrentLayers(
            str(source["mode"]).removeprefix("CUDNN_"),
            int(source["inputSize"]),
            int(source["hiddenSize"]),
            int(source["numLayers"]),
            bidirectional=context.choice(source, "bidirectional", directions) == directions[1],
            batch_first=bool(source.get("batchFirst", False)),
            dropout=float(source.get("dropout", 0)),
            skip_input=skip_input,
            remember=bool(source.get("rememberStates")),
        )
    for name in module.without_matrix():
        gates = GATES[module.mode.partition("_")[0]]
        matrix = torch.eye(module.hidden_size, dtype=tensor(source["weight"]).dtype)
        setattr(module.rnn, name, matrix.repeat(gates, 1))
    weight, position = source["weight"].reshape(-1), 0
    expected = sum(parameter.numel() for parameter in module.parameters())
    if weight.size != expected:
        raise context.error(
            f"cuDNN packed {weight.size} values, {expected} were expected: this is not the layout "
            "of cuDNN 5 to 7. Save the layer's weights() and biases() from Torch7 instead"
        )
    for name in packed_order(module.rnn):
        if name in module.without_matrix():
            continue
        shape = tuple(getattr(module.rnn, name).shape)
        values = weight[position : position + getattr(module.rnn, name).numel()]
        position += values.size
        # Not Context.fill: torch.nn's recurrent layers have a __setattr__ that must see it.
        setattr(module.rnn, name, context.parameter(values, shape))
    return module


def packed_order(rnn: nn.RNNBase) -> Iterator[str]:
    """Iterate over the parameter names of a torch.nn recurrent layer in cuDNN's order."""
    directions = ["", "_reverse"] if rnn.bidirectional else [""]
    for kind in ("weight", "bias"):
        for index in range(rnn.num_layers):
            for direction in directions:
                for operand in ("ih", "hh"):
                    yield f"{kind}_{operand}_l{index}{direction}"
