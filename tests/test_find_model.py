"""The model of a checkpoint is the network that holds the parameters, wherever it stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_support import image_network, linear, lua, lua_list, module, sequential, write
from cli_support import typed

from torchlift.converters import load_model, t7
from torchlift.converters.modules import ConversionError, load_conversion
from torchlift.converters.t7 import LuaObject, LuaTable
from torchlift.converters.t7.embedded import embedded_value, may_embed
from torchlift.converters.t7.inspection import inspect
from torchlift.converters.t7.model import find_model as t7_find_model
from torchlift.converters.t7.model import is_module, is_parameter, search

NET = image_network()
CRITERION = module("nn.MSECriterion", sizeAverage=True)
TRAINER = LuaObject("my.Trainer", lua(model=NET, epoch=3))


def deep(levels: int, value: Any) -> LuaTable:
    for _ in range(levels):
        value = lua(inner=value)
    table: LuaTable = value
    return table


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (lua(warp=module("nn.Identity"), protos=lua(cnn=NET)), "protos.cnn"),
        (lua(cnn=NET, model=module("nn.Identity")), "cnn"),
        (TRAINER, "model"),
        (lua(state=TRAINER, opt=lua(lr=1)), "state.model"),
        (LuaObject("tds.Hash", lua(first=1, cnn=NET)), "cnn"),
        (lua(nets=LuaObject("tds.Vec", lua_list(NET))), "nets[1]"),
        (deep(7, lua(net=NET)), "inner." * 7 + "net"),
        (LuaObject("nn.StochasticGradient", lua(module=NET, criterion=CRITERION)), "module"),
        # A network and its parts: the whole is the model.
        (lua(top=NET["modules"][4], whole=NET), "whole"),
    ],
)
def test_the_network_with_the_parameters_is_found(value: Any, path: str, tmp_path: Path) -> None:
    file = write(value, tmp_path)
    assert load_conversion(file).layers[-1].path == path
    assert inspect(file).model_path == path
    images = torch.rand(2, 3, 8, 8)
    expected = load_model(write(NET, tmp_path, "net.t7"))(images)
    assert torch.equal(load_model(file)(images), expected)
    assert torch.equal(load_model(file, at=path)(images), expected)


@pytest.mark.parametrize("ascii_", [False, True])
def test_a_network_in_a_serialized_string_is_found(ascii_: bool, tmp_path: Path) -> None:
    text = t7.dumps(lua(net=NET), format="ascii" if ascii_ else "binary")
    for stored in (text, np.frombuffer(text, np.int8).copy()):
        file = write(lua(epoch=3, blob=stored), tmp_path, f"{type(stored).__name__}.t7")
        assert load_conversion(file).layers[-1].path == "blob.net"
        assert load_model(file, at="blob.net.modules[4]").in_features == 256
        assert load_model(file, at="blob").training is False


@pytest.mark.parametrize("form", ["binary", "ascii"])
@pytest.mark.parametrize("value", [lua(a=1), linear(3, 2)], ids=["table", "object"])
def test_tables_and_objects_are_found_in_bytes_and_texts(value: Any, form: Any) -> None:
    data = t7.dumps(value, format=form)
    stored: list[Any] = [data, t7.loads(t7.dumps(np.frombuffer(data, np.int8).copy()))]
    if form == "ascii":
        stored.append(data.decode())
    for each in stored:
        assert may_embed(each)
        assert type(embedded_value(each)) is type(value)
    assert not may_embed(t7.dumps("a text", format=form))


def test_several_networks_are_listed_in_the_words_of_at(tmp_path: Path) -> None:
    """OpenNMT's layout: each network stands in a table of its own."""
    parts = {
        name: lua(modules=lua_list(linear(4, 4)), name=name) for name in ("encoder", "decoder")
    }
    file = write(lua(models=LuaTable(parts), options=lua(), dicts=lua()), tmp_path)
    with pytest.raises(ConversionError) as raised:
        load_model(file)
    for path in ("models.encoder.modules[1]", "models.decoder.modules[1]"):
        assert path in str(raised.value)
        assert load_model(file, at=path).in_features == 4
    assert load_model(file, at="models.encoder.modules.1").in_features == 4


