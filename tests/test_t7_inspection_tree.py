"""`inspect` shows the tree of values, and each value in a few words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import FIXTURES
from t7_inspection_support import storage, view

from torchlift.converters.t7 import LuaFunction, LuaObject, LuaTable, T7Error, dumps, save
from torchlift.converters.t7 import model as t7_model
from torchlift.converters.t7.inspection import describe, inspect, inspect_value, value_tree
from torchlift.converters.t7.inspection.layers import _shortened
from torchlift.converters.t7.inspection.notebook import as_html, value_html


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
        assert tree.to_json()["hidden"] == 10


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
        (False, "false"),
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


def test_every_value_has_a_kind_and_a_path() -> None:
    layer = LuaObject("nn.Linear", LuaTable({"weight": view(storage(6), 0, 2, 3)}))
    text = dumps({"a": "b"})
    value = LuaTable([
        ("flag", True), ("n", 1), ("half", 0.5), ("a b", "x"), (1, b"\xff"), ("t", LuaTable()),
        ("layer", layer), ("f", LuaFunction(b"\x1b")), ("storage", storage(2)),
        ("tensor", view(storage(2), 0, 2)), ("array", np.zeros(2)),
        ("text", text.decode("latin-1")), ("raw", text + b"\xff"),
    ])  # fmt: skip
    tree = value_tree(value)
    assert [(node.path, node.name, node.kind) for node in tree.children] == [
        ("flag", ".flag", "boolean"),
        ("n", ".n", "number"),
        ("half", ".half", "number"),
        ('["a b"]', '["a b"]', "string"),
        ("[1]", "[1]", "bytes"),
        ("t", ".t", "table"),
        ("layer", ".layer", "object"),
        ("f", ".f", "function"),
        ("storage", ".storage", "storage"),
        ("tensor", ".tensor", "tensor"),
        ("array", ".array", "tensor"),
        ("text", ".text", "string"),
        ("raw", ".raw", "bytes"),
    ]
    assert (tree.path, tree.name, tree.kind) == ("value", "value", "table")
    assert tree.children[6].text == "nn.Linear 3→2"
    assert tree.children[6].children[0].path == "layer.weight"
    assert [tree.children[place].text for place in (11, 12)] == [
        f"table of 1, which torch.serialize wrote into a {kind}" for kind in ("string", "bytes")
    ]
    root = value_tree(layer)
    assert (root.path, root.children[0].path) == ("model", "model.weight")
    part = value_tree(layer, path="nets[1]")
    assert (part.path, part.name, part.children[0].path) == (
        *("nets[1]", "nets[1]"),
        "nets[1].weight",
    )
    assert (value_tree(None).kind, value_tree(None).text) == ("nil", "nil")


@pytest.mark.parametrize(
    ("items", "text", "count"),
    [
        ([1, 2.5], "list of 2: 1, 2.5", 0),
        ([True, False], "list of 2", 2),
        ([1, True], "list of 2", 2),
        (["a"], "list of 1", 1),
        ([], "empty table", 0),
    ],
)
def test_a_list_of_numbers_is_one_line(items: list[object], text: str, count: int) -> None:
    node = value_tree(LuaTable.from_list(items))
    assert (node.text, len(node.children), node.hidden) == (text, count, 0)


def test_the_first_numbers_are_those_of_lua_with_four_digits() -> None:
    array = np.array([[1.23456, 2e-7], [-3, 40000.5]], np.float64)
    assert describe(array) == "float64 array 2×2: 1.235, 2e-07, -3, 4e+04"
    assert describe(array.T) == "float64 array 2×2: 1.235, -3, 2e-07, 4e+04"
    assert describe(np.float32(0.5)[...]) == "float32 array scalar: 0.5"
    assert describe(np.zeros((0, 3), np.int64)) == "int64 array, empty"


def test_what_is_shown_can_be_told(tmp_path: Path) -> None:
    value = LuaTable({name: LuaTable({"inner": LuaTable({"x": 1})}) for name in "abc"})
    save(value, tmp_path / "value.t7")
    for tree in (
        value_tree(value, depth=1, entries=2),
        inspect(tmp_path / "value.t7", depth=1, entries=2).tree,
        inspect_value(value, 0, depth=1, entries=2).tree,
    ):
        assert ([node.name for node in tree.children], tree.hidden) == ([".a", ".b"], 1)
        assert (tree.children[0].children, tree.children[0].hidden) == ([], 1)
    part = inspect(tmp_path / "value.t7", at="b.inner")
    assert (part.tree.path, [node.path for node in part.tree.children]) == (
        "b.inner",
        ["b.inner.x"],
    )
    assert part.file == str(tmp_path / "value.t7")


def test_a_repeated_tensor_refers_to_the_first() -> None:
    tensor, function = storage(2), LuaFunction(b"\x1b")
    value = LuaTable({"a": tensor, "b": tensor, "f": function, "g": function, "x": 1, "y": 1})
    assert [node.same_as for node in value_tree(value).children] == [
        *(None, "a", None, "f"),
        *(None, None),
    ]
    document = value_tree(value).to_json()
    assert document["children"][1] == {
        "lua_path": "b",
        "name": ".b",
        "value_kind": "storage",
        "text": "torch.FloatStorage 2: 0, 0",
        "same_as": "a",
        "hidden": 0,
        "children": [],
    }


def test_what_is_odd_about_a_file_is_noted(tmp_path: Path) -> None:
    file = tmp_path / "a.t7"
    file.write_bytes(dumps({"a": 1}) + b"\xff\xff\xff")
    result = inspect(file)
    assert result.notes == [f"{file}: the last 3 bytes are not a Torch7 object"]
    assert result.bytes.total == result.size == file.stat().st_size
    file.write_bytes(dumps(1) + dumps(2) + dumps(3) + b"\xff")
    result = inspect(file)
    assert result.notes == [
        "3 objects in one file: [1] to [3]",
        f"{file}: the last 1 bytes are not a Torch7 object",
    ]
    assert result.size == file.stat().st_size
    with pytest.raises(T7Error, match=r"no \.b here") as error:
        inspect(file, at="b")
    assert error.value.source == str(file)


def test_html_of_a_value_is_a_tree_of_which_the_root_is_open() -> None:
    value = LuaTable({"a<b": "&", "t": LuaTable({"x": 1}), "tab": "\t\x07"})
    value["again"] = value["t"]
    assert value_html(value) == (
        "<details open><summary>table of 4</summary><ul>"
        "<li><b>[&quot;a&lt;b&quot;]</b> &#x27;&amp;&#x27;</li>"
        "<li><details><summary><b>t</b> table of 1</summary><ul><li><b>x</b> 1</li></ul></details>"
        "</li>"
        r"<li><b>tab</b> &#x27;\t\x07&#x27;</li>"
        "<li><b>again</b> table of 1 <i>(is t)</i></li>"
        "</ul></details>"
    )
    repeated = LuaTable({"<x>": value["t"], "y": value["t"]})
    assert "(is [&quot;&lt;x&gt;&quot;])" in value_html(repeated)
    for count, more in ((50, 0), (51, 1), (1050, 1)):
        many = value_html(LuaTable.from_list(["x"] * count))
        assert many.count("<li>") == 50 + more
        assert many.count(f"<li><i>{count - 50:,} more</i></li>") == more
    assert value_html(LuaTable()) == "empty table"
    assert as_html("a\x1b\u202eé") == "a\\x1b\\u202eé"


@pytest.mark.parametrize(("length", "shown"), [(1000, 1000), (1001, 500 + 1 + 334)])
def test_a_path_of_nested_values_is_shortened_in_its_middle(length: int, shown: int) -> None:
    """Of thousands of levels each would have a longer one: both ends of it are kept."""
    path = "a" * (length // 2) + "b" * (length - length // 2)
    short = _shortened(path)
    assert len(short) == shown
    assert (short[:500], short[-333:]) == ("a" * 500, "b" * 333)
    assert ("…" in short) is (length > 1000)
