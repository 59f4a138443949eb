"""`inspect` shows the tree of values, and each value in a few words."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import FIXTURES
from t7_inspection_support import storage, view

from torchlift.converters.t7 import LuaFunction, LuaObject, LuaTable, save
from torchlift.converters.t7 import model as t7_model
from torchlift.converters.t7.inspection import describe, inspect, value_tree


def test_all_objects_of_a_file_are_shown() -> None:
    result = inspect(FIXTURES / "formats" / "two_objects.t7")
    assert [node.name for node in result.tree.children] == ["[1]", "[2]"]
    assert result.format == "binary, 8-byte longs, little endian"
    assert result.bytes.total == result.size
    assert result.notes == ["2 objects in one file: [1] to [2]"]


def test_each_value_is_of_a_kind() -> None:
    """The kinds of docs/json.md, which programs choose by."""
    base = storage(4)
    values = LuaTable(
        {
            "boolean": True,
            "number": 1,
            "string": "a",
            "bytes": b"\xff",
            "table": LuaTable(),
            "object": LuaObject("nn.Identity"),
            "function": LuaFunction(b""),
            "tensor": view(base, 0, 2, 2),
            "storage": base,
        }
    )
    tree = value_tree(values)
    assert tree.kind == "table"
    assert [f".{node.kind}" for node in tree.children] == [node.name for node in tree.children]
    assert value_tree(LuaTable({"x": 0.5})).children[0].kind == "number"


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


def test_four_levels_and_twenty_entries_are_shown_by_default(tmp_path: Path) -> None:
    value = LuaTable((f"k{i}", i) for i in range(30))
    for _ in range(6):
        value = LuaTable({"next": value})
    save(value, tmp_path / "nested.t7")
    for tree in (value_tree(value), inspect(tmp_path / "nested.t7").tree):
        depth, node = 0, tree
        while node.children:
            depth, node = depth + 1, node.children[0]
        assert (depth, node.hidden) == (4, 1)
    wide = LuaTable((f"k{i}", i) for i in range(30))
    save(wide, tmp_path / "wide.t7")
    for tree in (value_tree(wide), inspect(tmp_path / "wide.t7").tree):
        assert (len(tree.children), tree.hidden) == (20, 10)


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
        ("x" * 60, f"'{'x' * 60}'"),
        ("x" * 61, f"'{'x' * 60}'… (61 characters)"),
        (b"\xff\x00", "b'\\xff\\x00' (2 bytes, not text)"),
        (b"\xff" + b"x" * 15, f"b'\\xff{'x' * 15}' (16 bytes, not text)"),
        (b"\xff" + b"x" * 16, f"b'\\xff{'x' * 15}'… (17 bytes, not text)"),
        (LuaTable(), "empty table"),
        (LuaTable({"a": 1}), "table of 1"),
        (LuaTable.from_list(["a", "b"]), "list of 2"),
        (LuaTable.from_list([1, 2.5, 3, 4]), "list of 4: 1, 2.5, 3, 4"),
        (LuaTable.from_list([1, 2.5, 3, 4, 5]), "list of 5: 1, 2.5, 3, 4, …"),
        (LuaObject("my.Class", LuaTable({"a": 1})), "my.Class"),
        (LuaFunction(b"\x1bLJ"), "function (3 bytes of bytecode, never run)"),
        (storage(2), "torch.FloatStorage 2: 0, 0"),
        (view(storage(9), 3, 2, 3), "torch.FloatTensor 2×3 of a storage of 9: 0, 0, 0, 0, …"),
        (view(storage(4), 0, 4), "torch.FloatTensor 4: 0, 0, 0, 0"),
        (view(storage(5), 0, 4), "torch.FloatTensor 4 of a storage of 5: 0, 0, 0, 0"),
        (view(storage(1), 0, 4, strides=(0,)), "torch.FloatTensor 4 of a storage of 1: 0, 0, 0, 0"),
        (view(storage(9), 0, 5), "torch.FloatTensor 5 of a storage of 9: 0, 0, 0, 0, …"),
        (view(storage(9), 0, 0), "torch.FloatTensor, empty"),
    ],
)
def test_descriptions_of_values(value: object, text: str) -> None:
    assert describe(value) == text


def test_objects_that_only_hold_others_are_no_unknown_modules() -> None:
    inside = LuaTable({"net": LuaObject("nn.Tanh"), "own": LuaObject("my.Thing", LuaTable())})
    value = LuaTable({"hash": LuaObject("tds.Hash", inside)})
    found = t7_model.search(value)
    assert [(path, item.class_name) for path, item in found.unknown] == [("hash.own", "my.Thing")]
    assert [(one.path, one.module.class_name) for one in found.networks] == [
        ("hash.net", "nn.Tanh")
    ]
