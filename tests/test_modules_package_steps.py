"""Steps of recurrent layers of packages one after the other, beside a loop written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from layer_support import lua
from support import relative_error
from torch import nn

from torchlift.converters import convert
from torchlift.converters.modules import convert_recorded
from torchlift.converters.modules.packages.conv_lstm import ConvLSTM
from torchlift.converters.modules.packages.crnn import LstmLayer
from torchlift.converters.modules.packages.cudnn_rnn import RecurrentLayers
from torchlift.converters.modules.packages.sequencer import RecurrentAttention


class Step(nn.Module):
    """`[x, h, c]` to `[x + 2 h, h + 3 c]`; x has one channel, h and c have two."""

    def forward(self, input: list[torch.Tensor]) -> list[torch.Tensor]:
        x, h, c = input
        return [x + 2 * h, h + 3 * c]


class First(nn.Module):
    """The first step of an untied layer: x to `[5 x, 7 x]`, both with two channels."""

    def forward(self, input: torch.Tensor) -> list[torch.Tensor]:
        both = torch.cat([input, -input], -3)
        return [5 * both, 7 * both]


@pytest.mark.parametrize("shape", [(4, 1, 3, 5), (1, 3, 5)])
@pytest.mark.parametrize("untied", [False, True])
@pytest.mark.covers("nn.ConvLSTM", "nn.UntiedConvLSTM", compared="outputs")
def test_a_convolutional_lstm_hands_h_and_c_on(untied: bool, shape: tuple[int, ...]) -> None:
    first = [First()] if untied else []
    module = ConvLSTM(Step(), *first, out_channels=2).eval()
    images = [torch.randn(shape).double() for _ in range(4)]
    state: Any = [torch.zeros_like(torch.cat([images[0]] * 2, -3))] * 2
    # Outside a sequence every call is the first one.
    alone = First()(images[0])[0] if untied else images[0] + 0 * state[0]
    assert [torch.equal(module(images[0]), alone) for _ in range(2)] == [True, True]
    module.step_state = []
    for number, image in enumerate(images):
        is_first = untied and number == 0
        state = First()(image) if is_first else Step()([image, *state])
        assert torch.equal(module(image), state[0])


def test_layers_of_crnn_read_from_the_first_step_if_the_file_does_not_say() -> None:
    """A step that returns its state c, and makes x + c of it: sums."""
    pair = [lua("nn.NarrowTable", offset=1, length=2), lua("nn.CAddTable")]
    add = lua("nn.Sequential", modules=pair)
    unit = lua("nn.ConcatTable", modules=[add, lua("nn.SelectTable", index=3), add])
    steps = [torch.randn(2, 3) for _ in range(3)]
    module = convert(lua("nn.LstmLayer", lstmUnit=unit, nHidden=3))
    assert isinstance(module, LstmLayer)
    sums = torch.stack(steps).cumsum(0)
    torch.testing.assert_close(torch.stack(module(steps)), sums)


@pytest.mark.parametrize(("mode", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN_RELU", 1)])
def test_an_input_without_a_matrix_reaches_every_gate_as_it_is(mode: str, gates: int) -> None:
    module = RecurrentLayers(mode, 3, 3, bidirectional=True, skip_input=True)
    for name in ("weight_ih_l0", "weight_ih_l0_reverse"):
        assert torch.equal(getattr(module.rnn, name), torch.cat([torch.eye(3)] * gates))
        assert name not in dict(module.rnn.named_parameters())


@pytest.mark.parametrize("mode", ["LSTM", "GRU", "RNN_TANH", "RNN_RELU"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_layers_of_cudnn_that_keep_their_states_compute_what_torch_does(
    mode: str, batch_first: bool
) -> None:
    """Two layers in two directions; with one direction a sequence continues where it stopped."""
    steps = torch.randn(4, 5, 3)
    both = RecurrentLayers(mode, 3, 2, 2, bidirectional=True, batch_first=batch_first).eval()
    expected = both(steps)
    both.memory = []
    torch.testing.assert_close(both(steps), expected)
    assert len(both.memory) == both.num_states == (8 if mode == "LSTM" else 4)
    assert both.memory[0].shape == (4 if batch_first else 5, 2)
    one = RecurrentLayers(mode, 3, 2, 2, batch_first=batch_first).eval()
    expected = one(steps)
    time = 1 if batch_first else 0
    one.memory = []
    parts = [one(part) for part in steps.split(2, time)]
    torch.testing.assert_close(torch.cat(parts, time), expected)


@pytest.mark.parametrize("remembers", [False, True])
def test_layers_of_cudnn_without_a_matrix_have_the_type_of_their_weights(remembers: bool) -> None:
    fields = {"mode": "CUDNN_RNN_TANH", "inputMode": "CUDNN_SKIP_INPUT", "numLayers": 1}
    fields |= {"bidirectional": "CUDNN_UNIDIRECTIONAL", "inputSize": 3, "hiddenSize": 3}
    weight = torch.cat([torch.zeros(9), torch.tensor([1.0, 2, 3]), torch.zeros(3)]).double()
    layer = lua("cudnn.RNN", weight=weight, rememberStates=remembers, **fields)
    module, steps = convert(layer), torch.randn(4, 2, 3).double()
    torch.testing.assert_close(module(steps), (steps + weight[9:12]).tanh())
    assert module.remember is remembers


class Looking(nn.Module):
    """`[image, action]` to image + 10 · action + 100 · the output of the step before."""

    def __init__(self) -> None:
        super().__init__()
        self.step_state: list[torch.Tensor] | None = None

    def nested(self, states: list[torch.Tensor]) -> list[torch.Tensor]:
        return states

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        image, action = input
        before = self.step_state[0] if self.step_state else torch.zeros_like(image)
        output = image + 10 * action + 100 * before
        if self.step_state is not None:
            self.step_state = [output]
        return output


class Choosing(nn.Module):
    """An output to itself plus 1."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + 1


