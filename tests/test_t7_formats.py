"""Every variant of the `.t7` format loads as Torch7 wrote it (`fixtures/formats`).

What is protected: each feature of the format loads with the values of the Lua script that wrote it;
the same value in binary, in ASCII, with 4-byte longs and in big-endian order loads alike.
"""

from __future__ import annotations

import math
import struct
import warnings
from functools import partial
from typing import Any

import numpy as np
import pytest
from support import FIXTURES

from torchlift.converters import t7
from torchlift.converters.t7 import LuaFunction, LuaObject, LuaTable, T7Error, TorchArray
from torchlift.converters.t7.reading.arrays import tensor_view
from torchlift.converters.t7.reading.ascii import AsciiDecoder
from torchlift.converters.t7.reading.binary import BinaryDecoder

FORMATS = FIXTURES / "formats"

COUNTING = np.arange(-11, 13).reshape(2, 3, 4)
NUMERATORS = np.arange(1, 25).reshape(2, 3, 4)

#: Tensor class → elements of its fixtures; fractions are multiples of 1/7, rounded to the dtype.
TENSORS = {
    "byte": np.arange(1, 25, dtype="u1").reshape(2, 3, 4),
    "char": COUNTING.astype("i1"),
    "short": COUNTING.astype("i2"),
    "int": COUNTING.astype("i4"),
    "long": COUNTING.astype("i8"),
    "half": (NUMERATORS / 7).astype("f4").astype("f2"),
    "float": (NUMERATORS / 7).astype("f4"),
    "double": NUMERATORS / 7,
}
VARIANTS = ("", "_ascii", "_bigendian", "_long4", "_big_long4")

GRID = np.arange(1, 61, dtype="f8").reshape(3, 4, 5)

#: Fixture → its value, as returned by `to_builtins`.
VALUES: dict[str, Any] = {
    "booleans": {1: True, 2: False, "x": True},
    "custom_class": ("my.Custom", 1, {"note": "kept", "field": [1.0, 1.0, 1.0]}),
    "custom_write": ("my.Writes", 1, {"extra": "w", "a": 1}),
    "cuda_half": {"b": [1, 2, 3], "a": [1.5, 1.5, 1.5]},
    "empty_tensor": [],
    "list": {1: 10, 2: 20, 3: 30},
    "map": {"b": {"c": 2}, "a": 1},
    "nil_holes": {1: 1, 3: 3, 5: 5},
    "numbers": {1: 1, 2: 2.5, 3: -3, 4: 1e300, 5: math.inf, 6: -math.inf, 7: 0, 8: 2**53},
    "numbers_ascii": {1: 1, 2: 2.5, 3: -3, 4: 1e300, 5: 0, 6: 2**53},
    "scalar_like": [42.0],
    "strings": {
        1: "",
        2: "hello",
        3: "tab\tnew\nline",
        4: b"\x00\x01\xffbinary",
        5: "café",
        6: "x" * 5000,
    },
    "strings_ascii": {1: "", 2: "hello", 3: "tab\tnew\nline", 4: "café"},
    "tds_hash": ("tds.Hash", 0, {"a": 1, "b": 2}),
    "tds_vec": ("tds.Vec", 0, {1: "x", 2: "y", 3: "z"}),
    "unreferenced": {"b": {1: 1, 2: 2}, "a": [1.0, 1.0]},
    "view_expand": [[1.0] * 4, [2.0] * 4, [3.0] * 4],
    "view_narrow": GRID[:, 1:3].tolist(),
    "view_select": GRID[:, :, 1].tolist(),
    "view_transposed": GRID.T.tolist(),
    "zero_storage": [],
}


def to_builtins(value: Any) -> Any:
    """Convert a value without cycles to builtin containers."""
    if isinstance(value, LuaTable):
        return {key: to_builtins(item) for key, item in value.items()}
    if isinstance(value, LuaObject):
        return value.class_name, value.version, to_builtins(value.fields)
    return value.tolist() if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("name", VALUES)
def test_values_are_read_with_their_types_and_order(name: str) -> None:
    value = to_builtins(t7.load(FORMATS / f"{name}.t7"))
    assert value == VALUES[name]
    # Distinguishes 1 from 1.0 and True, and checks the order.
    assert repr(value) == repr(VALUES[name])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_in_every_variant(kind: str, variant: str) -> None:
    tensor = t7.load(FORMATS / f"{kind}tensor{variant}.t7")
    assert tensor.torch_class == f"torch.{kind.title()}Tensor"
    assert tensor.storage.torch_class == f"torch.{kind.title()}Storage"
    assert tensor.dtype == TENSORS[kind].dtype
    assert tensor.dtype.isnative
    assert tensor.flags.writeable
    # ASCII has 9 digits of a half or float, enough to restore it exactly.
    np.testing.assert_array_equal(tensor, TENSORS[kind])


