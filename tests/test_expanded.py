"""Expanded arrays: how much more they seem to hold than there is in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import as_strided

from torchlift.converters import t7
from torchlift.converters.expanded import expanded_elements, memory_of, without_repeats
from torchlift.converters.t7.tensors import strided_storage

SIX = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    ("array", "more", "kept", "memory"),
    [
        (SIX, 0, (2, 3), [0, 1, 2, 3, 4, 5]),
        (SIX.T, 0, (3, 2), [0, 1, 2, 3, 4, 5]),
        # With gaps it has fewer elements than its memory.
        (SIX[:, ::2], 0, (2, 2), [0, 1, 2, 3, 4, 5]),
        (SIX[1], 0, (3,), [3, 4, 5]),
        (np.broadcast_to(SIX, (4, 2, 3)), 18, (1, 2, 3), [0, 1, 2, 3, 4, 5]),
        (np.broadcast_to(SIX[:, :1], (2, 5)), 6, (2, 1), [0, 1, 2, 3]),
        # `unfold`: rows of 3 that begin one number after the other.
        (as_strided(SIX, (4, 3), (8, 8)), 6, (4, 3), [0, 1, 2, 3, 4, 5]),
        (as_strided(SIX, (3, 2), (16, 8)), 0, (3, 2), [0, 1, 2, 3, 4, 5]),
        (np.array(5.0), 0, (), [5]),
    ],
)
def test_elements_beyond_those_in_memory_are_counted(
    array: np.ndarray, more: int, kept: tuple[int, ...], memory: list[float]
) -> None:
    assert expanded_elements(array) == more
    assert without_repeats(array).shape == kept
    found = memory_of(array)
    assert found.tolist() == memory
    assert not found.flags.writeable


@pytest.mark.parametrize(
    "array", [SIX[::-1], SIX[:, ::-1], np.zeros((0, 3)), as_strided(SIX, (0, 2), (800, 8))]
)
def test_what_runs_backward_or_is_empty_is_not_expanded(array: np.ndarray) -> None:
    assert expanded_elements(array) == 0
    assert not array.size or without_repeats(array).shape == array.shape


@pytest.mark.parametrize(
    ("array", "strides", "stored"),
    [
        (np.broadcast_to(np.float32([1, 2, 3]), (4, 3)), (0, 1), 12),
        (np.broadcast_to(SIX.T[:, None], (3, 5, 2)), (2, 0, 1), 48),
        (as_strided(SIX, (4, 3), (8, 8)), (1, 1), 48),
        (SIX.T, (2, 1), 48),
    ],
)
def test_a_tensor_is_as_large_in_memory_as_its_array(
    array: np.ndarray, strides: tuple[int, ...], stored: int
) -> None:
    found = t7.to_torch(array)
    assert tuple(found.shape) == array.shape
    assert np.array_equal(found.numpy(), array)
    assert found.stride() == strides
    assert found.untyped_storage().nbytes() == stored
    assert not np.shares_memory(found.numpy(), array)


def test_what_is_in_tables_is_converted_too() -> None:
    inner = t7.LuaTable.from_list([np.array([1.0]), t7.LuaTable({1: 2, "y": np.array([3.0])})])
    found = t7.to_torch(t7.LuaTable({"x": np.array([4.0]), "list": inner, "none": t7.LuaTable()}))
    assert (list(found), found["none"]) == (["x", "list", "none"], [])
    first, second = found["list"]
    assert list(second) == [1, "y"]
    tensors = (found["x"], first, second["y"])
    assert [one.tolist() for one in tensors] == [[4], [1], [3]]
    assert all(isinstance(one, torch.Tensor) for one in tensors)


def test_what_occurs_twice_in_tables_is_one_thing_and_cycles_stay() -> None:
    array, table = np.array([1.0, 2.0]), t7.LuaTable({"weight": 5})
    value = t7.LuaTable({"first": array, "second": t7.LuaTable.from_list([array, table])})
    value["table"] = table
    found = t7.to_torch(value)
    assert found["first"] is found["second"][0]
    assert found["table"] is found["second"][1]
    value["itself"] = value
    found = t7.to_torch(value)
    assert found["itself"] is found


def test_the_storage_of_a_tensor_is_all_of_it_and_known_by_its_address() -> None:
    whole = torch.arange(12.0, requires_grad=True)
    part = whole[2:8].view(2, 3)
    (elements, key), (same, other_key) = strided_storage(part), strided_storage(whole)
    assert elements.tolist() == same.tolist() == list(range(12))
    assert key == other_key == (whole.untyped_storage().data_ptr(), "cpu")
    _, copied = strided_storage(whole.detach().clone())
    assert copied != key
    sparse: Any = torch.eye(2).to_sparse()
    with pytest.raises(t7.T7Error, match=r"no tensor of torch\.float32 and torch\.sparse_coo"):
        strided_storage(sparse)
