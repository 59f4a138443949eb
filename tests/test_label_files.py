"""Class names in files and values: which lists are names, in which order, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_support import lua, lua_list

from torchlift.converters import t7
from torchlift.converters.errors import LabelsError
from torchlift.converters.labels import (
    check_labels,
    check_order,
    is_label_key,
    label_key_order,
    labels_from,
    labels_in,
    read_labels,
)
from torchlift.converters.t7 import LuaTable


@pytest.mark.parametrize(
    ("key", "is_key"),
    [
        *((key, True) for key in ("classes", "Labels", "categories", "synset", "synsets")),
        *((key, True) for key in ("class_names", "label-list", "CategoryName", "synset_words")),
        *((key, True) for key in ("class2idx", "label_to_ix", "idx2label", "index_to_category")),
        *((key, False) for key in ("class", "label", "labels2", "my_classes", "class_to", "epoch")),
        *((key, False) for key in ("", 1, None, b"classes")),
    ],
)
def test_the_keys_of_class_names(key: Any, is_key: bool) -> None:
    assert is_label_key(key) is is_key


def test_names_come_before_the_labels_of_examples() -> None:
    assert [label_key_order(key) for key in ("Label_Names", "idx2label", "classes")] == [
        *(True, True),
        False,
    ]
    names, numbers = lua_list("a", "b"), lua_list(1, 2, 1)
    for value in (lua(labels=numbers, classes=names), lua(classes=names, labels=numbers)):
        assert labels_in(value) == labels_from(value) == ["a", "b"]
    # What is no table under such a key is passed over, also if it comes first.
    assert labels_in(lua(classes=2, labels=names)) == ["a", "b"]
    for value in (lua(classes=2), lua(other=names), names, ["a", "b"], None):
        assert labels_in(value) is None
    with pytest.raises(LabelsError, match=r"class 2 of the list is not a name: 0\.5"):
        labels_in(lua(classes=lua_list("a", 0.5)))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["a", "b"], ["a", "b"]),
        (("a", 5), ["a", "5"]),
        (lua_list("a"), ["a"]),
        (lua_list(7, 8), ["7", "8"]),
        (lua(classes=lua(classes=lua_list("a", "b"))), ["a", "b"]),
        ([], None),
        ("ab", None),
        ({"a": 1}, None),
        (["a", None], None),
        (["a", b"\xff"], None),
        ([0.5], None),
        ([["a"]], None),
    ],
)
def test_a_list_of_names_or_whole_numbers(value: Any, expected: list[str] | None) -> None:
    if expected is None:
        with pytest.raises(LabelsError, match=r"no class names found|class \d of the list"):
            labels_from(value)
    else:
        assert labels_from(value) == expected


def test_every_suffix_is_read_for_what_the_file_holds(tmp_path: Path) -> None:
    for name in ("names.t7", "names", "names.txt", "names.lua"):
        t7.save(["cat", "dog"], tmp_path / name)
        assert read_labels(tmp_path / name) == ["cat", "dog"]
    # A .t7 in text is one by its name alone.
    for name in ("text.t7", "TEXT.T7"):
        t7.save(["cat", "dog"], tmp_path / name, format="ascii")
        assert read_labels(str(tmp_path / name)) == ["cat", "dog"]
    (tmp_path / "CLASSES.LUA").write_text("return {'cat', 'dog'}", encoding="utf-8")
    assert read_labels(tmp_path / "CLASSES.LUA") == ["cat", "dog"]
    # A text has no zero bytes.
    (tmp_path / "odd.txt").write_bytes(b"x" * 63 + b"\0\n")
    with pytest.raises(t7.T7Error, match=r"odd\.txt"):
        read_labels(tmp_path / "odd.txt")
    (tmp_path / "odd.txt").write_bytes(b"x" * 64 + b"\n")
    assert read_labels(tmp_path / "odd.txt") == ["x" * 64]


def test_a_suffix_may_be_in_upper_case(tmp_path: Path) -> None:
    t7.save(["cat", "dog"], tmp_path / "TEXT.T7", format="ascii")
    (tmp_path / "NAMES.LUA").write_text("return {'cat', 'dog'}", encoding="utf-8")
    for name in ("TEXT.T7", "NAMES.LUA"):
        assert read_labels(tmp_path / name) == ["cat", "dog"]


def test_a_file_that_holds_no_names_is_named(tmp_path: Path) -> None:
    t7.save(lua(epoch=3), tmp_path / "a.t7")
    (tmp_path / "empty.txt").write_text("\n  \n", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin.txt").write_bytes("café\n".encode("latin-1"))
    for name, problem in (
        ("a.t7", "no class names found: a list was expected"),
        ("empty.txt", "no class names found"),
        ("folder", r"cannot be read as text \(a \.t7, or text with one name per line"),
        ("latin.txt", "cannot be read as text"),
        ("missing.lua", "no such file"),
    ):
        with pytest.raises(LabelsError, match=f"{tmp_path / name}: {problem}"):
            read_labels(tmp_path / name)
    with pytest.raises(t7.T7Error, match=r"missing\.t7: no such file"):
        read_labels(tmp_path / "missing.t7")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("return {'a', \"b\"; [[c]]}", ["a", "b", "c"]),
        ("local t = {\n [1] = 'a', [ 2 ] = 'b',\n}", ["a", "b"]),
        ("--[[ 'no'\n'name' ]] return {'a' -- 'no'\n, 'b'}\n\n", ["a", "b"]),
        (r"return {'it\'s', 'a\\b', [[c\d]]}", ["it's", r"a\b", r"c\d"]),
        ("classes.names = {'a'}", ["a"]),
        # Lua's own: escapes are bytes, in decimal or hexadecimal, or characters.
        (
            r"return {'caf\195\169', 'caf\xC3\xa9', 'a\tb\n', '\66C', '\0661'}",
            ["café", "café", "a\tb\n", "BC", "B1"],
        ),
        (r"return {'\255'}", None),
        (r"return {'\256'}", None),
        # A number says the place of a name, wherever it stands; others count from 1.
        ("return {[2] = 'b', [1] = 'a'}", ["a", "b"]),
        ("return {[1] = 'b', [0] = 'a'}", ["a", "b"]),
        ("return {'a', [3] = 'c', 'b'}", ["a", "b", "c"]),
        ("return {[1] = 'a', [3] = 'b'}", None),
        ("return {[2] = 'a', [3] = 'b'}", None),
        ("return {[1] = 'a', 'b'}", None),
        ("return {'a', 5}", None),
        ("return {'a'\n'b", None),
        ("os.execute('rm')", None),
        ("return {}", None),
    ],
)
def test_a_list_of_lua_is_read_and_never_run(
    text: str, names: list[str] | None, tmp_path: Path
) -> None:
    (tmp_path / "names.lua").write_text(text, encoding="utf-8")
    if names is None:
        with pytest.raises(
            LabelsError, match=r"names\.lua: (line \d|no class names found|the numbers of)"
        ):
            read_labels(tmp_path / "names.lua")
    else:
        assert read_labels(tmp_path / "names.lua") == names


@pytest.mark.parametrize(("text", "line"), [("f()", 1), ("return {\n'a',\n'b',\nf()}", 4)])
def test_the_line_that_is_no_name_is_told(text: str, line: int, tmp_path: Path) -> None:
    (tmp_path / "names.lua").write_text(text, encoding="utf-8")
    with pytest.raises(LabelsError, match=f"line {line}: a Lua table of names was expected"):
        read_labels(tmp_path / "names.lua")


def test_there_is_a_name_for_each_output_and_each_can_be_written() -> None:
    check_labels(["a", "b"], 2)
    for outputs in (1, 3):
        with pytest.raises(LabelsError, match=f"2 class names for {outputs} outputs"):
            check_labels(["a", "b"], outputs)
    with pytest.raises(LabelsError, match=r"class 2 is 'b\\ud800', which is no Unicode text"):
        check_labels(["a", "b\ud800"], 2)


def test_a_models_own_names_in_another_order_are_refused() -> None:
    own = ["a", "b", "c"]
    for labels in (own, ("a", "b", "c"), ["a", "b", "d"], ["b", "a"], ["a", "a", "b"]):
        check_order(labels, own)
    check_order(["a", "a", "b"], ["a", "b", "b"])
    check_order(["b", "a"], None)
    with pytest.raises(LabelsError, match="order: output 2 is 'b', not 'c'; leave labels=… out"):
        check_order(["a", "c", "b"], own)
    with pytest.raises(LabelsError, match="output 1 is 'a', not 'b'"):
        check_order(["b", "a", "a"], ["a", "b", "a"])


def test_names_of_numpy_are_no_names_of_a_file() -> None:
    with pytest.raises(LabelsError, match="no class names found"):
        labels_from(np.array([1, 2]))
    assert labels_from(LuaTable({"1": "a", "2": "b"})) == ["a", "b"]