@pytest.mark.parametrize("kind", TENSORS)
def test_a_storage_has_its_class_and_type(kind: str) -> None:
    storage = t7.load(FORMATS / f"{kind}storage.t7")
    assert storage.torch_class == f"torch.{kind.title()}Storage"
    assert storage.dtype == TENSORS[kind].dtype
    assert storage.tolist() == [3] * 5


@pytest.mark.parametrize("name", ["special_values", "special_values_ascii"])
def test_special_values_keep_their_signs(name: str) -> None:
    numbers = t7.load(FORMATS / f"{name}.t7")
    expected = [math.inf, -math.inf, math.nan, -0.0, 1e308, 5e-324][: len(numbers)]
    np.testing.assert_array_equal(numbers, expected)
    assert np.signbit(numbers[:4]).tolist() == [False, True, True, True]


def test_one_module_in_every_variant() -> None:
    """A Linear and a Tanh; the weights are random in each file."""
    data = t7.loads(t7.load(FORMATS / "module_mem_b64.txt"))
    files = [t7.load(FORMATS / f"module_{name}.t7") for name in ("ascii", "long4", "big")]
    for model in (data, *files):
        linear, tanh = model["modules"].to_list()
        assert (model.class_name, linear.class_name) == ("nn.Sequential", "nn.Linear")
        assert tanh.class_name == "nn.Tanh"
        assert linear["weight"].shape == files[0]["modules"][1]["weight"].shape
        assert linear["bias"].storage.torch_class == "torch.DoubleStorage"
        assert np.isfinite(linear["weight"]).all()
        assert list(linear.fields) == list(files[0]["modules"][1].fields)


def test_mixed_keys_do_not_collide() -> None:
    table = t7.load(FORMATS / "mixed_keys.t7")
    assert len(table) == 8
    assert (table[1], table[1.0], table[True], table["k"]) == (1, 1, 10, 5)
    assert (table[-1], table[10], table[2.5]) == (8, 7, 9)
    assert False not in table


def test_tables_are_keys_by_identity() -> None:
    table = t7.load(FORMATS / "table_key.t7")
    key = table["key"]
    assert key.to_list() == [1]
    assert table[key] == "v"
    assert LuaTable.from_list([1]) not in table


def test_a_table_may_hold_itself() -> None:
    root = t7.load(FORMATS / "recursive.t7")
    assert root["self"] is root
    assert [kid["parent"] is root for kid in root["kids"].to_list()] == [True, True]


def test_shared_storages_are_one_memory() -> None:
    table = t7.load(FORMATS / "shared_storage.t7")
    a, b, c = table["a"], table["b"], table["c"]
    assert table["same"] is a
    assert a.storage is b.storage
    assert a.storage is c.storage
    a[0, 0, 1] = 99
    assert b[0, 1] == c[0, 0, 0] == 99
    assert t7.load(FORMATS / "shared_storage.t7")["a"][0, 0, 1] == 2, "the file does not change"


def test_expanded_tensors_stay_views() -> None:
    tensor = t7.load(FORMATS / "view_expand.t7")
    assert tensor.strides == (8, 0)
    assert len(tensor.storage) == 3
    converted = t7.to_torch(tensor)
    assert converted.stride() == (1, 0)
    assert converted.untyped_storage().nbytes() == 3 * 8


def test_what_occurs_twice_is_converted_to_one_tensor_and_one_table() -> None:
    array, inner = np.arange(3.0), LuaTable({"x": 1})
    value = LuaTable({"a": array, "b": array, "c": inner, "d": inner, "e": array.copy()})
    converted = t7.to_torch(t7.loads(t7.dumps(value)))
    assert converted["a"] is converted["b"]
    assert converted["a"] is not converted["e"]
    assert converted["c"] is converted["d"]


def test_tables_of_tds_are_converted_like_tables() -> None:
    """Full or empty, under the old names too; a counter and objects of other classes stay."""

    def instance(class_name: str, fields: Any = ()) -> LuaObject:
        return LuaObject(class_name, LuaTable(fields))

    items, pairs = [(1, "a"), (2, LuaTable({"b": 1}))], {"a": 1, 5: "c"}
    for prefix in ("tds.", "tds_"):
        vec, hash_ = ("Vec", "Hash") if prefix == "tds." else ("vec", "hash")
        assert t7.to_torch(instance(prefix + vec, items)) == ["a", {"b": 1}]
        assert t7.to_torch(instance(prefix + hash_, pairs)) == pairs
        assert t7.to_torch(instance(prefix + vec)) == []
    for other in (instance("tds.AtomicCounter"), instance("my.Hash", pairs)):
        assert t7.to_torch(LuaTable({"x": other})) == {"x": other}


