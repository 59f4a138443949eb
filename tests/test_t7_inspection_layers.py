"""`inspect` lists the layers of a model: paths in Lua and PyTorch, settings, parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_support import typed
from support import FIXTURES
from t7_inspection_support import storage, view

from torchlift.converters import t7
from torchlift.converters.modules import convert_recorded
from torchlift.converters.t7 import LuaFunction, LuaObject, LuaTable, T7Error
from torchlift.converters.t7.inspection import inspect, inspect_value
from torchlift.converters.t7.inspection.settings import settings
from torchlift.converters.t7.model import find_model
from torchlift.converters.t7.paths import follow

UNCLEARED = FIXTURES / "digits" / "digits-lenet5-bn_uncleared.t7"
ALEXNET = FIXTURES / "models" / "alexnetowtbn_small.t7"


def test_json_of_a_layer() -> None:
    """Every key is an identifier with one meaning; names of parameters and groups are values."""
    document = inspect(UNCLEARED).to_json()
    assert document["file"] == str(UNCLEARED)
    assert document["model_lua_path"] == "model"
    layer = document["layers"][2]
    assert layer == {
        "lua_path": "model.modules[2]",
        "lua_get": "model:get(2)",
        "torch_path": "1",
        "lua_class": "nn.SpatialBatchNormalization",
        "level": 1,
        "settings": "eps 0.001, momentum 0.1",
        "shapes": [{"name": "weight", "shape": [6]}, {"name": "bias", "shape": [6]}],
        "parameters": 12,
        "bytes": layer["bytes"],
        "bytes_by_group": [
            {"group": "weights", "bytes": 48},
            {"group": "running_statistics", "bytes": 48},
            {"group": "gradients", "bytes": 48},
            {"group": "buffers", "bytes": layer["bytes"] - 144},
        ],
        "same_as": None,
    }
    assert document["tree"]["children"][0]["lua_path"] == "epoch"


def test_layers_of_alexnet() -> None:
    result = inspect(ALEXNET)
    assert result.model_path == "model"
    rows = {layer.lua_get: layer for layer in result.layers}
    convolution = rows["model:get(1):get(1)"]
    assert convolution.path == "model.modules[1].modules[1]"
    assert convolution.torch_path == "0.0"
    assert convolution.settings == "3→8, 11×11, stride 4, pad 2"
    assert convolution.shapes == {"weight": (8, 3, 11, 11), "bias": (8,)}
    assert convolution.parameters == 8 * 3 * 11 * 11 + 8
    assert rows["model:get(1):get(18)"].settings == "3×3, stride 2"
    assert rows["model:get(2):get(2)"].settings == "v2, p 0.5"
    assert rows["model:get(2):get(3)"].settings == "1152→128"
    assert [rows[get].depth for get in ("model", "model:get(2)", "model:get(2):get(9)")] == [
        0,
        1,
        2,
    ]


MODELS = sorted((FIXTURES / "models").glob("*[!o].t7"))


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_torch_paths_are_those_of_the_converted_model(path: Path) -> None:
    value = t7.load(path)
    conversion = convert_recorded(value)
    converted = {entry.path: entry.module for entry in conversion.layers}
    result = inspect(path)
    assert {layer.path for layer in result.layers} == set(converted)
    for layer in result.layers:
        assert layer.torch_path is not None
        assert conversion.module.get_submodule(layer.torch_path) is converted[layer.path]
    assert result.parameters == sum(p.numel() for p in conversion.module.parameters())


FAMILIES = sorted(path.stem for path in (FIXTURES / "layers").glob("*.t7"))


@pytest.mark.parametrize("family", FAMILIES)
def test_torch_paths_in_every_kind_of_container(family: str) -> None:
    """A PyTorch path, if given, leads to the module that the Lua object was converted to."""
    for case in t7.load(FIXTURES / "layers" / f"{family}.t7").values():
        if (model := case.get("module")) is None:
            continue
        conversion = convert_recorded(model)
        converted = {id(entry.source): entry.module for entry in conversion.layers}
        for layer in inspect_value(model, 0, depth=0).layers:
            if layer.torch_path is not None:
                found = conversion.module.get_submodule(layer.torch_path)
                assert found is converted[id(follow(model, layer.path))], layer.path


def test_a_repeated_module_is_counted_once() -> None:
    base = storage(6)
    linear = LuaObject("nn.Linear", LuaTable({"weight": view(base, 0, 2, 3), "output": LuaTable()}))
    model = LuaObject("nn.Sequential", LuaTable({"modules": LuaTable.from_list([linear, linear])}))
    result = inspect_value(model, 1000)
    first, second = result.layers[1:]
    assert (first.same_as, second.same_as) == (None, "model.modules[1]")
    assert (second.lua_get, second.torch_path) == ("model:get(2)", "1")
    assert (result.parameters, result.bytes.weights, result.bytes.total) == (6, 24, 1000)


def test_recorded_inputs_and_outputs_are_no_parameters() -> None:
    """They stand beside a gradient of the same name, as a parameter does."""
    names = ("weight", "gradWeight", "input", "gradInput", "output", "gradOutput")
    fields = {name: view(storage(6), 0, 2, 3) for name in names}
    result = inspect_value(LuaObject("nn.Linear", LuaTable(fields)), 1000)
    (layer,) = result.layers
    assert (result.parameters, layer.shapes) == (6, {"weight": (2, 3)})
    assert (result.bytes.weights, result.bytes.gradients, result.bytes.buffers) == (24, 24, 96)


def test_tied_weights_are_counted_once() -> None:
    base = storage(6)
    layers = [
        LuaObject("nn.Linear", LuaTable({"weight": view(base, 0, *shape), "output": LuaTable()}))
        for shape in ((2, 3), (3, 2))
    ]
    model = LuaObject("nn.Sequential", LuaTable({"modules": LuaTable.from_list(layers)}))
    result = inspect_value(model, 1000)
    assert [layer.parameters for layer in result.layers] == [0, 6, 6]
    assert [layer.bytes.weights for layer in result.layers] == [0, 24, 0]
    assert result.parameters == 6


def test_optimizer_state_that_shares_the_weights_has_no_bytes() -> None:
    """`optim` keeps a view of the flattened parameters; the momentum has its own storage."""
    base, momentum = storage(6), storage(6)
    model = LuaObject("nn.Linear", LuaTable({"weight": view(base, 0, 2, 3), "output": LuaTable()}))
    state = LuaTable({"x": view(base, 0, 6), "dfdx": view(momentum, 0, 6)})
    result = inspect_value(LuaTable([("optimState", state), ("model", model)]), 1000)
    assert (result.bytes.weights, result.bytes.other) == (24, 24)
    assert result.layers[0].bytes.weights == 24
    assert result.outside.total == 24


def test_modules_outside_the_tables_of_containers_are_found() -> None:
    """A gModule keeps nodes, `rnn` keeps clones, functions keep upvalues."""
    inner = LuaObject("nn.Tanh", LuaTable({"output": LuaTable()}))
    function = LuaFunction(b"\x1bLJ", LuaTable.from_list([LuaTable({"name": "f", "value": inner})]))
    model = LuaObject("my.Layer", LuaTable({"output": LuaTable(), "make": function}))
    _, found = inspect_value(model, 1000).layers
    assert found.path == "model.make.upvalues[1].value"
    assert (found.lua_get, found.torch_path, found.depth) == (None, None, 1)
    assert follow(model, found.path) is inner


def test_settings_of_unknown_classes_and_uneven_kernels() -> None:
    fields = {"kW": 3, "kH": 5, "dW": 1, "dH": 2, "padW": 1, "padH": 0, "scale": 0.25}
    fields |= {"mode": "sum", "train": True, "_type": "torch.FloatTensor", "flag": False}
    fields |= {"size": LuaTable.from_list([1, 2, 3]), "offset": 0}
    fields |= {"numbers": np.array([4, 5]), "weights": np.array([0.5])}
    fields["matrix"] = np.ones((2, 2), int)
    layer = LuaObject("my.Layer", LuaTable(fields))
    assert (
        settings(layer) == "5×3, stride 2×1, pad 0×1, scale 0.25, mode sum, size 1×2×3, numbers 4×5"
    )


def numbers(count: int) -> LuaTable:
    return LuaTable.from_list(list(range(1, count + 1)))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"nInputPlane": 3, "nOutputPlane": 4}, "3→4"),
        ({"inputSize": 3}, ""),
        ({"nInputPlane": LuaTable(), "nOutputPlane": 4, "fan_in": 5, "fan_out": 6}, "5→6"),
        ({"weight": np.zeros((2, 3))}, "3→2"),
        ({"weight": np.zeros(6)}, ""),
        ({"kW": 3}, "3"),
        ({"kT": 2, "kH": 3, "kW": 3}, "2×3×3"),
        ({"kH": 3, "kW": 3, "dH": 1, "dW": 1, "padH": 0, "padW": 0}, "3×3"),
        ({"dH": 2, "dW": 2, "padH": 1, "padW": 1}, "stride 2, pad 1"),
        ({"dilationH": 1, "dilationW": 2, "adjH": 0, "adjW": 1}, "dilation 1×2, adj 0×1"),
        ({"groups": 1}, ""),
        ({"groups": 2}, "groups 2"),
        ({"ceil_mode": True, "val": 2, "negval": 0.125}, "ceil, value 2, slope 0.125"),
        ({"p": 0.5, "momentum": 0, "rate": 0.0, "eps": 1e-5}, "p 0.5, eps 1e-05"),
        ({"word": "x" * 20}, f"word {'x' * 20}"),
        ({"word": "x" * 21}, ""),
        ({"sizes": numbers(8)}, "sizes 1×2×3×4×5×6×7×8"),
        ({"sizes": numbers(9)}, ""),
        ({"sizes": np.arange(8)}, "sizes 0×1×2×3×4×5×6×7"),
        ({"sizes": np.arange(9)}, ""),
        ({"sizes": LuaTable.from_list([1, 2.5])}, ""),
        ({"sizes": LuaTable({"a": 1})}, ""),
        ({"_hidden": 3, "name": "conv1", "train": True, "nDim": 4}, ""),
        (dict.fromkeys(("accUpdate", "noBias", "affine"), True), ""),
        (dict.fromkeys(("numElements", "iwidth", "iheight", "itime"), 4), ""),
        *(({f"input{x}": 2, f"output{x}": 3}, "2→3") for x in ("size", "FrameSize")),
    ],
)
def test_a_setting_is_shown_where_it_says_something(fields: dict[str, Any], text: str) -> None:
    assert settings(LuaObject("nn.MyLinear", LuaTable(fields))) == text


def test_an_unknown_class_is_a_layer_of_its_container(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    values = np.zeros((3, 2))
    strange = t7.LuaObject("my.Strange", t7.LuaTable({"weight": values, "gradWeight": values}))
    fields = t7.LuaTable({"modules": t7.LuaTable.from_list([strange]), "output": np.zeros(0)})
    t7.save(t7.LuaObject("nn.Sequential", fields), tmp_path / "strange.t7")
    out = typed({}, capsys, "inspect", f"{tmp_path}/strange.t7", "--json")[1]
    found = json.loads(out)
    assert found["parameters"] == 6
    assert [layer["lua_class"] for layer in found["layers"]] == ["nn.Sequential", "my.Strange"]


def test_the_first_parameter_that_is_no_number_is_noted(tmp_path: Path) -> None:
    """Of a network that diverged all are, and one line says so."""
    layers = [
        LuaObject("nn.Linear", LuaTable({"weight": np.full((2, 2), value), "bias": np.zeros(2)}))
        for value in (1.0, np.nan, np.inf)
    ]
    network = LuaObject("nn.Sequential", LuaTable({"modules": LuaTable.from_list(layers)}))
    t7.save(network, tmp_path / "m.t7")
    (note,) = inspect(tmp_path / "m.t7").notes
    assert note.startswith("not all parameters are numbers: model.modules[2].weight[0, 0] is nan")


def test_layers_have_their_calls_and_names_up_to_a_depth() -> None:
    """A hostile file nests thousands: a call for each level would take memory without end."""
    network = LuaObject("nn.Tanh", LuaTable({"output": LuaTable()}))
    for _ in range(103):
        network = LuaObject("nn.Sequential", LuaTable({"modules": LuaTable.from_list([network])}))
    layers = inspect_value(network, 10**6).layers
    assert len(layers) == 104
    for level, layer in enumerate(layers):
        called = level <= 100
        assert layer.depth == level
        assert (layer.lua_get is not None) is called
        assert layer.torch_path == ((".".join(["0"] * level)) if called else None)
    assert layers[100].lua_get == "model" + ":get(1)" * 100


def test_the_model_is_found_before_losses_and_inside_tables() -> None:
    def module(name: str) -> LuaObject:
        return LuaObject(name, LuaTable({"output": LuaTable()}))

    net, loss = module("nn.Sequential"), module("nn.MSECriterion")
    assert find_model(net) == (net, "model")
    assert find_model(LuaTable({"loss": loss, "cnn2": net})) == (net, "cnn2")
    assert find_model(LuaTable({"state": LuaTable({"net": net, "old": module("nn.Linear")})})) == (
        net,
        "state.net",
    )
    assert find_model(loss) == (loss, "model")
    with pytest.raises(T7Error, match=r"several modules .* G \(nn.Linear\), D \(nn.Linear\)"):
        find_model(LuaTable({"G": module("nn.Linear"), "D": module("nn.Linear")}))
    with pytest.raises(T7Error, match="no model in this file"):
        find_model(LuaTable({"epoch": 3}))


def test_the_weight_comes_first_whatever_the_order_of_the_file() -> None:
    fields = {"bias": np.zeros(2), "gradBias": np.zeros(2), "weight": np.zeros((2, 3))}
    fields["slope"] = fields["gradSlope"] = np.zeros(4)
    (layer,) = inspect_value(LuaObject("nn.Linear", LuaTable(fields)), 1000).layers
    assert list(layer.shapes.items()) == [("weight", (2, 3)), ("bias", (2,)), ("slope", (4,))]
    assert layer.parameters == 12


@pytest.mark.parametrize(
    ("name", "group"),
    [
        *(("weight", "weights"), ("bias", "weights"), ("own", "weights")),
        *(("running_mean", "running_statistics"), ("running_std", "running_statistics")),
        *(("gradWeight", "gradients"), ("gradOwn", "gradients")),
        *(("gradInput", "buffers"), ("gradOutput", "buffers"), ("output", "buffers")),
        *(("finput", "buffers"), ("save_mean", "buffers"), ("my_gradWeight", "buffers")),
    ],
)
def test_a_tensor_of_a_layer_belongs_to_a_group_by_its_name(name: str, group: str) -> None:
    """Also in a table of that name, whatever the keys in it."""
    nested = LuaTable.from_list([storage(3)]), LuaTable({"x": storage(3)})
    for tensor in (storage(3), *nested):
        fields = LuaTable({name: tensor, "gradOwn" if name == "own" else "other": LuaTable()})
        result = inspect_value(LuaObject("nn.My", fields), 1000)
        assert getattr(result.bytes, group) == result.layers[0].bytes.total == 12
        assert result.parameters == (3 if group == "weights" else 0)


def test_a_tensor_of_a_layer_and_of_its_container_is_the_layers() -> None:
    """A container keeps the output of its last layer."""
    output = view(storage(6), 0, 6)
    layer = LuaObject("nn.Tanh", LuaTable({"output": output}))
    modules = LuaTable.from_list([layer])
    network = LuaObject("nn.Sequential", LuaTable({"output": output, "modules": modules}))
    result = inspect_value(LuaTable({"last": output, "model": network}), 1000)
    assert [one.bytes.buffers for one in result.layers] == [0, 24]
    assert (result.bytes.other, result.outside.total) == (0, 0)


def test_keys_may_be_tensors_and_names_may_not_be_texts() -> None:
    inner = LuaObject("nn.Tanh", LuaTable({"output": LuaTable()}))
    fields = LuaTable([(storage(2), storage(3)), (1, storage(4)), ("modules", lua_modules(inner))])
    result = inspect_value(LuaObject("nn.Sequential", fields), 1000)
    assert [layer.path for layer in result.layers] == ["model", "model.modules[1]"]
    assert result.layers[0].bytes.buffers == 4 * (3 + 4)


def lua_modules(*layers: LuaObject) -> LuaTable:
    return LuaTable.from_list(layers)


def test_a_module_that_occurs_twice_is_a_layer_of_each_container_only() -> None:
    """A field that refers to a layer is no layer of its own."""
    shared = LuaObject("nn.Linear", LuaTable({"weight": storage(6)}))
    branch = LuaObject("nn.Sequential", LuaTable({"modules": lua_modules(shared)}))
    network = LuaObject("nn.Concat", LuaTable({"modules": lua_modules(branch, shared)}))
    network.fields["first"] = shared
    value = LuaTable({"model": network, "again": shared, "old": network})
    found = [(layer.path, layer.same_as, layer.depth) for layer in inspect_value(value, 99).layers]
    assert found == [
        ("model", None, 0),
        ("model.modules[1]", None, 1),
        ("model.modules[1].modules[1]", None, 2),
        ("model.modules[2]", "model.modules[1].modules[1]", 1),
    ]


def test_modules_of_one_that_becomes_another_have_no_path_in_pytorch() -> None:
    inner = LuaObject("nn.Sequential", LuaTable({"modules": lua_modules(LuaObject("nn.Tanh"))}))
    outer = LuaObject("nn.WeightNorm", LuaTable({"modules": lua_modules(inner)}))
    network = LuaObject("nn.Sequential", LuaTable({"modules": lua_modules(outer)}))
    found = [(layer.lua_get, layer.torch_path) for layer in inspect_value(network, 9).layers]
    assert found == [
        ("model", ""),
        ("model:get(1)", "0"),
        ("model:get(1):get(1)", None),
        ("model:get(1):get(1):get(1)", None),
    ]


def test_a_module_in_a_table_of_a_container_is_no_child_of_it() -> None:
    inner = LuaObject("nn.Tanh", LuaTable({"output": LuaTable()}))
    modules = LuaTable.from_list([LuaTable({"x": inner}), LuaObject("nn.ReLU")])
    layers = inspect_value(LuaObject("nn.Sequential", LuaTable({"modules": modules})), 9).layers
    assert [(layer.path, layer.lua_get, layer.torch_path) for layer in layers[1:]] == [
        ("model.modules[1].x", None, None),
        ("model.modules[2]", "model:get(2)", "1"),
    ]


def test_a_path_of_thousands_of_steps_is_shortened() -> None:
    value: Any = LuaObject("nn.Tanh", LuaTable({"output": LuaTable()}))
    for step in ["ii", "jj", *["in"] * 598]:
        value = LuaObject("my.Layer", LuaTable({"output": LuaTable(), step: value}))
    paths = [layer.path for layer in inspect_value(value, 10**6).layers]
    assert len(paths) == 601
    assert paths[10] == "model" + ".in" * 10
    assert max(map(len, paths)) <= 1000
    assert all(("…" in path) is (len("model.in") + 3 * (n - 1) > 1000)
               for n, path in enumerate(paths))  # fmt: skip
    assert paths[-1].startswith("model.in.in")
    assert paths[-1].endswith(".in.in.jj.ii")


@pytest.mark.parametrize(
    ("name", "weight", "text"),
    [
        ("nn.LinearNoBias", np.zeros((2, 3)), ""),
        ("nn.LookupTable", np.zeros((2, 3)), ""),
        ("nn.SparseLinear", np.zeros((2, 3)), "3→2"),
    ],
)
def test_the_shape_of_a_weight_tells_the_features_of_linear_layers_only(
    name: str, weight: np.ndarray, text: str
) -> None:
    assert settings(LuaObject(name, LuaTable({"weight": weight}))) == text


def test_several_networks_are_listed_and_a_file_without_one_has_no_note() -> None:
    two = LuaTable(
        {name: LuaObject("nn.Linear", LuaTable({"weight": storage(6)})) for name in "ab"}
    )
    result = inspect_value(two, 1000)
    assert result.model_path is None
    assert result.notes == [
        "several modules could be the model: a (nn.Linear), b (nn.Linear)",
    ]
    none = inspect_value(LuaTable({"epoch": 3}), 1000)
    assert (none.model_path, none.notes, none.layers) == (None, [], [])
