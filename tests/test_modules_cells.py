"""Cells and captions that packages build of small layers, beside a loop over their steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from layer_support import lua, rand
from support import relative_error
from torch import nn

from torchlift.converters import convert
from torchlift.converters.modules.layers.arithmetic import CMul
from torchlift.converters.modules.packages.cells import find_cells
from torchlift.converters.modules.packages.neuraltalk2 import CaptionModel
from torchlift.converters.modules.packages.recurrent import LSTM, Recurrence

#: float64 against float64: only the order of summation differs.
EXACT = 1e-12


def linear(outputs: int, inputs: int, with_bias: bool) -> Any:
    bias = {"bias": rand(outputs)} if with_bias else {}
    return lua("nn.Linear", weight=rand(outputs, inputs), **bias)


def recurrence(*after: Any, size: int = 3, inputs: int = 2) -> Any:
    """Return rnn's `Recurrence` of a step that adds the products of the input and of h."""
    both = lua("nn.ParallelTable", modules=[linear(size, inputs, True), linear(size, size, False)])
    step = lua("nn.Sequential", modules=[both, lua("nn.CAddTable"), *after])
    return convert(
        lua("nn.Recurrence", recurrentModule=step, outputSize=[size], nInputDim=1)
    ).double()


@pytest.mark.parametrize(
    ("layer", "activation"), [("Tanh", "tanh"), ("Sigmoid", "sigmoid"), ("ReLU", "relu")]
)
def test_a_plain_recurrent_cell_is_recognized_by_its_numbers(layer: str, activation: str) -> None:
    module = recurrence(lua(f"nn.{layer}"))
    (found,) = [one for one in module.modules() if isinstance(one, Recurrence)]
    cell = find_cells(module)[found]
    assert (cell.order, cell.activation, len(cell.peepholes)) == ((0,), activation, 0)
    sequence, state = rand(4, 2, 2), rand(2, 3)
    weight, bias = cell.from_input[0].weight, cell.from_input[0].bias
    recurrent = cell.from_state[0].weight
    expected = []
    with torch.no_grad():
        for x in sequence:
            before = torch.zeros(2, 3, dtype=x.dtype) if not expected else expected[-1]
            expected.append(getattr(torch, activation)(x @ weight.T + bias + before @ recurrent.T))
        outputs, (last,) = cell.run(sequence)
        assert relative_error(outputs, torch.stack(expected)) < EXACT
        assert torch.equal(last, outputs[-1])
        continued, _ = cell.run(sequence[:1], [state])
        first = sequence[0] @ weight.T + bias + state @ recurrent.T
        assert relative_error(continued[0], getattr(torch, activation)(first)) < EXACT


class OnePeephole(nn.Module):
    """A step of an LSTM whose forget gate alone looks at c."""

    def __init__(self) -> None:
        super().__init__()
        self.of_x, self.of_h = nn.Linear(2, 12), nn.Linear(3, 12, bias=False)
        self.of_c = CMul([1, 3])

    def forward(self, input: list[torch.Tensor]) -> list[torch.Tensor]:
        x, h, c = input
        i, f, g, o = (self.of_x(x) + self.of_h(h)).chunk(4, 1)
        c = (f + self.of_c(c)).sigmoid() * c + i.sigmoid() * g.tanh()
        return [o.sigmoid() * c.tanh(), c]


def test_an_lstm_with_one_peephole_is_no_cell() -> None:
    module = LSTM(OnePeephole(), hidden_size=3)
    assert module(torch.ones(1, 2)).shape == (1, 3)
    assert find_cells(module) == {}


def test_a_step_with_anything_else_behind_it_is_no_cell() -> None:
    assert find_cells(recurrence(lua("nn.Tanh"), lua("nn.Tanh"))) == {}
    assert find_cells(recurrence(lua("nn.Tanh"), linear(3, 3, True))) == {}


@pytest.mark.parametrize(("factor", "count"), [(1, 1), (1 + 1e-9, 0), (1 - 1e-9, 0)])
@pytest.mark.parametrize("layer", ["Tanh", "Sigmoid"])
def test_a_cell_computes_its_equations_to_the_last_digits(
    layer: str, factor: float, count: int
) -> None:
    """And looking for it draws nothing from torch's own random numbers."""
    module = recurrence(lua(f"nn.{layer}"), lua("nn.MulConstant", constant_scalar=factor))
    before = torch.get_rng_state()
    assert len(find_cells(module)) == count
    assert torch.equal(torch.get_rng_state(), before)


