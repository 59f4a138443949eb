"""What the server finds out about a file: its tensors, its batches, what it says of itself.

What is protected: examples of different clients run together only where none sees another, and the
configuration and the card say what is done.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, save_model
from serve_support import digits_model

pytest.importorskip("fastapi")

from torchlift.cli.serve.card import card
from torchlift.cli.serve.describe import config, metadata
from torchlift.cli.serve.errors import ServeError
from torchlift.cli.serve.model import ServedModel
from torchlift.cli.serve.settings import Settings
from torchlift.converters.errors import NotFiniteError, TorchliftError
from torchlift.converters.images import Preprocessing
from torchlift.converters.inference.metadata import Metadata

SETTINGS = Settings(".", max_batch=16, max_delay=0.003)
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def written(
    file: Path,
    nodes: list[tuple[str, list[str], str]],
    takes: list[Any],
    gives: list[Any],
    said: Metadata | None = None,
    kind: int = FLOAT,
    result: int = FLOAT,
) -> Path:
    """Write a file of nodes (operator, inputs, output) from `x` to `y`."""
    info = helper.make_tensor_value_info
    zero, one = (helper.make_tensor(name, INT64, [1], [n]) for n, name in enumerate(("0", "1")))
    small = helper.make_tensor("small", FLOAT, [1], [1e-4])
    graph = helper.make_graph(
        [helper.make_node(name, inputs, [output]) for name, inputs, output in nodes],
        "g",
        [info("x", kind, takes)],
        [info("y", result, gives)],
        [zero, one, small],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    if said is not None:
        helper.set_model_props(made, said.to_props())
    save_model(made, file)
    return file


def opened(file: Path) -> ServedModel:
    return ServedModel("m", "3", file, "cpu", 1)


@pytest.mark.parametrize(
    ("takes", "gives", "has_batch"),
    [
        (["batch", 4], ["batch", 4], True),
        (["n", 4], ["m", 4], True),
        ([None, 4], [None, 4], True),
        ([1, 4], [1, 4], False),
        (["batch", 4], [1, 4], False),
        # A recurrent network's steps are in front.
        (["steps", "batch"], ["steps", "batch"], False),
        (["steps", "batch"], ["steps", "units"], False),
        (["steps", "units"], ["steps", "batch"], False),
        ([], [], False),
    ],
)
def test_the_first_axis_is_the_batch_where_it_is_free_everywhere(
    takes: list[Any], gives: list[Any], has_batch: bool, tmp_path: Path
) -> None:
    nodes = [("Sqrt", ["x"], "y")]
    model = opened(written(tmp_path / "m.onnx", nodes, takes, gives))
    assert (model.has_batch, model.takes_image) == (has_batch, False)
    told = config(model, SETTINGS)
    assert told["max_batch_size"] == (16 if has_batch else 0)
    sizes = [size if isinstance(size, int) else -1 for size in takes]
    assert told["input"] == [
        {"name": "x", "data_type": "TYPE_FP32", "dims": sizes[1:] if has_batch else sizes}
    ]
    tensor = {"name": "x", "datatype": "FP32", "shape": sizes}
    assert metadata(model, ["1", "3"])["inputs"] == [tensor]


@pytest.mark.parametrize(
    ("kind", "sizes", "takes_image", "has_batch"),
    [
        (TensorProto.UINT8, ["height", "width", 3], True, False),
        (TensorProto.UINT8, [None, None, 3], True, False),
        (FLOAT, ["height", "width", 3], False, True),
        (TensorProto.INT8, ["height", "width", 3], False, True),
        (TensorProto.UINT8, ["batch", "height", "width", 3], False, True),
        (TensorProto.UINT8, ["batch", 9], False, True),
    ],
)
def test_an_image_is_three_axes_of_bytes(
    kind: int, sizes: list[Any], takes_image: bool, has_batch: bool, tmp_path: Path
) -> None:
    """Its height is no batch, though it is free."""
    file = written(tmp_path / "m.onnx", [("Identity", ["x"], "y")], sizes, sizes, None, kind, kind)
    model = opened(file)
    assert (model.takes_image, model.has_batch) == (takes_image, has_batch)


def test_two_images_are_no_image(tmp_path: Path) -> None:
    info, sizes = helper.make_tensor_value_info, ["height", "width", 3]
    kind = TensorProto.UINT8
    graph = helper.make_graph(
        [helper.make_node("Max", ["a", "b"], ["y"])],
        "g",
        [info("a", kind, sizes), info("b", kind, sizes)],
        [info("y", kind, sizes)],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    save_model(made, tmp_path / "m.onnx")
    assert not opened(tmp_path / "m.onnx").takes_image


@pytest.mark.parametrize(
    ("first", "second", "has_batch"),
    [("batch", "batch", True), ("n", "n", True), ("n", None, True), ("n", "m", False)],
)
def test_the_inputs_have_one_batch(
    first: str, second: str | None, has_batch: bool, tmp_path: Path
) -> None:
    """Two names may be two sizes: as many questions as answers is for the file to say."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["a"], ["y"]), helper.make_node("Identity", ["b"], ["z"])],
        "g",
        [info("a", FLOAT, [first, 2]), info("b", FLOAT, [second, 2])],
        [info("y", FLOAT, [first, 2]), info("z", FLOAT, [second, 2])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    save_model(made, tmp_path / "m.onnx")
    model = opened(tmp_path / "m.onnx")
    assert (model.has_batch, model.may_batch) == (has_batch, has_batch)


def test_metadata_and_configuration_name_the_model(tmp_path: Path) -> None:
    model = opened(digits_model(tmp_path))
    told = metadata(model, ["1", "3"])
    assert (told["name"], told["versions"], told["platform"]) == (
        "m",
        ["1", "3"],
        "onnxruntime_onnx",
    )
    assert told["outputs"] == [{"name": "log_probabilities", "datatype": "FP32", "shape": [-1, 10]}]
    found = config(model, SETTINGS)
    assert found["instance_group"] == [{"name": "m", "kind": "KIND_CPU", "count": 1}]
    assert found["version_policy"] == {"all": {}}
    for name, kind in (("CUDA", "GPU"), ("Tensorrt", "GPU"), ("OpenVINO", "CPU"), ("CPU", "CPU")):
        model.provider = f"{name}ExecutionProvider"
        assert config(model, SETTINGS)["instance_group"][0]["kind"] == f"KIND_{kind}"


def test_texts_go_through(tmp_path: Path) -> None:
    texts = TensorProto.STRING
    nodes = [("Identity", ["x"], "y")]
    model = opened(
        written(tmp_path / "m.onnx", nodes, ["batch", 2], ["batch", 2], kind=texts, result=texts)
    )
    assert (model.has_batch, model.may_batch) == (True, False)
    assert config(model, SETTINGS)["output"] == [
        {"name": "y", "data_type": "TYPE_STRING", "dims": [2]}
    ]
    (found,) = model.run({"x": np.array([["a", "é"]], object)})
    assert found.tolist() == [["a", "é"]]


@pytest.mark.parametrize("texts", ["input", "output"])
def test_texts_go_through_on_one_side_alone(texts: str, tmp_path: Path) -> None:
    kinds = (TensorProto.STRING, FLOAT) if texts == "input" else (FLOAT, TensorProto.STRING)
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["y"], to=kinds[1])],
        "g",
        [helper.make_tensor_value_info("x", kinds[0], ["batch", 2])],
        [helper.make_tensor_value_info("y", kinds[1], ["batch", 2])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    save_model(made, tmp_path / "m.onnx")
    given = [["1.5", "-2"]] if texts == "input" else [[1.5, -2.0]]
    model = opened(tmp_path / "m.onnx")
    (found,) = model.run({"x": np.array(given, object if texts == "input" else np.float32)})
    assert found.tolist() == ([[1.5, -2.0]] if texts == "input" else [["1.5", "-2"]])


@pytest.mark.parametrize(
    "said",
    [Metadata(labels=["a", "b"]), Metadata(preprocessing=Preprocessing("gray"))],
    ids=["labels", "preprocessing"],
)
def test_a_damaged_classifier_is_not_served_as_something_else(
    said: Metadata, tmp_path: Path
) -> None:
    """A file that says nothing of itself may be anything; one with labels has a fault."""
    texts: dict[str, Any] = {"kind": TensorProto.STRING, "result": TensorProto.STRING}
    nodes, sizes = [("Identity", ["x"], "y")], ["batch", 2]
    plain = opened(written(tmp_path / "plain.onnx", nodes, sizes, sizes, **texts))
    assert plain.predictor is None
    assert plain.not_a_classifier == "inputs of type tensor(string)"
    damaged = written(tmp_path / "m.onnx", nodes, sizes, sizes, said, **texts)
    with pytest.raises(TorchliftError, match=r"m\.onnx: inputs of type"):
        opened(damaged)


def test_the_card_shows_what_happens_to_an_image(tmp_path: Path) -> None:
    model = opened(digits_model(tmp_path))
    found = card(model, ["a", "m"])
    assert (found["model"], found["models"], found["version"]) == ("m", ["a", "m"], "3")
    assert found["sha256"] == model.sha256
    assert found["can_predict"] is True
    assert found["arithmetic"] == model.metadata.precision
    assert found["output_kind"] == "log_probabilities"
    assert (found["source"], found["torchlift_version"]) == (
        model.metadata.source,
        model.metadata.torchlift_version,
    )
    outer, inner = Preprocessing("RGB"), Preprocessing("gray")
    for said, shown, can_predict in (
        (Metadata(preprocessing=outer), outer, True),
        (Metadata(baked_preprocessing=inner), inner, False),
        # What is baked into the graph is all that is done, what is left outside a part of it.
        (Metadata(preprocessing=outer, baked_preprocessing=inner), inner, True),
        (Metadata(preprocessing=outer, output_kind="features"), outer, False),
        (Metadata(), None, False),
    ):
        model.metadata = said
        found = card(model, ["m"])
        assert found["preprocessing"] == (None if shown is None else shown.to_json())
        assert found["can_predict"] is can_predict
    model.metadata, model.takes_image = Metadata(), True
    assert card(model, ["m"])["can_predict"] is True
    model.predictor = None
    assert card(model, ["m"])["can_predict"] is False


@pytest.mark.parametrize("place", ["input", "output"])
def test_a_model_of_something_else_than_tensors_is_not_served(place: str, tmp_path: Path) -> None:
    tensor = helper.make_tensor_value_info("t", FLOAT, [2])
    sequence = helper.make_tensor_sequence_value_info("s", FLOAT, [2])
    if place == "input":
        first = helper.make_tensor("0", INT64, [], [0])
        node, given = helper.make_node("SequenceAt", ["s", "0"], ["t"]), ([sequence], [tensor])
        graph = helper.make_graph([node], "g", *given, [first])
    else:
        node = helper.make_node("SequenceConstruct", ["t"], ["s"])
        graph = helper.make_graph([node], "g", [tensor], [sequence])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    save_model(made, tmp_path / "m.onnx")
    with pytest.raises(ServeError, match=r"m\.onnx: an input or output is no tensor: .*seq"):
        opened(tmp_path / "m.onnx")


@pytest.mark.parametrize("weight", [1.0, np.nan])
def test_a_model_with_a_weight_that_is_no_number_is_not_served(
    weight: float, tmp_path: Path
) -> None:
    """Also where the file says nothing of itself."""
    info, nodes = helper.make_tensor_value_info, [helper.make_node("MatMul", ["x", "w"], ["y"])]
    weights = helper.make_tensor("w", FLOAT, [2, 1], [1.0, weight])
    takes, gives = info("x", FLOAT, ["batch", 2]), info("y", FLOAT, ["batch", 1])
    graph = helper.make_graph(nodes, "g", [takes], [gives], [weights])
    opset = helper.make_opsetid("", 18)
    save_model(helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "m.onnx")
    if np.isfinite(weight):
        assert opened(tmp_path / "m.onnx").has_batch
        return
    with pytest.raises(NotFiniteError, match=r"m\.onnx is damaged, .*w\[1, 0\] is nan"):
        opened(tmp_path / "m.onnx")