def test_infinities_and_nan_of_microsofts_printf() -> None:
    tokens = ("1.#INF", "-1.#INF", "1.#QNAN")
    numbers = [t7.loads(f"1\n{token}\n") for token in tokens]
    np.testing.assert_array_equal(numbers, [math.inf, -math.inf, math.nan])


@pytest.mark.parametrize("kind", ["Byte", "Char", "Short", "Int", "Long", "Half", "Double", ""])
@pytest.mark.parametrize("device", ["Cuda", "Cl"])
def test_every_class_of_cutorch_and_cltorch(device: str, kind: str) -> None:
    """A CudaTensor or ClTensor has the dtype in its name, or float32 without one."""
    dtype = TENSORS[(kind or "Float").lower()].dtype
    storage = np.arange(3, dtype=dtype).view(TorchArray)
    storage.torch_class = f"torch.{device}{kind}Storage"
    value = t7.loads(t7.dumps(storage))
    assert value.torch_class == f"torch.{device}{kind}Storage"
    assert value.dtype == dtype
    assert value.tolist() == [0, 1, 2]


def test_an_empty_tensor_of_cltorch_has_a_storage() -> None:
    """As char-rnn with `-opencl 1` wrote them: no dimension, and a storage of one number."""
    text = b"\x04\0\0\0\x01\0\0\0\x03\0\0\0V 1\x0e\0\0\0torch.ClTensor" + struct.pack(
        "<iqii", 0, 1, 4, 2
    )
    text += b"\x03\0\0\0V 1\x0f\0\0\0torch.ClStorage" + struct.pack("<qf", 1, 2.5)
    value = t7.loads(text)
    assert (value.shape, value.dtype, value.torch_class) == ((0,), np.float32, "torch.ClTensor")
    assert value.storage.tolist() == [2.5]


def test_functions_are_kept_as_bytes() -> None:
    function = t7.load(FORMATS / "function_plain.t7")
    assert isinstance(function, LuaFunction)
    assert (function.tag, function.bytecode[:3], len(function.upvalues)) == (8, b"\x1bLJ", 0)
    table = t7.load(FORMATS / "function_upvalue.t7")
    upvalue = table["f"].upvalues[1]
    assert upvalue.items() == [("name", "up"), ("id", 1), ("value", 41)]
    assert table["after"] == "still readable"


def test_functions_with_old_tags() -> None:
    """Tag 6 has no index, except in July 2014; tag 7 has a list of upvalues without names."""
    code = b"\x1bLJ\x02abc"
    upvalues = struct.pack("<iii", 3, 2, 1) + struct.pack("<idid", 1, 1, 1, 7)
    size = struct.pack("<i", len(code))
    for tag, start in ((6, b""), (6, struct.pack("<i", 5)), (7, struct.pack("<i", 5))):
        function = t7.loads(struct.pack("<i", tag) + start + size + code + upvalues)
        assert (function.tag, function.bytecode) == (tag, code)
        assert function.upvalues.to_list() == [7]


@pytest.mark.parametrize("code", [b"codecode", b"", b"\x02\0\0\0abcd"])
def test_what_follows_a_function_that_is_no_bytecode_is_read(code: bytes) -> None:
    """Of an old file, whose size is tried as an index first."""
    function = struct.pack("<ii", 6, len(code)) + code + struct.pack("<i", 0)
    stream = struct.pack("<iii", 3, 1, 1) + struct.pack("<id", 1, 1) + function
    found = t7.loads(stream)[1]
    assert (found.bytecode, found.upvalues, found.tag) == (code, None, 6)


def test_a_generator_is_kept_as_its_bytes() -> None:
    generator = t7.load(FORMATS / "timer_generator.t7")["gen"]
    assert generator.class_name == "torch.Generator"
    assert len(generator.body[0]) == 5048


def test_a_model_of_a_gpu_is_read_without_one() -> None:
    case = t7.load(FORMATS / "cuda_model.t7")
    assert case["input"].torch_class.startswith("torch.Cuda")
    classes = {layer.class_name for layer in case["module"]["modules"].values()}
    assert any(name.startswith("cudnn.") for name in classes)


def test_three_thousand_levels_are_read() -> None:
    value, depth = t7.load(FORMATS / "deep_nesting.t7"), 0
    while "next" in value:
        value, depth = value["next"], depth + 1
    assert (depth, value.items()) == (3000, [("i", 3000)])


@pytest.mark.parametrize(
    "write",
    [lambda n: struct.pack("<6i", 3, n, 1, 2, 1, 97)[:-3], lambda n: b"3\n%d\n1\n2\n1\na\n" % n],
)
def test_100_000_tables_deep(write: Any) -> None:
    end = struct.pack("<ii", 5, 1) if b"\0" in write(1) else b"5\n1\n"
    value, depth = t7.loads(b"".join(map(write, range(1, 100_001))) + end), 0
    while value is not True:
        value, depth = value["a"], depth + 1
    assert depth == 100_000


