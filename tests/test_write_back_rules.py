"""What of a network is still its file's: arguments, places in storages, values that fit.

Whole networks and files are written back in `test_write_back`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from torchlift.converters import convert, t7
from torchlift.converters.modules.errors import ConversionError
from torchlift.converters.modules.to_torch7 import to_torch7, torch7_skeleton
from torchlift.converters.modules.torch7_skeleton import _same, _Storages
from torchlift.converters.modules.torch7_source import materialize
from torchlift.converters.t7 import LuaObject, LuaTable


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        (2, 2, True),
        (2, 3, False),
        ((2, 3), [2, 3], True),
        ((2, 3), [2, 4], False),
        ((2, 3), (2, 3, 3), False),
        ((2, 2), 2, True),
        (0, (0, 0), True),
        # One number stands for a pair only if both are it.
        ((2, 3), 2, False),
        (3, (2, 3), False),
        ((), 2, False),
        ("zeros", "zeros", True),
        (None, 0, False),
    ],
)
def test_a_number_stands_for_as_many_of_itself(first: Any, second: Any, is_same: bool) -> None:
    assert _same(first, second) is is_same


def test_one_side_of_a_window_that_changed_is_written() -> None:
    network = convert(to_torch7(nn.Sequential(nn.MaxPool2d((2, 3), (2, 3)))))
    network[0].kernel_size = 2
    pooling = to_torch7(network)["modules"][1]
    assert [pooling[name] for name in ("kH", "kW", "dH", "dW")] == [2, 2, 2, 3]


def test_memory_that_is_read_as_numbers_of_another_type_is_no_weight_of_a_file() -> None:
    value = t7.loads(t7.dumps(LuaObject("nn.Mul", LuaTable({"weight": np.zeros(4, "f4")}))))
    weight, storages = value["weight"], _Storages(value)
    found = storages.find(weight[2:])
    assert found is not None
    assert found[1] == 2
    assert found[0] is weight.storage
    for other in (np.asarray(weight).view("i4"), np.zeros(4, "f4"), weight[4:]):
        assert storages.find(other) is None


def test_values_that_a_skeleton_holds_itself_take_no_more_memory_than_its_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the network's size is; storages without values are limited by it."""
    source = t7.loads(t7.dumps(LuaObject("nn.Tanh", LuaTable({"extra": np.arange(5.0)}))))
    network = convert(source)
    skeleton = torch7_skeleton(network)
    monkeypatch.setattr("torchlift.converters.modules.torch7_source._LARGEST", 0)
    assert materialize(skeleton, network.state_dict())["extra"].tolist() == [0, 1, 2, 3, 4]
    skeleton["storages"][1]["content"] = None
    with pytest.raises(ConversionError, match="a storage of 5 elements"):
        materialize(skeleton, network.state_dict())


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"weight": torch.ones(3)},
        {"weight": torch.ones(5)},
        {"weight": torch.ones(4, device="meta")},
    ],
)
def test_a_tensor_that_no_longer_fits_leaves_zeros(tensors: dict[str, torch.Tensor]) -> None:
    network = convert(LuaObject("nn.CMul", LuaTable({"weight": np.full((2, 2), 7.0, "f4")})))
    skeleton = torch7_skeleton(network)
    assert materialize(skeleton, tensors)["weight"].tolist() == [[0, 0], [0, 0]]
    # One of another shape with as many numbers fits.
    values = {"weight": torch.arange(4.0).reshape(4, 1)}
    assert materialize(skeleton, values)["weight"].tolist() == [[0, 1], [2, 3]]