@pytest.mark.parametrize("forward_actions", [False, True])
def test_attention_chooses_from_its_last_output_where_it_looks_next(forward_actions: bool) -> None:
    modules = Looking(), Choosing()
    module = RecurrentAttention(*modules, steps=3, hidden_size=[1], forward_actions=forward_actions)
    image = torch.tensor([[2.0], [3.0]])
    hidden, before, expected = torch.zeros(2, 1), torch.zeros(2, 1), []
    for _ in range(3):
        action = hidden + 1
        before = hidden = image + 10 * action + 100 * before
        expected.append([hidden, action] if forward_actions else hidden)
    for _ in range(2):  # each call begins anew
        output = module(image)
        assert len(output) == 3
        assert relative_error(output, expected) == 0
    assert module[0].step_state is None


def test_a_penalty_is_no_state_of_a_network() -> None:
    """`NormStabilizer.lua` looks at the step before in training only."""
    sequencer = lua("nn.Sequencer", modules=[lua("nn.NormStabilizer", beta=1)])
    assert convert(sequencer).num_states == 0


@pytest.mark.parametrize("lengths", [(3, 2), (2, 3)])
def test_a_loss_of_a_sequence_has_a_target_for_each_step(lengths: tuple[int, int]) -> None:
    criterion = convert(lua("nn.SequencerCriterion", criterion=lua("nn.MSECriterion")))
    outputs, targets = ([torch.ones(2)] * length for length in lengths)
    with pytest.raises(ValueError, match="zip"):
        criterion(outputs, targets)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.covers("nn.SeqLSTM_WN", compared="outputs")
def test_a_column_without_a_direction_has_the_weight_zero(batch_first: bool) -> None:
    """And one that is very short has the norm that the file says."""
    direction, length = torch.randn(5, 8).double(), torch.rand(2, 8).double()
    direction[:3, 0], direction[:3, 1] = 0, direction[:3, 1] * 1e-9
    fields = {"v": direction, "g": length, "bias": torch.randn(8).double(), "inputsize": 3}
    source = lua("nn.SeqLSTM_WN", **fields, **({"batchfirst": True} if batch_first else {}))
    conversion = convert_recorded(source)
    weight = conversion.module.weight.detach()
    norms = weight[:3].norm(dim=0), weight[3:].norm(dim=0)
    assert relative_error(norms[0][1:], length[0, 1:]) < 1e-6
    assert relative_error(norms[1], length[1]) < 1e-6
    assert not weight[:3, 0].any()
    assert conversion.module.batch_first is batch_first
    assert any("folded into the weight" in note.text for note in conversion.notes)