def test_a_usual_name_counts_among_the_outermost_networks_only(tmp_path: Path) -> None:
    """`model` inside a state of something else is no better than the networks around it."""
    file = write(lua(first=NET, second=linear(3, 2), state=lua(model=linear(4, 2))), tmp_path)
    with pytest.raises(ConversionError, match=r"first .*, second .*, state\.model .*at='first'"):
        load_model(file)
    assert inspect(file).model_path is None


def test_a_network_without_its_weights_is_none_beside_one_with_them(tmp_path: Path) -> None:
    """A cleared copy, as `net:sharedClone` and `clearState` leave them, has empty tensors."""
    cleared = module("nn.Linear", weight=np.empty(0, "f4"), bias=np.empty(0, "f4"))
    file = write(lua(best=cleared, last=NET), tmp_path)
    assert inspect(file).model_path == load_conversion(file).layers[-1].path == "last"


def test_a_model_chosen_by_its_name_says_so(tmp_path: Path) -> None:
    file = write(lua(best_model=image_network(), model=NET), tmp_path)
    note = load_conversion(file).notes[0]
    assert note.path == "model"
    assert "best_model (nn.Sequential)" in note.text


def test_networks_inside_an_unknown_class_name_the_class(tmp_path: Path) -> None:
    pair = LuaObject("my.Pair", lua(encoder=linear(4, 4), decoder=linear(4, 4)))
    with pytest.raises(ConversionError, match=r"pair\.encoder .*pair is a my\.Pair"):
        load_model(write(lua(pair=pair), tmp_path))
    with pytest.raises(ConversionError, match=r"Choose one: at='encoder'$"):
        load_model(write(pair, tmp_path))


@pytest.mark.parametrize("class_name", ["nn.SharpMasks", "SharpMasks"])
def test_an_unknown_class_without_the_fields_of_a_module(class_name: str, tmp_path: Path) -> None:
    """Its constructor left out parent.__init: it is the model all the same."""
    unknown = LuaObject(class_name, lua(km=32, weights=np.zeros(3)))
    with pytest.raises(ConversionError, match=f"no converter for {class_name} at model.*km"):
        load_model(write(lua(model=unknown, config=lua()), tmp_path))


def test_a_file_of_weights_alone_says_so(tmp_path: Path) -> None:
    weights = lua(parameters=lua_list(np.zeros(3), np.zeros(4)), bnVars=lua_list(np.ones(2)))
    with pytest.raises(ConversionError, match=r"3 tensors and no network.*weights=FILE"):
        load_model(write(weights, tmp_path))


def test_a_word_in_a_list_names_no_file(tmp_path: Path) -> None:
    for words in (lua_list("a", "distributed.net"), LuaTable({"1": "a", "2": "distributed.net"})):
        with pytest.raises(ConversionError) as raised:
            load_model(write(words, tmp_path))
        assert "names the file" not in str(raised.value)


def test_a_long_vocabulary_beside_the_model_takes_no_time(tmp_path: Path) -> None:
    words = lua_list(*(f"word {number}" for number in range(100_000)))
    assert load_conversion(write(lua(words=words, x=NET), tmp_path)).layers[-1].path == "x"


def test_many_modules_that_share_parts_are_searched_once() -> None:
    """Otherwise the time would grow with the square of their number."""
    from torchlift.converters.t7.model import search

    shared = sequential(*(linear(1, 1) for _ in range(300)))
    wrapped = lua_list(*(sequential(shared) for _ in range(300)))
    assert len(search(wrapped).networks) == 300