def test_further_objects_are_said_and_read_by_load_all() -> None:
    with pytest.warns(t7.T7Warning, match=r"two_objects\.t7: 1 more object.* t7\.load_all"):
        first = t7.load(FORMATS / "two_objects.t7")
    both = t7.load_all(FORMATS / "two_objects.t7")
    assert [to_builtins(value) for value in both] == [{1: 1}, {1: 2}]
    assert to_builtins(first) == {1: 1}


def test_nothing_is_said_where_nothing_follows() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", t7.T7Warning)
        t7.load(FORMATS / "map.t7")
        t7.loads((FORMATS / "strings_ascii.t7").read_bytes())
        t7.load_all(FORMATS / "two_objects.t7")


def test_files_joined_end_to_end() -> None:
    """Each file numbers its objects from 1: an index must not refer to the first file."""
    data = (FORMATS / "map.t7").read_bytes() + (FORMATS / "list.t7").read_bytes()
    assert [to_builtins(value) for value in t7.load_all(data)] == [VALUES["map"], VALUES["list"]]
    text = (FORMATS / "strings_ascii.t7").read_bytes()
    assert [to_builtins(value) for value in t7.load_all(text * 2)] == [VALUES["strings_ascii"]] * 2


def test_files_without_version_strings() -> None:
    """Old files have only the class name (File.lua reads both)."""
    data = (FORMATS / "custom_class.t7").read_bytes()
    old = data.replace(struct.pack("<i", 3) + b"V 1", b"")
    value = t7.loads(old)
    assert (value.class_name, value.version) == ("my.Custom", 0)
    assert value["field"].tolist() == [1, 1, 1]


def test_versions_of_lua_5_3() -> None:
    data = (FORMATS / "custom_class.t7").read_bytes()
    new = data.replace(struct.pack("<i", 3) + b"V 1", struct.pack("<i", 5) + b"V 1.0")
    assert t7.loads(new).version == 1


@pytest.mark.parametrize("name", ["3", "11", "40", "330"])
def test_a_truncated_file_is_an_error_with_its_place(name: str) -> None:
    path = FORMATS / f"bad_truncated_{name}.t7"
    with pytest.raises(T7Error, match=rf"{path.name}: .*truncated.*\(byte \d+\)") as error:
        t7.load(path)
    assert error.value.source == str(path)
    assert error.value.offset is not None


def test_truncation_errors_have_a_path() -> None:
    data = (FIXTURES / "models" / "lenet5.t7").read_bytes()
    with pytest.raises(T7Error, match="truncated") as error:
        t7.load(data[: len(data) // 2])
    assert error.value.path is not None
    assert error.value.path.startswith("modules[")


def test_derived_arrays_have_no_torch_class() -> None:
    """A slice is not a tensor of the file."""
    tensor = t7.load(FORMATS / "floattensor.t7")
    assert isinstance(tensor[0], TorchArray)
    assert tensor[0].torch_class is None
    assert (tensor + 1).torch_class is None


@pytest.mark.parametrize(
    ("sizes", "strides"),
    [((-1,), (1,)), ((2,), (-1,)), ((0,), (-1,)), ((0, 2**60), (1, 1)), ((2**60,), (0,))],
    ids=str,
)
def test_impossible_sizes_and_strides_raise(
    sizes: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    """Before numpy computes with them, and even if nothing is stored."""
    storage = np.zeros(4, np.float32).view(TorchArray)
    with pytest.raises(ValueError, match="has sizes"):
        tensor_view("torch.FloatTensor", sizes, strides, 0, storage)


@pytest.mark.parametrize("decoder", [AsciiDecoder, partial(BinaryDecoder, byte_order="big")])
def test_as_many_bytes_are_read_as_are_left_and_not_fewer_than_none(decoder: Any) -> None:
    stream = decoder(b"abcd", position=1)
    for count in (0, 3):
        stream.need(count, "a string")
    with pytest.raises(t7.TruncatedError, match="a string needs 4 bytes and 3 are left"):
        stream.need(4, "a string")
    with pytest.raises(t7.T7Error, match="a string has a negative size"):
        stream.need(-1, "a string")


@pytest.mark.parametrize(
    ("behind", "said"),
    [(b"", False), (b"\0", False), (b"\0\0", True), (b"x", True), (b"\0x", True)],
)
def test_one_nul_behind_an_object_is_that_of_a_memory_file(behind: bytes, said: bool) -> None:
    """`torch.serialize` ends the storage of its MemoryFile with it (`THMemoryFile.c`)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert t7.loads(t7.dumps({"a": 1}) + behind)["a"] == 1
    found = [str(one.message) for one in caught]
    assert [f"the last {len(behind)} bytes are not a Torch7 object" in one for one in found] == (
        [True] if said else []
    )
