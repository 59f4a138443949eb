"""Finding the model in a checkpoint.

An unambiguous model is found; otherwise the error lists the candidates and how to choose one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import FIXTURES, SHARED
from torch import nn

from torchlift.converters import load_model, t7
from torchlift.converters.modules import ConversionError, find_model, load_conversion, register
from torchlift.converters.modules.find import find_networks, is_module
from torchlift.converters.modules.registry import unregister_module


def module(class_name: str = "nn.Identity") -> t7.LuaObject:
    return t7.LuaObject(class_name, t7.LuaTable())


def table(*entries: Any, **named: Any) -> t7.LuaTable:
    return t7.LuaTable([*enumerate(entries, 1), *named.items()])


@pytest.mark.parametrize("key", ["model", "net", "network", "module", "anything"])
def test_the_only_module_of_a_table(key: str) -> None:
    model = module()
    assert find_model(table(epoch=3, **{key: model})) == (model, key)
    assert find_model(table(opt=table(lr=1), state=table(**{key: model}))) == (
        model,
        f"state.{key}",
    )
    assert find_model(model) == (model, "model")


def test_a_common_name_takes_precedence() -> None:
    model = module()
    assert find_model(table(best=module(), model=model, epoch=1)) == (model, "model")


def test_one_module_under_two_names_is_not_ambiguous() -> None:
    model = module()
    assert find_model(table(best=model, last=model))[0] is model


def test_a_criterion_is_the_model_only_if_nothing_else_is() -> None:
    model, loss = module(), module("nn.MSECriterion")
    assert find_model(table(criterion=loss, cnn=model)) == (model, "cnn")
    assert find_model(table(criterion=loss, inner=table(cnn=model))) == (model, "inner.cnn")
    assert find_model(table(criterion=loss)) == (loss, "criterion")
    # A loss whose name does not say so.
    assert find_model(table(penalty=module("nn.L1Cost"), cnn=model)) == (model, "cnn")


def test_an_unknown_class_with_the_fields_of_a_module_is_a_module() -> None:
    model = t7.LuaObject("my.Net", table(output=table()))
    assert find_model(table(net=model, data=t7.LuaObject("my.Dataset"))) == (model, "net")


@pytest.mark.parametrize(
    ("value", "candidates"),
    [
        (table(protos=table(cnn=module(), lm=module(), crit=module("nn.L1Cost"))), "protos.cnn"),
        (table(G=module(), D=module()), r"G .*, D "),
        (table(module(), module()), r"\[1\] .*, \[2\] "),
        (table(a=table(model=module()), b=table(model=module())), r"a.model .*, b.model "),
    ],
)
def test_several_models_are_listed(value: t7.LuaTable, candidates: str) -> None:
    with pytest.raises(ConversionError, match=f"several modules .*{candidates}.* at="):
        find_model(value)


def test_a_checkpoint_that_refers_to_the_file_of_its_model() -> None:
    with pytest.raises(ConversionError, match=r"modelFile names the file 'model_3\.t7'"):
        find_model(table(epoch=3, modelFile="model_3.t7"))


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        (3, "a int"),
        ("text", "a str"),
        (None, "a NoneType"),
        (t7.LuaObject("my.Dataset"), "my.Dataset"),
        (table(), "nothing"),
        (table(x=1), "x"),
    ],
)
def test_a_file_without_a_model_is_an_error_that_says_what_it_holds(value: Any, holds: str) -> None:
    with pytest.raises(ConversionError, match=f"no model in this file: .*it holds .*{holds}"):
        find_model(value)


CASES = FIXTURES / "layers" / "table.t7"


def test_a_path_selects_the_model() -> None:
    model = load_model(CASES, at="[2].module")
    assert not model.training
    conversion = load_conversion(CASES, at="[2]")
    assert type(conversion.module) is type(model)
    assert conversion.layers[-1].path == "[2].module"


def test_a_path_that_does_not_exist() -> None:
    with pytest.raises(t7.T7Error, match=r"table\.t7: there is no \.modul here; .*\.module"):
        load_model(CASES, at="[2].modul")


def test_a_file_without_a_network_has_none_to_choose_from(tmp_path: Path) -> None:
    """As for one model: the loss, if nothing else is there, or an error."""
    t7.save(table(criterion=module("nn.MSECriterion")), tmp_path / "loss.t7")
    assert [one.path for one in find_networks(tmp_path / "loss.t7")] == ["criterion"]
    t7.save(table(epoch=3), tmp_path / "none.t7")
    with pytest.raises(ConversionError, match=r"none\.t7: no model in this file"):
        find_networks(tmp_path / "none.t7")


def test_errors_name_the_file() -> None:
    with pytest.raises(ConversionError, match=r"table\.t7: several modules"):
        load_model(CASES)


def test_load_model_returns_evaluation_mode() -> None:
    file = FIXTURES / "digits" / "digits-lenet5-bn_uncleared.t7"
    model = load_model(file)
    assert not any(layer.training for layer in model.modules())
    normalization = next(layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d))
    with torch.no_grad():
        before = normalization.running_mean.clone()
        model(torch.randn(4, 1, 32, 32))
    assert torch.equal(before, normalization.running_mean)


def test_wild_checkpoints_without_a_model() -> None:
    folder: Path = SHARED / "wild"
    files = list(folder.glob("Nihal-M*"))
    if not files:
        pytest.skip("the shared files are not available")
    for file in files:
        with pytest.raises(ConversionError, match="modelFile names the file"):
            load_model(file)


def test_a_model_saved_in_training_mode_is_loaded_for_evaluation(tmp_path: Path) -> None:
    """As in Module.lua, a module without the field `train` is in training mode."""
    t7.save(table(net=module("nn.Tanh")), tmp_path / "net.t7")
    assert load_conversion(tmp_path / "net.t7").module.training
    assert not load_model(tmp_path / "net.t7").training


def test_a_loss_is_the_network_of_a_file_without_others(tmp_path: Path) -> None:
    t7.save(table(criterion=module("nn.MSECriterion")), tmp_path / "loss.t7")
    assert [one.path for one in find_networks(tmp_path / "loss.t7")] == ["criterion"]


def test_only_a_list_of_modules_beside_an_output_is_a_container() -> None:
    layers, output = table(module(), module("nn.Tanh")), table()
    found, path = find_model(table(modules=layers, output=output))
    assert (found.class_name, path) == ("nn.Sequential", "model")
    for value in (
        table(modules=table(module())),
        table(modules=table(first=module()), output=output),
        table(modules=table(module(), 3), output=output),
    ):
        assert find_model(value)[0].class_name == "nn.Identity"


def test_the_choice_of_a_model_is_said_before_what_is_odd_in_it(tmp_path: Path) -> None:
    odd = t7.LuaObject("nn.Tanh", table(slope=2))
    t7.save(table(best=module(), model=odd), tmp_path / "two.t7")
    first, second = (note.text for note in load_conversion(tmp_path / "two.t7").notes)
    assert first.startswith("the model of this file, chosen by its name")
    assert "slope = 2" in second


def test_a_container_without_layers_is_no_model() -> None:
    with pytest.raises(ConversionError, match="no model in this file"):
        find_model(table(modules=table(), output=table()))


def test_what_is_assumed_of_a_container_without_its_class_is_said(tmp_path: Path) -> None:
    fields = table(modules=table(module(), module("nn.Tanh")), output=table())
    t7.save(table(inner=fields), tmp_path / "fields.t7")
    conversion = load_conversion(tmp_path / "fields.t7", at="inner")
    (note,) = conversion.notes
    assert (note.path, note.class_name) == ("inner", "nn.Sequential")
    assert note.text == "a container's fields without its class: nn.Sequential is assumed"
    assert [layer.path for layer in conversion.layers][-1] == "inner"
    assert [one.path for one in find_networks(tmp_path / "fields.t7", at="inner")] == ["inner"]


def test_a_choice_is_said_only_where_there_was_one(tmp_path: Path) -> None:
    t7.save(module("nn.Tanh"), tmp_path / "one.t7")
    assert load_conversion(tmp_path / "one.t7").notes == []
    t7.save(table(net=module("nn.Tanh"), epoch=1), tmp_path / "only.t7")
    (note,) = load_conversion(tmp_path / "only.t7").notes
    assert (note.path, note.class_name) == ("net", "nn.Tanh")
    assert note.text == "the model of this file"
    t7.save(table(inner=table(model=module("nn.Tanh"), best=module())), tmp_path / "two.t7")
    (note,) = load_conversion(tmp_path / "two.t7", at="inner").notes
    assert note.path == "inner.model"
    assert note.text.startswith("the model of this file, chosen by its name; others are inner.best")
    assert "inner.model" not in note.text


def test_networks_are_found_in_one_value_of_a_file(tmp_path: Path) -> None:
    inner = table(first=module(), second=module("nn.Tanh"))
    t7.save(table(inner=inner, other=module()), tmp_path / "nested.t7")
    paths = [one.path for one in find_networks(tmp_path / "nested.t7", at="inner")]
    assert paths == ["inner.first", "inner.second"]
    t7.save(table(inner=table(criterion=module("nn.MSECriterion"))), tmp_path / "loss.t7")
    assert [one.path for one in find_networks(tmp_path / "loss.t7", at="inner")] == [
        "inner.criterion"
    ]
    with pytest.raises(t7.T7Error, match=r"nested\.t7: there is no \.missing"):
        find_networks(tmp_path / "nested.t7", at="missing")


def test_an_object_of_a_users_class_is_a_module_whatever_its_fields_are() -> None:
    @register("my.Registered")
    def converter(source: t7.LuaObject, context: Any) -> nn.Module:
        return nn.Tanh()

    try:
        model = t7.LuaObject("my.Registered", table(size=3))
        assert find_model(table(net=model, other=t7.LuaObject("my.Unknown"))) == (model, "net")
        assert is_module(model)
        assert not is_module(t7.LuaObject("my.Unknown", table(size=3)))
    finally:
        unregister_module(__name__)