def test_a_cell_is_what_it_computes_in_evaluation_mode() -> None:
    module = recurrence(lua("nn.Dropout", p=0.5, v2=True), lua("nn.Tanh")).train()
    assert len(find_cells(module)) == 1
    assert module.training


class Core(nn.Module):
    """One step of a caption: `[x, h]` to `[h', scores]`."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.out = nn.Linear(5, 3), nn.Linear(3, 5)

    def forward(self, input: list[torch.Tensor]) -> list[torch.Tensor]:
        state = self.mix(torch.cat(input, 1)).tanh()
        return [state, self.out(state).log_softmax(1)]


def test_a_caption_is_read_word_by_word_behind_its_image() -> None:
    """The image, the start token, then the words; steps behind the longest caption are zeros."""
    torch.manual_seed(0)
    core, table = Core(), nn.Embedding(6, 2)
    model = CaptionModel(core, table, vocab_size=4, rnn_size=3, num_states=1).eval()
    codes, words = torch.randn(2, 2), torch.tensor([[1, 3], [0, 4], [0, 0], [0, 0]])
    with torch.no_grad():
        state, expected = torch.zeros(2, 3), torch.zeros(6, 2, 5)
        start = torch.full((2,), 5)
        inputs = [codes, table(start), *(table(row.clamp(min=1)) for row in words)]
        for step, x in enumerate(inputs[:4]):
            state, expected[step] = core([x, state])
        found = model([codes, words])
    assert found.shape == (6, 2, 5)
    assert relative_error(found, expected) < 1e-6
    assert not found[4:].any()
    assert found[3].any(1).all()


@pytest.mark.parametrize("layers", ["x before h", "h before x", "x with a bias"])
def test_layers_of_the_input_and_of_the_state_stand_in_any_order(layers: str) -> None:
    """In turns, or told apart by their bias."""
    with_bias = layers != "x with a bias"
    of_x, of_h = linear(3, 3, True), linear(3, 3, with_bias)
    x, h = (lua("nn.SelectTable", index=index) for index in (1, 2))
    ways = [lua("nn.Sequential", modules=pair) for pair in ([x, of_x], [h, of_h])]
    if layers == "h before x":
        ways.reverse()
    both = lua("nn.ConcatTable", modules=ways)
    step = lua("nn.Sequential", modules=[both, lua("nn.CAddTable"), lua("nn.Tanh")])
    layer = lua("nn.Recurrence", recurrentModule=step, outputSize=[3], nInputDim=1)
    module = convert(layer)
    (cell,) = find_cells(module).values()
    assert torch.equal(cell.from_input[0].weight, torch.from_numpy(of_x["weight"]))
    assert torch.equal(cell.from_state[0].weight, torch.from_numpy(of_h["weight"]))


@pytest.mark.parametrize("size", [[3], [1, 3]])
@pytest.mark.parametrize("factors", [0, 1])
@pytest.mark.parametrize("gates", [1, 2])
def test_what_no_cell_of_torch_has_is_none(gates: int, factors: int, size: list[int]) -> None:
    """Two gates, one peephole, or a state with more than one axis."""
    both = lua(
        "nn.ParallelTable", modules=[linear(3 * gates, 2, True), linear(3 * gates, 3, False)]
    )
    after = [lua("nn.CMul", weight=rand(3 * gates))] * factors
    if gates == 2:
        halves = [lua("nn.Narrow", dimension=-1, index=start, length=3) for start in (1, 4)]
        after += [lua("nn.ConcatTable", modules=halves), lua("nn.CMulTable")]
    step = lua("nn.Sequential", modules=[both, lua("nn.CAddTable"), *after, lua("nn.Tanh")])
    layer = lua("nn.Recurrence", recurrentModule=step, outputSize=size, nInputDim=1)
    assert len(find_cells(convert(layer))) == (gates == 1 and not factors and size == [3])
