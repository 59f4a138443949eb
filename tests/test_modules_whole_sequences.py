"""A sequence computed as a whole, as exported graphs do, is its steps one after the other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from contract_projects_support import PROJECTS
from layer_support import lua, rand
from support import FIXTURES, relative_error
from torch import nn
from torch.utils import _pytree as pytree

from torchlift.converters import convert, t7
from torchlift.converters.modules.packages.cells import find_cells
from torchlift.converters.modules.packages.whole_sequences import (
    each_step,
    recurrent_layers,
    run_on_sequence,
    stacked,
    unstacked,
)
from torchlift.converters.modules.recurrence import recurrent_operators

#: float64 against float64: only the order of summation differs.
EXACT = 1e-12


def inner(name: str) -> Any:
    """Return the Torch7 module inside a sequencer that Torch7 wrote, of size 4 to 3."""
    cases = t7.load(FIXTURES / "layers" / "packages.t7").values()
    return next(case for case in cases if case["name"] == name)["module"]["modules"][1]


def linear(n_in: int, n_out: int) -> Any:
    return lua("nn.Linear", weight=rand(n_out, n_in), bias=rand(n_out))


def network(*modules: Any) -> nn.Module:
    module = convert(lua("nn.Sequential", modules=list(modules))).double().eval()
    for parameter in module.parameters():
        parameter.data = torch.randn_like(parameter)
    return module


def of_project(name: str) -> nn.Module:
    return network(lua("nn.Tanh"), PROJECTS[name]()[0], lua("nn.Square"))


def summing() -> nn.Module:
    """Return a ConvLSTM whose h and c are both the sum of all images so far."""
    pick = [lua("nn.SelectTable", index=number) for number in (1, 2, 3)]
    cell = lua("nn.ConcatTable", modules=[pick[0], pick[2]])
    modules = [
        lua(
            "nn.Sequential",
            modules=[lua("nn.NarrowTable", offset=1, length=2), lua("nn.CAddTable")],
        ),
        lua("nn.Sequential", modules=[cell, lua("nn.CAddTable")]),
    ]
    step = lua("nn.ConcatTable", modules=modules)
    return network(lua("nn.ConvLSTM", recurrentModule=step, outputSize=3, kc=3, km=3))


def test_states_of_images_begin_with_zeros() -> None:
    images = rand(4, 2, 3, 5, 6)
    outputs, states = each_step(summing(), list(images))
    assert relative_error(torch.stack(outputs), images.cumsum(0)) < EXACT
    assert relative_error(states, [images.sum(0)] * 2) < EXACT


def deep() -> nn.Module:
    """Two known cells, layers of every step before, between and after them, one inside another."""
    between = lua("nn.Sequential", modules=[linear(3, 4), lua("nn.Tanh")])
    first, second = inner("rnn_Sequencer_FastLSTM"), inner("rnn_Sequencer_GRU")
    return network(linear(5, 4), first, between, second, lua("nn.LogSoftMax"))


NETWORKS = {
    "known cells": (deep, lambda: rand(6, 2, 5)),
    "a cell of other equations": (
        lambda: network(linear(5, 4), inner("rnn_Sequencer_MuFuRu"), lua("nn.Tanh")),
        lambda: rand(6, 2, 5),
    ),
    "words": (
        lambda: network(
            lua("nn.LookupTable", weight=rand(7, 4)), inner("rnn_Sequencer_GRU"), linear(3, 2)
        ),
        lambda: torch.randint(1, 8, (6, 2)),
    ),
    "another first step": (lambda: network(inner("rnn_Recurrent")), lambda: rand(6, 2, 4)),
    "images": (summing, lambda: rand(6, 2, 3, 6, 6)),
    "images, another first step": (
        lambda: of_project("nn.UntiedConvLSTM"),
        lambda: rand(6, 2, 3, 6, 6),
    ),
    "layers of each step only": (
        lambda: network(linear(5, 4), lua("nn.SoftMax")),
        lambda: rand(6, 2, 5),
    ),
    "tables": (
        lambda: network(lua("nn.ParallelTable", modules=[linear(5, 4), lua("nn.Tanh")])),
        lambda: [rand(6, 2, 5), rand(6, 2, 3)],
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_whole_sequence_is_its_steps(name: str) -> None:
    build, draw = NETWORKS[name]
    module, sequence = build(), draw()
    with torch.no_grad():
        cells = find_cells(module)
        assert len(cells) == {"known cells": 2, "words": 1}.get(name, 0)
        outputs, states = each_step(module, unstacked(sequence))
        expected = stacked(outputs)
        for known in ({}, cells):
            with recurrent_operators({}, known):
                actual, after = run_on_sequence(module, sequence)
            assert relative_error(actual, expected) < EXACT
            if "first step" not in name:  # Whether a step is the first is a state of its own.
                assert relative_error(after, states) < EXACT
        assert all(layer.step_state is None for layer in recurrent_layers(module))


@pytest.mark.parametrize("name", ["known cells", "a cell of other equations", "words", "images"])
def test_a_whole_sequence_continues_from_given_states(name: str) -> None:
    build, draw = NETWORKS[name]
    module, sequence = build(), draw()
    with torch.no_grad():
        expected, states = each_step(module, list(sequence))
        for known in ({}, find_cells(module)):
            with recurrent_operators({}, known):
                first, before = run_on_sequence(module, sequence[:2])
                rest, after = run_on_sequence(module, sequence[2:], before)
            assert relative_error(torch.cat([first, rest]), torch.stack(expected)) < EXACT
            assert relative_error(after, states) < EXACT
        assert relative_error(each_step(module, list(sequence[2:]), before)[0], list(rest)) < EXACT


def test_steps_of_tables_are_stacked_and_taken_apart() -> None:
    steps = [[torch.full((2,), float(step)), [torch.full((1,), -float(step))]] for step in range(3)]
    whole = stacked(steps)
    assert whole[0].tolist() == [[0, 0], [1, 1], [2, 2]]
    assert whole[1][0].tolist() == [[0], [-1], [-2]]
    assert pytree.tree_all(torch.is_tensor, unstacked(whole))
    assert relative_error(unstacked(whole), steps) == 0


def test_steps_of_one_example_are_not_taken_for_a_batch() -> None:
    """(T, D) has no axis to flatten into another; indices (T, N) have."""
    module, steps = network(linear(4, 3)), rand(5, 4)
    output, _ = run_on_sequence(module, steps)
    assert relative_error(output, torch.stack([module(step) for step in steps]).detach()) < EXACT
    table = convert(lua("nn.LookupTable", weight=rand(6, 2)))
    words = torch.tensor([[1, 6, 2], [3, 3, 5]])
    output, _ = run_on_sequence(table, words)
    assert torch.equal(output, torch.stack([table(step) for step in words]))
