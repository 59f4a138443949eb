"""Lua tables as Python values: keys of every kind, and long runs of numbers.

What is protected: different Lua keys stay different, and equal ones equal; a long table of numbers,
which is decoded as arrays, equals one that is decoded entry by entry.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from torchlift.converters import t7
from torchlift.converters.t7 import LuaObject, LuaTable
from torchlift.converters.t7.reading.binary import BinaryDecoder
from torchlift.converters.t7.scalars import lua_number, lua_numbers


def test_keys_of_every_kind() -> None:
    table, array, other = LuaTable(), np.zeros(2), LuaObject("my.Key")
    keys: list[Any] = [1, True, 2.5, "1", b"\xff", False, 0, LuaTable(), array, other, -1]
    for number, key in enumerate(keys):
        table[key] = number
    assert [table[key] for key in keys] == list(range(11))
    assert all(a is b for a, b in zip(table, keys, strict=True))
    assert table[1.0] == 0
    assert np.zeros(2) not in table
    table[array] = None
    assert len(table) == 10
    with pytest.raises(KeyError):
        table[None] = 1
    again = t7.loads(t7.dumps(table))
    assert [type(key) for key in again] == [type(key) for key in table]


def test_numbers_become_the_same_one_by_one_and_together() -> None:
    """A double counts exactly up to 2 ** 53; negative zero, halves and infinities stay doubles."""
    whole = [0.0, 1.0, 2.0**53, -(2.0**53)]
    for numbers in (whole, [*whole, 2.0**53 + 2, -0.0, 0.5, math.inf, math.nan]):
        found = lua_numbers(np.array(numbers))
        assert list(map(repr, found)) == [repr(lua_number(number)) for number in numbers]
        assert [type(number) for number in found] == [int] * 4 + [float] * (len(numbers) - 4)


@pytest.mark.parametrize("form", ["binary", "ascii"])
@pytest.mark.parametrize("number", [2.0**53, -(2.0**53), 2.0**53 + 2, -(2.0**53) - 2])
def test_a_double_is_an_int_as_far_as_doubles_count(number: float, form: str) -> None:
    data = struct.pack("<id", 1, number) if form == "binary" else f"1\n{number:.17g}\n".encode()
    found = t7.loads(data)
    assert (type(found), found) == (int if abs(number) <= 2**53 else float, number)


def test_what_is_shown_of_a_table_are_its_first_six_keys() -> None:
    assert repr(LuaTable.from_list("abcdef")) == "<LuaTable of 6: 1, 2, 3, 4, 5, 6>"
    assert repr(LuaTable.from_list("abcdefg")) == "<LuaTable of 7: 1, 2, 3, 4, 5, 6, …>"


def test_a_list_ends_before_the_first_gap() -> None:
    assert LuaTable.from_list("abc").to_list() == ["a", "b", "c"]
    assert LuaTable({2: "b", 1: "a"}).is_list()
    assert LuaTable({1: "a", 3: "c"}).to_list() == ["a"]
    assert not LuaTable({1: "a", 3: "c"}).is_list()
    assert LuaTable().is_list()


NUMBERS: dict[str, Callable[[int], float]] = {
    "whole": lambda index: index * 3,
    "fractions": lambda index: index / 7,
    "mixed": lambda index: index / 4,
    "zeros of both signs": lambda index: 0.0 if index % 2 else -0.0,
    "large": lambda index: 2.0**50 * index,
    "special": lambda index: [math.inf, -math.inf, 1.5, -0.0][index % 4],
}


@pytest.mark.parametrize("form", [{}, {"format": "ascii"}, {"long_size": 4}], ids=str)
@pytest.mark.parametrize("kind", NUMBERS)
def test_long_runs_of_numbers(kind: str, form: dict[str, Any]) -> None:
    """They equal numbers in short tables, which are decoded one by one."""
    number = NUMBERS[kind]
    long = t7.loads(t7.dumps([number(index) for index in range(100)], **form)).to_list()
    short = [t7.loads(t7.dumps([number(index)], **form))[1] for index in range(100)]
    assert list(map(repr, long)) == list(map(repr, short))


@pytest.mark.parametrize("form", [{}, {"format": "ascii"}], ids=str)
@pytest.mark.parametrize("run", [31, 32, 33, 63, 64, 65, 575, 576, 577, 4000])
def test_the_end_of_a_run(run: int, form: dict[str, Any]) -> None:
    """Numbers after a table belong to the outer table, and other entries may follow a run."""
    numbers = {index: index / 2 for index in range(1, run + 1)}
    value = t7.loads(t7.dumps({1: numbers, 2: 7, 3: 8, 4: {**numbers, "name": "x", -1: 1}}, **form))
    assert dict(value[1].items()) == numbers
    assert (value[2], value[3]) == (7, 8)
    assert dict(value[4].items()) == {**numbers, "name": "x", -1: 1}
    assert list(value[4])[-2:] == ["name", -1]


@pytest.mark.parametrize("form", [{}, {"format": "ascii"}], ids=str)
@pytest.mark.parametrize("run", [40, 64, 100])
@pytest.mark.parametrize("end", [{"name": 5}, {-1: "abcdefgh"}, {-1: True}, {True: 6}])
def test_an_entry_that_is_as_long_as_two_numbers_ends_a_run(
    end: dict[Any, Any], run: int, form: dict[str, Any]
) -> None:
    """A name of four letters has as many bytes as a number, and its value is a number behind it."""
    entries = [*((index, index / 2) for index in range(2, run + 2)), *end.items(), (-2, 7)]
    found = t7.loads(t7.dumps(LuaTable(entries), **form))
    assert found.items() == entries


def test_runs_in_big_endian_files() -> None:
    entries = b"".join(struct.pack(">idid", 1, index, 1, -index) for index in range(1, 101))
    table = t7.loads(struct.pack(">iii", 3, 1, 100) + entries)
    assert table.to_list() == [-index for index in range(1, 101)]


def test_a_table_of_numbers_can_be_modified() -> None:
    table = t7.loads(t7.dumps(list(range(100))))
    table[101] = "new"
    table[1] = None
    assert len(table) == 100
    assert 1 not in table
    assert table[101] == "new"


@pytest.mark.parametrize("kind", ["numbers", "small tables"])
def test_long_tables_are_not_read_value_by_value(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Count calls instead of time: only a few values are read by `token`."""
    tables = [{"name": f"item {index}", "id": index} for index in range(10_000)]
    values: dict[str, Any] = {"numbers": [index / 7 for index in range(10_000)]}
    raw = t7.dumps(values.get(kind, tables))
    calls = []
    token = BinaryDecoder.token
    monkeypatch.setattr(BinaryDecoder, "token", lambda self: calls.append(1) or token(self))
    assert len(t7.loads(raw)) == 10_000
    assert 1 <= len(calls) <= 5