def test_inspect_shows_the_value_at_a_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Paths, layers and parameters are those that the other commands take; bytes are the file's."""
    blob = t7.dumps(lua(net=linear(4, 4)))
    file = write(lua(pair=lua(a=NET, b=linear(4, 2)), blob=blob, note="x"), tmp_path)
    whole, part = inspect(file), inspect(file, at="pair.b")
    assert (part.model_path, part.parameters) == ("pair.b", 10)
    assert [layer.path for layer in part.layers] == ["pair.b"]
    assert part.tree.path == "pair.b"
    assert "pair.b.weight" in [node.path for node in part.tree.children]
    assert part.bytes == whole.bytes
    assert part.outside.total + part.layers[0].bytes.total + part.bytes.structure == part.size
    assert inspect(file, at="blob").model_path == "blob.net"
    inside = inspect(file, at="blob")
    assert (inside.parameters, inside.outside.weights) == (20, whole.bytes.weights - 80)
    assert (inside.tree.kind, [node.path for node in inside.tree.children]) == (
        "table",
        ["blob.net"],
    )
    # The 80 bytes in the string are more than those of all tensors of the file.
    small = inspect(write(lua(a=linear(1, 1), blob=blob), tmp_path, "small.t7"), at="blob")
    assert (small.parameters, small.bytes.weights, small.outside.total) == (20, 8, 0)
    [text] = [node.text for node in whole.tree.children if node.name == ".blob"]
    assert "which torch.serialize wrote into" in text
    code, out, err = typed({}, capsys, "inspect", str(file), "--at", "pair.a", "--json")
    assert (code, json.loads(out)["model_lua_path"]) == (0, "pair.a"), err
    code, out, err = typed({}, capsys, "inspect", str(file), "--at", "pair.c")
    assert (code, out) == (1, "")
    assert "checkpoint.t7: there is no .c here; it has .a, .b (at value.pair)" in err
    assert typed({}, capsys, "inspect", str(tmp_path), "--at", "x")[0] == 2


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (lua(), "there is no nn module in it; it holds nothing"),
        (lua(**dict.fromkeys("abcdefgh", 1)), "holds a, b, c, d, e, f, g, h"),
        (lua(**dict.fromkeys("abcdefghi", 1)), "holds a, b, c, d, e, f, g, h"),
        (lua(x=np.zeros(2)), "it holds x; it holds 1 tensor and no network: weights are loaded"),
        (lua(x=np.zeros(2), y=np.ones(2)), "it holds 2 tensors and no network"),
        (lua(f="m.net", g="n.t7", h="a.txt"), "f names the file 'm.net'; g names the file 'n.t7'"),
        (LuaTable([("a b", "m.t7")]), "it holds a b"),
        (t7.loads(t7.dumps(np.zeros(2))), "it holds a torch.DoubleTensor"),
        (np.zeros(2), "it holds a ndarray"),
        (2.5, "it holds a float"),
        (LuaObject("my.Data"), "a my.Data, a class that is not known, with no fields"),
        (
            lua(set=LuaObject("my.Data", lua(**dict.fromkeys("abcdefghi", 1)))),
            "holds set (set is a my.Data, a class that is not known, with a, b, c, d, e, f, g, h)",
        ),
    ],
)
def test_what_a_file_without_a_network_holds_is_said(value: Any, said: str) -> None:
    with pytest.raises(t7.T7Error) as error:
        t7_find_model(value)
    assert said in str(error.value)
    assert ("names the file" in str(error.value)) is ("names the file" in said)
    assert "holds a, b, c, d, e, f, g, h, i" not in str(error.value)


def test_an_object_of_an_unknown_class_is_the_model_by_its_name() -> None:
    """The most usual name counts, not the first in the file; without one it is none."""
    one, two = LuaObject("my.Net", lua(x=1)), LuaObject("my.Net", lua(y=2))
    for value in (lua(net=one, model=two), lua(model=two, net=one)):
        assert t7_find_model(value) == (two, "model")
    assert t7_find_model(lua(a=lua(net=one), b=two)) == (one, "a.net")
    with pytest.raises(t7.T7Error, match=r"no model in this file: .*b is a my\.Net"):
        t7_find_model(lua(b=two))


def test_of_networks_without_parameters_the_outermost_count() -> None:
    inner, outer = module("nn.Tanh"), module("nn.ReLU")
    found = search(lua(deep=lua(net=inner), a=outer, b=module("nn.Sigmoid")))
    assert [one.path for one in found.networks] == ["a", "b"]
    assert [one.depth for one in found.networks] == [1, 1]
    assert [one.has_parameters for one in found.networks] == [False, False]
    loss = lua(deep=lua(loss=CRITERION), loss=CRITERION)
    assert [one.path for one in search(loss).networks] == ["loss"]


