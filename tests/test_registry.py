"""Registering converters and layers: a taken name is refused, two projects' classes are told apart.

What is protected: a plugin can never change, without a word, what a file of torch/nn becomes, nor
what a saved model computes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from torchlift.converters.modules import (
    ConversionError,
    UnknownClassError,
    convert,
    convert_recorded,
    layer,
    register,
)
from torchlift.converters.modules.context import Context
from torchlift.converters.modules.plugin import load_plugin
from torchlift.converters.modules.registry import (
    find_converter,
    layer_class,
    layer_name,
    registered_classes,
    unregister_module,
)
from torchlift.converters.saved import SavedModel, SavedModelError, load, save
from torchlift.converters.t7 import LuaObject, LuaTable, dumps, loads


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """What a test registers is forgotten after it."""
    before = registered_classes()
    yield
    unregister_module(__name__)
    assert registered_classes() == before


def lua(class_name: str, **fields: object) -> LuaObject:
    return LuaObject(class_name, LuaTable(fields))


def identity(source: LuaObject, context: Context) -> nn.Module:
    return nn.Identity()


def test_a_converter_of_ours_is_not_replaced() -> None:
    before = find_converter(lua("nn.Linear"))
    with pytest.raises(ConversionError) as error:
        register("nn.Linear")(identity)
    for place in ("linear.py:", "test_registry.py:", "nn.Linear", "fields=(…,)"):
        assert place in str(error.value)
    assert find_converter(lua("nn.Linear")) is before


def test_nothing_of_a_refused_registration_stays() -> None:
    with pytest.raises(ConversionError):
        register("my.Free", "nn.Linear")(identity)
    assert find_converter(lua("my.Free")) is None


def test_two_projects_classes_of_one_name_are_told_apart_by_their_fields() -> None:
    @register("my.LanguageModel", fields=("core",))
    def first(source: LuaObject, context: Context) -> nn.Module:
        return nn.ReLU()

    @register("my.LanguageModel", fields=("net", "vocab"))
    def second(source: LuaObject, context: Context) -> nn.Module:
        return nn.Tanh()

    assert isinstance(convert(lua("my.LanguageModel", core=1)), nn.ReLU)
    assert isinstance(convert(lua("my.LanguageModel", net=1, vocab=2)), nn.Tanh)
    with pytest.raises(ConversionError, match=r"no converter for my\.LanguageModel"):
        convert(lua("my.LanguageModel", net=1))
    with pytest.raises(ConversionError, match=r"fit .*first.* and .*second"):
        convert(lua("my.LanguageModel", core=1, net=1, vocab=2))


@pytest.mark.parametrize("fields", [("core",), ("core", "more")])
def test_fields_that_do_not_exclude_each_other_are_refused(fields: tuple[str, ...]) -> None:
    register("my.Model", fields=("core",))(identity)
    with pytest.raises(ConversionError, match="has a converter already"):
        register("my.Model", fields=fields)(identity)


def test_a_layer_of_another_module_never_stands_for_ours(tmp_path: Path) -> None:
    """A user's `Square` with another meaning: the saved model keeps computing squares (F1)."""
    squares = convert(lua("nn.Sequential", modules=LuaTable.from_list([lua("nn.Square")])))
    save(SavedModel(squares.eval(), "features", (1, 2, 2)), tmp_path / "model")

    @layer
    class Square(nn.Module):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return input * 0 + 1

    assert layer_name(Square) == f"{__name__}.Square"
    assert layer_class(layer_name(Square)) is Square
    given = torch.full((1, 1, 2, 2), 3.0)
    assert load(tmp_path / "model").module(given).flatten().tolist() == [9, 9, 9, 9]


def test_a_name_without_its_module_is_that_of_one_layer() -> None:
    """As in models of 0.1.0: `OwnGain` is neither `RayOwnGain` nor one of two classes `OwnGain`."""

    def define(name: str, module: str) -> type[nn.Module]:
        cls: type[nn.Module] = type(name, (nn.Module,), {"__module__": module})
        return layer(cls)

    try:
        define("RayOwnGain", "my_first")
        assert layer_class("OwnGain") is None
        scale = define("OwnGain", "my_first")
        assert layer_class("OwnGain") is layer_class("my_first.OwnGain") is scale
        assert layer_class("first.OwnGain") is None
        define("OwnGain", "my_second")
        assert layer_class("OwnGain") is None
        assert layer_class("my_first.OwnGain") is scale
    finally:
        for module in ("my_first", "my_second"):
            unregister_module(module)


def test_a_layer_of_one_module_has_its_name_once() -> None:
    def define() -> type[nn.Module]:
        @layer
        class Twice(nn.Module):
            pass

        return Twice

    define()
    with pytest.raises(ConversionError, match=r"Twice is a layer already: .*test_registry\.py:\d+"):
        define()


