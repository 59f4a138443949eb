"""`inspect` shows the value tree, the layers, and bytes that add up to the file's size."""

from __future__ import annotations

import gzip
import json
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import FIXTURES, wild_files

from torchlift.converters import t7
from torchlift.converters.modules import convert_recorded
from torchlift.converters.t7 import LuaFunction, LuaObject, LuaTable, T7Error, TorchArray
from torchlift.converters.t7.inspection import describe, inspect, inspect_value, value_tree
from torchlift.converters.t7.inspection.settings import settings
from torchlift.converters.t7.inspection.storage_usage import GROUPS, TensorUse, attribute_bytes
from torchlift.converters.t7.model import find_model
from torchlift.converters.t7.paths import follow
from torchlift.converters.t7.reading.load import read_file

UNCLEARED = FIXTURES / "digits" / "digits-lenet5-bn_uncleared.t7"
ALEXNET = FIXTURES / "models" / "alexnetowtbn_small.t7"


def storage(count: int, dtype: str = "f4") -> TorchArray:
    array = np.zeros(count, dtype).view(TorchArray)
    array.torch_class, array.stored_bytes = "torch.FloatStorage", array.nbytes
    return array


def view(base: TorchArray, offset: int, *shape: int, strides: tuple[int, ...] = ()) -> TorchArray:
    steps = [stride * base.itemsize for stride in strides] or None
    array = TorchArray(shape, base.dtype, base, offset * base.itemsize, steps)
    array.torch_class, array.storage, array.storage_offset = "torch.FloatTensor", base, offset
    return array


# --- bytes -----------------------------------------------------------------------------------


SPANS = st.tuples(st.integers(0, 40), st.integers(0, 40), st.sampled_from(GROUPS))


@given(st.integers(1, 40), st.lists(SPANS, min_size=1))
def test_a_storage_is_divided_element_by_element(
    size: int, spans: list[tuple[int, int, str]]
) -> None:
    """Compare with a slow implementation that attributes each element on its own."""
    base = storage(size)
    uses = []
    for owner, (start, length, group) in enumerate(spans):
        start = min(start, size - 1)
        uses.append(TensorUse(view(base, start, min(length, size - start)), owner, group))
    expected = [0] * len(uses)
    ranked = sorted(uses, key=lambda use: GROUPS.index(use.group))
    for element in range(size):
        covering = [
            use
            for use in ranked
            if use.array.storage_offset <= element < use.array.storage_offset + use.array.size
        ]
        expected[(covering or ranked[-1:])[0].owner or 0] += 4
    attributed = [0] * len(uses)
    for attribution in attribute_bytes(uses):
        attributed[attribution.use.owner or 0] += attribution.bytes
    assert attributed == expected


@pytest.mark.parametrize("stored", [11, 12, 13, 47])
def test_the_bytes_of_a_printed_storage_are_divided_without_a_rest(stored: int) -> None:
    """In ASCII files numbers have different lengths: an element has no whole number of bytes."""
    base = storage(7)
    base.stored_bytes = stored
    parts = ((0, 3, "weights"), (3, 2, "gradients"), (5, 2, "buffers"))
    uses = [TensorUse(view(base, start, size), None, group) for start, size, group in parts]
    attributed = [attribution.bytes for attribution in attribute_bytes(uses)]
    assert sum(attributed) == stored
    assert all(
        abs(count - stored * size / 7) < len(parts)
        for count, (_, size, _) in zip(attributed, parts, strict=True)
    )


def test_a_strided_view_uses_its_whole_extent() -> None:
    base = storage(12)
    columns = TensorUse(view(base, 1, 3, 2, strides=(4, 1)), 0, "weights")
    rest = TensorUse(base, None, "other")
    elements = [attribution.elements for attribution in attribute_bytes([rest, columns])]
    assert elements == [10, 2]


