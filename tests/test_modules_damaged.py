"""Damaged and hostile objects: `convert` answers or names them, in bounded time and memory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from torchlift.converters import load_model, t7
from torchlift.converters.modules import ConversionError, conversion, convert_recorded
from torchlift.converters.modules.context import MAX_DEPTH
from torchlift.converters.modules.conversion import MAX_RUNS
from torchlift.converters.modules.selfcheck import SelfCheck, self_check
from torchlift.converters.saved import open_model
from torchlift.converters.t7 import LuaObject, LuaTable, TorchArray
from torchlift.converters.t7.inspection import inspect
from torchlift.converters.t7.reading.arrays import tensor_view


def lua(name: str, **fields: Any) -> LuaObject:
    return LuaObject(name, LuaTable(fields))


def sequential(*modules: LuaObject, **fields: Any) -> LuaObject:
    return lua("nn.Sequential", modules=LuaTable.from_list(modules), **fields)


def linear(**fields: Any) -> LuaObject:
    return lua("nn.Linear", weight=np.eye(4, dtype="f4"), bias=np.zeros(4, "f4"), **fields)


def expanded(name: str, *shape: int, strides: list[int] | None = None) -> TorchArray:
    """Return a tensor over few numbers, as Torch7's `expand` and `unfold` make them."""
    steps = strides or [0] * len(shape)
    span = 1 + sum((size - 1) * step for size, step in zip(shape, steps, strict=True))
    storage = np.ones(span, "i8" if "Long" in name else "f4").view(TorchArray)
    storage.torch_class = name.replace("Tensor", "Storage")
    return tensor_view(name, shape, steps, 0, storage)


def twice(value: Any, times: int) -> LuaTable:
    for _ in range(times):
        value = LuaTable.from_list([value, value])
    return value


def nested(depth: int) -> LuaObject:
    module = linear()
    for _ in range(depth):
        module = sequential(module)
    return module


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (
            lua("nn.SpatialMaxPooling", kW=float("nan"), kH=2, dW=1, dH=1),
            r"^model: nn.SpatialMaxPooling cannot be converted: .* NaN .* \(from kW = nan",
        ),
        (lua("nn.SpatialMaxPooling", kH=2), r"at model \(nn.SpatialMaxPooling has no field 'kW'"),
        (lua("nn.Linear", weight="w" * 999), "from bias = nil, weight = 'www"),
        (sequential(lua("nn.Linear", weight=linear())), r"modules\[1\]: .*weight = nn.Linear"),
        (lua("nn.Sequential", modules=3), "has no table 'modules'"),
        (lua("nn.SpatialAdaptiveMaxPooling", W=1e9, H=1e9), "1000000000×1000000000"),
        (lua("nn.SpatialAdaptiveAveragePooling", W=0, H=2), "2×0"),
        (lua("nn.SpatialAdaptiveMaxPooling", W=4097, H=4096), "4096×4097, but each size is 1 to"),
        (lua("nn.SpatialAdaptiveMaxPooling", W=4096, H=4097), "4097×4096, but each size is 1 to"),
    ],
)
def test_what_a_converter_raises_names_the_object_and_its_fields(
    source: LuaObject, problem: str
) -> None:
    with pytest.raises(ConversionError, match=problem):
        convert_recorded(source)


def test_a_module_in_itself_is_named() -> None:
    outer = sequential(linear())
    outer["modules"][2] = sequential(outer)
    with pytest.raises(ConversionError, match=r"modules\[2\]\.modules\[1\]: this is model, which"):
        convert_recorded(outer)


def test_nested_modules_have_a_limit() -> None:
    assert len(convert_recorded(nested(MAX_DEPTH - 1)).layers) == MAX_DEPTH
    with pytest.raises(ConversionError, match=r"^model.modules.*more than 100 modules") as caught:
        convert_recorded(nested(3000))
    assert len(str(caught.value)) < 200


def test_modules_that_hold_each_other_twice_are_refused_by_their_number() -> None:
    module = linear()
    for _ in range(40):
        module = sequential(module, module)
    with pytest.raises(ConversionError, match="would run 2,199,023,255,551 layers"):
        convert_recorded(module)


def test_as_many_layers_run_as_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = sequential(linear(), linear())
    monkeypatch.setattr(conversion, "MAX_RUNS", 3)
    assert len(convert_recorded(model).module) == 2
    monkeypatch.setattr(conversion, "MAX_RUNS", 2)
    with pytest.raises(ConversionError, match="would run 3 layers, more than 2"):
        convert_recorded(model)


def test_a_layer_that_occurs_often_is_converted_once() -> None:
    module = linear()
    assert len(convert_recorded(sequential(*[module] * 1000)).layers) == 2
    assert MAX_RUNS > 1000


