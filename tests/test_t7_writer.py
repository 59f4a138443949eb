"""Written `.t7` files are identical to Torch7's own, and nothing is lost.

What is protected: load → save reproduces Torch7's bytes for every fixture in the standard form;
load → save → load is the identity in every other form; values of Python, numpy and torch are
written as Torch7 would write them; a failure does not change the old file.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzz.oracle import difference
from support import FIXTURES, SHARED, wild_files
from test_t7_formats import to_builtins

from torchlift.converters import t7
from torchlift.converters.errors import WriteError
from torchlift.converters.t7 import LuaFunction, LuaObject, LuaTable, T7Error

#: Fixtures whose bytes are not reproduced, and why.
OTHER_BYTES = {
    "_bigendian": "files are written little-endian",
    "_big_long4": "files are written little-endian",
    "module_big": "files are written little-endian",
    "two_objects": "save writes one object",
}

ALL = [
    path
    for path in sorted(FIXTURES.rglob("*"))
    if path.suffix in (".t7", ".txt") and not path.stem.startswith("bad_")
]


def form(path: Path) -> dict[str, Any]:
    """Return the arguments of `dumps` for the form of a fixture."""
    options: dict[str, Any] = {"format": "ascii"} if path.stem.endswith("_ascii") else {}
    return options | ({"long_size": 4} if path.stem.endswith("long4") else {})


def test_ascii_numbers_of_several_chunks_stand_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = t7.dumps(np.arange(8.0), format="ascii")
    monkeypatch.setattr("torchlift.converters.t7.writing.encoders._CHUNK", 3)
    assert t7.dumps(np.arange(8.0), format="ascii") == whole


@pytest.mark.filterwarnings("ignore::torchlift.converters.t7.T7Warning")
@pytest.mark.parametrize("path", ALL, ids=[str(path.relative_to(FIXTURES)) for path in ALL])
def test_bytes_equal_those_of_torch7(path: Path) -> None:
    is_equal = t7.dumps(t7.load(path), **form(path)) == path.read_bytes()
    assert is_equal or any(path.stem.endswith(name) for name in OTHER_BYTES)


def test_big_endian_files_are_written_little_endian() -> None:
    """The bytes equal those of the little-endian file with the same tensor."""
    formats = FIXTURES / "formats"
    for path in formats.glob("*tensor_big*.t7"):
        long4 = "_long4" if path.stem.endswith("_long4") else ""
        sibling = formats / f"{path.stem.split('_')[0]}{long4}.t7"
        options = {"long_size": 4} if long4 else {}
        assert t7.dumps(t7.load(path), **options) == sibling.read_bytes()


@pytest.mark.parametrize("long_size", [8, 4])
@pytest.mark.parametrize("format", ["binary", "ascii"])
@pytest.mark.parametrize("name", [path.name for path in ALL if path.parent.name == "formats"])
@pytest.mark.filterwarnings("ignore::torchlift.converters.t7.T7Warning")
def test_round_trip_in_every_form(name: str, format: Any, long_size: int) -> None:
    """Every form can store any fixture, whatever form it was read from."""
    value = t7.load(FIXTURES / "formats" / name)
    again = t7.loads(t7.dumps(value, format=format, long_size=long_size))
    assert difference(value, again) == ""


@pytest.mark.skipif(not (SHARED / "wild").is_dir(), reason="needs other people's files")
@pytest.mark.filterwarnings("ignore::torchlift.converters.t7.T7Warning")
def test_bytes_of_other_peoples_files() -> None:
    """Files of many authors, machines and years are reproduced."""
    different = []
    for path in wild_files():
        if path.name.startswith(("jbr97", "WhoseSomebody")):
            continue
        data = path.read_bytes()
        options: dict[str, Any] = {"format": "ascii"} if data[1:2] == b"\n" else {}
        options |= {"long_size": 4} if path.name.endswith(".arm") else {}
        if t7.dumps(t7.load(path), **options) != data:
            different.append(path.name.split("@")[0])
    assert different == [
        "FreeeG+RNN__examples.t7",  # several objects
        "torch+demos__face-detector__face.net.ascii",  # numbers of 6 digits: Torch before 2012
        "torch+demos__face-detector__face.net",  # numbers of 6 digits
        "torch+demos__face-detector__face.net",  # several objects
    ]


PYTHON: dict[str, tuple[Any, Any]] = {
    "none": (None, None),
    "numbers": ([1, 2.5, -3, True], {1: 1, 2: 2.5, 3: -3, 4: True}),
    "numpy scalars": ([np.float32(0.5), np.int64(7), np.bool_(True)], {1: 0.5, 2: 7, 3: True}),
    "strings": (["é", b"\xff", bytearray(b"a"), ""], {1: "é", 2: b"\xff", 3: "a", 4: ""}),
    "dict": ({"a": {"b": (1, 2)}, 3: "c"}, {"a": {"b": {1: 1, 2: 2}}, 3: "c"}),
    "gaps": ([1, None, 3], {1: 1, 3: 3}),
    "array": (np.arange(6, dtype="f4").reshape(2, 3), [[0, 1, 2], [3, 4, 5]]),
    "strided array": (np.arange(6).reshape(2, 3).T[::2], [[0, 3], [2, 5]]),
    "big-endian array": (np.arange(3, dtype=">i2"), [0, 1, 2]),
    "booleans": (np.array([True, False]), [1, 0]),
    "scalar array": (np.array(2.5), [2.5]),
    "empty array": (np.zeros(0, "u1"), []),
    "tensor": (torch.arange(6.0).reshape(2, 3).t(), [[0, 3], [1, 4], [2, 5]]),
    "scalar tensor": (torch.tensor(3), [3]),
    "empty tensor": (torch.zeros(0, 3), []),
    "parameter": (torch.nn.Parameter(torch.ones(2)), [1, 1]),
    "half": (torch.tensor([0.5]).half(), [0.5]),
}


@pytest.mark.parametrize("format", ["binary", "ascii"])
@pytest.mark.parametrize("name", PYTHON)
def test_values_of_python_numpy_and_torch(name: str, format: Any) -> None:
    value, expected = PYTHON[name]
    assert to_builtins(t7.loads(t7.dumps(value, format=format))) == expected


def test_a_table_has_no_entry_of_nil() -> None:
    assert t7.dumps({"a": None, "b": 1}) == t7.dumps({"b": 1})
    assert t7.dumps([1, None]) == t7.dumps([1])


def test_bytes_of_a_list_equal_those_of_torch7() -> None:
    assert t7.dumps([10, 20, 30]) == (FIXTURES / "formats" / "list.t7").read_bytes()


def test_tensors_keep_sharing_their_storage() -> None:
    whole = torch.arange(12.0)
    value = t7.loads(t7.dumps({"a": whole[2:8].view(2, 3), "b": whole, "again": whole}))
    assert value["b"] is value["again"]
    assert value["a"].storage is value["b"].storage
    assert value["a"].storage_offset == 2
    assert value["a"].tolist() == [[2, 3, 4], [5, 6, 7]]


def test_repeated_objects_are_written_once() -> None:
    array, table = np.zeros(3), {"x": 1}
    value = t7.loads(t7.dumps([array, array, table, table]))
    assert value[1] is value[2]
    assert value[3] is value[4]


def test_cycles_and_depth() -> None:
    loop: dict[str, Any] = {"name": "loop"}
    loop["self"] = [loop]
    value = t7.loads(t7.dumps(loop))
    assert value["self"][1] is value
    deep: Any = "end"
    for _ in range(100_000):
        deep = [deep]
    value = t7.loads(t7.dumps(deep))
    for _ in range(100_000):
        value = value[1]
    assert value == "end"


def test_instances_made_in_python() -> None:
    linear = LuaObject("nn.Linear", LuaTable({"weight": np.ones((2, 3))}), version=1)
    gpu = LuaObject("nn.GPU", LuaTable({"device": 1, "modules": [linear]}))
    gpu.body = [LuaTable.from_list(["torch.CudaTensor", 1]), gpu.fields]
    hash_ = LuaObject("tds.Hash", LuaTable({"a": 1}), version=0)
    counter = LuaObject("tds.AtomicCounter", version=0)
    counter.body = [5]
    for long_size in (8, 4):
        value = t7.loads(t7.dumps([gpu, hash_, counter, "end"], long_size=long_size))
        assert value[1]["modules"][1]["weight"].shape == (2, 3)
        assert value[1].body[0].to_list() == ["torch.CudaTensor", 1]
        assert (value[2]["a"], value[3].body, value[4]) == (1, [5], "end")


def test_new_fields_are_written() -> None:
    """Both after a change of the table and after its replacement."""
    value = t7.load(FIXTURES / "formats" / "custom_class.t7")
    value.fields["note"] = "changed"
    assert t7.loads(t7.dumps(value))["note"] == "changed"
    value.fields = LuaTable({"other": 1})
    assert t7.loads(t7.dumps(value)).fields.items() == [("other", 1)]


def test_functions_keep_their_tag() -> None:
    for tag in (6, 7, 8):
        function = LuaFunction(b"\x1bLJabc", LuaTable.from_list([1]), tag=tag)
        value = t7.loads(t7.dumps([function, function, "end"]))
        assert (value[1].tag, value[1].bytecode, value[3]) == (tag, b"\x1bLJabc", "end")
        assert (value[1] is value[2]) == (tag != 6), "tag 6 has no index"


UNWRITABLE: dict[str, tuple[Any, str, str | None]] = {
    "a set": ({"a": [1, {2}]}, "Torch7 has no equivalent of type set", "a[2]"),
    "an object": (object(), "no equivalent of type object", None),
    "a large integer": ([2**53 + 1], "not a Lua number", "[1]"),
    "a low integer": ([-(2**53) - 1], "not a Lua number", "[1]"),
    "a large integer of numpy": (
        [np.int64(2**53 + 1)],
        "9007199254740993 is not a Lua number",
        "[1]",
    ),
    "a low integer of numpy": ([np.int64(-(2**53) - 1)], "not a Lua number", "[1]"),
    "a huge integer": ({"n": 10**400}, "not a Lua number", "n"),
    "a key of None": ({"a": {None: 1}}, "None cannot be a key", "a"),
    "half a character": ({"s": "\ud800"}, "is not valid Unicode", "s"),
    "unsigned integers": ({"x": np.zeros(2, "u4")}, "no tensor of uint32", "x"),
    "complex numbers": ({"x": np.zeros(2, "c8")}, "no tensor of complex64", "x"),
    "objects": ({"x": np.array([{}])}, "no tensor of object", "x"),
    "bfloat16": ({"x": torch.zeros(2, dtype=torch.bfloat16)}, r"bfloat16.*\.float\(\)", "x"),
    "sparse": ({"x": torch.eye(2).to_sparse()}, r"\.to_dense\(\)", "x"),
    "in an instance": (LuaObject("my.C", LuaTable({"f": [print]})), "no equivalent", "f[1]"),
}


@pytest.mark.parametrize("name", UNWRITABLE)
def test_values_without_an_equivalent_in_torch7(name: str, tmp_path: Path) -> None:
    value, problem, path = UNWRITABLE[name]
    target = tmp_path / "out.t7"
    target.write_bytes(b"old")
    with pytest.raises(T7Error, match=problem) as error:
        t7.save(value, target)
    assert error.value.path == path
    assert error.value.source == str(target)
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.t7"]


def test_longs_that_do_not_fit_four_bytes() -> None:
    value = {"x": np.array([2**31])}
    assert t7.loads(t7.dumps(value))["x"][0] == 2**31
    for format in ("binary", "ascii"):
        with pytest.raises(T7Error, match="4 bytes; use long_size=8") as error:
            t7.dumps(value, long_size=4, format=format)
        assert error.value.path == "x"


def test_the_lowest_long_of_four_bytes_fits_them() -> None:
    value = {"x": np.array([-(2**31), 2**31 - 1])}
    for format in ("binary", "ascii"):
        read = t7.loads(t7.dumps(value, long_size=4, format=format), long_size=4)
        assert read["x"].tolist() == [-(2**31), 2**31 - 1]
    with pytest.raises(T7Error, match="2,147,483,648 does not fit"):
        t7.dumps({"x": np.array([-(2**31) - 1])}, long_size=4)


def test_sizes_that_do_not_fit_are_named() -> None:
    sizes = np.broadcast_to(np.float32(0), (1, 2, 2**40))
    with pytest.raises(T7Error, match="1,099,511,627,776 does not fit"):
        t7.dumps(sizes, long_size=4)


def test_a_slice_without_elements_is_a_tensor_without_dimensions() -> None:
    """Torch7 has no other empty tensors, and the rest of the memory is not written."""
    read = t7.loads(t7.dumps(torch.ones(400, 3)[:, :0]))
    assert read.shape == (0,)
    assert read.storage is None


@pytest.mark.parametrize("body", [[], [b"x", 1], ["x"], [bytearray(b"x")], [None, b"x"]])
def test_a_body_of_raw_bytes_is_one_bytes_object(body: list[Any]) -> None:
    generator = LuaObject("torch.Generator")
    generator.body = body
    with pytest.raises(T7Error, match=r"body of a torch\.Generator must be one bytes object"):
        t7.dumps(generator)


def test_options_that_do_not_exist_are_refused() -> None:
    with pytest.raises(T7Error, match="format must be 'binary' or 'ascii', not 'text'"):
        t7.dumps(1, format="text")  # type: ignore[arg-type]  # the wrong value is the test
    with pytest.raises(T7Error, match="long_size must be 8 or 4, not 2"):
        t7.dumps(1, long_size=2)


def test_files_are_written_atomically(tmp_path: Path) -> None:
    """A process that dies while writing does not change the old file."""
    target = tmp_path / "model.t7"
    t7.save({"version": 1}, target)
    script = (
        "import os, sys, numpy\n"
        "from torchlift.converters import t7\n"
        "class Dies(dict):\n"
        "    def items(self): os._exit(3)\n"
        f"t7.save([numpy.ones(10**6), Dies(a=1)], {str(target)!r})\n"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 3
    assert t7.load(target)["version"] == 1


def test_saving_over_a_loaded_file(tmp_path: Path) -> None:
    """Loaded tensors are views of the old file, which exists as long as they do."""
    target = tmp_path / "model.t7"
    t7.save({"x": np.arange(1000.0)}, target)
    value = t7.load(target)
    t7.save({"x": value["x"], "y": 1}, target)
    assert value["x"].sum() == t7.load(target)["x"].sum() == 499_500


def test_permissions_and_links_are_kept(tmp_path: Path) -> None:
    target, link = tmp_path / "model.t7", tmp_path / "latest.t7"
    t7.save(1, target)
    target.chmod(0o640)
    link.symlink_to(target)
    t7.save(2, link)
    assert link.is_symlink()
    assert t7.load(target) == 2
    assert target.stat().st_mode & 0o777 == 0o640


def test_targets_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="missing: no such folder"):
        t7.save(1, tmp_path / "missing" / "x.t7")
    with pytest.raises(WriteError, match="is a folder"):
        t7.save(1, tmp_path)
    link = tmp_path / "link.t7"
    link.symlink_to(tmp_path / "missing" / "x.t7")
    with pytest.raises(WriteError, match="missing: no such folder"):
        t7.save(1, link)


def test_torch_is_not_imported() -> None:
    """Loading and saving do not need it."""
    script = (
        "import sys\nfrom torchlift.converters import t7\n"
        f"t7.dumps(t7.load({str(FIXTURES / 'formats' / 'module_ascii.t7')!r}))\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


@pytest.mark.parametrize(
    "name", ["x" * 201, "my.\nClass", "my.\x1b[2J", "torch.FloatTensor", "torch.LongStorage"]
)
def test_a_class_name_that_could_not_be_read_is_refused(name: str) -> None:
    with pytest.raises(T7Error, match="cannot be the class of an object"):
        t7.dumps(LuaObject(name))


def test_a_broadcast_array_stays_broadcast() -> None:
    """10¹¹ numbers take the bytes of three; Torch7 reads such strides as its own `expand`."""
    array = np.broadcast_to(np.arange(3.0)[:, None], (10**5, 3, 10**6))
    data = t7.dumps(array)
    assert len(data) < 250
    loaded = t7.loads(data)
    assert loaded.shape == array.shape
    assert loaded[:2, :, :2].tolist() == array[:2, :, :2].tolist()
    # What is repeated lies in another order in memory, and is copied.
    array = np.broadcast_to(np.arange(6.0).reshape(2, 3).T, (4, 3, 2))
    assert t7.loads(t7.dumps(array)).tolist() == array.tolist()


def test_rows_that_overlap_are_refused() -> None:
    windows = np.lib.stride_tricks.sliding_window_view(np.zeros(10**6), 10**5)
    with pytest.raises(T7Error, match="overlap in memory: copy it first"):
        t7.dumps(windows)


class Fresh(Mapping[str, list[int]]):
    """A table whose lists exist only while it is written."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __getitem__(self, key: str) -> list[int]:
        return [self.number]

    def __iter__(self) -> Iterator[str]:
        yield from "ab"

    def __len__(self) -> int:
        return 2


def test_values_that_are_gone_are_not_taken_for_those_in_their_place() -> None:
    """An object is known by its address, which Python gives away again."""
    found = t7.loads(t7.dumps([Fresh(number) for number in range(50)]))
    assert [entry["b"].to_list() for entry in found.to_list()] == [[n] for n in range(50)]


def test_each_branch_of_a_parallel_table_has_a_gpu() -> None:
    branches = LuaTable.from_list([LuaObject("nn.Tanh", LuaTable()) for _ in range(3)])
    for given in ([2, 1, 2], [2], None):
        fields = LuaTable({"modules": branches, "dimension": 1})
        if given is not None:
            fields["gpuAssignments"] = LuaTable.from_list(given)
        table = LuaObject("nn.ModelParallelTable", fields, version=2)
        found = t7.loads(t7.dumps([table, "after"]))
        assert found[2] == "after"
        expected = given if given is not None and len(given) == 3 else [1, 1, 1]
        assert found[1]["gpuAssignments"].to_list() == expected
        assert [one.class_name for one in found[1]["modules"].to_list()] == ["nn.Tanh"] * 3
        assert found[1]["dimension"] == 1
