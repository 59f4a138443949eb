"""A `.t7` of weights alone fills a network of one's own: by order and shape, or not at all."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_support import convolution, linear, lua, lua_list, numbers, sequential, view, write
from cli_support import typed
from torch import nn

from torchlift.converters import load_model
from torchlift.transfer.errors import NetworkError
from torchlift.transfer.torch7_weights import (
    _assign,
    _fits,
    _listed,
    _Source,
    _Target,
    fill_from_t7,
)

PARAMETERS = [numbers(4, 3, 3, 3), numbers(4), numbers(4), numbers(4), numbers(2, 16), numbers(2)]
STATISTICS = [numbers(4), abs(numbers(4)) + 1]


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


def state(filled: nn.Module) -> list[np.ndarray]:
    tensors = [*filled.parameters(), *(one for one in filled.buffers() if one.dim())]
    return [one.detach().numpy() for one in tensors]


FLAT = np.concatenate([one.ravel() for one in PARAMETERS])


@pytest.mark.parametrize(
    "value",
    [
        lua_list(*PARAMETERS, *STATISTICS),
        lua(parameters=lua_list(*PARAMETERS), bnVars=lua_list(*STATISTICS), iteration=5),
        lua(bn=lua_list(*STATISTICS), weights=lua_list(*PARAMETERS)),
        lua(model=lua(weights=FLAT.astype(np.float64), bn=lua_list(*STATISTICS))),
        # The filters of SpatialConvolutionMM are rows of a matrix.
        lua_list(PARAMETERS[0].reshape(4, 27), *PARAMETERS[1:], *STATISTICS),
        lua_list(lua_list(*PARAMETERS[:2]), lua_list(*PARAMETERS[2:], *STATISTICS)),
        # Tensors of integers, such as labels or an order of images, and empty ones are no weights.
        lua(w=lua_list(*PARAMETERS, *STATISTICS), order=np.arange(4), seen=np.zeros(0)),
    ],
)
def test_every_layout_fills_the_tensors_in_their_order(value: Any, tmp_path: Path) -> None:
    filled = network()
    fill_from_t7(filled, write(value, tmp_path))
    for given, expected in zip(state(filled), [*PARAMETERS, *STATISTICS], strict=True):
        assert np.array_equal(given, expected)


def test_statistics_that_are_missing_are_said(tmp_path: Path) -> None:
    notes = fill_from_t7(network(), write(FLAT, tmp_path))
    assert "holds no running statistics: 1.running_mean" in notes[-1]


def test_a_network_in_the_file_gives_its_parameters(tmp_path: Path) -> None:
    source = sequential(convolution(3, 4, 3), view(16), linear(16, 2))
    file = write(lua(model=source), tmp_path)
    filled = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    fill_from_t7(filled, file)
    images = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(filled(images), load_model(file)(images), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (lua_list(*PARAMETERS[:-1]), "does not fit the network: it holds 5 tensors of 4×3×3×3, 4"),
        (lua_list(*PARAMETERS, *STATISTICS, numbers(1)), "does not fit"),
        (lua_list(*PARAMETERS[::-1]), "does not fit"),
        (FLAT[:-1].copy(), "does not fit"),
        (lua_list(PARAMETERS[0].transpose(1, 0, 2, 3).copy(), *PARAMETERS[1:]), "does not fit"),
        (lua(first=lua_list(*PARAMETERS), step=lua_list(*PARAMETERS)), "at=PATH names the value"),
        (lua(epoch=3), "it holds no tensors"),
    ],
)
def test_what_does_not_fit_changes_nothing(value: Any, problem: str, tmp_path: Path) -> None:
    filled = network()
    before = [one.copy() for one in state(filled)]
    with pytest.raises(NetworkError, match=problem):
        fill_from_t7(filled, write(value, tmp_path))
    assert all(map(np.array_equal, state(filled), before))


def test_two_orders_that_fit_are_not_guessed(tmp_path: Path) -> None:
    pair = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    file = write(lua(encoder=numbers(2, 2), decoder=numbers(2, 2)), tmp_path)
    with pytest.raises(NetworkError, match="fits the network in 2 ways: the order of"):
        fill_from_t7(pair, file)


def test_the_command_line_takes_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weightsnet.py").write_text(
        "from torch import nn\n\ndef make():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    values = [PARAMETERS[index] for index in (0, 1, 4, 5)]
    write(lua(params=lua_list(*values), step=lua_list(*values)), tmp_path, "w.t7")
    words = ["convert", "python:weightsnet:make", "saved", "--weights", "w.t7"]
    code, out, err = typed({}, capsys, *words)
    assert (code, out) == (1, "")
    assert "--at PATH names the value" in err
    code, out, err = typed({}, capsys, *words, "--at", "params")
    assert code == 0, err
    assert "the weights are those of w.t7 by order and shape, params[1] first" in out


@pytest.mark.parametrize(("depth", "fits"), [(50, True), (51, False)])
def test_tables_within_tables_are_searched_to_a_depth(
    depth: int, fits: bool, tmp_path: Path
) -> None:
    value: Any = lua_list(*PARAMETERS, *STATISTICS)
    for _ in range(depth - 1):
        value = lua(inner=value)
    filled = network()
    if fits:
        fill_from_t7(filled, write(value, tmp_path))
        assert np.array_equal(state(filled)[0], PARAMETERS[0])
    else:
        with pytest.raises(NetworkError, match="it holds no tensors"):
            fill_from_t7(filled, write(value, tmp_path))


@pytest.mark.parametrize(("count", "fits"), [(5, True), (6, False)])
def test_of_many_names_no_order_is_tried(count: int, fits: bool, tmp_path: Path) -> None:
    """Of five the one that fits is found; six have 720 orders, and are refused."""
    layers = [nn.Linear(size, size + 1, bias=False) for size in range(2, 2 + count)]
    values = {f"w{size}": numbers(size + 1, size) for size in range(2, 2 + count)}
    reversed_ = lua(**dict(reversed(values.items())))
    filled = nn.Sequential(*layers)
    if fits:
        fill_from_t7(filled, write(reversed_, tmp_path))
        assert all(map(np.array_equal, state(filled), values.values()))
    else:
        with pytest.raises(NetworkError, match="does not fit the network: it holds 6 tensors"):
            fill_from_t7(filled, write(reversed_, tmp_path))


@pytest.mark.parametrize(
    ("value", "first"),
    [
        (FLAT, "the file's tensor"),
        (lua_list(*PARAMETERS), r"\[1\]"),
        (lua(model=lua(weights=FLAT)), r"model\.weights"),
    ],
)
def test_what_was_taken_first_is_said(value: Any, first: str, tmp_path: Path) -> None:
    notes = fill_from_t7(network(), write(value, tmp_path))
    assert re.search(rf"by order and shape, {first} first$", notes[0])


def test_a_table_that_holds_itself_gives_its_tensors_once(tmp_path: Path) -> None:
    value = lua_list(*PARAMETERS, *STATISTICS)
    outer = lua(a=value)
    outer["self"] = outer
    outer["again"] = value
    filled = network()
    fill_from_t7(filled, write(outer, tmp_path))
    assert np.array_equal(state(filled)[-1], STATISTICS[-1])


@pytest.mark.parametrize(
    ("given", "wanted", "fits"),
    [
        ((4, 27), (4, 3, 3, 3), True),
        ((27, 4), (4, 3, 3, 3), False),
        ((4, 26), (4, 3, 3, 3), False),
        ((2, 54), (4, 3, 3, 3), False),
        ((108,), (4, 3, 3, 3), True),
        ((1, 4, 1, 27), (4, 27), True),
        ((4, 3, 9), (4, 3, 3, 3), False),
        ((1,), (1, 1, 1, 1), True),
    ],
)
def test_filters_may_be_rows_of_a_matrix(
    given: tuple[int, ...], wanted: tuple[int, ...], fits: bool
) -> None:
    assert _fits(given, wanted) is fits


def test_a_part_of_a_tensor_is_only_taken_of_a_flat_one(tmp_path: Path) -> None:
    both = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 2, bias=False))
    weights = numbers(10)
    fill_from_t7(both, write(weights, tmp_path))
    assert np.array_equal(both[1].weight.detach().numpy().ravel(), weights[6:])
    with pytest.raises(NetworkError, match="does not fit the network"):
        fill_from_t7(both, write(weights.reshape(5, 2), tmp_path))


@pytest.mark.parametrize(("count", "more"), [(6, ""), (7, " and 1 more"), (9, " and 3 more")])
def test_only_the_first_shapes_are_listed(count: int, more: str) -> None:
    """One number is a tensor too."""
    said = f"{count} tensors of 2×3, 1, 1, 1, 1, 1{more}"
    assert _listed([(2, 3), *[()] * (count - 1)]) == said


def test_a_tensor_that_lies_in_memory_as_columns_is_filled_by_rows() -> None:
    """As a transposed one of Torch7 does."""
    rows = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    target = _Target("weight", torch.zeros(2, 3))
    for values in (rows, np.asfortranarray(rows), rows.T.copy().T):
        found = _assign([_Source("w", values)], [target], [])
        assert found is not None
        assert found[target].tolist() == [0, 1, 2, 3, 4, 5]
