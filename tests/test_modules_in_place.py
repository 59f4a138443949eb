"""Every layer that overwrites its input, hands it on or moves it, and containers in containers.

Torch7 keeps one memory: what `inplace` overwrites, other branches read. The order of reads and
writes by itself is in `test_modules_memory`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from layer_support import lua
from torch import nn

from torchlift.converters import convert
from torchlift.converters.modules.in_place import InPlace, Interpreter, Memory, Ref
from torchlift.converters.modules.layers.container import ConcatTable, Parallel, ParallelTable
from torchlift.converters.modules.layers.table import (
    FlattenTable,
    NarrowTable,
    SelectTable,
    ZipTable,
    ZipTableOneToMany,
)
from torchlift.converters.modules.packages.nngraph import JustElement, JustTable
from torchlift.converters.t7 import LuaObject, dumps, loads

X = torch.tensor([[-1.0, 2.0], [3.0, -4.0]])


def in_place_relu() -> LuaObject:
    return lua("nn.ReLU", inplace=True)


def times(factor: float, **fields: Any) -> LuaObject:
    return lua("nn.MulConstant", constant_scalar=factor, **fields)


#: Every class that writes into its input's memory if its field `inplace` is true.
OVERWRITING: dict[str, dict[str, Any]] = {
    "cudnn.ClippedReLU": {"ceiling": 1.5},
    "cudnn.ReLU": {},
    "cudnn.Sigmoid": {},
    "cudnn.Tanh": {},
    "inn.ConstAffine": {"a": torch.tensor([[[[2.0]], [[3.0]]]]), "b": torch.ones(2)},
    "nn.AddConstant": {"constant_scalar": 1},
    "nn.Clamp": {"min_val": -1, "max_val": 1},
    "nn.Dropout": {"p": 0.5, "v2": False},
    "nn.ELU": {},
    "nn.HardTanh": {"min_val": -2, "max_val": 2},
    "nn.LeakyReLU": {"negval": 0.1},
    "nn.MulConstant": {"constant_scalar": 2},
    "nn.RReLU": {"lower": 0.1, "upper": 0.3},
    "nn.ReLU": {},
    "nn.ReLU6": {},
    "nn.Threshold": {"threshold": 0.5, "val": 7},
}
#: Every class whose output is its input's memory.
VIEWING: dict[str, dict[str, Any]] = {
    "nn.Collapse": {"nInputDim": 1},
    "nn.Contiguous": {},
    "nn.Copy": {},
    "nn.GradientReversal": {},
    "nn.Identity": {},
    "nn.L1Penalty": {"l1weight": 0.1},
    "nn.PrintSize": {},
    "nn.Reshape": {"size": torch.tensor([1, 2])},
    "nn.Squeeze": {},
    "nn.Unsqueeze": {"pos": 1},
    "nn.View": {"size": torch.tensor([4])},
    "nn.ZeroGrad": {},
}


@pytest.mark.parametrize("name", OVERWRITING)
def test_every_layer_that_works_in_place_is_known(name: str) -> None:
    writer = lua(name, inplace=True, **OVERWRITING[name])
    network = convert(lua("nn.ConcatTable", modules=[writer, times(1)])).eval()
    written, seen = network(X)
    assert torch.equal(seen, written)
    assert not torch.equal(written, X)


@pytest.mark.parametrize("name", VIEWING)
def test_every_layer_that_hands_its_input_on_is_known(name: str) -> None:
    first = lua("nn.Sequential", modules=[lua(name, **VIEWING[name]), in_place_relu()])
    network = convert(lua("nn.ConcatTable", modules=[first, times(1)])).eval()
    assert torch.equal(network(X)[1], X.relu())


def test_what_is_repeated_is_the_memory_of_the_input() -> None:
    first = lua("nn.Sequential", modules=[lua("nn.Replicate", nfeatures=2), in_place_relu()])
    assert isinstance(convert(lua("nn.ConcatTable", modules=[first, times(1)])), InPlace)


def test_layers_one_behind_the_other_share_what_the_first_handed_on_twice() -> None:
    """Neither table overwrites what it reads itself: the memory is that of both."""
    twice = lua("nn.ConcatTable", modules=[lua("nn.Identity"), lua("nn.Identity")])
    each = lua("nn.ParallelTable", modules=[in_place_relu(), times(3)])
    network = convert(lua("nn.Sequential", modules=[twice, each])).eval()
    written, seen = network(X)
    assert torch.equal(written, X.relu())
    assert torch.equal(seen, 3 * X.relu())


def test_a_bottle_writes_through_the_shape_that_its_module_sees() -> None:
    """Of a matrix the softmax is along the rows, of three dimensions along the first."""
    inside = [in_place_relu(), lua("nn.SoftMax")]
    bottle = lua("nn.Bottle", modules=[lua("nn.Sequential", modules=inside)], nInputDim=2)
    network = convert(lua("nn.ConcatTable", modules=[bottle, times(1)])).eval()
    images = torch.stack([X, X + 1, X - 1])
    found, seen = network(images)
    assert torch.equal(seen, images.relu())
    assert torch.equal(found, images.relu().softmax(-1))


def test_a_sum_in_place_is_read_by_who_reads_its_first_summand() -> None:
    for index, is_read in ((1, True), (2, False)):
        branches = [lua("nn.CAddTable", inplace=True), lua("nn.SelectTable", index=index), times(1)]
        second = lua("nn.Sequential", modules=branches[1:])
        network = convert(lua("nn.ConcatTable", modules=[branches[0], second]))
        assert isinstance(network, InPlace) is is_read
        total, seen = network([X, X + 1])
        assert torch.equal(total, 2 * X + 1)
        assert torch.equal(seen, 2 * X + 1 if is_read else X + 1)


Y = X + 10

#: A layer that moves entries, what follows it, an input, and what becomes of the input.
MOVED: dict[str, tuple[nn.Module, nn.Module, Any, Any]] = {
    "FlattenTable": (FlattenTable(), ParallelTable(nn.ReLU(), nn.Tanh()), [[X], [Y]], [[0], [Y]]),
    "JustElement": (JustElement(), nn.Sequential(nn.ReLU()), [X], [0]),
    "JustTable": (JustTable(), ParallelTable(nn.ReLU()), X, 0),
    "NarrowTable": (NarrowTable(1, 1), ParallelTable(nn.ReLU()), [Y, X], [Y, 0]),
    "SelectTable": (SelectTable(1), nn.Sequential(nn.ReLU()), [Y, X], [Y, 0]),
    "ZipTable": (
        ZipTable(),
        ParallelTable(ParallelTable(nn.ReLU(), nn.Tanh())),
        [[X], [Y]],
        [[0], [Y]],
    ),
    "ZipTableOneToMany": (
        ZipTableOneToMany(),
        ParallelTable(ParallelTable(nn.Tanh(), nn.ReLU())),
        [Y, [X]],
        [Y, [0]],
    ),
}


@pytest.mark.parametrize("name", MOVED)
def test_an_entry_that_was_moved_is_the_same_memory(name: str) -> None:
    layer, after, inputs, expected = MOVED[name]
    branch = nn.Sequential(layer, after)
    writers = [f"0.0.{part}" for part, each in branch.named_modules() if type(each) is nn.ReLU]
    assert len(writers) == 1
    _, seen = InPlace(ConcatTable(branch, nn.Identity()), writers=writers, viewers=[])(inputs)

    def compare(found: Any, wanted: Any) -> None:
        if isinstance(wanted, list):
            assert len(found) == len(wanted)
            for pair in zip(found, wanted, strict=True):
                compare(*pair)
        else:
            assert torch.equal(found, wanted if isinstance(wanted, torch.Tensor) else X.relu())

    compare(seen, expected)


@pytest.mark.parametrize(("index", "is_read"), [(1, False), (2, True)])
def test_a_range_of_an_unknown_table_is_followed_by_its_place(index: int, is_read: bool) -> None:
    steps = [
        lua("nn.NarrowTable", offset=2, length=1),
        lua("nn.ParallelTable", modules=[in_place_relu()]),
    ]
    reads = [lua("nn.SelectTable", index=index), lua("nn.Tanh")]
    both = [lua("nn.Sequential", modules=each) for each in (steps, reads)]
    assert isinstance(convert(lua("nn.ConcatTable", modules=both)), InPlace) is is_read


def test_branches_of_other_sizes_read_what_an_earlier_one_wrote() -> None:
    network = convert(lua("nn.DepthConcat", dimension=1, modules=[in_place_relu(), times(3)]))
    assert isinstance(network, InPlace)
    assert torch.equal(network(X), torch.cat([X.relu(), 3 * X.relu()]))


def test_what_a_container_with_its_own_memory_wrote_others_read() -> None:
    inner = lua("nn.ConcatTable", modules=[in_place_relu(), times(2)])
    network = convert(lua("nn.ConcatTable", modules=[inner, times(3)]))
    assert isinstance(network, InPlace)
    (first, second), third = network(X)
    for found, factor in ((first, 1), (second, 2), (third, 3)):
        assert torch.equal(found, factor * X.relu())


def test_a_container_with_its_own_memory_reads_what_others_wrote() -> None:
    inner = lua("nn.ConcatTable", modules=[times(2, inplace=True), times(1)])
    network = convert(lua("nn.ConcatTable", modules=[in_place_relu(), inner]))
    assert isinstance(network, InPlace)
    first, (second, third) = network(X)
    for found in (first, second, third):
        assert torch.equal(found, 2 * X.relu())


def test_what_such_a_container_returned_is_up_to_date() -> None:
    """Its entries are read with what was written last: nothing around it is needed."""
    inner = lua("nn.ConcatTable", modules=[lua("nn.Identity"), in_place_relu()])
    network = convert(lua("nn.Sequential", modules=[inner, lua("nn.CAddTable")]))
    assert [isinstance(module, InPlace) for module in (network, network[0])] == [False, True]
    assert torch.equal(network(X), 2 * X.relu())


@pytest.mark.parametrize(("index", "is_read"), [(1, True), (2, False)])
def test_the_only_entry_of_an_unknown_table_is_its_first(index: int, is_read: bool) -> None:
    first = [lua("nngraph.JustElement"), in_place_relu()]
    second = [lua("nn.SelectTable", index=index), lua("nn.Tanh")]
    both = [lua("nn.Sequential", modules=each) for each in (first, second)]
    assert isinstance(convert(lua("nn.ConcatTable", modules=both)), InPlace) is is_read


def is_stale(container: nn.Module, writers: list[nn.Module], *viewers: nn.Module) -> bool:
    """Return whether something is read in a container that was overwritten after it was made."""
    interpreter = Interpreter({id(each) for each in writers}, {id(each) for each in viewers})
    interpreter.read(interpreter.run(container, Ref(Memory())))
    return interpreter.stale


def test_what_enters_a_container_with_its_own_memory_is_read() -> None:
    """Inside, another layer overwrites other memory: that alone concerns nobody outside."""
    relu, inner_relu = nn.ReLU(), nn.ReLU()
    inside = nn.Sequential(nn.Tanh(), ConcatTable(inner_relu, nn.Tanh()))
    inner = InPlace(inside, writers=["0.1.0"], viewers=[])
    assert is_stale(ConcatTable(relu, inner), [relu, inner_relu])
    assert not is_stale(ConcatTable(nn.Tanh(), inner), [relu, inner_relu])


def test_what_was_overwritten_twice_is_read_as_it_was_in_between() -> None:
    first, second, view = nn.ReLU(), nn.ReLU(), nn.Identity()
    again = nn.Sequential(first, ConcatTable(view, second))
    assert is_stale(again, [first, second], view)
    assert not is_stale(nn.Sequential(first, ConcatTable(view, nn.Tanh())), [first, second], view)


def test_every_clone_of_a_map_overwrites_an_entry() -> None:
    mapped = lua("nn.MapTable", modules=[in_place_relu(), in_place_relu()])
    for index, is_read in ((1, True), (2, True), (3, False)):
        reads = [lua("nn.SelectTable", index=index), lua("nn.Tanh")]
        branches = [mapped, lua("nn.Sequential", modules=reads)]
        network = convert(lua("nn.ConcatTable", modules=branches))
        assert isinstance(network, InPlace) is is_read


def test_slices_without_a_child_are_an_error_in_place_too() -> None:
    module = InPlace(Parallel(nn.ReLU(), nn.ReLU()), writers=["0.0"], viewers=[])
    assert torch.equal(module(X), X.relu().flatten())
    with pytest.raises(IndexError):
        module(torch.ones(3, 2))


def test_a_table_of_which_one_tensor_is_unknown_gives_an_unknown_one() -> None:
    """While containers are looked through, no layer is called with less than it takes."""

    class Failing(nn.Module):
        def forward(self, input: Any) -> Any:
            raise AssertionError

    table = [Ref(Memory(X)), Ref(Memory())]
    for value in (table, {"a": table}):
        assert Interpreter(set(), set()).run(Failing(), value).memory.tensor is None


def test_a_cast_is_memory_of_its_own() -> None:
    """`nn.Copy` to another type copies; to the same type it hands its input on."""
    types = {"gradInput": torch.zeros(1), "output": torch.zeros(1).double()}
    arrays = {name: loads(dumps(value.numpy())) for name, value in types.items()}
    first = lua("nn.Sequential", modules=[lua("nn.Copy", **arrays), in_place_relu()])
    network = convert(lua("nn.ConcatTable", modules=[first, times(1)]))
    assert not isinstance(network, InPlace)
    positive, seen = network(X)
    assert torch.equal(positive, X.relu().double())
    assert torch.equal(seen, X)