def test_bytes_of_a_training_checkpoint() -> None:
    """LeNet-5's parameters are known: 61,750 floats in one storage, and as many gradients."""
    result = inspect(UNCLEARED)
    assert result.parameters == 61_750
    assert result.bytes.weights == result.bytes.gradients == 4 * 61_750
    assert result.bytes.running_statistics == 4 * 2 * (6 + 16)
    assert result.bytes.total == result.size == UNCLEARED.stat().st_size
    convolution = result.layers[1]
    assert (convolution.parameters, convolution.bytes.weights) == (156, 4 * 156)
    # output 3×6×28×28 and finput 3×25×784
    assert convolution.bytes.buffers == 4 * 3 * (6 * 28 * 28 + 25 * 784)


def test_bytes_add_up_with_4_byte_longs() -> None:
    """A LongStorage with 4-byte longs has half as many bytes in the file as in memory."""
    raw = struct.pack("<ii", 4, 1) + struct.pack("<i", 3) + b"V 1"
    raw += struct.pack("<i", 17) + b"torch.LongStorage" + struct.pack("<qqq", 2, 7, 8)
    result = inspect_value(t7.load(raw), len(raw))
    assert (result.bytes.other, result.bytes.total) == (16, len(raw))


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("module_ascii", "ASCII"),
        ("module_big", "binary, 8-byte longs, big endian"),
        ("module_long4", "binary, 4-byte longs, little endian"),
    ],
)
def test_bytes_add_up_in_every_format(name: str, format: str) -> None:
    """Elements count with the bytes that they occupy in the file, as text too."""
    path = FIXTURES / "formats" / f"{name}.t7"
    result = inspect(path)
    assert result.format == format
    assert result.bytes.total == result.size == path.stat().st_size
    linear = follow(t7.load(path), "model.modules[1]")
    weights = [linear["weight"].storage, linear["bias"].storage]
    assert result.bytes.weights == sum(weight.stored_bytes for weight in weights)
    if format == "ASCII":
        text = b" ".join(b"%.17g" % number for number in weights[0]) + b"\n"
        assert text in path.read_bytes()
        assert weights[0].stored_bytes == len(text)


def test_bytes_of_a_compressed_file_are_decompressed_bytes(tmp_path: Path) -> None:
    path = tmp_path / "model.t7.gz"
    path.write_bytes(gzip.compress(ALEXNET.read_bytes()))
    result = inspect(path)
    assert result.bytes.total == result.size == ALEXNET.stat().st_size


@pytest.mark.parametrize(
    "path",
    [
        *wild_files(),
        *sorted(FIXTURES.glob("*/*.t7")),
    ],
    ids=lambda path: path.name,
)
def test_every_file_adds_up_and_serializes(path: Path) -> None:
    try:
        value = read_file(path).value
    except (T7Error, IsADirectoryError):
        pytest.skip("cannot be read")
    result = inspect(path)
    assert result.bytes.total == result.size
    assert result.bytes.structure > 0
    assert all(count >= 0 for count in vars(result.bytes).values())
    for layer in result.layers:
        assert isinstance(follow(value, layer.path), LuaObject)
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    groups = {entry["group"]: entry["bytes"] for entry in document["bytes_by_group"]}
    assert sum(groups.values()) == document["bytes"] == result.size
    in_layers = sum(layer["bytes"] for layer in document["layers"])
    assert in_layers + document["bytes_outside_layers"] + groups["structure"] == result.size
    for entry in document["layers"]:
        assert entry["bytes"] == sum(group["bytes"] for group in entry["bytes_by_group"])


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


# --- layers ----------------------------------------------------------------------------------


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
    layer = LuaObject("my.Layer", LuaTable(fields))
    assert settings(layer) == "5×3, stride 2×1, pad 0×1, scale 0.25, mode sum, size 1×2×3"


def test_all_objects_of_a_file_are_shown() -> None:
    result = inspect(FIXTURES / "formats" / "two_objects.t7")
    assert [node.name for node in result.tree.children] == ["[1]", "[2]"]
    assert result.format == "binary, 8-byte longs, little endian"
    assert result.bytes.total == result.size
    assert result.notes == ["2 objects in one file: [1] to [2]"]