def test_the_more_usual_name_wins_and_counts_once() -> None:
    first, second = linear(3, 2), linear(4, 2)
    for value in (lua(net=first, model=second), lua(model=second, net=first)):
        assert t7_find_model(value) == (second, "model")
    assert t7_find_model(lua(network=first, module=second)) == (first, "network")
    # Two of one name at one level tell nothing; the next name may.
    pair = lua(a=lua(model=linear(3, 2)), b=lua(model=linear(3, 2), net=second))
    assert t7_find_model(pair) == (second, "b.net")
    with pytest.raises(t7.T7Error, match=r"a\.model .*, b\.model .*Choose one: at='a\.model'"):
        t7_find_model(lua(a=lua(model=linear(3, 2)), b=lua(model=linear(3, 2))))


def test_the_usual_names_of_a_model_have_an_order() -> None:
    names = ("model", "net", "network", "module", "modelState")
    for first, name in enumerate(names):
        # A name that says nothing stands before them.
        rest = {other: linear(3, 2) for other in ("best", *names[:first:-1], name)}
        assert t7_find_model(LuaTable(rest)) == (rest[name], name)


@pytest.mark.parametrize(
    ("name", "fields", "is_one"),
    [
        ("nn.Linear", {}, True),
        ("cudnn.ReLU", {}, True),
        ("inn.MeanConstant", {}, True),
        ("my.Net", {"gradInput": 1}, True),
        ("my.Net", {"_type": "torch.FloatTensor"}, True),
        ("my.Net", {"forwardnodes": 1}, True),
        ("my.Net", {"weight": np.zeros(2)}, False),
        ("nnMine.Net", {}, False),
        ("optim.Logger", {}, False),
        ("nn.StochasticGradient", {"criterion": CRITERION}, False),
        ("nn.Trainer", {"criterion": CRITERION, "output": 1}, True),
    ],
)
def test_a_module_is_known_by_its_fields_or_its_package(
    name: str, fields: dict[str, Any], is_one: bool
) -> None:
    assert is_module(LuaObject(name, LuaTable(fields))) is is_one
    assert not is_module(LuaTable({"modules": lua_list(NET)}))


@pytest.mark.parametrize(
    ("name", "fields", "is_one"),
    [
        *((name, (), True) for name in ("weight", "bias", "v", "g", "diagCov")),
        ("x", (), False),
        ("gate", ("gradGate",), True),
        ("gate", ("gradgate", "Gradgate"), False),
        ("input", ("gradInput",), False),
        ("output", ("gradOutput",), False),
    ],
)
def test_a_parameter_is_known_by_its_name_or_its_gradient(
    name: str, fields: tuple[str, ...], is_one: bool
) -> None:
    assert is_parameter(name, LuaTable(dict.fromkeys(fields, 1))) is is_one


def test_tensors_outside_of_modules_are_counted_once() -> None:
    shared = np.zeros(3)
    found = search(lua(a=shared, b=lua(c=shared, d=np.ones(2)), own=LuaObject("my.A", lua(x=shared,
                   y=np.ones(1))), net=NET))  # fmt: skip
    assert found.tensors == 3
    assert [path for path, _ in found.unknown] == ["own"]


def test_networks_that_share_their_layers_or_hold_themselves_are_networks() -> None:
    shared = linear(2, 2)
    found = search(lua(a=sequential(shared), b=sequential(shared), c=module("nn.Tanh")))
    assert [(one.path, one.has_parameters) for one in found.networks] == [("a", True), ("b", True)]
    for name in ("tds.Hash", "tds_hash"):
        found = search(LuaObject(name, lua(net=sequential(shared))))
        assert ([one.path for one in found.networks], found.unknown) == (["net"], [])
    own = sequential(linear(2, 2))
    own.fields["parent"] = own
    assert [one.path for one in search(lua(net=own, other=module("nn.Tanh"))).networks] == ["net"]
