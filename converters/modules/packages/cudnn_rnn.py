"""Recurrent layers of cudnn (`RNN.lua` and its subclasses).

cuDNN keeps all weights in one vector: for each layer and, within it, for each direction the
matrices of the input and then those of the state, gate after gate, row by row; after all matrices
all biases in the same order. Gates come as in torch.nn (LSTM: i, f, g, o; GRU: r, z, n), and so do
the equations. This is the order in which MXNet's FusedRNNCell and Keras' CuDNN layers cut it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..registry import layer, register


@layer
class RecurrentLayers(nn.Module):
    """`RNN.lua` of cudnn: the outputs of torch.nn's LSTM, GRU or RNN, without its last state.

    Args:
        mode: `LSTM`, `GRU`, `RNN_TANH` or `RNN_RELU`.
        input_size: features of a step's input.
        hidden_size: features of a direction's output.
        num_layers: layers, one on the outputs of the other.
        bidirectional: a second direction, from the last step to the first.
        batch_first: sequences are (N, T, …), not (T, N, …).
        dropout: share left out between two layers in training.
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
    ) -> None:
        super().__init__()
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.batch_first = batch_first
        self.dropout = dropout
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

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(T, N, in) → (T, N, directions · hidden); N first where the layer is batch-first."""
        output: torch.Tensor = self.rnn(input)[0]
        return output


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
    """`RNN.lua` of cudnn; its tables of packed sequences of different lengths are not taken."""
    if source.get("rememberStates"):
        context.note("rememberStates: here every call starts from a zero state")
    if source.get("inputMode", "CUDNN_LINEAR_INPUT") != "CUDNN_LINEAR_INPUT":
        raise context.error("a cudnn.RNN whose input has no matrices (CUDNN_SKIP_INPUT)")
    with torch.device("meta"):
        module = RecurrentLayers(
            str(source["mode"]).removeprefix("CUDNN_"),
            int(source["inputSize"]),
            int(source["hiddenSize"]),
            int(source["numLayers"]),
            bidirectional=source.get("bidirectional") == "CUDNN_BIDIRECTIONAL",
            batch_first=bool(source.get("batchFirst", False)),
            dropout=float(source.get("dropout", 0)),
        )
    weight, position = source["weight"].reshape(-1), 0
    expected = sum(parameter.numel() for parameter in module.parameters())
    if weight.size != expected:
        raise context.error(
            f"cuDNN packed {weight.size} numbers and {expected} were expected: this is not the "
            "layout of cuDNN 5 to 7. Save the layer's weights() and biases() from Torch7 instead"
        )
    for name in packed_order(module.rnn):
        shape = tuple(getattr(module.rnn, name).shape)
        part = weight[position : position + getattr(module.rnn, name).numel()]
        position += part.size
        # Not Context.fill: torch.nn's recurrent layers must see their parameters being set.
        setattr(module.rnn, name, context.parameter(part, shape))
    return module


def packed_order(rnn: nn.RNNBase) -> Iterator[str]:
    """The names of a torch.nn recurrent layer's parameters, in the order of cuDNN's vector."""
    directions = ["", "_reverse"] if rnn.bidirectional else [""]
    for kind in ("weight", "bias"):
        for index in range(rnn.num_layers):
            for direction in directions:
                for source in ("ih", "hh"):
                    yield f"{kind}_{source}_l{index}{direction}"
