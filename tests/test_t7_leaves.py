"""The values of a `.t7` by their paths, and files of them: nothing is lost in silence."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_support import lua, lua_list
from safetensors import safe_open

from torchlift.converters import t7
from torchlift.converters.t7 import LuaFunction, LuaObject, LuaTable
from torchlift.converters.t7.leaves import leaves_of, write_leaves


def test_values_come_in_the_order_of_the_file() -> None:
    inner = LuaObject("my.A", lua(z=1, b=lua(y=2)))
    value = LuaTable([("m", inner), ("a b", 3), (True, 4), (2, lua_list("x", 1)), (0.5, "end")])
    found = leaves_of(value)
    assert list(found.values) == ["m.z", "m.b.y", '["a b"]', "[true]", "[2][1]", "[2][2]", "[0.5]"]
    assert list(found.values.values()) == [1, 2, 3, 4, "x", 1, "end"]
    assert (found.classes, found.functions, found.notes) == ({"m": "my.A"}, {}, [])


@pytest.mark.parametrize(
    ("items", "is_one"),
    [
        ([1, 2.5, -3], True),
        (["a", "b"], True),
        ([True, False], True),
        ([True, 1], False),
        (["a", 1], False),
        ([b"\xff", b"\xfe"], False),
        ([lua(b=1), lua(a=1)], False),
        (["a", t7.dumps(lua(x=1), format="ascii").decode()], False),
    ],
)
def test_a_list_of_one_type_is_one_value(items: list[Any], is_one: bool) -> None:
    found = leaves_of(lua(x=LuaTable.from_list(items), y=LuaTable({1: "a", 3: "b"})))
    assert (found.values.get("x") == items) is is_one
    assert ("x[1]" in found.values) is (not is_one and not isinstance(items[0], LuaTable))
    # With a gap it is no list.
    assert (found.values["y[1]"], found.values["y[3]"]) == ("a", "b")


def test_what_is_left_out_is_counted_with_the_first_three_places() -> None:
    code = [LuaFunction(bytes([27, number])) for number in range(4)]
    key, shared = lua(x=1), lua(y=2)
    value = LuaTable({"f": LuaTable.from_list(code), "t": LuaTable({key: 5, "n": 1}), "a": shared})
    value["b"] = value["c"] = shared
    found = leaves_of(value)
    assert found.notes == [
        "left out, functions: 4 (f[1], f[2], f[3], …)",
        "left out, entries whose keys are tables: 1 (t)",
        "written under one path only: 2 (b is a, c is a)",
    ]
    assert found.functions == {f"f[{n + 1}]": bytes([27, n]) for n in range(4)}
    assert found.values == {"t.n": 1, "a.y": 2}
    three = leaves_of(LuaTable.from_list(code[:3]))
    assert three.notes == ["left out, functions: 3 ([1], [2], [3])"]


def test_the_value_itself_is_called_value() -> None:
    assert leaves_of(3).values == {"value": 3}
    assert leaves_of(LuaFunction(b"\x1b")).functions == {"value": b"\x1b"}
    assert leaves_of(LuaObject("my.A", lua(x=1))).classes == {"value": "my.A"}
    loop = lua(x=1)
    loop["self"] = loop
    assert leaves_of(loop).notes == ["written under one path only: 1 (self is value)"]


def test_many_values_that_torch_serialize_wrote_are_all_entered() -> None:
    """Each lives only while it is looked at: the next one may get its place in memory."""
    texts = [t7.dumps(lua(first=lua(n=number), second=lua(m=number))) for number in range(200)]
    found = leaves_of(lua(all=LuaTable.from_list(texts)))
    expected = {f"all[{number + 1}].first.n": number for number in range(200)}
    expected |= {f"all[{number + 1}].second.m": number for number in range(200)}
    assert found.values == expected
    assert found.notes == []


def test_what_torch_serialize_wrote_is_entered() -> None:
    text = t7.dumps(lua(lr=0.5, layer=LuaObject("my.A", lua(n=2))))
    entries = lua(opt=text, blob=np.frombuffer(text, np.uint8), plain=b"\xff\xfe")
    found = leaves_of(t7.loads(t7.dumps(entries)))
    expected = {f"{name}.{key}": value for name in ("opt", "blob") for key, value in
                (("lr", 0.5), ("layer.n", 2))}  # fmt: skip
    assert found.values == {**expected, "plain": b"\xff\xfe"}
    assert found.classes == {"opt.layer": "my.A", "blob.layer": "my.A"}
    assert found.notes == []


VALUES: dict[str, Any] = {
    "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "big": np.arange(3, dtype=">f8"),
    "expanded": np.broadcast_to(np.int16([1, 2]), (3, 2)),
    "number": 2.5,
    "whole": 3,
    "flag": True,
    "flags": [True, False],
    "raw": b"\xff\x01",
}


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".NPZ"])
def test_arrays_are_written_as_numbers_whatever_their_memory_is(
    suffix: str, tmp_path: Path
) -> None:
    file = tmp_path / f"out{suffix}"
    write_leaves({**VALUES, "name": "größe", "names": ["ä", "b"]}, file)
    if suffix == ".safetensors":
        with safe_open(file, "np") as tensors:
            found = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
            texts = tensors.metadata()
        assert texts == {"name": "größe", "names": '["ä", "b"]'}
    else:
        with np.load(file, allow_pickle=False) as archive:
            found = dict(archive)
        assert (found.pop("name").item(), found.pop("names").tolist()) == ("größe", ["ä", "b"])
    assert found.keys() == VALUES.keys()
    for name, value in VALUES.items():
        expected = np.frombuffer(value, np.uint8) if isinstance(value, bytes) else np.asarray(value)
        np.testing.assert_array_equal(found[name], expected)
        assert found[name].dtype == expected.dtype.newbyteorder("=")
        assert found[name].dtype.isnative


def test_a_member_of_an_npz_may_have_more_than_two_gigabytes(tmp_path: Path) -> None:
    """Its header has 64 bits for the size, which is not known before all is written."""
    write_leaves({"x": np.zeros(3)}, tmp_path / "out.npz")
    with zipfile.ZipFile(tmp_path / "out.npz") as archive:
        (member,) = archive.infolist()
    assert member.extract_version == 45, "4.5 of the format: ZIP64"


def test_json_is_readable_text_of_one_line_end(tmp_path: Path) -> None:
    write_leaves({**VALUES, "name": "größe", "nan": float("nan")}, tmp_path / "out.JSON")
    text = (tmp_path / "out.JSON").read_text(encoding="utf-8")
    assert '\n "name": "größe",\n "nan": "nan"\n}\n' in text
    found = json.loads(text, parse_constant=pytest.fail)
    assert found["turned"] == [[0, 3], [1, 4], [2, 5]]
    assert (found["raw"], found["flag"], found["flags"]) == ([255, 1], True, [True, False])
    assert list(found) == [*VALUES, "name", "nan"]


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".json"])
def test_a_tensor_that_is_too_large_is_named_by_its_path(suffix: str, tmp_path: Path) -> None:
    large = np.broadcast_to(np.float32(1), (2**13, 2**12))
    with pytest.raises(t7.T7Error, match="expanded to 33,554,432 elements from fewer") as error:
        write_leaves({"x": 1, "a.b": large}, tmp_path / f"out{suffix}")
    assert error.value.path == "a.b"
    assert not list(tmp_path.iterdir())
