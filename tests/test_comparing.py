"""What two files are compared by: each kind of entry, and how a difference is said."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from checkpoint_support import linear, lua, lua_list
from onnx import TensorProto, helper, numpy_helper
from saved_support import tiny
from torch import nn

from torchlift.converters import t7
from torchlift.converters.comparing import files
from torchlift.converters.comparing.differences import Difference, differences
from torchlift.converters.comparing.entries import (
    entries_of_graph,
    entries_of_model,
    settings_of_model,
)
from torchlift.converters.comparing.files import compare_files
from torchlift.converters.errors import TorchliftError
from torchlift.converters.images.image_to_image import ImageToImage
from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.inference.metadata import Metadata
from torchlift.converters.input_shapes import parse_inputs
from torchlift.converters.saved import SavedModel, save
from torchlift.converters.t7 import LuaObject, T7Error
from torchlift.converters.vocabulary import Vocabulary

F32 = np.float32


def array(*numbers: float, dtype: Any = F32) -> np.ndarray:
    return np.array(numbers, dtype)


@pytest.mark.parametrize(
    ("first", "second", "kind", "text", "numbers"),
    [
        (array(1, 2), array(1, 2.5), "values", "by up to 0.5, in 1 of 2 numbers", (0.5, 1, 2)),
        (array(1, 2), array(4, -2), "values", "by up to 4, in 2 of 2 numbers", (4, 2, 2)),
        (3, 5, "values", "differs by 2: 3 | 5", (2, 1, 1)),
        (array(1), array(3), "values", "differs by 2: 1.0 | 3.0", (2, 1, 1)),
        ([1, 2], [1, 2.25], "values", "by up to 0.25, in 1 of 2 numbers", (0.25, 1, 2)),
        ([1, 2], array(1, 2), "dtype", "int64 | float32, with equal values", (0, 0, 2)),
        ([1, 2], [1, 2, 3], "shape", "shape 2 | 3", (None, 0, 3)),
        (array(1), 1.0, "shape", "shape 1 | of one number", (None, 0, 1)),
        (np.zeros((2, 3)), np.zeros((3, 2, 2)), "shape", "shape 2×3 | 3×2×2", (None, 0, 12)),
        (array(0), array(math.nan), "values", "differs by inf: 0.0 | nan", (math.inf, 1, 1)),
        ("a", "b", "setting", "a | b", (None, 0, 0)),
        ("1", 1, "setting", "1 | 1", (None, 0, 0)),
        (True, 1, "setting", "True | 1", (None, 0, 0)),
        (["a"], ["b"], "setting", "['a'] | ['b']", (None, 0, 0)),
        ([True], [1], "setting", "[True] | [1]", (None, 0, 0)),
        ([0], [False], "setting", "[0] | [False]", (None, 0, 0)),
        (["a", [True]], ["a", [1]], "setting", "['a', [True]] | ['a', [1]]", (None, 0, 0)),
        (["a"], ["a", "b"], "setting", "['a'] | ['a', 'b']", (None, 0, 0)),
        ("a", np.zeros((2, 3)), "setting", "a | float64 2×3", (None, 0, 0)),
        (b"\xff", "x", "setting", r"b'\xff' | x", (None, 0, 0)),
        (" a\n b", "c" * 61, "setting", f"a b | {'c' * 59}…", (None, 0, 0)),
        ("c" * 60, 1, "setting", f"{'c' * 60} | 1", (None, 0, 0)),
        (np.zeros(1500), np.ones(1500), "values", "1, in 1,500 of 1,500", (1, 1500, 1500)),
        (np.float64(1), np.float64(1.00012345), "values", "differs by 0.000123: ", (None, 1, 1)),
    ],
)
def test_a_difference_says_what_it_is_and_how_large(
    first: Any, second: Any, kind: str, text: str, numbers: tuple[Any, int, int]
) -> None:
    (found,) = differences({"x": first}, {"x": second})
    assert (found.path, found.kind) == ("x", kind)
    assert text in found.text
    assert (found.differing, found.count) == numbers[1:]
    assert found.largest == (pytest.approx(1.2345e-4) if kind == "values" and numbers[0] is None
                             else numbers[0])  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (3, 3.0),
        (["a", 1, [True]], ["a", 1.0, [True]]),
        (0.0, -0.0),
        (array(math.nan, 1), array(math.nan, 1)),
        ([1, math.inf], [1.0, math.inf]),
        ("a", "a"),
        (False, False),
        (["a", "b"], ["a", "b"]),
        ([], np.zeros(0)),
    ],
)
def test_equal_entries_are_no_difference(first: Any, second: Any) -> None:
    assert differences({"x": first}, {"x": second}) == []


def test_what_only_one_file_has_is_missing_in_the_other() -> None:
    found = differences({"a": np.zeros((2, 3), F32), "c": 1}, {"c": 1, "b": "text"})
    assert found == [
        Difference("a", "only in the first: float32 2×3", "missing"),
        Difference("b", "only in the second: text", "missing"),
    ]


def test_differences_are_in_the_order_of_their_size_and_then_of_the_files() -> None:
    first = {"same": 1, "d": 1, "c": array(0), "b": array(1, 1), "a": "x"}
    second = {"z": 5, "a": "y", "b": array(1, 4), "c": array(3), "d": 1.5, "same": 1}
    assert [one.path for one in differences(first, second)] == ["a", "z", "c", "b", "d"]


def test_a_model_is_its_layers_its_weights_and_its_settings() -> None:
    inner = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Dropout(0.25))
    network = nn.Sequential(nn.Flatten(), inner, nn.ELU(alpha=0.5))
    found = entries_of_model(SavedModel(network, "logits", labels=["a", "b", "c"]))
    assert {name: text for name, text in found.items() if name.startswith("layer ")} == {
        "layer (all)": "torch.nn.Sequential()",
        "layer 0": "torch.nn.Flatten()",
        "layer 1": "torch.nn.Sequential()",
        "layer 1.0": "torch.nn.Linear(in_features=2, out_features=3, bias=false)",
        "layer 1.1": "torch.nn.Dropout(p=0.25)",
        "layer 2": "torch.nn.ELU(alpha=0.5)",
    }
    weight: Any = found["1.0.weight"]
    np.testing.assert_array_equal(weight, inner[0].weight.detach().numpy())
    assert list(found)[6:] == ["1.0.weight", "output_kind", "labels"]


def test_a_layer_that_occurs_twice_is_named_once() -> None:
    layer = nn.Tanh()
    found = entries_of_model(SavedModel(nn.Sequential(layer, nn.ReLU(), layer), "logits"))
    assert (found["layer 0"], found["layer 2"]) == ("torch.nn.Tanh()", "0()")


def test_each_setting_of_a_model_is_an_entry_of_its_own() -> None:
    """Changing one changes its entry and no other."""
    shown = Preprocessing("gray", (8, 8), mean=(0.5,), std=(0.25,))
    model = tiny(preprocessing=shown, labels=["a", "b", "c"])
    model.image_to_image = ImageToImage((-1, 1), "gray", border=2)
    model.vocabularies = [Vocabulary("vocab", ("a", "b"))]
    found = settings_of_model(model)
    assert found["inputs"] == "1x8x8"
    assert (found["output_kind"], found["labels"]) == ("logits", '["a", "b", "c"]')
    assert found["preprocessing.color"] == "gray"
    assert (found["preprocessing.mean"], found["preprocessing.size"]) == ("[0.5]", "[8, 8]")
    assert (found["image_to_image.value_range"], found["image_to_image.border"]) == (
        "[-1.0, 1.0]",
        "2",
    )
    assert '"lua_path": "vocab"' in str(found["vocabularies"])
    # What is not said has no entry.
    assert "preprocessing.crop" not in found
    assert settings_of_model(SavedModel(nn.Tanh(), "features")) == {"output_kind": "features"}
    told = SavedModel(nn.Tanh(), "features", inputs=parse_inputs("9,?xN:int64"))
    assert settings_of_model(told)["inputs"] == "9,?xN:int64"


def graph(**changes: Any) -> onnx.ModelProto:
    """Return x·w + b, and then an activation, in ONNX."""
    weights = {"w": np.arange(6, dtype=F32).reshape(3, 2), "b": array(1, 2)}
    names = {"first": "MatMul", "last": "Relu", "batch": "batch", **changes}
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node(names["first"], ["x", "w"], ["y"]),
        helper.make_node("Add", ["y", "b"], ["z"]),
        helper.make_node(names["last"], ["z"], ["out"]),
    ]
    made = helper.make_graph(
        nodes,
        "graph",
        [value("x", TensorProto.FLOAT, [names["batch"], 3])],
        [value("out", TensorProto.FLOAT, [names["batch"], 2])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_a_graph_is_its_weights_its_nodes_its_shapes_and_its_settings() -> None:
    metadata = Metadata(labels=["a", "b"], preprocessing=Preprocessing("gray", (8, 8)))
    found = entries_of_graph(graph(), metadata)
    assert {name for name in found if not name.startswith("preprocessing.")} == {
        *("w", "b", "nodes MatMul", "nodes Add", "nodes Relu", "connections", "input x"),
        *("output out", "labels"),
    }
    assert (found["nodes Add"], found["nodes MatMul"]) == (1, 1)
    assert (found["input x"], found["output out"]) == ("batch×3", "batch×2")
    assert found["labels"] == '["a", "b"]'
    assert found["preprocessing.color"] == "gray"
    np.testing.assert_array_equal(np.asarray(found["w"]), np.arange(6).reshape(3, 2))


@pytest.mark.parametrize(
    ("change", "paths"),
    [
        ({"last": "Sigmoid"}, {"nodes Relu", "nodes Sigmoid", "connections"}),
        ({"batch": 4}, {"input x", "output out"}),
    ],
)
def test_what_differs_in_a_graph_is_named(change: dict[str, Any], paths: set[str]) -> None:
    found = differences(*(entries_of_graph(one, Metadata()) for one in (graph(), graph(**change))))
    assert {one.path for one in found} == paths


def test_connections_are_the_same_whatever_values_are_called() -> None:
    """And in whatever order the nodes stand."""
    other = graph()
    for node in other.graph.node:
        node.input[:] = [{"y": "first", "z": "second"}.get(name, name) for name in node.input]
        node.output[:] = [{"y": "first", "z": "second"}.get(name, name) for name in node.output]
    nodes = list(other.graph.node)[::-1]
    del other.graph.node[:]
    other.graph.node.extend(nodes)
    assert not differences(*(entries_of_graph(one, Metadata()) for one in (graph(), other)))
    turned = graph()
    turned.graph.node[1].input[:] = ["b", "y"]
    found = differences(*(entries_of_graph(one, Metadata()) for one in (graph(), turned)))
    assert {one.path for one in found} <= {"connections"}


@pytest.mark.parametrize(
    ("name", "kind"), [("a.t7", "t7"), ("a.onnx", "onnx"), ("A.ONNX", "onnx"), ("a", "t7")]
)
def test_a_file_is_known_by_its_suffix_and_a_folder_is_a_saved_model(
    name: str, kind: str, tmp_path: Path
) -> None:
    assert files._kind(tmp_path / name) == kind
    (tmp_path / name).mkdir()
    assert files._kind(str(tmp_path / name)) == "saved_model"


def test_a_network_in_a_t7_is_compared_with_a_saved_model(tmp_path: Path) -> None:
    """The path counts for the `.t7`, whichever of the two it is."""
    value = lua(a=linear(4, 2), b=linear(4, 2))
    t7.save(value, tmp_path / "two.t7")
    network = nn.Linear(4, 2)
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(network, name).copy_(torch.from_numpy(value["a"][name]))
        network.bias[0] += 1
    save(SavedModel(network.eval(), "logits", labels=["p", "q"]), tmp_path / "model")
    names = [tmp_path / "two.t7", tmp_path / "model"]
    for (first, second), place in ((names, "second"), (names[::-1], "first")):
        found = compare_files(first, second, at="a")
        assert [one.path for one in found.differences if one.kind != "missing"] == ["bias"]
        assert found.differences[-1].largest == pytest.approx(1, abs=1e-6)
        texts = {one.path: one.text for one in found.differences}
        assert texts["labels"] == f'only in the {place}: ["p", "q"]'
        assert len(compare_files(first, second, at="b").differences) >= 2
        with pytest.raises(TorchliftError, match="several modules could be the model: a "):
            compare_files(first, second)


def test_values_of_two_files_are_counted_and_what_is_left_out_is_said_once(tmp_path: Path) -> None:
    shared = lua(n=1)
    t7.save(lua(a=shared, b=shared, list=lua_list(1, 2)), tmp_path / "a.t7")
    t7.save(lua(a=shared, c=shared, more=LuaObject("my.A", lua(x=2))), tmp_path / "b.t7")
    found = compare_files(tmp_path / "a.t7", tmp_path / "b.t7")
    # a.n of both, list of one; of the other more.x and its class.
    assert found.compared == 4
    note = "written under one path only: 1"
    assert found.notes == [f"{note} (b is a)", f"{note} (c is a)"]
    assert compare_files(tmp_path / "a.t7", tmp_path / "a.t7").notes == [f"{note} (b is a)"]
    assert [one.path for one in found.differences] == ["list", "class of more", "more.x"]
    (tmp_path / "b.t7").write_bytes(t7.dumps(lua(n=1)) + t7.dumps("end") + b"\x01")
    found = compare_files(tmp_path / "b.t7", tmp_path / "b.t7")
    assert (found.compared, found.differences) == (2, [])
    (note,) = found.notes
    assert note.endswith("b.t7: the last 1 bytes are not a Torch7 object")


def test_the_file_without_the_value_is_named(tmp_path: Path) -> None:
    t7.save(lua(x=1), tmp_path / "a.t7")
    t7.save(lua(y=1), tmp_path / "b.t7")
    for first, second in (("a", "b"), ("b", "a")):
        with pytest.raises(T7Error, match=r"b\.t7: there is no \.x here"):
            compare_files(tmp_path / f"{first}.t7", tmp_path / f"{second}.t7", at="x")


def test_a_model_that_cannot_be_exported_as_the_file_was_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tiny(), tmp_path / "model")
    onnx.save(graph(), tmp_path / "file.onnx")

    def refuse(*given: Any, **named: Any) -> None:
        raise TorchliftError("it takes no such input")

    monkeypatch.setattr("torchlift.converters.onnx.exporter.export", refuse)
    said = r"file\.onnx: its model cannot be exported as it was: it takes no such input"
    with pytest.raises(TorchliftError, match=said):
        compare_files(tmp_path / "model", tmp_path / "file.onnx")


@pytest.mark.parametrize(
    ("metadata", "options", "inputs"),
    [
        (Metadata(), {"outputs": None, "columns": None}, "x=3"),
        (Metadata(kept_outputs=[1]), {"outputs": [1], "columns": None}, "x=3"),
        (Metadata(kept_columns=[1, 2]), {"outputs": None, "columns": [1, 2]}, "x=3"),
        (
            Metadata(baked_preprocessing=Preprocessing("gray", (8, 8))),
            {"outputs": None, "columns": None, "bake_preprocessing": True},
            "1x8x8",
        ),
    ],
)
def test_a_model_is_exported_with_the_options_of_the_file(
    metadata: Metadata,
    options: dict[str, Any],
    inputs: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its inputs are those of the file too, unless the file takes images."""
    save(tiny(), tmp_path / "model")
    model = graph()
    helper.set_model_props(model, metadata.to_props())
    onnx.save(model, tmp_path / "file.onnx")
    given: list[tuple[str, str, dict[str, Any]]] = []

    def export(model: SavedModel, target: Path, **named: Any) -> None:
        given.append((str(model.input_shapes), target.name, named))
        onnx.save(graph(), target)

    monkeypatch.setattr("torchlift.converters.onnx.exporter.export", export)
    compare_files(tmp_path / "model", tmp_path / "file.onnx")
    assert given == [(inputs, "model.onnx", options)]


