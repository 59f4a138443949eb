"""`torchlift.compat.torchfile` gives what torchfile 0.1.0 gives, and reads what it does not.

The truth is torchfile itself, on every file that it reads. Left out are files that it misreads
without an error: classes whose instances are stored in parts, of which it takes the first.
"""

from __future__ import annotations

import copy
import io
import operator
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import FIXTURES, SHARED, wild_files

from torchlift.compat import torchfile
from torchlift.converters import t7
from torchlift.converters.t7 import LuaObject, LuaTable

FILES = sorted(file for name in ("formats", "compat") for file in (FIXTURES / name).glob("*.t7"))
#: torchfile does not know CudaHalfTensor, nor parts; it reads the truncated file as if it had all.
MISREAD = {"cuda_half.t7", "multipathnet_parallel.t7", "bad_truncated_330.t7"}
OPTIONS: list[dict[str, bool]] = [
    {},
    {"use_list_heuristic": False},
    {"use_int_heuristic": False},
    {"utf8_decode_strings": True},
]


def check_same(ours: Any, theirs: Any) -> None:
    """Walk two values side by side; arrays must have equal bytes, dtypes, shapes and strides."""
    waiting, seen = [(ours, theirs)], set()
    while waiting:
        mine, other = waiting.pop()
        assert type(mine).__name__ == type(other).__name__
        if isinstance(other, np.ndarray):
            assert type(mine) is np.ndarray
            assert (mine.dtype, mine.shape) == (other.dtype, other.shape)
            assert mine.strides == other.strides
            assert mine.flags.writeable
            assert mine.tobytes() == other.tobytes()
            continue
        if isinstance(other, (str, bytes, int, float, bool, type(None))):
            assert repr(mine) == repr(other)
            continue
        if (id(mine), id(other)) in seen:
            continue
        seen.add((id(mine), id(other)))
        if isinstance(other, dict):
            assert len(mine) == len(other)
            waiting += zip(mine, other, strict=True)
            waiting += zip(dict.values(mine), dict.values(other), strict=True)
        elif isinstance(other, (list, tuple)):
            waiting += zip(mine, other, strict=True)
        else:
            assert mine._typename == other._typename
            assert mine._version_number == other._version_number
            waiting.append((mine._obj, other._obj))


def compare(monkeypatch: pytest.MonkeyPatch, files: list[Path], options: list[Any]) -> int:
    """Compare every file that torchfile reads; return how many values were compared."""
    original = pytest.importorskip("torchfile")
    # NumPy 2 asks a dict that answers None to everything for its array.
    monkeypatch.setattr(original.hashable_uniq_dict, "__array_ufunc__", None, raising=False)
    count = 0
    for file in files:
        for chosen in options:
            try:
                theirs = original.load(file, **chosen)
            except Exception:
                continue
            check_same(torchfile.load(file, **chosen), theirs)
            count += 1
    return count


def test_every_fixture_that_torchfile_reads_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [f for f in FILES if f.name not in MISREAD and f.stat().st_size < 100_000]
    assert compare(monkeypatch, files, OPTIONS) > 150


@pytest.mark.slow
def test_every_real_file_that_torchfile_reads_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [file for file in wild_files() if file.stat().st_size < 30_000_000]
    if not files:
        pytest.skip("the files of others are not here")
    more = sorted((SHARED / "fixtures").glob("*/*.t7"))
    files += [file for file in more if file.name not in MISREAD]
    assert compare(monkeypatch, files, [{}, {"utf8_decode_strings": True}]) > 200


def test_it_needs_numpy_alone() -> None:
    code = "import sys, torchlift.compat.torchfile as t; t.load; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def read(value: Any, **options: Any) -> Any:
    return torchfile.T7Reader(io.BytesIO(t7.dumps(value)), **options).read_obj()