PLUGIN = '''
from torch import nn
from torchlift.converters.modules import layer, register

@layer
class View(nn.Module):
    """The name of a layer of ours."""
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
    def forward(self, input):
        return input * self.factor

@register("my.View")
def view(source, context):
    return View(source["factor"])
'''


def test_a_plugins_layer_is_saved_with_its_module(tmp_path: Path) -> None:
    plugin = tmp_path / "my_views.py"
    plugin.write_text(PLUGIN, encoding="utf-8")
    load_plugin(plugin)
    try:
        model = convert(lua("my.View", factor=2.0)).eval()
        save(SavedModel(model, "features", (1, 2, 2)), tmp_path / "model")
        config = (tmp_path / "model" / "config.json").read_text(encoding="utf-8")
        assert '"my_views.View"' in config
        given = torch.ones(1, 1, 2, 2)
        assert load(tmp_path / "model").module(given).flatten().tolist() == [2, 2, 2, 2]
        # Torchlift 0.1.0 wrote no module: ours has the name, so nobody can tell.
        (tmp_path / "model" / "config.json").write_text(
            config.replace("my_views.View", "View"), encoding="utf-8"
        )
        with pytest.raises(SavedModelError):
            load(tmp_path / "model")
    finally:
        unregister_module("torchlift_plugin_my_views")
    (tmp_path / "model" / "config.json").write_text(config, encoding="utf-8")
    with pytest.raises(SavedModelError, match=r"my_views\.View.*plugin"):
        load(tmp_path / "model")


