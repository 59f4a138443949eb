"""The values of a `.t7` in Python: what they show of themselves, and what is absent in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from torchlift.converters import t7
from torchlift.converters.t7 import LuaFunction, LuaObject, LuaTable, T7Error, TorchArray
from torchlift.converters.t7.scalars import lua_string
from torchlift.converters.t7.values import is_true


@pytest.mark.parametrize(
    ("value", "true"), [(None, False), (False, False), (True, True), (0, True), ("", True)]
)
def test_only_nil_and_false_are_not_true(value: Any, true: bool) -> None:
    assert is_true(value) is true


@pytest.mark.parametrize("make", [LuaTable, lambda entries: LuaObject("my.A", LuaTable(entries))])
def test_an_entry_that_is_absent_has_the_default(make: Any) -> None:
    value = make({"a": 1, "false": False, 0: "zero"})
    assert (value.get("a"), value.get("b"), value.get("b", 7)) == (1, None, 7)
    assert (value.get("false", 7), value.get(0, 7), value.get(False, 7)) == (False, "zero", 7)
    assert ("a" in value, "b" in value, False in value) == (True, False, False)
    with pytest.raises(KeyError) as error:
        value["b"]
    assert error.value.args == ("b",)


def test_a_table_is_a_mapping_in_the_order_of_the_file() -> None:
    array = np.zeros(2)
    table = LuaTable([("b", 1), (True, 2), (array, 3), (2, None), ("a", 4)])
    assert table.values() == [1, 2, 3, 4]
    assert [type(key) for key in table.keys()] == [str, bool, np.ndarray, str]  # noqa: SIM118
    assert table.items()[2][0] is array
    table["missing"] = None
    table["b"] = None
    table["b"] = 5
    assert table.values() == [2, 3, 4, 5]
    assert LuaTable({"a": 1}) != LuaTable({"a": 1}), "as in Lua, tables are compared by identity"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (LuaTable(), "<LuaTable of 0>"),
        (LuaTable([(LuaTable(), 1), (b"\xff", 2)]), "<LuaTable of 2: <LuaTable>, b'\\xff'>"),
        (LuaObject("my.Layer"), "<my.Layer>"),
        (LuaObject("my.Layer", LuaTable({"a": 1, 2: 3})), "<my.Layer: 'a', 2>"),
        (LuaFunction(b"12345"), "<LuaFunction of 5 bytes, never run>"),
    ],
)
def test_a_value_shows_what_it_is_in_one_line(value: Any, shown: str) -> None:
    assert repr(value) == shown


def test_an_object_has_a_table_of_its_own_where_none_is_given() -> None:
    first, second = LuaObject("my.A"), LuaObject("my.A")
    first.fields["x"] = 1
    assert "x" not in second
    assert first.body == [first.fields]
    assert (first.version, first.layout) == (1, None)
    empty = LuaTable()
    assert LuaObject("my.A", empty).fields is empty


def test_what_an_array_was_never_given_has_a_default() -> None:
    array = np.zeros(3).view(TorchArray)
    assert (array.torch_class, array.storage) == (None, None)
    assert (array.storage_offset, array.stored_bytes) == (0, 0)
    with pytest.raises(AttributeError, match="a TorchArray has no attribute 'weight'"):
        array.weight  # noqa: B018
    with pytest.raises(AttributeError, match="a LuaTable has no attribute 'weight'"):
        LuaTable().weight  # noqa: B018


def test_a_table_of_numbers_is_one_before_and_after_its_first_access() -> None:
    table = LuaTable.from_numbers(np.array([1.0, 2.0, 0.5]), np.array([7.0, -0.0, 2.5]))
    assert list(map(repr, table.items())) == ["(1, 7)", "(2, -0.0)", "(0.5, 2.5)"]
    table[3] = "new"
    assert (len(table), table[3], table.to_list()) == (4, "new", [7, 0, "new"])


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (T7Error("wrong"), "wrong"),
        (T7Error("wrong", source="a.t7", offset=0), "a.t7: wrong (byte 0)"),
        (T7Error("wrong", path="x[1]"), "wrong (at x[1])"),
        (T7Error("wrong", source="a.t7", offset=5, path="x"), "a.t7: wrong (at x, byte 5)"),
        (
            t7.TruncatedError.of("a string", 5000, 1234, 7),
            "a string needs 5,000 bytes and 1,234 are left; the file is truncated or damaged "
            "(download or copy it again) (byte 7)",
        ),
    ],
)
def test_an_error_names_the_file_and_the_place(error: T7Error, shown: str) -> None:
    assert str(error) == shown


@pytest.mark.parametrize("form", [{}, {"format": "ascii"}])
def test_a_negative_zero_alone_is_one(form: dict[str, Any]) -> None:
    assert repr(t7.loads(t7.dumps(-0.0, **form))) == "-0.0"
    assert repr(t7.loads(t7.dumps(0.0, **form))) == "0"


def test_a_function_made_in_python_has_the_newest_tag() -> None:
    assert t7.loads(t7.dumps(LuaFunction(b"\x1b"))).tag == LuaFunction(b"").tag == 8


def test_a_string_that_is_no_text_is_bytes() -> None:
    assert lua_string("é".encode()) == "é"
    assert lua_string(b"\xe9") == b"\xe9"


def test_a_vector_of_tds_is_written_in_the_order_of_its_numbers() -> None:
    vector = LuaObject("tds.Vec", LuaTable({2: "b", 3: "c", 1: "a"}), 0)
    assert t7.loads(t7.dumps(vector)).fields.to_list() == ["a", "b", "c"]


@pytest.mark.parametrize("count", [1, 3])
def test_a_body_of_more_or_fewer_parts_than_its_class_has_is_refused(count: int) -> None:
    gpu = LuaObject("nn.GPU")
    gpu.body = [LuaTable() for _ in range(count)]
    with pytest.raises(T7Error, match=r"the body of a nn\.GPU must have 2 parts"):
        t7.dumps(gpu)


def test_whole_numbers_of_several_bytes_are_no_file() -> None:
    with pytest.raises(T7Error, match="one-byte elements, not of int32"):
        t7.loads(np.zeros(3, np.int32))