def test_more_than_torchfile_reads() -> None:
    """ASCII, other byte orders, half precision, and deeper than Python's stack."""
    formats = FIXTURES / "formats"
    little = torchfile.load(formats / "doubletensor.t7")
    for name in ("ascii", "bigendian", "long4"):
        check_same(torchfile.load(formats / f"doubletensor_{name}.t7"), little)
    assert torchfile.load(formats / "halftensor.t7").dtype == np.float16
    nested = LuaTable()
    for _ in range(3000):
        nested = LuaTable({"inner": nested})
    result, depth = read(nested), 0
    while result:
        result, depth = result.inner, depth + 1
    assert depth == 3000


def test_what_is_shared_stays_shared() -> None:
    weight = np.arange(4.0)
    table = LuaTable({"a": weight, "b": weight})
    table["self"] = table
    result = read(table)
    assert result.a is result.b
    assert result.self is result
    result.a[0] = 9
    assert result[b"b"][0] == 9
    cycle = LuaTable.from_list(["x"])
    cycle[2] = cycle
    listed = read(cycle)
    assert listed[1] is listed


def test_values_that_are_gone_are_not_taken_for_later_ones() -> None:
    """What was made of a value is kept by its id, which Python gives to others afterwards."""
    reader = torchfile.T7Reader(io.BytesIO())
    for number in range(50):
        assert reader.python_value(LuaTable({"n": number})).n == number


def test_an_instance_that_wrote_no_table_is_what_it_wrote(tmp_path: Path) -> None:
    one, several = LuaObject("my.Word"), LuaObject("my.Pair", LuaTable({"size": 3}))
    one.body, several.body = ["hello"], [7, several.fields]
    t7.save(LuaTable({"a": one, "b": several}), tmp_path / "own.t7")
    table = torchfile.load(tmp_path / "own.t7")
    assert table.a._obj == b"hello"
    assert table.b.size == 3


def test_tensors_of_one_storage_share_memory() -> None:
    shared = torchfile.load(FIXTURES / "formats" / "shared_storage.t7")
    arrays = [value for value in shared.values() if isinstance(value, np.ndarray)]
    assert len(arrays) > 1
    assert np.shares_memory(arrays[0], arrays[1])
    assert torch.from_numpy(arrays[1]).shape == arrays[1].shape


def test_only_the_keys_from_one_to_n_make_a_list() -> None:
    for keys in ([0, 3], [1, 3], [-1, 2, 5], [1, 1.5]):
        table = read(LuaTable(dict.fromkeys(keys, "x")))
        assert list(table.items()) == [(key, b"x") for key in keys]
    assert read(LuaTable({2: "b", 1: "a"})) == [b"a", b"b"]
    assert read(LuaTable()) == []


def test_objects_are_copied_and_pickled() -> None:
    """The original's end in endless recursion."""
    model = torchfile.load(FIXTURES / "digits" / "digits-lenet5.t7")
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(again.modules[0].weight, model.modules[0].weight)
    assert "torch_typename" in dir(model)
    assert "modules" in dir(model)


def test_handlers_get_the_parts_of_an_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchfile, "type_handlers", {})

    @torchfile.register_handler(b"my.Pair")
    def pair(reader: Any, version: bytes) -> Any:
        return ("pair", version, reader.read_obj())

    made = read(LuaTable({"x": LuaObject("my.Pair", LuaTable({"left": 1}))}))
    assert made.x[:2] == ("pair", b"V 1")
    assert made.x[2].left == 1
    newer = LuaObject("my.Pair", LuaTable({"left": 1}), version=2)
    assert read(newer)[:2] == ("pair", b"V 2")

    @torchfile.register_handler(b"tds.Vec")
    def vector(reader: Any, version: bytes) -> Any:
        size, _ = reader.read_int(), reader.read_obj()
        return tuple(reader.read_obj() for _ in range(size))

    assert isinstance(torchfile.load(FIXTURES / "formats" / "tds_vec.t7"), tuple)

    @torchfile.register_handler(b"tds.Hash")
    def mapping(reader: Any, version: bytes) -> Any:
        size, _ = reader.read_int(), reader.read_obj()
        return ("hash", size, {reader.read_obj(): reader.read_obj() for _ in range(size)})

    hashed = read(LuaObject("tds.Hash", LuaTable({"a": 1, "b": 2})))
    assert hashed == ("hash", 2, {b"a": 1, b"b": 2})

    @torchfile.register_handler(b"my.Greedy")
    def greedy(reader: Any, version: bytes) -> Any:
        return [reader.read_obj() for _ in range(9)]

    with pytest.raises(torchfile.T7ReaderException, match=r"my\.Greedy"):
        read(LuaObject("my.Greedy"))


