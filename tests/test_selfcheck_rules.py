"""Rules of the self-check, each by itself: how errors are counted, what a graph's nodes read."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest
import torch

from torchlift.converters.modules.forward_pass import _children, _recorded_input
from torchlift.converters.modules.selfcheck import _relative_error
from torchlift.converters.t7 import LuaObject, LuaTable

ONE, NAN, INF = torch.ones(2), torch.tensor([1.0, math.nan]), torch.tensor([1.0, math.inf])


@pytest.mark.parametrize(
    ("actual", "expected", "error"),
    [
        (ONE, ONE, 0),
        (ONE * 3, ONE * 4, 0.25),
        (torch.tensor([1.0, 5]), torch.tensor([2.0, 4]), 0.25),
        (NAN, NAN, 0),
        (INF, INF, 0),
        (ONE, NAN, math.inf),
        (NAN, ONE, math.inf),
        (ONE, INF, math.inf),
        (INF, ONE, math.inf),
        (torch.tensor([math.inf]), torch.tensor([math.inf]), 0),
        (torch.ones(0), torch.ones(0), 0),
        (torch.zeros(2), torch.zeros(2), 0),
        ([ONE, ONE * 2], [ONE, ONE * 4], 0.5),
        ({"a": ONE * 2, "b": [ONE]}, {"a": ONE, "b": [ONE]}, 1),
        ([], [], 0),
        (3, 3, 0),
        (3, 4, math.inf),
        (None, None, 0),
        (torch.ones(2, 1), ONE, "its output is 2×1, Torch7's is 2"),
        (3, ONE, "its output is int, Torch7's is 2"),
        (torch.tensor(1.0), ONE, "its output is a scalar, Torch7's is 2"),
        ([ONE], [ONE, ONE], "its output is a list of 1, Torch7's is a list of 2"),
        ({"a": ONE}, [ONE], "its output is a dict of 1, Torch7's is a list of 1"),
        (ONE, [ONE], "its output is 2, Torch7's is a list of 1"),
    ],
)
def test_an_error_is_the_largest_difference_over_the_largest_number(
    actual: Any, expected: Any, error: float | str
) -> None:
    """Of a table that of its worst entry; what has another form has none."""
    if isinstance(error, str):
        with pytest.raises(ValueError, match=f"^{error}$"):
            _relative_error(actual, expected)
    else:
        found = _relative_error(actual, expected)
        assert found == error or min(found, error) >= sys.float_info.max


def test_the_nodes_of_a_graph_say_what_they_read() -> None:
    """A list of one is that input itself; nodes without a module are left out."""
    first, second = LuaObject("nn.Tanh"), LuaObject("nn.CAddTable")
    x, y = np.ones(1), np.ones(2)

    def node(**data: Any) -> LuaObject:
        return LuaObject("nngraph.Node", LuaTable({"data": LuaTable(data)}))

    nodes = [
        node(input=LuaTable.from_list([x])),
        node(module=first, input=LuaTable.from_list([x])),
        node(module=second, input=LuaTable.from_list([x, y])),
        node(module=LuaObject("nn.Sigmoid")),
    ]
    fields = {"innode": nodes[0], "forwardnodes": LuaTable.from_list(nodes)}
    graph = LuaObject("nn.gModule", LuaTable(fields))
    assert _recorded_input(graph) is x
    (one, two, three) = _children(graph, None)
    assert [each[0] for each in (one, two, three)] == [
        f".forwardnodes[{number}].data.module" for number in (2, 3, 4)
    ]
    assert one[1:] == (first, x)
    assert (two[1], two[2].to_list()) == (second, [x, y])
    assert three[2] is None
