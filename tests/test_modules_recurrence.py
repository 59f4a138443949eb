"""Recurrences on whole sequences compute torch.nn's own layers, and continue where a call ended.

Other equations than torch.nn's are written out here.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from layer_support import lua, rand
from support import FIXTURES
from torch import nn

from torchlift.converters import convert, t7
from torchlift.converters.modules.packages.cells import find_cells
from torchlift.converters.modules.packages.cudnn_rnn import RecurrentLayers
from torchlift.converters.modules.packages.recurrent import LSTM, Recurrence
from torchlift.converters.modules.packages.seq_lstm import SeqGRU, SeqLSTM
from torchlift.converters.modules.packages.torch_rnn import VanillaRNN
from torchlift.converters.modules.packages.whole_sequences import each_step
from torchlift.converters.modules.recurrence import (
    Gates,
    gru_sequence,
    known_cell,
    lstm_sequence,
    recurrent_operators,
    rnn_sequence,
    scan_steps,
)
from torchlift.converters.modules.states import WithStates, remembering_layers, state_count

#: float64 against float64: only the order of summation differs.
EXACT = 1e-12


def gates_of(rnn: nn.RNNBase) -> Gates:
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return Gates(*(getattr(rnn, name).detach() for name in names))


def assert_close(actual: Any, expected: Any) -> None:
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.shape == theirs.shape
        assert float((ours - theirs).detach().abs().max()) < EXACT


@pytest.mark.parametrize("reverse", [False, True])
def test_sequences_are_those_of_torch_nn(reverse: bool) -> None:
    x, h, c = rand(5, 2, 4), rand(2, 3), rand(2, 3)

    def run(rnn: nn.RNNBase, states: Any) -> Any:
        output, last = rnn(x.flip(0) if reverse else x, states)
        return output.flip(0) if reverse else output, last

    lstm = nn.LSTM(4, 3).double()
    output, (last, cell) = run(lstm, (h[None], c[None]))
    actual = lstm_sequence(x, h, c, gates_of(lstm), reverse=reverse)
    assert_close(actual, (output, last[0], cell[0]))
    gru = nn.GRU(4, 3).double()
    output, last = run(gru, h[None])
    assert_close(gru_sequence(x, h, gates_of(gru), True, reverse), (output, last[0]))
    for activation in ("tanh", "relu"):
        rnn = nn.RNN(4, 3, nonlinearity=activation).double()
        output, last = run(rnn, h[None])
        assert_close(rnn_sequence(x, h, gates_of(rnn), activation, reverse), (output, last[0]))


def test_peepholes_look_at_the_cell_before_and_at_the_new_one_in_the_output_gate() -> None:
    x, h, c, peepholes = rand(4, 2, 5), rand(2, 3), rand(2, 3), rand(3, 3)
    gates = Gates(rand(12, 5), rand(12, 3), rand(12), rand(12))
    outputs, hidden, cell = [], h, c
    for step in x:
        sums = step @ gates.from_input.t() + hidden @ gates.from_state.t()
        i, f, g, o = (sums + gates.bias + gates.state_bias).split(3, 1)
        i, f = (i + peepholes[0] * cell).sigmoid(), (f + peepholes[1] * cell).sigmoid()
        cell = f * cell + i * g.tanh()
        hidden = (o + peepholes[2] * cell).sigmoid() * cell.tanh()
        outputs.append(hidden)
    actual = lstm_sequence(x, h, c, gates, peepholes)
    assert_close(actual, (torch.stack(outputs), hidden, cell))


def test_the_reset_gate_comes_before_the_weights_of_h_or_after() -> None:
    x, h = rand(1, 2, 5), rand(2, 3)
    gates = Gates(rand(9, 5), rand(9, 3), rand(9), rand(9))
    from_x = x[0] @ gates.from_input.t() + gates.bias
    from_h = h @ gates.from_state.t() + gates.state_bias
    r, z = (from_x + from_h)[:, :6].sigmoid().split(3, 1)
    before = (r * h) @ gates.from_state[6:].t() + gates.state_bias[6:]
    for reset_after, product in ((False, before), (True, r * from_h[:, 6:])):
        n = (from_x[:, 6:] + product).tanh()
        expected = (1 - z) * n + z * h
        assert_close(gru_sequence(x, h, gates, reset_after), (expected[None], expected))


def layer_of_rnn(name: str) -> nn.Module:
    cases = t7.load(FIXTURES / "layers" / "packages.t7").values()
    return convert(next(case for case in cases if case["name"] == name)["module"]).double()


@pytest.mark.parametrize(
    ("name", "gates", "peepholes"),
    [("FastLSTM", 4, 0), ("LSTM", 4, 3), ("GRU", 3, 0)],
)
def test_a_cell_of_rnn_is_found_and_computes_its_steps(
    name: str, gates: int, peepholes: int
) -> None:
    module = layer_of_rnn(f"rnn_Sequencer_{name}")
    ((layer, cell),) = find_cells(module).items()
    assert isinstance(layer, (LSTM, Recurrence))
    assert (len(cell.order), len(cell.peepholes)) == (gates, peepholes)
    with torch.no_grad():
        for parameter in module.parameters():  # It holds for other weights too.
            parameter.copy_(torch.randn_like(parameter))
        x = rand(5, 2, 4)
        expected, memory = each_step(layer, list(x))
        output, states = cell.run(x)
        assert_close([output, *states], [torch.stack(expected), *memory])


@pytest.mark.parametrize("name", ["rnn_Sequencer_MuFuRu", "rnn_Recurrent"])
def test_another_cell_is_not_taken_for_one_of_them(name: str) -> None:
    assert not find_cells(layer_of_rnn(name))


def test_a_masked_cell_is_not_taken_for_one_without_mask() -> None:
    cases = t7.load(FIXTURES / "layers" / "packages.t7").values()
    source = next(case for case in cases if case["name"] == "rnn_FastLSTM_one_step")["module"]
    step = source["recurrentModule"]
    source.fields["recurrentModule"] = lua("nn.MaskZero", modules=[step], nInputDim=1)
    module = convert(source)
    assert "MaskZero" in repr(module)
    assert not find_cells(module)


REMEMBERING = {
    "SeqLSTM": (lambda: SeqLSTM(4, 3, remember=True), 2),
    "SeqLSTMP": (lambda: SeqLSTM(4, 3, 2, remember=True), 2),
    "SeqGRU": (lambda: SeqGRU(4, 3, remember=True), 1),
    "SeqGRU masked": (lambda: SeqGRU(4, 3, mask_zero=True, remember=True), 1),
    "cudnn LSTM": (lambda: RecurrentLayers("LSTM", 4, 3, 2, remember=True), 4),
    "cudnn GRU": (lambda: RecurrentLayers("GRU", 4, 3, 2, remember=True), 2),
    "Sequencer": (lambda: remembering_sequencer("rnn_Sequencer_LSTM"), 2),
    "Sequencer GRU": (lambda: remembering_sequencer("rnn_Sequencer_GRU"), 1),
}


def remembering_sequencer(name: str) -> nn.Module:
    module = layer_of_rnn(name)
    module.remember = True  # type: ignore[assignment]
    return module


@pytest.mark.parametrize("name", REMEMBERING)
def test_a_sequence_in_two_calls_is_the_sequence_in_one(name: str) -> None:
    build, count = REMEMBERING[name]
    module = build().double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter))
        x = rand(7, 2, 4)
        network = WithStates(module)
        assert state_count(module) == count
        whole, *last = network([x])
        first, *states = network([x[:3]])
        second, *after = network([x[3:], *states])
        assert_close([torch.cat([first, second]), *after], [whole, *last])
        assert len(states) == count
        # Nothing is left behind: a call of the module itself begins with zeros.
        assert torch.equal(module(x), whole)
        assert module.memory is None


class TwoSequences(nn.Module):
    """A layer for each of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (SeqGRU(4, 3, remember=True) for _ in range(2))

    def forward(self, input: list[torch.Tensor]) -> torch.Tensor:
        return self.first(input[0]) - self.second(input[1])