@pytest.mark.parametrize(("printed", "value"), [("1.#INF", "inf"), ("-1.#INF", "-inf"), ("3", "3")])
def test_a_long_run_may_hold_what_microsofts_printf_writes(printed: str, value: str) -> None:
    pairs = [f"1\n{number}\n1\n{printed if number == 20 else number}\n" for number in range(1, 41)]
    table = t7.loads(f"3\n1\n40\n{''.join(pairs)}".encode())
    assert str(table[20]) == value
    assert [table[number] for number in (1, 19, 21, 40)] == [1, 19, 21, 40]


@pytest.mark.parametrize("version", [0, 999_999_999, "1234567890", "x", 1])
def test_a_version_is_a_number_if_it_has_at_most_nine_digits(version: int | str) -> None:
    found = t7.loads(t7.dumps(t7.LuaObject("my.Layer", version=version)))
    assert (found.version, type(found.version)) == (version, type(version))


def test_truth_values_and_numbers_are_different_keys() -> None:
    """Python's dict takes False for 0 and True for 1; Lua does not."""
    keys = [0, False, 1, True, 0.5]
    table = LuaTable([(key, f"{key!r}") for key in keys])
    assert len(table) == 5
    for key in keys:
        assert table[key] == f"{key!r}"
    again = t7.loads(t7.dumps(table))
    assert [again[key] for key in keys] == [f"{key!r}" for key in keys]
    assert LuaTable([(0, "zero")]).get(False) is None
    assert LuaTable([(True, "yes")]).get(1) is None
