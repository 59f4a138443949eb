"""Networks whose layers overwrite memory that others read compute what Torch7's memory holds.

Expected values follow the memory by hand: a layer with `inplace` writes into its input's memory, a
view is the same memory, and any other layer writes into memory of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from layer_support import lua
from torch import nn

from torchlift.converters import convert
from torchlift.converters.modules.in_place import InPlace, Interpreter, Memory, Ref, reference
from torchlift.converters.modules.layers.container import Concat, ConcatTable, ParallelTable
from torchlift.converters.modules.layers.squeeze import Replicate
from torchlift.converters.modules.layers.table import JoinTable, SplitTable
from torchlift.converters.modules.layers.table_arithmetic import CAddTable
from torchlift.converters.t7 import LuaObject, LuaTable

X = torch.tensor([[-1.0, 2.0], [3.0, -4.0]])


def run(container: nn.Module, inputs: Any, writers: list[str], *viewers: str) -> Any:
    return InPlace(container, writers=writers, viewers=list(viewers))(inputs)


def branches(*children: nn.Module) -> ConcatTable:
    return ConcatTable(*children)


def test_a_later_branch_reads_what_an_earlier_one_wrote() -> None:
    inputs = X.clone()
    first, second = run(branches(nn.ReLU(), nn.Identity()), inputs, ["0.0"])
    assert torch.equal(first, X.relu())
    assert torch.equal(second, X.relu())
    assert torch.equal(inputs, X)


def test_an_earlier_branch_that_hands_its_input_on_reads_it_too() -> None:
    first, second = run(branches(nn.Identity(), nn.ReLU()), X, ["0.1"], "0.0")
    assert torch.equal(first, X.relu())
    assert torch.equal(second, X.relu())
    first, _ = run(branches(nn.Tanh(), nn.ReLU()), X, ["0.1"])
    assert torch.equal(first, X.tanh())


def test_a_slice_is_written_into_the_whole() -> None:
    """A split gives the columns; only the first one is overwritten, in its place."""
    split = nn.Sequential(SplitTable(1), ParallelTable(nn.ReLU(), nn.Tanh()))
    parts, whole = run(branches(split, nn.Identity()), X, ["0.0.1.0"], "0.0.0")
    assert torch.equal(parts[0], X[:, 0].relu())
    assert torch.equal(parts[1], X[:, 1].tanh())
    assert torch.equal(whole, torch.stack([X[:, 0].relu(), X[:, 1]], 1))
    assert X[0, 0] == -1, "the input itself has changed"


def test_a_sum_is_written_into_its_first_summand() -> None:
    other = torch.full((2, 2), 10.0)
    added, entries = run(branches(CAddTable(), nn.Identity()), [X, other], ["0.0"])
    assert torch.equal(added, X + other)
    assert torch.equal(entries[0], X + other)
    assert torch.equal(entries[1], other)


def test_what_is_repeated_is_written_to_memory_of_its_own() -> None:
    """Its entries are one memory: what Torch7 makes of it is undefined."""
    repeated = nn.Sequential(Replicate(3, 1), nn.ReLU())
    first, second = run(branches(repeated, nn.Identity()), X, ["0.0.1"], "0.0.0")
    assert torch.equal(first, X.relu().unsqueeze(1).expand(2, 3, 2))
    assert torch.equal(second, X)


def test_one_tensor_in_two_entries_is_one_memory() -> None:
    table = ParallelTable(nn.ReLU(), nn.Tanh())
    _, second = run(table, [X, X], ["0.0"])
    assert torch.equal(second, X.relu().tanh())
    _, second = run(table, [X, X.clone()], ["0.0"])
    assert torch.equal(second, X.tanh())


def test_the_gradient_is_that_of_the_output() -> None:
    leaf = X.clone().requires_grad_()
    outputs = run(Concat(nn.ReLU(), nn.Sequential(nn.Identity(), nn.Tanh()), dim=1), leaf, ["0.0"])
    outputs.sum().backward()
    again = X.clone().requires_grad_()
    (again.relu() + again.relu().tanh()).sum().backward()
    assert leaf.grad is not None
    assert torch.allclose(leaf.grad, again.grad)


def test_a_read_after_a_write_is_noticed_without_values() -> None:
    """That is how the conversion finds out which containers need this."""
    relu, tanh = nn.ReLU(), nn.Tanh()
    for container, is_stale in (
        (branches(relu, tanh), True),
        (branches(tanh, relu), False),
        (nn.Sequential(relu, tanh), False),
    ):
        interpreter = Interpreter({id(relu)}, set())
        interpreter.read(interpreter.run(container, Ref(Memory())))
        assert interpreter.stale is is_stale


def test_a_container_that_has_its_memory_already_needs_none_around_it() -> None:
    inner = InPlace(branches(nn.ReLU(), nn.Tanh()), writers=["0.0"], viewers=[])
    interpreter = Interpreter({id(inner.get_submodule("0.0"))}, set())
    interpreter.read(interpreter.run(inner, Ref(Memory())))
    assert not interpreter.stale


def test_an_entry_of_an_unknown_table_is_followed() -> None:
    """The entry that was read is written later; the table is stale then."""
    table = Ref(Memory())
    entry = table[0]
    assert table[0] is entry
    assert [each is table[index] for index, each in enumerate(table[0:2])] == [True, True]
    relu = nn.ReLU()
    interpreter = Interpreter({id(relu)}, set())
    interpreter.run(relu, entry)
    interpreter.read(table)
    assert interpreter.stale
    with pytest.raises(TypeError):
        iter(table)


def test_references_keep_names_and_other_values() -> None:
    found = reference({"a": [X, X], "b": 3})
    assert found["a"][0].memory is found["a"][1].memory
    assert found["b"] == 3
    assert torch.equal(Interpreter(set(), set()).read(found)["a"][1], X)


def test_an_entry_of_a_view_is_the_same_memory() -> None:
    """A slice of a tensor whose values are not known yet, as while a network is converted."""
    whole = Ref(Memory())
    assert whole.view(nn.Identity())[1].memory is whole.memory
    assert whole[1].memory is not whole.memory
    fields = [
        LuaObject("nn.SplitTable", LuaTable({"dimension": 1})),
        LuaObject("nn.SelectTable", LuaTable({"index": 1})),
        LuaObject("nn.ReLU", LuaTable({"inplace": True})),
    ]
    first = LuaObject("nn.Sequential", LuaTable({"modules": LuaTable.from_list(fields)}))
    both = LuaTable.from_list(
        [first, LuaObject("nn.MulConstant", LuaTable({"constant_scalar": 1}))]
    )
    network = convert(LuaObject("nn.ConcatTable", LuaTable({"modules": both})))
    row, seen = network(X)
    assert row.tolist() == [0, 2]
    assert seen.tolist() == [[0, 2], [3, -4]]


def test_a_view_of_a_table_of_an_unknown_length_is_every_entry_of_it() -> None:
    table = Ref(Memory())
    assert table[0] is table[0]
    assert table[0] is not table[1]
    seen = table.view(lambda tensor: tensor[0])
    assert seen[3] is seen
    assert seen[0:2] == [seen, seen]


def in_place_relu() -> LuaObject:
    return lua("nn.ReLU", inplace=True)


#: What a ReLU overwrites through views of (2, 3, 4): a layer, and what becomes of the input.
THROUGH_VIEWS: dict[str, tuple[Callable[[], list[LuaObject]], Callable[[torch.Tensor], Any]]] = {
    "Bottle": (
        lambda: [lua("nn.Bottle", modules=[in_place_relu()], nInputDim=2, nOutputDim=2)],
        torch.relu,
    ),
    "Parallel": (
        lambda: [
            lua(
                "nn.Parallel",
                inputDimension=1,
                outputDimension=1,
                modules=[in_place_relu(), lua("nn.Tanh")],
            )
        ],
        lambda x: torch.stack([x[0].relu(), x[1]]),
    ),
    "SelectTable": (
        lambda: [
            lua("nn.SplitTable", dimension=1),
            lua("nn.SelectTable", index=2),
            in_place_relu(),
        ],
        lambda x: torch.stack([x[0], x[1].relu()]),
    ),
    "MapTable": (
        lambda: [lua("nn.SplitTable", dimension=1), lua("nn.MapTable", modules=[in_place_relu()])],
        torch.relu,
    ),
    "ParallelTable": (
        lambda: [
            lua("nn.SplitTable", dimension=1),
            lua("nn.ParallelTable", modules=[lua("nn.Tanh"), in_place_relu()]),
        ],
        lambda x: torch.stack([x[0], x[1].relu()]),
    ),
}


@pytest.mark.parametrize("name", THROUGH_VIEWS)
def test_what_a_branch_overwrites_through_a_view_another_one_reads(name: str) -> None:
    """Slices and reshaped inputs are the memory of the input in Torch7 (`select`, `view`)."""
    layers, expected = THROUGH_VIEWS[name]
    branches = [lua("nn.Sequential", modules=layers()), lua("nn.Identity")]
    network = convert(lua("nn.ConcatTable", modules=branches)).eval()
    x = torch.randn(2, 3, 4)
    before = x.clone()
    output = network(x)[1]
    assert torch.equal(output, expected(x))
    assert torch.equal(x, before)
    # Alone it needs nothing around it; the slices of a Parallel are not told apart.
    alone = convert(lua("nn.Sequential", modules=layers())).eval()
    assert any(isinstance(module, InPlace) for module in alone.modules()) is (name == "Parallel")


def test_a_view_hands_tables_on_and_a_writer_of_a_table_has_memory_of_its_own() -> None:
    """`nn.Identity` may get a table; what writes into none of its entries changes nothing."""
    other = X + 10
    first = nn.Sequential(nn.Identity(), ParallelTable(nn.ReLU(), nn.Tanh()))
    _, seen = run(branches(first, nn.Identity()), [X, other], ["0.0.1.0"], "0.0.0")
    assert torch.equal(seen[0], X.relu())
    assert torch.equal(seen[1], other)
    joined = nn.Sequential(JoinTable(0), nn.ReLU())
    _, seen = run(branches(joined, nn.Identity()), [X, other], ["0.0.0"])
    assert torch.equal(seen[0], X)
