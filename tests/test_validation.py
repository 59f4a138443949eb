"""What files say of themselves is checked value by value: what each kind takes and refuses.

Saved models, `.onnx` metadata, features and runs are opened through these checks.
"""

from __future__ import annotations

import math
import re
import sys
from typing import Any

import pytest

from torchlift.converters.validation import (
    Kind,
    anything,
    check_entries,
    entries,
    flag,
    is_writable,
    list_of,
    mapping_of,
    number,
    one_of,
    optional,
    read_json,
    read_yaml,
    text,
    whole,
)

#: A kind, values that it takes as they are, and values that it refuses.
KINDS: dict[str, tuple[Kind, list[Any], list[Any]]] = {
    "text": (
        text,
        ["", "café", "𝄞"],
        [5, None, b"a", ["a"], "\ud800", "a\udbff", "\udc00", "\udfff"],
    ),
    "flag": (flag, [True, False], [0, 1, "true", None, []]),
    "number": (
        number,
        [0, -1, 0.5, sys.float_info.max, -sys.float_info.max, 2**1023],
        [True, False, math.nan, math.inf, -math.inf, 10**400, "1", None, [1], 1j],
    ),
    "whole": (whole(), [0, 1, 2**70], [-1, 0.0, 1.0, True, False, "1", None]),
    "whole from 2 to 4": (whole(2, 4), [2, 3, 4], [1, 5, 3.0, True]),
    "whole from -2": (whole(-2), [-2, 5], [-3]),
    "one of 1, 2 and a": (one_of(1, 2, "a"), [1, 2, "a"], [True, 1.0, 3, "b", None, [1], {}]),
    "one of 1.0 and True": (one_of(1.0, True), [1.0, True], [1, False]),
    "text or null": (optional(text), [None, "a"], [5, [None]]),
    "list": (list_of(whole()), [[], [1, 2]], [{}, "12", None, {1, 2}, [1, -1], [[1]]]),
    "list of 2": (list_of(text, 2), [["a", "b"]], [[], ["a"], ["a", "b", "c"], ["a", 1], "ab"]),
    "mapping": (mapping_of(flag), [{}, {"a": True}], [[], {"a": 1}, None, [("a", True)]]),
    "entries": (
        entries({"a": flag, "b": text}, optional=["b"]),
        [{"a": True}, {"a": True, "b": "c"}, {"a": False, "other": 5}],
        [{}, {"b": "c"}, {"a": True, "b": None}, {"a": 1}, [], None],
    ),
}


def cases(index: int) -> list[Any]:
    return [
        pytest.param(KINDS[name][0], value, id=f"{name}-{value!a:.20}")
        for name in KINDS
        for value in KINDS[name][index]
    ]


@pytest.mark.parametrize(("kind", "value"), cases(1))
def test_a_kind_returns_what_it_takes(kind: Kind, value: Any) -> None:
    checked = kind(value, "place")
    assert checked == value
    assert type(checked) is type(value)


@pytest.mark.parametrize(("kind", "value"), cases(2))
def test_a_kind_refuses_the_rest_by_name(kind: Kind, value: Any) -> None:
    with pytest.raises(ValueError, match="place"):
        kind(value, "place")


def test_a_tuple_of_python_is_a_list() -> None:
    assert list_of(whole(), 2)((1, 2), "sizes") == [1, 2]


def test_whatever_is_checked_elsewhere_is_taken() -> None:
    value = object()
    assert anything(value, "place") is value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "it is a list of 0; an object was expected"),
        ({"a": [{"b": "first"}, {"b": 2}]}, "a[1].b is 2; a text was expected"),
        ({"a": [{}]}, "no entry 'a[0].b'"),
        ({"a": [{"b": "x" * 50}] * 2 + [5]}, "a[2] is 5; an object was expected"),
        ({"a": [{"b": ["x"] * 50}]}, "a[0].b is a list of 50; a text was expected"),
        ({"a": [{"b": {"x": 1}}]}, "a[0].b is an object; a text was expected"),
        ({"a": [{"b": b"x"}]}, "a[0].b is of the type bytes; a text was expected"),
        ({"a": "x" * 38}, f"a is '{'x' * 38}'; a list was expected"),
        ({"a": "x" * 50}, f"a is '{'x' * 39}…; a list was expected"),
    ],
)
def test_the_first_entry_that_does_not_fit_is_named(value: Any, message: str) -> None:
    kinds = {"a": list_of(entries({"b": text}))}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_entries(value, kinds)


def test_entries_are_named_below_what_they_stand_in() -> None:
    with pytest.raises(ValueError, match=r"^no entry 'model\.size'$"):
        check_entries({}, {"size": whole()}, "model")
    assert check_entries({"size": 3}, {"size": whole(), "dtype": text}, optional=["dtype"])


@pytest.mark.parametrize(("value", "writable"), [("", True), ("é𝄞", True), ("a\udc80", False)])
def test_half_of_a_pair_is_not_writable(value: str, writable: bool) -> None:
    assert is_writable(value) == writable


@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_a_document_that_is_nested_too_deeply_is_refused(read: Any) -> None:
    with pytest.raises(ValueError, match=r"nested too deeply|maximum"):
        read("[" * 100_000)
    assert read('{"a": [1, null, "b"]}') == {"a": [1, None, "b"]}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("a: &x [1]\nb: *x", "aliases"),
        ("!!python/object/apply:os.getcwd []", "constructor"),
        ("a: [", "expected"),
        ("a: b: c", "mapping values"),
    ],
)
def test_yaml_makes_plain_values_only(document: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_yaml(document)
