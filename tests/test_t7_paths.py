"""`follow` accepts what `format_path` returns, and a wrong path raises with the existing steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import FIXTURES

from torchlift.converters import t7
from torchlift.converters.t7 import LuaFunction, LuaObject, LuaTable
from torchlift.converters.t7.errors import abbreviated_path
from torchlift.converters.t7.paths import follow, format_path, parse_path

KEYS = st.one_of(
    st.text(),
    st.binary(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False),
    st.sampled_from(["modules", "a b", "a.b", "1", "", "'", '"', "]", "\\", "true", "größe"]),
)


@pytest.fixture(scope="module")
def checkpoint() -> LuaTable:
    table: LuaTable = t7.load(FIXTURES / "digits" / "digits-lenet5-bn_uncleared.t7")
    return table


@given(st.lists(KEYS))
def test_parsing_inverts_formatting(keys: list[Any]) -> None:
    assert [(type(key), key) for key in parse_path(format_path(keys))] == [
        (type(key), key) for key in keys
    ]


def test_paths_are_written_as_in_lua() -> None:
    assert format_path(["modules", 1, "weight"], "model") == "model.modules[1].weight"
    assert format_path(["a b", True, 0.5, "größe"]) == '["a b"][true][0.5].größe'
    assert format_path([1]) == "[1]"


@given(st.lists(KEYS, min_size=1))
def test_formatted_paths_lead_to_their_value(keys: list[Any]) -> None:
    leaf = LuaTable()
    value: Any = leaf
    for key in reversed(keys):
        value = LuaTable([(key, value)])
    assert follow(value, format_path(keys, "value" if keys[0] != "value" else "")) is leaf


def test_every_path_in_a_checkpoint(checkpoint: LuaTable) -> None:
    """Walk over all values independently, and follow the path of each."""
    seen = 0
    stack: list[tuple[list[Any], Any]] = [([], checkpoint)]
    while stack:
        keys, value = stack.pop()
        assert follow(checkpoint, format_path(keys)) is value
        seen += 1
        fields = value.fields if isinstance(value, LuaObject) else value
        if isinstance(fields, LuaTable):
            stack += [([*keys, key], item) for key, item in fields.items()]
    assert seen > 150


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("model.modules[1].nOutputPlane", 6),
        (' model["modules"][1]["nOutputPlane"]'.strip(), 6),
        ("model['modules'][ 1 ].nOutputPlane", 6),
        ("value.classes[3]", "two"),
        ("epoch", 12),
    ],
)
def test_ways_to_write_a_path(checkpoint: LuaTable, path: str, expected: Any) -> None:
    assert follow(checkpoint, path) == expected


def test_slices_and_storages_of_tensors(checkpoint: LuaTable) -> None:
    weight = checkpoint["model"]["modules"][1]["weight"]
    np.testing.assert_array_equal(follow(checkpoint, "model.modules[1].weight[2][1]"), weight[1, 0])
    assert follow(checkpoint, "model.modules[1].weight[2][1][3][4]") == weight[1, 0, 2, 3]
    assert follow(checkpoint, "model.modules[1].weight.storage") is weight.storage


def test_keys_that_python_confuses() -> None:
    value = LuaTable([(1, "one"), (True, "true"), ("1", "text"), (b"\xff", "bytes"), (0.5, "half")])
    assert [follow(value, path) for path in ("[1]", "[true]", '["1"]', "[b'\\xff']", "[0.5]")] == [
        *("one", "true", "text", "bytes", "half")
    ]
    assert follow(value, "[1.0]") == "one"


def test_bodies_and_upvalues() -> None:
    function = LuaFunction(b"\x1bLJ", LuaTable.from_list([LuaTable({"name": "x", "value": 7})]))
    gpu = LuaObject("nn.GPU", LuaTable({"device": 2, "f": function}))
    gpu.body = [LuaTable({"header": 1}), gpu.fields]
    assert follow(gpu, "model.body[1].header") == 1
    assert follow(gpu, "model.device") == 2
    assert follow(gpu, "f.upvalues[1].value") == 7


@pytest.mark.parametrize(
    ("path", "fragments"),
    [
        ("modle.modules", ["did you mean .model?", ".epoch", "(at value)"]),
        ("model.modules[1].weigth", ["did you mean .weight?", "(at value.model.modules[1])"]),
        ("model.modules[25]", ["no [25]", "[1] to [15]", "(at value.model.modules)"]),
        ("model.modules[1].weight[7]", ["a tensor of size 6×1×5×5", "[1] to [6]"]),
        ("epoch.x", ["no .x", "this is 12"]),
        ("model..modules", ["'..modules'", "expected a path such as model.modules[1].weight"]),
        ("model.modules[first]", ["[first]", "not a key"]),
        ("model.modules[1", ["[1"]),
    ],
)
def test_a_wrong_path_raises_with_the_existing_steps(
    checkpoint: LuaTable, path: str, fragments: list[str]
) -> None:
    with pytest.raises(t7.T7Error) as caught:
        follow(checkpoint, path)
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_a_path_begins_with_its_root_or_its_first_name() -> None:
    assert format_path(("weight",)) == "weight"
    assert format_path(("modules", 1, "weight")) == "modules[1].weight"
    assert format_path(("modules", 1), "model") == "model.modules[1]"
    assert format_path((), "value") == "value"
    assert format_path((1, "a")) == "[1].a"


def test_the_path_to_a_deep_place_is_shortened_in_the_middle() -> None:
    def path(depth: int) -> str | None:
        return abbreviated_path(range(depth), lambda item: f".{item}")

    assert path(0) is None
    assert path(3) == "0.1.2"
    assert path(32) == ".".join(map(str, range(32)))
    ends = ".".join(map(str, range(16))), ".".join(map(str, range(24, 40)))
    assert path(40) == f"{ends[0]} … .{ends[1]}"


@pytest.mark.parametrize(("step", "expected"), [(1, 5), (3, 7), (0, None), (4, None), (-1, None)])
def test_slices_of_a_tensor_count_from_1(step: int, expected: int | None) -> None:
    value = t7.loads(t7.dumps({"x": np.arange(5, 8)}))
    if expected is None:
        with pytest.raises(t7.T7Error, match=r"there is no .* here; .*slices are \[1\] to \[3\]"):
            follow(value, f"x[{step}]")
    else:
        assert follow(value, f"x[{step}]") == expected


def test_the_storage_of_a_serialized_value_is_its_bytes() -> None:
    """What the bytes hold has no `.storage`; every other step leads into it."""
    inner = t7.dumps({"epoch": 3, "storage": 4})
    value = t7.loads(t7.dumps({"state": np.frombuffer(inner, np.uint8)}))
    assert follow(value, "state.epoch") == 3
    assert follow(value, "state.storage") is value["state"].storage
    assert follow(value, "state.storage").torch_class == "torch.ByteStorage"


@pytest.mark.parametrize("path", ["x[true]", "x[1.0]", "x.name", "x[1][1]", "x[2.5]"])
def test_a_slice_has_a_whole_number(path: str) -> None:
    """`true` is 1 in Python, and one number has no slices."""
    value = t7.loads(t7.dumps({"x": np.arange(5, 8)}))
    with pytest.raises(t7.T7Error, match="there is no"):
        follow(value, path)
    assert type(follow(value, "x[1]")) is int


def test_a_tensor_of_one_number_has_no_slices() -> None:
    with pytest.raises(t7.T7Error, match=r"no \[1\] here; this is one number, without slices"):
        follow(LuaTable({"x": np.array(2.5)}), "x[1]")


def test_digits_are_a_number_where_no_entry_has_that_name() -> None:
    table = LuaTable([(1, "number"), ("2", "text"), (2, "number")])
    assert [follow(table, path) for path in (".1", "[1]", ".2", "[2]")] == [
        *("number", "number", "text", "number")
    ]
    with pytest.raises(t7.T7Error, match="there is no"):
        follow(table, ".3")


def test_a_digit_that_no_number_is_written_with_is_a_name() -> None:
    """A ² is a digit of Unicode."""
    with pytest.raises(t7.T7Error, match="there is no"):
        follow(LuaTable({2: "second"}), '["²"]')
    assert follow(LuaTable({"²": "squared"}), '["²"]') == "squared"


def test_an_entry_named_like_the_root_comes_before_it() -> None:
    inner = LuaTable({"x": 1})
    assert follow(LuaTable({"value": inner, "x": 2}), "value.x") == 1
    assert follow(LuaTable({"x": 2}), "value.x") == 2
    assert follow(LuaTable({"x": 2}), "model.x") == 2
    with pytest.raises(t7.T7Error) as error:
        follow(LuaTable({"x": LuaTable({"y": 1})}), "model.x.z")
    assert error.value.path == "model.x"
    with pytest.raises(t7.T7Error, match=r"no \.other here"):
        follow(LuaTable({"x": 2}), "other.x")


def test_a_body_and_a_function_are_steps_where_they_hold_something() -> None:
    function = LuaFunction(b"\x1bLJ", LuaTable.from_list([7]))
    assert follow(function, "value.bytecode") == b"\x1bLJ"
    usual = LuaObject("my.A", LuaTable({"x": 1}))
    with pytest.raises(t7.T7Error, match=r"no \.body here; it has \.x"):
        follow(usual, "model.body[1]")
    own = LuaObject("my.A", LuaTable({"body": "a field"}))
    own.body = ["header", own.fields]
    assert follow(own, "model.body") == "a field"


@pytest.mark.parametrize(
    ("names", "missing", "said"),
    [
        ([f"n{i}" for i in range(12)], "x", "it has .n0, .n1, .n2, .n3, .n4, .n5, .n6, .n7, .n8, "
         ".n9, .n10, .n11 (at value"),
        ([f"n{i}" for i in range(13)], "x", ".n10, .n11 and 1 more "),
        ([f"n{i}" for i in range(1213)], "x", ".n10, .n11 and 1,201 more "),
        (["weight"], "weigth", "; did you mean .weight? "),
        (["bias", "weight"], "weigth", "; did you mean .weight? It also has .bias "),
        (["lr1", "lr2", "lr3", "lr4"], "lr", "did you mean "),
        ([], "x", "this is <LuaTable of 0> "),
    ],
)  # fmt: skip
def test_the_steps_that_exist_are_listed(names: list[str], missing: str, said: str) -> None:
    with pytest.raises(t7.T7Error) as error:
        follow(LuaTable(dict.fromkeys(names, 1)), missing)
    assert said in f"{error.value} "
    if missing == "lr":
        assert str(error.value).count(" or ") == 2
        assert str(error.value).count("It also has .lr") == 1


@pytest.mark.parametrize("key", ["first", "(1, 2)", "None", "[1]", "1 +", "{}"])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(t7.T7Error, match=r"is not a key: use a number|is malformed"):
        parse_path(f"x[{key}]")


def test_a_key_that_is_a_table_is_shown_by_its_type() -> None:
    assert format_path([LuaTable(), "x", np.zeros(2)]) == "[LuaTable].x[ndarray]"


@pytest.mark.parametrize("path", ["a[1]b", 'a["b"]c', "a b", "a..b", "a[1]]"])
def test_a_name_stands_behind_a_dot(path: str) -> None:
    with pytest.raises(t7.T7Error, match="is malformed at"):
        parse_path(path)


def test_letters_of_every_language_are_shown() -> None:
    assert format_path(["größe", "größe x"]) == 'größe["größe x"]'