def test_nothing_of_a_plugin_that_fails_stays(tmp_path: Path) -> None:
    plugin = tmp_path / "failing.py"
    plugin.write_text(
        PLUGIN.replace("my.View", "my.Failing") + "\nraise ValueError('late')\n", "utf-8"
    )
    with pytest.raises(ConversionError, match=r"failing\.py failed: ValueError: late"):
        load_plugin(plugin)
    assert find_converter(lua("my.Failing")) is None
    plugin.write_text(PLUGIN.replace("my.View", "nn.Linear"), encoding="utf-8")
    with pytest.raises(ConversionError, match=r"failing\.py failed: nn\.Linear has a converter"):
        load_plugin(plugin)
    plugin.write_text("raise SystemExit(3)\n", encoding="utf-8")
    with pytest.raises(ConversionError, match=r"failing\.py failed: SystemExit: 3"):
        load_plugin(plugin)
    plugin.write_text("raise KeyboardInterrupt\n", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        load_plugin(plugin)
    plugin.write_text(PLUGIN.replace("my.View", "my.Failing"), encoding="utf-8")
    load_plugin(plugin)
    unregister_module("torchlift_plugin_failing")


def test_two_plugins_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same_name.py").touch()
    load_plugin(tmp_path / "a" / "same_name.py")
    load_plugin(tmp_path / "a" / "same_name.py")
    with pytest.raises(ConversionError, match=r"a/same_name\.py has the same name"):
        load_plugin(tmp_path / "b" / "same_name.py")


def linear(weight: torch.Tensor) -> LuaObject:
    bias = torch.zeros(len(weight))
    return lua("nn.Linear", weight=weight, bias=bias)


def notes_of(*layers: LuaObject) -> list[str]:
    model = lua("nn.Sequential", modules=LuaTable.from_list(list(layers)))
    return [note.text for note in convert_recorded(loads(dumps(model))).notes]


def test_one_weight_of_a_linear_layer_and_a_convolution_are_two_parameters() -> None:
    """Both take the same (out, in) from the file, each in the shape of its own."""
    weight = torch.arange(6.0).reshape(2, 3)
    sizes = {"nInputPlane": 3, "nOutputPlane": 2, "kW": 1, "kH": 1, "dW": 1, "dH": 1}
    convolution = lua("nn.SpatialConvolutionMM", weight=weight, bias=torch.zeros(2), **sizes)
    layers = [linear(weight), convolution, linear(weight)]
    model = lua("nn.ConcatTable", modules=LuaTable.from_list(layers))
    first, middle, last = convert_recorded(loads(dumps(model))).module
    assert (first.weight.shape, middle.weight.shape) == ((2, 3), (2, 3, 1, 1))
    assert last.weight is first.weight
    assert torch.equal(middle.weight.flatten(1), weight)


def test_a_tied_transposed_weight_is_a_note() -> None:
    """`decoder.weight = encoder.weight:t()`: two parameters, which must not go unsaid (F2)."""
    weight = torch.arange(6.0).reshape(2, 3)
    (note,) = notes_of(linear(weight), linear(weight.T))
    assert "shares memory with model.modules[1]" in note
    square = torch.arange(9.0).reshape(3, 3)
    assert len(notes_of(linear(square), linear(square.T))) == 1


def test_weights_side_by_side_in_one_storage_are_no_note() -> None:
    """`getParameters` puts all weights of a network into one storage."""
    storage = torch.arange(40.0)
    rows = storage[:12].reshape(3, 4), storage[12:24].reshape(3, 4)
    assert notes_of(*map(linear, rows)) == []
    table = storage[:24].reshape(4, 6)
    assert notes_of(linear(table[:, :3]), linear(table[:, 3:])) == []
    assert len(notes_of(linear(table[:, :4]), linear(table[:, 3:]))) == 1


def test_the_same_view_is_one_parameter_without_a_note() -> None:
    weight = torch.arange(9.0).reshape(3, 3)
    assert notes_of(linear(weight), linear(weight)) == []


def test_a_class_without_its_package_or_in_another_one_is_the_same_class() -> None:
    for name in ("OneHot", "mine.OneHot"):
        conversion = convert_recorded(lua(name, outputSize=3, _eye=torch.eye(3).numpy()))
        assert type(conversion.module).__name__ == "OneHot"
        assert "nn.OneHot under another name" in conversion.notes[0].text


@pytest.mark.parametrize("fields", [{"outSize": 3}, {"outputSize": 3, "scale": 2.0}])
def test_a_class_of_a_known_name_with_other_fields_is_not_known(fields: dict[str, Any]) -> None:
    with pytest.raises(UnknownClassError, match=r"no converter for mine\.OneHot at model"):
        convert(lua("mine.OneHot", **fields))


def test_a_missing_field_makes_it_another_class() -> None:
    with pytest.raises(UnknownClassError, match=r"nn\.MulConstant has no field 'constant_scalar'"):
        convert(lua("nn.MulConstant", factor=2.0))


def test_all_unknown_classes_are_named_also_behind_what_cannot_be_converted() -> None:
    refused = lua("nn.SpatialAdaptiveMaxPooling", W=1e9, H=1e9)
    parts = [refused, lua("my.First"), lua("my.Second", a=1)]
    model = lua("nn.Sequential", modules=LuaTable.from_list(parts))
    with pytest.raises(UnknownClassError) as caught:
        convert(model)
    assert caught.value.paths == {
        "my.First": ["model.modules[2]"],
        "my.Second": ["model.modules[3]"],
    }
    assert "besides, model.modules[1]: " in str(caught.value)


def test_the_network_in_an_unknown_object_is_named() -> None:
    outer = lua("nn.LanguageModel", output=1, inner=lua("nn.Tanh"))
    with pytest.raises(UnknownClassError, match=r"at='model.inner'.*fields=\('inner',\)"):
        convert(outer)


def test_a_converter_without_fields_is_for_the_rest() -> None:
    register("my.Rest")(identity)

    @register("my.Rest", fields=("core",))
    def special(source: LuaObject, context: Context) -> nn.Module:
        return nn.Tanh()

    assert find_converter(lua("my.Rest", core=1)) is special
    assert find_converter(lua("my.Rest")) is identity


def test_a_projects_class_stands_beside_ours_of_the_same_name() -> None:
    register("nn.LanguageModel", fields=("image_encoder",))(identity)
    assert find_converter(lua("nn.LanguageModel", image_encoder=1)) is identity
    ours = find_converter(lua("nn.LanguageModel", net=1, view1=1, view2=1))
    assert ours is not None
    assert ours.__name__ == "language_model"
    with pytest.raises(
        UnknownClassError, match=r"@register\('nn.LanguageModel', fields=\('x',\)\)"
    ):
        convert(lua("nn.LanguageModel", x=1))


@pytest.mark.parametrize("arguments", [{"fields": "core"}, {}])
def test_a_registration_by_mistake_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConversionError, match="@register"):
        register(*(["my.Layer"] if arguments else []), **arguments)


def test_a_name_without_its_package_that_several_packages_have_is_nobodys() -> None:
    """But nn's, and one converter that several packages share, are found."""

    def source(name: str) -> LuaObject:
        return LuaObject(name, LuaTable())

    @register("one.Twin")
    def first(source: LuaObject, context: Context) -> nn.Module:
        return nn.Identity()

    assert find_converter(source("Twin")) is find_converter(source("other.Twin")) is first

    @register("two.Twin")
    def second(source: LuaObject, context: Context) -> nn.Module:
        return nn.Identity()

    assert find_converter(source("Twin")) is None
    assert find_converter(source("two.Twin")) is second

    @register("nn.Twin")
    def ours(source: LuaObject, context: Context) -> nn.Module:
        return nn.Identity()

    assert find_converter(source("Twin")) is ours

    @register("one.Shared", "two.Shared")
    def shared(source: LuaObject, context: Context) -> nn.Module:
        return nn.Identity()

    assert find_converter(source("Shared")) is shared