@pytest.mark.parametrize(
    "source",
    [
        lua("nn.Linear", weight=expanded("torch.FloatTensor", 70_000, 70_000)),
        lua("nn.Linear", weight=expanded("torch.FloatTensor", 9_000, 9_000, strides=[1, 1])),
        lua("nn.View", size=expanded("torch.LongTensor", 10**9)),
        sequential(
            *[lua("nn.Linear", weight=expanded("torch.FloatTensor", 2**21, 1))] * 1,
            *[lua("nn.Linear", weight=expanded("torch.FloatTensor", 2**20, 1)) for _ in range(3)],
        ),
    ],
)
def test_expanded_tensors_are_not_written_out(source: LuaObject) -> None:
    start = time.process_time()
    with pytest.raises(ConversionError, match="is expanded from fewer"):
        convert_recorded(source)
    assert time.process_time() - start < 1


def test_a_small_expanded_tensor_keeps_its_values() -> None:
    conversion = convert_recorded(
        lua("nn.Linear", weight=expanded("torch.FloatTensor", 3, 2), bias=np.zeros(3, "f4"))
    )
    assert conversion.module.weight.tolist() == [[1, 1], [1, 1], [1, 1]]


def test_a_tensor_that_is_read_twice_is_expanded_once() -> None:
    bias = expanded("torch.FloatTensor", 2**21 + 2**20)
    assert convert_recorded(lua("nn.CAdd", bias=bias)).module.bias.numel() == 2**21 + 2**20


def test_as_many_windows_are_pooled_as_are_allowed() -> None:
    module = convert_recorded(lua("nn.SpatialAdaptiveMaxPooling", W=4096, H=4096)).module
    assert module.output_size == (4096, 4096)


def test_overlapping_rows_stay_overlapping_in_torch() -> None:
    array = expanded("torch.FloatTensor", 50_000, 50_000, strides=[1, 1])
    tensor = t7.to_torch(array)
    assert tensor.shape == (50_000, 50_000)
    assert tensor.untyped_storage().nbytes() == 4 * 99_999


def check(source: LuaObject) -> SelfCheck:
    return self_check(convert_recorded(source), input=np.ones((2, 4), "f4"))


def cycle() -> LuaTable:
    table = LuaTable({2: np.ones(3, "f4")})
    table[1] = table
    return table


@pytest.mark.parametrize("output", [twice(np.ones(4, "f4"), 40), cycle()], ids=["2^40", "cycle"])
def test_activations_that_cannot_be_written_out_are_unchecked(output: LuaTable) -> None:
    (layer,) = check(sequential(linear(output=output))).layers
    assert layer.status == "unchecked"
    assert "holds itself, or too many tables" in layer.reason


def test_a_layer_that_needs_more_than_the_file_allows_is_unchecked() -> None:
    padding = lua("nn.SpatialZeroPadding", pad_l=10**5, pad_r=10**5, pad_t=10**5, pad_b=0)
    padding.fields["output"] = np.ones((1, 2, 2), "f4")
    found = self_check(convert_recorded(padding), input=np.ones((1, 2, 2), "f4"))
    assert found.layers[0].status == "unchecked"
    assert "it computes a tensor of 20,000," in found.layers[0].reason


def test_a_graph_without_its_activations_is_unchecked() -> None:
    conversion = convert_recorded(sequential(linear(output=np.ones((2, 4), "f4"))))
    conversion.layers[-1].source.class_name = "nn.gModule"
    (layer,) = self_check(conversion).layers
    assert layer.status == "unchecked"
    assert "cannot be followed" in layer.reason


HOSTILE = {
    "laughs": lambda: twice_module(40),
    "deep": lambda: nested(3000),
    "huge": lambda: lua("nn.Linear", weight=expanded("torch.FloatTensor", 70_000, 70_000)),
}


def twice_module(times: int) -> LuaObject:
    module = linear()
    for _ in range(times):
        module = sequential(module, module)
    return module


@pytest.mark.parametrize("name", HOSTILE)
def test_a_small_file_takes_little_time(name: str, tmp_path: Path) -> None:
    """Each answer comes within 5 seconds of processor time, whatever the file asks for."""
    path = tmp_path / f"{name}.t7"
    t7.save(HOSTILE[name](), path)
    assert path.stat().st_size < 5000 or name == "deep"
    start = time.process_time()
    inspect(path)
    for command in (load_model, open_model):
        with pytest.raises(ConversionError, match=f"{name}.t7"):
            command(path)
    assert time.process_time() - start < 5


def test_inspect_is_linear_in_the_number_of_modules(tmp_path: Path) -> None:
    """Paths have a bounded length: all of them together would be quadratic."""
    path = tmp_path / "deep.t7"
    t7.save(nested(3000), path)
    found = inspect(path)
    assert len(found.layers) == 3001
    assert max(len(layer.path) for layer in found.layers) <= 1000
    assert found.layers[50].lua_get == "model" + ":get(1)" * 50
    assert found.layers[500].lua_get is None
    assert found.parameters == 20
