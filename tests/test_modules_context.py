"""What the objects of one conversion share: modes, depth, memory, and what is said of errors."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from torchlift.converters import convert, t7
from torchlift.converters.modules import convert_recorded, register
from torchlift.converters.modules.context import MAX_DEPTH, Context
from torchlift.converters.modules.errors import (
    ConversionError,
    UnknownClass,
    UnknownClassError,
)
from torchlift.converters.modules.packages.alias import convert_as
from torchlift.converters.modules.registry import unregister_module
from torchlift.converters.modules.to_torch7 import to_torch7
from torchlift.converters.t7 import LuaObject, LuaTable


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """What a test registers is forgotten after it."""
    yield
    unregister_module(__name__)


def lua(name: str, *children: LuaObject, **fields: object) -> LuaObject:
    if children:
        fields["modules"] = LuaTable.from_list(children)
    return LuaObject(name, LuaTable(fields))


def test_each_layer_keeps_its_own_mode() -> None:
    frozen = lua("nn.Dropout", p=0.5, train=False)
    network = convert(lua("nn.Sequential", frozen, lua("nn.Tanh"), train=True))
    assert [part.training for part in network.modules()] == [True, False, True]
    # In Lua 0 is true.
    assert convert(lua("nn.Dropout", p=0.5, train=0)).training


def test_modules_side_by_side_are_not_inside_each_other() -> None:
    """Also those of a container that has ended."""
    inner = [lua("nn.Sequential", lua("nn.Tanh")) for _ in range(MAX_DEPTH)]
    assert len(convert(lua("nn.Sequential", *inner))) == MAX_DEPTH


def test_modules_in_each_other_end_somewhere() -> None:
    network = lua("nn.Tanh")
    for _ in range(MAX_DEPTH - 1):
        network = lua("nn.Sequential", network)
    convert(network)
    with pytest.raises(ConversionError, match=f"more than {MAX_DEPTH} modules, one in another"):
        convert(lua("nn.Sequential", network))


def test_a_choice_is_of_its_own_type() -> None:
    """In Lua `true` is not 1."""
    context = Context(find=lambda source: None)
    assert context.choice(lua("my.Layer", mode=1.0), "mode", (2.0, 1.0)) == 1
    assert context.choice(lua("my.Layer"), "mode", (2, 1)) == 2
    with pytest.raises(ConversionError, match="mode = True is not known; known are 2, 1"):
        context.choice(lua("my.Layer", mode=True), "mode", (2, 1))


def test_statistics_are_written_back_to_their_place() -> None:
    arrays = {name: np.ones(3, np.float32) for name in ("running_mean", "running_var")}
    source = t7.loads(t7.dumps(lua("nn.BatchNormalization", eps=1e-5, affine=False, **arrays)))
    source.version = 2
    network = convert(source)
    mean = torch.tensor([1.0, -2.0, 3.0])
    network.running_mean.copy_(mean)
    written = to_torch7(network)
    assert written["running_mean"].tolist() == mean.tolist()
    assert written["running_var"].tolist() == [1, 1, 1]


def test_what_fails_because_of_an_unknown_class_is_not_said_beside_it() -> None:
    damaged = lua("nn.Linear", weight=np.ones((2, 3)), bias=np.ones(7))
    container = lua("nn.Concat", lua("my.Unknown"), dimension="x")
    with pytest.raises(UnknownClassError, match=r"besides, model\.modules\[2\]: ") as caught:
        convert(lua("nn.Sequential", container, damaged))
    assert str(caught.value).count("besides") == 1


def test_a_class_that_is_converted_like_no_other_is_an_error() -> None:
    context = Context(find=lambda source: None)
    with pytest.raises(ConversionError, match=r"my\.Layer is converted like nn\.None, which"):
        convert_as("nn.None", LuaObject("my.Layer", LuaTable()), context)


@pytest.mark.parametrize("value", [LuaTable({"a": 1}), 5, "nn.Tanh"])
def test_what_is_no_module_among_modules_is_named_with_its_place(value: object) -> None:
    modules = LuaTable.from_list([LuaObject("nn.Tanh"), value])
    with pytest.raises(
        ConversionError, match=r"modules\[2\]: a Torch7 module was expected, not (LuaTable|int|str)"
    ):
        convert(LuaObject("nn.Sequential", LuaTable({"modules": modules})))


@pytest.mark.parametrize(("version", "is_known"), [(1, True), (4, True), (5, False), ("5", True)])
def test_versions_up_to_the_highest_of_torch7s_are_known(
    version: int | str, is_known: bool
) -> None:
    """`nn.LookupTable` has version 4; what is no number says nothing."""
    source = LuaObject("nn.Tanh", LuaTable(), version)
    if is_known:
        convert(source)
    else:
        with pytest.raises(ConversionError, match=r"version 5 of nn\.Tanh is not known"):
            convert(source)


def test_classes_in_a_container_of_an_unknown_class_are_named_too() -> None:
    inner = lua("my.Box", lua("my.Inside"), lua("nn.Tanh"))
    with pytest.raises(UnknownClassError) as caught:
        convert(lua("nn.Sequential", inner, lua("my.Inside")))
    assert caught.value.paths == {
        "my.Box": ["model.modules[1]"],
        "my.Inside": ["model.modules[1].modules[1]", "model.modules[2]"],
    }


def test_objects_of_a_file_among_the_numbers_of_a_layer_are_refused() -> None:
    """In a list of numbers too, where they would come up in a forward pass only."""
    criterions = LuaTable.from_list([lua("nn.MSECriterion"), lua("nn.MSECriterion")])
    for wrong in (LuaTable(), np.ones(2), lua("nn.Tanh")):
        weights = LuaTable.from_list([0.5, wrong])
        source = LuaObject("nn.MultiCriterion", LuaTable())
        source.fields["criterions"], source.fields["weights"] = criterions, weights
        with pytest.raises(ConversionError, match=r"weights is .*, a number was expected"):
            convert(source)
    with pytest.raises(ConversionError, match="exponent is table of 0, a number was expected"):
        convert(lua("nn.Power", pow=LuaTable()))


def test_a_converted_normalization_counts_its_batches_from_0() -> None:
    """PyTorch's counter has no field in Torch7; without a value nothing could be saved."""
    numbers = np.ones(2, np.float32)
    for name in ("", "Spatial", "Volumetric"):
        source = lua(f"nn.{name}BatchNormalization", running_mean=numbers, running_var=numbers)
        module = convert(source)
        counter = dict(module.named_buffers())["num_batches_tracked"]
        assert (counter.item(), counter.dtype) == (0, torch.int64)