def test_readers_that_scripts_add_are_there() -> None:
    torchfile.add_tensor_reader(b"torch.CudaLongTensor", dtype=np.int64)
    torchfile.add_storage_reader(b"torch.CudaLongStorage", dtype=np.int64)
    torchfile.add_tensor_reader(b"torch.ByteTensor", dtype="uint8")
    for add, name, dtype in (
        (torchfile.add_tensor_reader, b"torch.MyTensor", np.int64),
        (torchfile.add_tensor_reader, b"torch.CudaLongTensor", np.int32),
        (torchfile.add_tensor_reader, b"torch.LongStorage", np.int64),
        (torchfile.add_storage_reader, b"torch.LongTensor", np.int64),
        (torchfile.add_storage_reader, b"torch.FloatStorage", np.float64),
    ):
        with pytest.raises(ValueError, match=rf"{name.decode()}' of {np.dtype(dtype)} is not in"):
            add(name, dtype=dtype)


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        torchfile.load(tmp_path / "missing.t7")
    (tmp_path / "text.t7").write_text("hello")
    with pytest.raises(torchfile.T7ReaderException):
        torchfile.load(tmp_path / "text.t7")
    with pytest.raises(TypeError, match="use_lists"):
        torchfile.load(FIXTURES / "digits" / "digits_classes.t7", use_lists=True)
    with pytest.raises(DeprecationWarning):
        torchfile.T7Reader(io.BytesIO(), force_deserialize_classes=True)
    table = torchfile.hashable_uniq_dict()
    for compare in (operator.lt, operator.le, operator.gt, operator.ne):
        with pytest.raises(TypeError, match="comparisons"):
            compare(table, torchfile.hashable_uniq_dict())
    assert table == table
    assert not table == torchfile.hashable_uniq_dict()  # noqa: SIM201 - `!=` is an error
    key = LuaTable()
    key[np.zeros(2)] = "tensor as key"
    with pytest.raises(torchfile.T7ReaderException, match="ndarray as a key"):
        read(key)


def test_longs_of_eight_bytes_and_objects_in_a_row() -> None:
    file = FIXTURES / "digits" / "digits-lenet5.t7"
    check_same(torchfile.load(file, force_8bytes_long=True), torchfile.load(file))
    reader = torchfile.T7Reader(io.BytesIO(t7.dumps("one") + t7.dumps(2)))
    assert [reader.read_obj(), reader.read_obj()] == [b"one", 2]
    with pytest.raises(EOFError):
        reader.read_obj()


def test_the_size_of_longs_that_is_asked_for_is_taken(tmp_path: Path) -> None:
    """By default it is what fits the file."""
    file = tmp_path / "longs.t7"
    t7.save(np.arange(3.0), file, long_size=4)
    assert torchfile.load(file).tolist() == [0, 1, 2]
    assert torchfile.T7Reader(file.open("rb")).read_obj().tolist() == [0, 1, 2]
    with pytest.raises(torchfile.T7ReaderException):
        torchfile.load(file, force_8bytes_long=True)
    with pytest.raises(torchfile.T7ReaderException):
        torchfile.T7Reader(file.open("rb"), force_8bytes_long=True).read_obj()


