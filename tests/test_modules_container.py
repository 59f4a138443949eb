"""Containers: sharing, order, decorators and replicas, beyond the fixtures.

Children keep their order and identity, and a container does with them what its Lua source says.
Expected values come from calling the children directly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from torchlift.converters import convert, t7
from torchlift.converters.modules import convert_recorded


def lua(class_name: str, *children: t7.LuaObject, **fields: Any) -> t7.LuaObject:
    """Return a Torch7 object with children and fields."""
    table = t7.LuaTable(fields)
    if children:
        table["modules"] = t7.LuaTable.from_list(children)
    return t7.LuaObject(class_name, table)


def linear(n_in: int, n_out: int, dtype: str = "float32") -> t7.LuaObject:
    rng = np.random.default_rng(n_in + n_out)
    weight, bias = rng.standard_normal((n_out, n_in)), rng.standard_normal(n_out)
    return lua("nn.Linear", weight=weight.astype(dtype), bias=bias.astype(dtype))


def test_a_module_that_occurs_twice_is_shared() -> None:
    shared = linear(4, 4)
    model = convert(lua("nn.Sequential", shared, lua("nn.Concat", shared, shared, dimension=2)))
    assert model[0] is model[1][0] is model[1][1]
    assert len(list(model.parameters())) == 2
    assert len(list(model.named_parameters(remove_duplicate=False))) == 6


def test_clones_that_share_memory_share_parameters() -> None:
    first = linear(4, 3)
    clone = lua("nn.Linear", weight=first["weight"], bias=first["bias"].copy())
    model = convert(lua("nn.MapTable", first, clone, shared=True))
    assert model[0] is not model[1]
    assert model[0].weight is model[1].weight
    assert model[0].bias is not model[1].bias


@pytest.mark.covers("nn.MapTable", compared="outputs")
def test_map_table_takes_any_number_of_entries() -> None:
    model = convert(lua("nn.MapTable", linear(4, 3)))
    x = torch.randn(5, 2, 4)
    assert all(torch.equal(y, model[0](item)) for y, item in zip(model(list(x)), x, strict=True))


@pytest.mark.covers(
    "nn.Decorator",
    "nn.DontCast",
    "nn.GPU",
    "nn.NaN",
    "nn.Profile",
    compared="outputs",
)
@pytest.mark.parametrize(
    "class_name", ["nn.Decorator", "nn.NaN", "nn.Profile", "nn.GPU", "nn.DontCast"]
)
def test_decorators_keep_their_level_in_the_tree(class_name: str) -> None:
    model = convert(lua(class_name, linear(4, 3), train=False))
    x = torch.randn(2, 4)
    assert torch.equal(model(x), model[0](x))
    assert not model.training


@pytest.mark.covers("nn.DataParallelTable", compared="outputs")
def test_replicas_on_other_gpus_are_dropped() -> None:
    replicas = lua("nn.DataParallelTable", linear(4, 3), linear(4, 3), dimension=1)
    conversion = convert_recorded(replicas)
    assert [layer.path for layer in conversion.layers] == ["model.modules[1]", "model"]
    assert "2 replicas" in conversion.notes[0].text
    assert len(list(conversion.module.parameters())) == 2
    x = torch.randn(2, 4)
    assert torch.equal(conversion.module(x), conversion.module[0](x))


def test_dont_cast_keeps_another_dtype() -> None:
    output = np.zeros(0, dtype="float32").view(t7.TorchArray)
    output.torch_class = "torch.FloatTensor"
    model = convert(
        lua(
            "nn.DontCast",
            linear(4, 3, "float64"),
            castin=True,
            castout=True,
            moduleType="torch.DoubleTensor",
            output=output,
        )
    )
    x = torch.randn(2, 4)
    assert model(x).dtype == torch.float32
    assert torch.equal(model(x), model[0](x.double()).float())


@pytest.mark.parametrize(("cast", "dtype"), [("castin", torch.float64), ("castout", torch.float32)])
def test_inputs_alone_or_outputs_alone_are_cast(cast: str, dtype: torch.dtype) -> None:
    """The module computes in double precision; so do its inputs and outputs where no cast is."""
    output = np.zeros(0, dtype="float32").view(t7.TorchArray)
    output.torch_class = "torch.FloatTensor"
    fields = {"castin": False, "castout": False, "moduleType": "torch.DoubleTensor"}
    inner = linear(4, 3, "float64")
    model = convert(lua("nn.DontCast", inner, **{**fields, cast: True}, output=output))
    x = torch.randn(2, 4, dtype=torch.float32 if cast == "castin" else torch.float64)
    assert model(x).dtype == dtype
    assert torch.equal(model(x), model[0](x.double()).to(dtype))


def test_the_tables_of_a_layer_of_another_type_are_cast_too() -> None:
    output = torch.zeros(2).double().numpy().view(t7.TorchArray)
    output.torch_class = "torch.DoubleTensor"
    fields = {"castin": True, "castout": True, "moduleType": "torch.FloatTensor"}
    tables = t7.LuaTable.from_list([output, t7.LuaTable.from_list([output])])
    model = convert(lua("nn.DontCast", lua("nn.Identity"), **fields, output=tables))
    tenth = torch.full((2,), 0.1, dtype=torch.float64)
    first, (second,) = model([tenth, [tenth]])
    for result in (first, second):
        assert result.dtype == torch.float64
        assert torch.equal(result, tenth.float().double())


def narrowed(values: torch.Tensor, index: int, length: int) -> torch.Tensor:
    """Do what `Narrow.lua` does along the first dimension."""
    size = len(values)
    if length < 0:
        length = size - index + length + 2
    if index < 0:
        index, length = 1, size - length
    return values[index - 1 : index - 1 + length]


@pytest.mark.parametrize(
    ("index", "length"),
    [(1, 8), (2, 3), (8, 1), (1, -1), (2, -1), (2, -2), (-1, 3), (-5, 1), (-1, -4), (-2, -7)],
)
def test_a_range_may_begin_and_end_at_negative_numbers(index: int, length: int) -> None:
    values = torch.arange(8)
    module = convert(lua("nn.Narrow", dimension=1, index=index, length=length))
    assert len(narrowed(values, index, length)) > 0
    assert torch.equal(module(values), narrowed(values, index, length))


@pytest.mark.covers("nn.DepthConcat", compared="outputs")
def test_depth_concat_pads_an_odd_zero_at_the_end() -> None:
    def crop(length: int) -> t7.LuaObject:
        return lua("nn.Narrow", dimension=3, index=1, length=length)

    model = convert(lua("nn.DepthConcat", crop(5), crop(2), dimension=2))
    x = torch.ones(1, 1, 5)
    assert model(x).tolist() == [[[1, 1, 1, 1, 1], [0, 1, 1, 0, 0]]]


def test_parallel_needs_a_child_for_every_slice() -> None:
    fields = {"inputDimension": 2, "outputDimension": 1}
    model = convert(lua("nn.Parallel", linear(3, 1), linear(3, 2), **fields))
    x = torch.randn(3, 2)
    assert torch.equal(model(x), torch.cat([model[0](x[:, 0]), model[1](x[:, 1])]))
    with pytest.raises(IndexError):
        model(torch.randn(3, 3))


@pytest.mark.covers("nn.Bottle", compared="outputs")
def test_bottle_flattens_any_number_of_dimensions() -> None:
    model = convert(lua("nn.Bottle", linear(4, 3), nInputDim=2, nOutputDim=2))
    x = torch.randn(2, 5, 6, 4)
    assert torch.equal(model(x), model[0](x))
    assert model(x[0, 0]).shape == (6, 3)
    flat = convert(lua("nn.Bottle", lua("nn.Sum", dimension=2), nInputDim=2, nOutputDim=1))
    assert torch.equal(flat(x), x.sum(-1))


def test_base_classes_have_no_forward_pass() -> None:
    model = convert(lua("nn.Container", linear(4, 3)))
    assert isinstance(model, nn.ModuleList)
    with pytest.raises(NotImplementedError):
        model(torch.randn(2, 4))
    with pytest.raises(NotImplementedError):
        convert(lua("nn.Module"))(torch.randn(2, 4))


def test_repr_shows_the_arguments() -> None:
    text = repr(convert(lua("nn.Concat", linear(4, 3), dimension=2)))
    assert "dim=1" in text
    assert "(0): Linear(in_features=4, out_features=3" in text


@pytest.mark.parametrize(
    "class_name", ["nn.ZipTable", "nn.ZipTableOneToMany", "nngraph.JustElement"]
)
def test_a_table_of_unknown_length_is_not_walked_through(class_name: str) -> None:
    """Looking for layers that overwrite what others read ends, whatever the input is."""
    model = convert(lua("nn.Sequential", lua(class_name), lua("nn.ReLU", inplace=True)))
    assert len(model) == 2


def test_tables_that_do_not_fit_are_no_error_of_the_conversion() -> None:
    relu = lua("nn.ReLU", inplace=True)
    branches = lua("nn.ConcatTable", lua("nn.Identity"))
    model = convert(lua("nn.Sequential", branches, lua("nn.ParallelTable", relu, relu)))
    with pytest.raises(IndexError):
        model(torch.ones(2))


@pytest.mark.parametrize(
    ("fields", "inside", "outside"),
    [
        ({"castin": True}, torch.float64, torch.float64),
        ({"castout": True}, torch.float32, torch.int64),
        ({"castin": True, "castout": True}, torch.float64, torch.int64),
        ({}, torch.float32, torch.float32),
    ],
)
def test_inputs_and_outputs_are_cast_one_by_one(
    fields: dict[str, bool], inside: torch.dtype, outside: torch.dtype
) -> None:
    output = np.zeros(1, "i8").view(t7.TorchArray)
    output.torch_class = "torch.LongTensor"
    source = lua("nn.DontCast", lua("nn.Identity"), **fields, output=output)
    source.fields["moduleType"] = "torch.DoubleTensor"
    module, seen = convert(source), []
    module[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].dtype))
    assert module(torch.ones(2)).dtype == outside
    assert seen == [inside]


def test_an_entry_without_a_clone_is_given_to_the_first_module() -> None:
    """The file holds as many clones as the longest table had entries so far."""
    factors = [lua("nn.Mul", weight=np.full(1, factor)) for factor in (2.0, 3.0)]
    model = convert(lua("nn.MapTable", *factors))
    one = torch.ones(1, dtype=torch.float64)
    assert [entry.item() for entry in model([one] * 4)] == [2, 3, 2, 2]


def test_depth_concat_takes_an_output_with_more_dimensions_of_size_1() -> None:
    model = convert(
        lua("nn.DepthConcat", lua("nn.Identity"), lua("nn.Unsqueeze", pos=4), dimension=2)
    )
    x = torch.arange(6.0).reshape(1, 2, 3)
    assert torch.equal(model(x), torch.cat([x, x], 1))