def test_a_note_after_its_children_is_the_containers() -> None:
    inner = lua("nn.Sequential", lua("nn.Tanh", slope=1), encoding="x")
    notes = convert_recorded(lua("nn.Sequential", inner)).notes
    assert [(note.path, note.class_name) for note in notes] == [
        ("model.modules[1].modules[1]", "nn.Tanh"),
        ("model.modules[1]", "nn.Sequential"),
    ]


def test_the_container_that_runs_with_torch7s_memory_is_noted() -> None:
    branches = lua("nn.ConcatTable", lua("nn.ReLU", inplace=True), lua("nn.Identity"))
    (note,) = convert_recorded(lua("nn.Sequential", lua("nn.Tanh"), branches)).notes
    assert (note.path, note.class_name) == ("model.modules[2]", "")
    assert "one level deeper in the PyTorch module" in note.text


@pytest.mark.parametrize("count", [1, 3])
def test_an_array_of_another_size_is_named_with_both(count: int) -> None:
    problem = rf"bias has {count} elements \(shape \({count},\)\), but shape \(2,\) was expected"
    with pytest.raises(ConversionError, match=problem):
        convert(lua("nn.Linear", weight=np.ones((2, 3)), bias=np.ones(count)))


def test_the_first_object_that_cannot_be_converted_is_named() -> None:
    damaged = [lua("nn.Linear", weight=np.ones((2, 3)), bias=np.ones(n)) for n in (5, 7)]
    with pytest.raises(ConversionError, match=r"^model\.modules\[1\]: bias has 5 elements"):
        convert(lua("nn.Sequential", *damaged))


class Holder(nn.Module):
    """A user's layer, which may hold whatever it likes."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


def test_a_users_layer_may_hold_an_object_of_the_file() -> None:
    register("my.Holder")(lambda source, context: Holder(source["value"]))
    assert convert(lua("my.Holder", value=LuaTable({1: 2}))).value[1] == 2


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RecursionError("maximum depth"), "it is nested too deeply (from size = 3)"),
        (ValueError(), "ValueError (from size = 3)"),
        (ValueError("odd"), "odd (from size = 3)"),
        # The object has this field: what is missing is something else.
        (KeyError("size"), "'size' (from size = 3)"),
        (KeyError(2), "2 (from size = 3)"),
    ],
)
def test_what_a_converter_raises_is_said_with_what_it_read(error: Exception, text: str) -> None:
    @register("my.Failing")
    def failing(source: LuaObject, context: Context) -> nn.Module:
        assert source["size"] == 3
        raise error

    with pytest.raises(ConversionError) as caught:
        convert(lua("my.Failing", size=3))
    assert not isinstance(caught.value, UnknownClassError)
    assert str(caught.value) == f"model: my.Failing cannot be converted: {text}"


def ambiguous() -> LuaObject:
    for field in ("first", "second"):
        register("my.Ambiguous", fields=(field,))(lambda source, context: nn.Tanh())
    return lua("my.Ambiguous", first=1, second=2)


@pytest.mark.parametrize(
    ("name", "inner", "is_offered"),
    [
        ("part", lambda: lua("nn.Tanh"), True),
        ("2nd", lambda: lua("nn.Tanh"), False),
        ("part", lambda: lua("my.Unheard"), False),
        ("part", ambiguous, False),
        ("part", lambda: LuaTable({1: lua("nn.Tanh")}), False),
    ],
)
def test_only_a_part_that_converts_alone_is_offered(
    name: str, inner: Any, is_offered: bool
) -> None:
    with pytest.raises(UnknownClassError, match=r"no converter for my\.Outer") as caught:
        convert(lua("my.Outer", **{name: inner()}))
    assert (f"converts alone (at='model.{name}')" in str(caught.value)) is is_offered


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_half_precision_becomes_single_and_others_stay(dtype: str) -> None:
    expected = torch.float64 if dtype == "f8" else torch.float32
    numbers = np.array([0.5, 2.0], dtype)
    module = convert(
        lua("nn.BatchNormalization", weight=numbers, running_mean=numbers, running_var=numbers)
    )
    for tensor in (module.weight, module.running_mean):
        assert tensor.dtype == expected
        assert tensor.tolist() == [0.5, 2.0]


def test_a_class_without_fields_of_its_own_has_a_skeleton_too() -> None:
    bare = UnknownClassError([UnknownClass("my.Bare", {}, ["model"], [])])
    assert "Fields of the first: none." in str(bare)
    assert "    # no fields\n" in bare.skeleton
    ast.parse(bare.skeleton)
    # The name is taken, and no field tells it apart but those that every module has.
    common = UnknownClass("nn.Scale", {"output": "array", "train": "True"}, ["model"], [])
    taken = UnknownClassError([common], is_taken=True)
    assert "@register('nn.Scale', fields=('output',))" in str(taken)