def test_each_layer_gets_its_states_behind_all_inputs() -> None:
    module = TwoSequences().double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter))
        x, y, of_x, of_y = rand(5, 2, 4), rand(5, 2, 4), rand(2, 3), rand(2, 3)
        output, *after = WithStates(module, 2)([x, y, of_x, of_y])
        first, second = module.first([of_x, x]), module.second([of_y, y])
    assert_close([output, *after], [first - second, first[-1], second[-1]])


def test_each_direction_of_each_layer_has_states_of_its_own() -> None:
    module = RecurrentLayers("LSTM", 4, 3, 2, bidirectional=True, remember=True).double()
    x, hidden, cell = rand(5, 2, 4), rand(4, 2, 3), rand(4, 2, 3)
    states = [state for pair in zip(hidden, cell, strict=True) for state in pair]
    assert state_count(module) == len(states)
    with torch.no_grad():
        output, *after = WithStates(module)([x, *states])
        expected, (last_hidden, last_cell) = module.rnn(x, (hidden, cell))
    assert_close([output, *after[::2], *after[1::2]], [expected, *last_hidden, *last_cell])


@pytest.mark.parametrize(
    ("fields", "remembered"),
    [
        ({}, False),
        ({"_remember": "neither"}, False),
        ({"_remember": "train"}, False),
        ({"_remember": "eval"}, True),
        ({"_remember": "both"}, True),
        ({"remember_states": True}, True),
        ({"remember_states": False}, False),
    ],
)
def test_a_sequencer_remembers_in_evaluation_as_its_file_says(
    fields: dict[str, object], remembered: bool
) -> None:
    module = convert(lua("nn.Sequencer", modules=[lua("nn.Tanh")], **fields))
    assert module.remember is remembered