@pytest.mark.parametrize("prefix", ["w", "w_quantized"])
def test_int8_weights_are_the_numbers_that_they_stand_for(prefix: str) -> None:
    """With a scale for each column: (steps - zero) · scale."""
    model = graph()
    parts = {
        "w_quantized": np.int8([[1, 2], [-3, 4], [5, 0]]),
        f"{prefix}_scale": F32([0.5, 0.25]),
        f"{prefix}_zero_point": np.int8([0, 1]),
    }
    del model.graph.initializer[0]
    model.graph.initializer.extend(
        numpy_helper.from_array(one, name) for name, one in parts.items()
    )
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", list(parts), ["w"], axis=1))
    found = entries_of_graph(model, Metadata())
    np.testing.assert_array_equal(np.asarray(found["w"]), [[0.5, 0.25], [-1.5, 0.75], [2.5, -0.25]])
    assert not parts.keys() & found.keys()
    assert (found["nodes DequantizeLinear"], "b" in found) == (1, True)


def test_who_differs_more_comes_first_also_where_one_is_infinite() -> None:
    first = {"a": array(1), "b": array(0), "c": array(5)}
    found = differences(first, {"a": array(2), "b": array(math.inf), "c": array(-5)})
    assert [(one.path, one.largest) for one in found] == [("b", math.inf), ("c", 10), ("a", 1)]