def test_find_model() -> None:
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


def test_nested_repetition_takes_no_time() -> None:
    """A hostile file: tables whose 1,000 entries are all one table, four levels deep."""
    inner: LuaTable = LuaTable()
    for _ in range(4):
        inner = LuaTable.from_list([inner] * 1000)
    start = time.perf_counter()
    with pytest.raises(T7Error):
        find_model(inner)
    inspect_value(inner, 10**6)
    assert time.perf_counter() - start < 1


# --- the tree --------------------------------------------------------------------------------


def test_cycles_and_shared_tables_refer_to_the_first_occurrence() -> None:
    value = LuaTable({"name": "root"})
    child = LuaTable({"parent": value})
    value["kids"], value["again"] = LuaTable.from_list([child]), child
    tree = value_tree(value)
    kids, again = tree.children[1], tree.children[2]
    assert kids.children[0].children[0].same_as == "value"
    assert (again.path, again.same_as, again.children) == ("again", "kids[1]", [])


def test_a_list_that_holds_itself_is_described() -> None:
    value = LuaTable()
    value[1] = value
    assert (describe(value), value_tree(value).children[0].same_as) == ("list of 1", "value")


def test_depth_and_entries_are_limited() -> None:
    value = LuaTable({"end": True})
    for _ in range(3000):
        value = LuaTable({"next": value})
    tree = value_tree(value, depth=10**6)
    depth, node = 0, tree
    while node.children:
        depth, node = depth + 1, node.children[0]
    assert (depth, node.hidden) == (100, 1)
    flat = value_tree(LuaTable((f"k{i}", i) for i in range(50)), entries=20)
    assert (len(flat.children), flat.hidden) == (20, 30)
    assert value_tree(value, depth=0).children == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "nil"),
        (True, "true"),
        (1, "1"),
        (float("nan"), "nan"),
        ("cat", "'cat'"),
        ("x" * 100, f"'{'x' * 60}'… (100 characters)"),
        (b"\xff\x00", "b'\\xff\\x00' (2 bytes, not text)"),
        (LuaTable(), "empty table"),
        (LuaTable({"a": 1}), "table of 1"),
        (LuaTable.from_list(["a", "b"]), "list of 2"),
        (LuaTable.from_list([1, 2.5, 3, 4, 5]), "list of 5: 1, 2.5, 3, 4, …"),
        (LuaObject("my.Class", LuaTable({"a": 1})), "my.Class"),
        (LuaFunction(b"\x1bLJ"), "function (3 bytes of bytecode, never run)"),
        (storage(2), "torch.FloatStorage 2: 0, 0"),
        (view(storage(9), 3, 2, 3), "torch.FloatTensor 2×3 of a storage of 9: 0, 0, 0, 0, …"),
        (view(storage(9), 0, 0), "torch.FloatTensor, empty"),
    ],
)
def test_descriptions_of_values(value: object, text: str) -> None:
    assert describe(value) == text


# --- speed -----------------------------------------------------------------------------------


def test_torch_is_not_imported() -> None:
    code = (
        "import sys; from torchlift.converters.t7.inspection import inspect;"
        f"inspect({str(ALEXNET)!r}); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_tensors_are_not_read(tmp_path: Path) -> None:
    """A sparse file of 500 MB takes no time, because no element is read."""
    path = tmp_path / "large.t7"
    count = 125_000_000
    body = struct.pack("<iii", 4, 1, 3) + b"V 1" + struct.pack("<i", 18) + b"torch.FloatStorage"
    with path.open("wb") as file:
        file.write(body + struct.pack("<q", count))
        file.truncate(file.tell() + 4 * count)
    start = time.perf_counter()
    result = inspect(path)
    assert time.perf_counter() - start < 0.5
    assert result.bytes.other == 4 * count
    assert result.bytes.total == path.stat().st_size
