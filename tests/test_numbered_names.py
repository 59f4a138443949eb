"""Which tables of a `.t7` are names with numbers, and which of those are a vocabulary."""

from __future__ import annotations

from typing import Any

import pytest

from torchlift.converters.errors import LabelsError
from torchlift.converters.labels import labels_from
from torchlift.converters.numbered_names import numbered_names
from torchlift.converters.t7 import LuaObject, LuaTable
from torchlift.converters.vocabulary import (
    Vocabulary,
    check_vocabulary,
    read_vocabulary,
    without_repetitions,
)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({2: "b", 1: "a"}, {1: "a", 2: "b"}),
        ({"b": 7, "a": -1}, {-1: "a", 7: "b"}),
        ({"10": "b", "9": "a"}, {9: "a", 10: "b"}),
        ({"9": 2, "10": 1}, {1: "10", 2: "9"}),
        ({1: 5, 2: b"\xff"}, {1: 5, 2: b"\xff"}),
        ({b"\xff": 2, "a": 1}, {1: "a", 2: b"\xff"}),
        # Two names with one number, in three ways.
        ({"a": 1, "b": 1}, None),
        ({"1": "a", 1: "b"}, None),
        ({"1": "a", "01": "b"}, None),
        # Neither names nor numbers.
        ({}, None),
        ({"x": "a"}, None),
        ({"-1": "a"}, None),
        ({"²": "a"}, None),
        ({1.5: "a"}, None),
        ({True: "a"}, None),
        ({1: True}, None),
        ({"a": True}, None),
        ({"a": 1.5}, None),
        ({1: LuaTable()}, None),
        ({b"1": "a"}, None),
    ],
)
def test_names_come_in_the_order_of_their_numbers(
    entries: dict[Any, Any], expected: dict[int, Any] | None
) -> None:
    for value in (LuaTable(entries), LuaObject("tds.Hash", LuaTable(entries))):
        found = numbered_names(value)
        assert found == expected
        assert found is None or list(found) == sorted(found)
    assert numbered_names(entries) is None, "only a value of a .t7 is one"


@pytest.mark.parametrize(
    ("entries", "first", "tokens"),
    [
        ({"a": 1, "b": 2}, 1, ("a", "b")),
        ({"a": 0, "b": 1}, 0, ("a", "b")),
        # The last number may be twice the number of tokens, not more.
        ({"a": 1, "b": 4}, 1, ("a", None, None, "b")),
        ({"a": 1, "b": 5}, None, None),
        ({"a": 3, "b": 4}, 3, ("a", "b")),
        ({"a": -1, "b": 1}, None, None),
        ({"a": 1}, None, None),
        ({1: 5, 2: 6}, None, None),
        ({1: "a", 2: 6}, None, None),
    ],
)
def test_a_vocabulary_is_dense_and_begins_at_0_or_above(
    entries: dict[Any, Any], first: int | None, tokens: tuple[str | None, ...] | None
) -> None:
    found = read_vocabulary(LuaTable(entries), "opt.vocab")
    expected = None if first is None or tokens is None else Vocabulary("opt.vocab", tokens, first)
    assert found == expected


def test_one_token_of_bytes_makes_all_of_them_bytes() -> None:
    found = read_vocabulary(LuaTable({"é": 1, b"\xff": 2}), "vocab")
    assert found == Vocabulary("vocab", ("Ã©", "ÿ"), 1, "latin-1")
    assert [found.as_bytes(number) for number in (1, 2)] == ["é".encode(), b"\xff"]
    check_vocabulary(found.to_json(), "it")
    assert Vocabulary.from_json(found.to_json()) == found
    with pytest.raises(ValueError, match=r"it\.entries"):
        Vocabulary.from_json({**found.to_json(), "entries": ["a", "Ā"]})
    text = Vocabulary("vocab", ("a", "Ā"), 1)
    assert Vocabulary.from_json(text.to_json()) == text


@pytest.mark.parametrize("number", [2, 4, 5, 7])
def test_a_number_without_a_token_is_no_token(number: int) -> None:
    vocabulary = Vocabulary("vocab", ("a", None, None, "d"), 3)
    assert (vocabulary.as_bytes(3), vocabulary.as_bytes(6)) == (b"a", b"d")
    with pytest.raises(KeyError):
        vocabulary.as_bytes(number)


@pytest.mark.parametrize(
    ("second", "is_kept"),
    [
        (Vocabulary("opt.id2word", ("a", "b")), False),
        (Vocabulary("opt[2]", ("a", "b")), False),
        (Vocabulary("id2word", ("a", "b")), True),
        (Vocabulary("opt.source.words", ("a", "b")), True),
        (Vocabulary("opt.id2word", ("b", "a")), True),
        (Vocabulary("opt.id2word", ("a", "b"), 0), True),
        (Vocabulary("opt.id2word", ("a", "b"), 1, "latin-1"), True),
    ],
)
def test_the_same_tokens_in_the_same_table_are_one_vocabulary(
    second: Vocabulary, is_kept: bool
) -> None:
    first = Vocabulary("opt.word2id", ("a", "b"))
    assert without_repetitions([first, second]) == [first, *[second] * is_kept]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({1: "b", 2: "a"}, ["b", "a"]),
        ({2: "a", 1: "b"}, ["b", "a"]),
        ({0: "b", 1: "a"}, ["b", "a"]),
        ({"b": 1, "a": 2}, ["b", "a"]),
        ({"classes": LuaTable({1: "x", 2: "y"}), "labels": LuaTable({1: 3, 2: 3})}, ["x", "y"]),
        ({"labels": LuaTable({1: 3, 2: 3}), "classes": LuaTable({1: "x", 2: "y"})}, ["x", "y"]),
        ({1: 7, 2: "seven"}, ["7", "seven"]),
        # From another number than 0 or 1, with a gap, or one alone: no list of classes.
        ({2: "b", 3: "a"}, None),
        ({1: "b", 3: "a"}, None),
        ({"b": 2, "a": 3}, None),
        ({"b": 1}, None),
        ({}, None),
    ],
)
def test_class_names_are_numbered_from_0_or_1_without_a_gap(
    table: dict[Any, Any], expected: list[str] | None
) -> None:
    if expected is not None:
        assert labels_from(LuaTable(table)) == expected
    else:
        with pytest.raises(LabelsError, match="no class names found"):
            labels_from(LuaTable(table))
