"""Values at which two rules of a layer of a package differ: ties, zeros, a third table entry."""

from __future__ import annotations

import pytest
import torch
from contract_projects_support import PROJECTS
from layer_support import lua
from support import relative_error

from torchlift.converters import convert

#: float64 against float64: only the order of summation differs.
EXACT = 1e-12


def rand(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.covers("nn.GroupKMaxPooling", compared="outputs")
def test_frames_that_exist_are_chosen_before_those_that_are_added() -> None:
    """Also the shorter ones, and one of zeros."""
    frames = torch.tensor([[0.25, 0.0], [0.0, 0.0], [0.0, 0.5]])
    for k in (2, 3, 4):
        kept = {2: [0, 2], 3: [0, 1, 2], 4: [0, 1, 2]}[k]
        expected = torch.cat([frames[kept], torch.zeros(k - len(kept), 2)])
        assert torch.equal(convert(lua("nn.GroupKMaxPooling", k=k))(frames), expected)


@pytest.mark.covers("nn.CAddTableMulConstant", compared="outputs")
def test_a_scaled_sum_is_of_all_entries_and_changes_none() -> None:
    entries = [rand(2, 3) for _ in range(3)]
    copies = [entry.clone() for entry in entries]
    output = convert(lua("nn.CAddTableMulConstant", constant_scalar=0.5))(entries)
    assert relative_error(output, (copies[0] + copies[1] + copies[2]) / 2) < EXACT
    assert all(map(torch.equal, entries, copies))


def test_a_beam_is_of_batches_only() -> None:
    first, second = rand(6, 1), rand(1, 5)
    module = convert(lua("nn.BeamableMM", beam=3)).train()
    assert relative_error(module([first, second]), first @ second) < EXACT


def test_steps_of_a_convolution_remember_what_it_reads() -> None:
    """In evaluation mode, step by step: what training mode gives for the sequence behind zeros."""
    module = convert(PROJECTS["nn.ConvBlockTrainTestLayer"]()[0])
    steps = torch.randn(6, 2, 4)
    expected = module.train()(torch.cat([torch.zeros(2, 2, 4), steps]))
    module.eval().step_state = []
    outputs = [module(step[:, None]) for step in steps]
    torch.testing.assert_close(torch.cat(outputs, 1).transpose(0, 1), expected)


def test_dimensions_of_a_join_are_those_of_an_example_or_of_all() -> None:
    """Only one axis more than `nInputDims` is a batch."""
    fields = {"dimensionReplicate": 1, "dimensionJoin": 2, "nInputDims": 2}
    module = convert(lua("onmt.JoinReplicateTable", **fields))
    one, many = rand(1, 2, 3, 4), rand(5, 2, 3, 4)
    assert torch.equal(module([one, many]), torch.cat([one.expand(5, -1, -1, -1), many], 1))