def test_vanilla_rnn_remembers_along_the_second_axis() -> None:
    module = VanillaRNN(4, 3, remember=True).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter))
        x = rand(2, 6, 4)
        network = WithStates(module)
        first, state = network([x[:, :2]])
        second, _ = network([x[:, 2:], state])
        assert_close([torch.cat([first, second], 1)], [module(x)])


class LaggingSums(nn.Module):
    """Weighted sums of a sequence, and those of the step before: two states that begin as one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0, -1.0]))

    def forward(self, sequence: torch.Tensor) -> tuple[torch.Tensor, ...]:
        def step(
            states: list[torch.Tensor], inputs: list[torch.Tensor], weights: list[torch.Tensor]
        ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
            total = states[0] + inputs[0] * weights[0]
            return [total, states[0]], [total, states[1]]

        zero = torch.zeros_like(sequence[0])
        states, outputs = scan_steps(step, [zero, zero], [sequence], [self.weight])
        return (*states, *outputs)


def test_a_graph_scans_the_steps_as_the_loop_runs_them() -> None:
    """States and outputs keep their order, though they share memory."""
    module, steps = LaggingSums(), torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    sums = (steps * module.weight.detach()).cumsum(0)
    before = torch.cat([torch.zeros(2, 2), sums[:-2]])
    expected = (sums[-1], sums[-2], sums, before)
    program = torch.export.export(module, (steps,), dynamic_shapes=({0: torch.export.Dim("t")},))
    assert any("scan" in str(node.target) for node in program.graph.nodes)
    for run in (module, program.module()):
        for actual, value in zip(run(steps), expected, strict=True):
            torch.testing.assert_close(actual.detach(), value)


@pytest.mark.parametrize("fails", [False, True])
def test_operators_stand_for_a_recurrence_only_while_a_graph_is_made(fails: bool) -> None:
    called, module = [], nn.Tanh()

    def operator(*given: Any) -> Any:
        called.append(given)
        return given[:3]

    arguments = rand(2, 1, 3), rand(1, 2), rand(1, 2), gates_of(nn.LSTM(3, 2).double())
    expected = lstm_sequence(*arguments)
    with suppress(ZeroDivisionError), recurrent_operators({"lstm_sequence": operator}, {module: 7}):
        assert known_cell(module) == 7
        assert lstm_sequence(*arguments) == arguments[:3]
        if fails:
            raise ZeroDivisionError
    assert len(called) == 1
    assert known_cell(module) is None
    for found, wanted in zip(lstm_sequence(*arguments), expected, strict=True):
        assert_close(found, wanted)


def test_operators_are_given_all_that_the_functions_are() -> None:
    """In the order in which the exporter reads them."""
    x, hidden, cell, peepholes = rand(5, 2, 4), rand(2, 3), rand(2, 3), rand(3, 3)
    gates, called = Gates(*(rand(1) for _ in range(4))), []

    def operator(*given: Any) -> Any:
        called.append(given)
        return given[:3]

    names = ("lstm_sequence", "gru_sequence", "rnn_sequence")
    with recurrent_operators(dict.fromkeys(names, operator), {}):
        lstm_sequence(x, hidden, cell, gates, peepholes, reverse=True)
        lstm_sequence(x, hidden, cell, gates)
        gru_sequence(x, hidden, gates, reset_after=False, reverse=True)
        gru_sequence(x, hidden, gates, reset_after=True)
        rnn_sequence(x, hidden, gates, "relu", reverse=True)
        rnn_sequence(x, hidden, gates)
    expected = [
        (x, hidden, cell, *gates, peepholes, True),
        (x, hidden, cell, *gates, None, False),
        (x, hidden, *gates, False, True),
        (x, hidden, *gates, True, False),
        (x, hidden, *gates, "relu", True),
        (x, hidden, *gates, "tanh", False),
    ]
    for found, wanted in zip(called, expected, strict=True):
        assert all(ours is theirs for ours, theirs in zip(found, wanted, strict=True))


def test_a_plain_recurrence_may_have_a_sigmoid() -> None:
    x, hidden = rand(1, 2, 4), rand(2, 3)
    gates = Gates(rand(3, 4), rand(3, 3), rand(3), rand(3))
    sums = x[0] @ gates.from_input.t() + hidden @ gates.from_state.t() + gates.bias
    expected = (sums + gates.state_bias).sigmoid()
    assert_close(rnn_sequence(x, hidden, gates, "sigmoid"), (expected[None], expected))


def test_a_layer_whose_first_step_is_another_starts_anew() -> None:
    """`nn.Recurrent` begins without a state: there are no zeros that it could continue from."""
    for name, count in (("rnn_Recurrent", 0), ("rnn_Sequencer_GRU", 1)):
        module = remembering_sequencer(name)
        assert state_count(module) == count
    # What this one keeps is for its penalty in training.
    inner = lua("nn.NormStabilizer", beta=1)
    assert not remembering_layers(convert(lua("nn.Sequencer", modules=[inner], _remember="both")))
