"""Networks that read token by token, as char-rnn's and torch-rnn's, told by their shapes alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from torchlift.converters.modules.layers.container import ConcatTable, ParallelTable
from torchlift.converters.modules.layers.embedding import LookupTable
from torchlift.converters.modules.layers.table import SplitTable
from torchlift.converters.modules.layers.table_arithmetic import CAddTable
from torchlift.converters.modules.packages.nngraph import GModule
from torchlift.converters.modules.packages.seq_lstm import SeqLSTM
from torchlift.converters.saved.shapes import infer_inputs
from torchlift.converters.saved.token_steps import (
    TokenStep,
    _input_counts,
    find_step,
    memory_layers,
    token_sequence,
)


def step_of(token: nn.Module, states: int = 1, scores: int = 4, width: int = 5) -> nn.Module:
    """A step of [token, h, …] to [h, …, scores]."""
    taken = [nn.Linear(width, width) for _ in range(states)]
    last = nn.Linear(width, scores)
    given = [*(nn.Identity() for _ in range(states)), last]
    return nn.Sequential(
        ParallelTable(token, *taken), CAddTable(), nn.Tanh(), ConcatTable(*given)
    ).eval()


@pytest.mark.parametrize(
    ("module", "step", "inputs"),
    [
        (step_of(nn.Linear(4, 5)), TokenStep((5,), 4, True), "4,5"),
        (step_of(nn.Linear(4, 5), states=3), TokenStep((5, 5, 5), 4, True), "4,5,5,5"),
        (step_of(LookupTable(4, 5)), TokenStep((5,), 4, False), "scalar:int64,5"),
        (nn.Sequential(step_of(nn.Linear(4, 5))), TokenStep((5,), 4, True), "4,5"),
    ],
)
def test_a_step_takes_a_token_and_states_and_gives_states_and_scores(
    module: nn.Module, step: TokenStep, inputs: str
) -> None:
    assert find_step(module) == step
    assert str(step.inputs) == inputs


class Together(nn.Module):
    """A layer that gives one row for all examples."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input.sum(0, keepdim=True)


@pytest.mark.parametrize(
    "module",
    [
        # Other scores than tokens, in rows: nothing could be fed back.
        step_of(nn.Linear(3, 5)),
        step_of(nn.Linear(5, 5)),
        nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 4)),
        nn.Sequential(),
        # One table entry alone is no token with a state.
        nn.Sequential(ParallelTable(nn.Linear(4, 4))),
        # The scores stand first.
        nn.Sequential(
            ParallelTable(nn.Linear(5, 5), nn.Linear(5, 5)),
            CAddTable(),
            ConcatTable(nn.Linear(5, 4), nn.Identity()),
        ),
        # The scores are those of all examples together.
        nn.Sequential(
            ParallelTable(LookupTable(4, 5), nn.Linear(5, 5)),
            CAddTable(),
            ConcatTable(nn.Identity(), nn.Sequential(nn.Linear(5, 4), Together())),
        ),
        # One more output than states and scores.
        nn.Sequential(
            ParallelTable(nn.Linear(4, 5), nn.Linear(5, 5)),
            CAddTable(),
            ConcatTable(nn.Identity(), nn.Identity(), nn.Linear(5, 4)),
        ),
    ],
)
def test_other_networks_are_no_step(module: nn.Module) -> None:
    assert find_step(module.eval()) is None


def test_a_step_of_a_graph_has_as_many_inputs_as_its_nodes_take() -> None:
    def graph(*steps: Any) -> GModule:
        return GModule(nn.Identity(), steps=[*steps], outputs=[[1]])

    assert _input_counts(graph([0, [[0, 0]]], [0, [[0, 2]]])) == [3]
    assert _input_counts(graph([0, [[0, 2]]], [0, [[0, 0]]])) == [3]
    # Of another node's table, or of the input as a whole, the number is not that of the inputs.
    assert _input_counts(graph([0, [[0]]], [0, [[1, 5]]])) == []
    assert _input_counts(graph([0, [[0, 31]]])) == [32]
    assert _input_counts(graph([0, [[0, 32]]])) == []
    assert _input_counts(nn.Sequential(graph([0, [[0, 1]]]))) == [2]


def words(*layers: nn.Module, batch_first: bool = True, **options: Any) -> nn.Module:
    recurrent = SeqLSTM(3, 5, batch_first=batch_first, **options)
    return nn.Sequential(LookupTable(7, 3), *layers, recurrent, nn.Linear(5, 7)).eval()


class Reversed(nn.Module):
    """A layer that reads what is to come."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input.flip(1)


def reversed_as(name: str) -> nn.Module:
    """Return such a layer under the name of a class of Torch7."""
    return type(name, (Reversed,), {})()


class BothWays(SeqLSTM):
    """A layer that reads backwards, too, as a field of it says."""

    bidirectional = True


class Counted(nn.Module):
    """A layer whose state has the width of its inputs and of 1 more."""

    num_states, memory = 1, None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self.memory is not None:
            self.memory = [input.new_zeros(input.shape[-1] + 1)]
        return input


@pytest.mark.parametrize(
    ("module", "inputs"),
    [
        (words(), "?:int64"),
        (words(batch_first=False), "?xN:int64"),
        (words(reversed_as("SeqReverseSequence")), None),
        (words(reversed_as("ReverseTable")), None),
        (words(reversed_as("BiSequencerLM")), None),
        (words(reversed_as("Sequencer")), "?:int64"),
        (nn.Sequential(LookupTable(7, 3), BothWays(3, 5), nn.Linear(5, 7)), None),
        (nn.Sequential(LookupTable(7, 3), nn.Linear(3, 7)), None),
        (nn.Sequential(nn.Linear(7, 3), SeqLSTM(3, 5), nn.Linear(5, 7)), None),
        (nn.Sequential(LookupTable(7, 4), SeqLSTM(3, 5)), None),
        # A state that has neither the batch nor the tokens is not understood.
        (nn.Sequential(LookupTable(7, 3), Counted()), None),
        # Its tokens count from 0, as no network of Torch7 does.
        (nn.Sequential(nn.Embedding(7, 3), SeqLSTM(3, 5), nn.Linear(5, 7)), None),
    ],
)
def test_a_network_of_sequences_takes_tokens_with_the_batch_where_its_state_has_it(
    module: nn.Module, inputs: str | None
) -> None:
    found = token_sequence(module.eval())
    assert (found and str(found)) == inputs
    # Nothing of the trial stays at the network.
    assert all(layer.memory is None for layer in memory_layers(module))
    if inputs is not None:
        assert str(infer_inputs(module)) == inputs


def test_a_table_of_steps_in_a_network_is_one_step() -> None:
    class Table(nn.Module):
        """A part of a network that is not run here."""

        def __init__(self) -> None:
            super().__init__()
            self.split = SplitTable(1)

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return input

    assert str(token_sequence(words(Table()))) == "1:int64"
    assert str(token_sequence(words(Table(), batch_first=False))) == "1xN:int64"