def test_a_function_among_its_own_upvalues_is_nil_there() -> None:
    function = t7.LuaFunction(b"\x1bLJ code")
    function.upvalues = LuaTable({1: LuaTable({"value": 5}), 2: LuaTable({"value": function})})
    size, dumped, (first, second) = read(function)
    assert (size, dumped) == (8, b"\x1bLJ code")
    assert (first.value, second.value) == (5, None)


@pytest.mark.parametrize(("version", "number"), [(3, 3), ("beta", 0), (0, 0)])
def test_a_version_that_is_no_number_is_zero(version: int | str, number: int) -> None:
    made = read(LuaObject("my.Layer", LuaTable({"x": 1}), version))
    assert (made.x, made._version_number) == (1, number)


def test_the_entries_of_a_vector_stay_in_order() -> None:
    entries = LuaTable.from_list([3, "a", 1.5])
    assert read(LuaObject("tds.Vec", entries)) == [3, b"a", 1.5]
    table = read(LuaObject("tds.Hash", LuaTable({"b": 2, "a": 1})))
    assert (type(table).__name__, list(table.items())) == (
        "hashable_uniq_dict",
        [(b"b", 2), (b"a", 1)],
    )


@pytest.mark.parametrize(
    ("keys", "is_list"),
    [
        ((1, 2, 3), True),
        ((3, 1, 2), True),
        ((0, 1, 5), False),
        ((-1, 2, 5), False),
        ((1, 3), False),
    ],
)
def test_keys_from_1_to_n_in_any_order_make_a_list(keys: tuple[int, ...], is_list: bool) -> None:
    """Their sum alone does not: that of -1, 2 and 5 is that of 1, 2 and 3."""
    found = read(LuaTable({key: f"v{key}" for key in keys}))
    if is_list:
        assert found == [b"v1", b"v2", b"v3"]
    else:
        assert dict(found.items()) == {key: f"v{key}".encode() for key in keys}


def test_bytes_that_are_no_text_are_bytes_or_an_error() -> None:
    """As in torchfile, which decodes whatever a file calls a string."""
    value = LuaTable({"é": b"\xff"})
    assert dict(read(value).items()) == {"é".encode(): b"\xff"}
    with pytest.raises(UnicodeDecodeError):
        read(value, utf8_decode_strings=True)
    assert dict(read(LuaTable({"é": "ÿ"}), utf8_decode_strings=True).items()) == {"é": "ÿ"}


def test_a_list_that_occurs_twice_is_one_list() -> None:
    names = LuaTable.from_list(["cat", "dog"])
    found = read(LuaTable({"first": names, "second": LuaTable({"names": names})}))
    assert found.first == [b"cat", b"dog"]
    assert found.second.names is found.first


def test_entries_are_attributes_and_items_and_none_where_there_are_none() -> None:
    fields = torchfile.hashable_uniq_dict({b"size": 3, "text": 4, 5: "five"})
    layer = torchfile.TorchObject(b"my.Layer", fields, 2)
    assert (layer.size, layer["size"], layer[b"size"], layer[5]) == (3, 3, 3, "five")
    assert (layer.text, layer["text"], layer[b"text"]) == (4, 4, None)
    assert (layer.gone, layer["gone"], layer[None]) == (None, None, None)
    assert (fields.size, fields.text, fields.gone) == (3, 4, None)
    assert {fields: 1}[fields] == 1
    assert sorted(dir(layer)) == ["size", "text", "torch_typename"]
    assert repr(layer) == f"TorchObject(b'my.Layer', {fields!r})"
    for thing in (layer, fields):
        with pytest.raises(AttributeError):
            thing.__array_interface__  # noqa: B018
    # An instance that wrote no table has no entries.
    word = torchfile.TorchObject(b"my.Word", b"size")
    assert (word.size, word[0], dir(word)) == (None, None, ["torch_typename"])
