"""What a file and its model say of inputs and outputs: names, axes, states, batches, meaning.

The files are put together by hand, so that a name or an axis can be another one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from torchlift.converters.images import Preprocessing
from torchlift.converters.inference.metadata import Metadata
from torchlift.converters.input_shapes import parse_inputs
from torchlift.converters.modules.packages.seq_lstm import SeqLSTM
from torchlift.converters.modules.states import WithStates
from torchlift.converters.onnx import OnnxError
from torchlift.converters.onnx.checker.graph_checks import check_contents
from torchlift.converters.onnx.checker.pair import ExportPair
from torchlift.converters.onnx.exporter.kept_outputs import KeptOutputs
from torchlift.converters.onnx.exporter.tracing import EXPORTER
from torchlift.converters.saved import SavedModel

FLOAT, HALF, INT64, UINT8 = (
    getattr(TensorProto, name) for name in ["FLOAT", "FLOAT16", "INT64", "UINT8"]
)
Values = dict[str, tuple[int, list[Any]]]
IMAGE: Values = {"input": (FLOAT, ["batch", 3, 8, 6])}
SCORES: Values = {"logits": (FLOAT, ["batch", 5])}
OURS, FOREIGN = Metadata(), Metadata(torchlift_version=None, format_version=None)


def opened(
    folder: Path,
    inputs: Values = IMAGE,
    outputs: Values = SCORES,
    metadata: Metadata = OURS,
    model: SavedModel | None = None,
    producer: str = "",
    operators: tuple[str, ...] = ("Relu",),
    **options: Any,
) -> ExportPair:
    """Write a file, and open it with a model."""
    given, made = (
        [helper.make_tensor_value_info(name, kind, axes) for name, (kind, axes) in values.items()]
        for values in (inputs, outputs)
    )
    nodes = [helper.make_node(operator, [*inputs][:1], [*outputs][:1]) for operator in operators]
    graph = helper.make_graph(nodes, "g", given, made)
    file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    file.producer_name = producer
    helper.set_model_props(file, metadata.to_props() if metadata.torchlift_version else {})
    onnx.save(file, folder / "f.onnx")
    return ExportPair.open(
        model or SavedModel(nn.Identity(), "logits"), folder / "f.onnx", **options
    )


def model_of(shapes: str | None, module: nn.Module | None = None, **details: Any) -> SavedModel:
    model = SavedModel(module or nn.Identity(), "logits", **details)
    if shapes is not None:
        model.set_inputs(parse_inputs(shapes))
    return model


TWO: Values = {"a": (FLOAT, ["batch", 3]), "b": (FLOAT, ["batch", 4])}


@pytest.mark.parametrize(
    ("inputs", "said", "model", "names"),
    [
        (IMAGE, None, None, ["input"]),
        (TWO, None, None, ["input_1", "input_2"]),
        (TWO, "left=3,right=4", None, ["left", "right"]),
        # What the model says counts, and where it says no names those of the export.
        (TWO, "left=3,right=4", "first=3,second=4", ["first", "second"]),
        (TWO, "left=3,right=4", "3,4", ["left", "right"]),
        (TWO, None, "3,4", ["input_1", "input_2"]),
        (TWO, None, "3,right=4", ["input_1", "right"]),
        (TWO, "no [ shape", "3,4", ["input_1", "input_2"]),
    ],
)
def test_inputs_have_the_names_that_the_model_or_the_export_said(
    inputs: Values, said: str | None, model: str | None, names: list[str], tmp_path: Path
) -> None:
    pair = opened(tmp_path, inputs, metadata=Metadata(inputs=said), model=model_of(model))
    assert pair.input_names == names


def test_states_are_named_behind_the_inputs_and_outputs(tmp_path: Path) -> None:
    layer = SeqLSTM(4, 5)
    layer.remember = True
    state = (FLOAT, ["batch", 5])
    inputs: Values = {
        "input": (FLOAT, ["time", "batch", 4]),
        "state_1": state,
        "state_2": state,
    }
    outputs: Values = {"output": (FLOAT, ["time", "batch", 5]), "new_state_1": state}
    outputs["new_state_2"] = state
    model = SavedModel(layer.eval(), "features")
    pair = opened(tmp_path, inputs, outputs, model=model)
    assert pair.states == 2
    assert pair.input_names == [*inputs]
    assert pair.output_names == [*outputs]
    # The export says the states with the inputs, and the model's own names are without them.
    said = Metadata(inputs="steps=txNx4,state_1=5,state_2=5")
    named = opened(tmp_path, inputs, outputs, said, model)
    assert named.input_names == ["steps", "state_1", "state_2"]
    # States are no further outputs, so that scores stay scores.
    scores = SavedModel(layer, "logits")
    sequence = np.zeros((2, 3, 4), np.float32)
    states = [np.zeros((3, 5), np.float32)] * 2
    found = opened(tmp_path, inputs, outputs, model=scores)
    assert found.with_kind_of_outputs([sequence, *states]).model.output_kind == "features"
    assert isinstance(pair.module, WithStates)
    assert pair.module.count == 1
    assert pair.input_batch_axes == [1, 0, 0]
    without = opened(
        tmp_path, {"input": inputs["input"]}, {"output": outputs["output"]}, model=model
    )
    assert (without.states, without.input_names, without.output_names) == (0, ["input"], ["output"])
    assert not isinstance(without.module, WithStates)


@pytest.mark.parametrize(
    ("metadata", "producer", "is_foreign"),
    [
        (FOREIGN, "pytorch", True),
        (FOREIGN, "", True),
        # A file of torchlift's that has lost its metadata is none of another program.
        (FOREIGN, "torchlift", False),
        (Metadata(), "pytorch", False),
    ],
)
def test_a_file_is_anothers_if_neither_its_metadata_nor_its_producer_is_ours(
    metadata: Metadata, producer: str, is_foreign: bool, tmp_path: Path
) -> None:
    inputs: Values = {"pixels": (FLOAT, [4, 8, 6, 3])}
    pair = opened(tmp_path, inputs, metadata=metadata, producer=producer)
    assert pair.is_foreign is is_foreign
    assert pair.batch == (4 if is_foreign else None)
    # Only another program puts the channels last.
    (leaf,) = pair.shapes.leaves()
    assert leaf.axes == (("N", 3, 8, 6) if is_foreign else ("N", 8, 6, 3))
    array = np.arange(4 * 3 * 8 * 6).reshape(4, 3, 8, 6) if is_foreign else np.zeros((4, 8, 6, 3))
    given = pair.file_inputs(array)["pixels"]
    assert given.shape == (4, 8, 6, 3)
    assert given.dtype == np.float32
    if is_foreign:
        assert np.array_equal(given, np.moveaxis(array, 1, 3))


def test_arrays_go_to_the_inputs_in_their_order_and_dtypes(tmp_path: Path) -> None:
    inputs: Values = {
        "z": (HALF, ["batch", 2]),
        "a": (INT64, ["batch", "time"]),
        "m": (UINT8, ["batch", 2]),
    }
    pair = opened(tmp_path, inputs, model=model_of("2,[time:int64,2:uint8]"))
    first, second, third = np.ones((1, 2)), np.array([[3, 4, 5]]), np.array([[0.0, 255.0]])
    found = pair.file_inputs([first, [second, third]])
    assert [*found] == ["z", "a", "m"]
    assert [array.dtype for array in found.values()] == [np.float16, np.int64, np.uint8]
    assert found["a"].tolist() == [[3, 4, 5]]
    assert found["m"].tolist() == [[0, 255]]
    # The tables are those that the model says, the sizes those of the file.
    assert str(pair.shapes) == "z=2,[a=time:int64,m=2:uint8]"


@pytest.mark.parametrize(
    ("said", "model", "shapes"),
    [
        ("3,[4]", "[3,4]", "a=3,[b=4]"),
        (None, "[3,4]", "[a=3,b=4]"),
        # What has other inputs than the file says nothing of them.
        ("3", "[3,4]", "[a=3,b=4]"),
        ("3", "3", "a=3,b=4"),
        (None, None, "a=3,b=4"),
    ],
)
def test_tables_are_as_the_file_says_and_else_as_the_model(
    said: str | None, model: str | None, shapes: str, tmp_path: Path
) -> None:
    pair = opened(tmp_path, TWO, metadata=Metadata(inputs=said), model=model_of(model))
    assert str(pair.shapes) == shapes


@pytest.mark.parametrize(
    ("axes", "kind", "shape", "batch_axis"),
    [
        (["batch", 3], FLOAT, "3", 0),
        ([4, "batch", 5], FLOAT, "4xNx5", 1),
        # Without a name the batch is in front.
        (["n", "time", 5], INT64, "timex5:int64", 0),
        ([None, None, 5], HALF, "?x5", 0),
        ([], FLOAT, "scalar", 0),
    ],
)
def test_the_batch_is_the_axis_of_that_name_or_the_first(
    axes: list[Any], kind: int, shape: str, batch_axis: int, tmp_path: Path
) -> None:
    pair = opened(tmp_path, {"x": (kind, axes)})
    assert str(pair.shapes) == f"x={shape}"
    assert pair.input_batch_axes == [batch_axis]


def test_an_output_is_chosen_by_its_name_and_another_name_is_refused(tmp_path: Path) -> None:
    outputs: Values = {**SCORES, "classes": (INT64, ["batch"]), "other": (FLOAT, ["batch", 2])}
    for metadata, names in ((FOREIGN, ["logits", "other"]), (Metadata(), [*outputs])):
        assert opened(tmp_path, outputs=outputs, metadata=metadata).compared_outputs == names
        pair = opened(tmp_path, outputs=outputs, metadata=metadata, output_name="classes")
        assert pair.compared_outputs == ["classes"]
        # It counts over what the file says.
        said = Metadata(output_name="other", torchlift_version=metadata.torchlift_version)
        pair = opened(tmp_path, outputs=outputs, metadata=said, output_name="logits")
        assert pair.compared_outputs == ["logits"]
    said = Metadata(output_name="other")
    assert opened(tmp_path, outputs=outputs, metadata=said).compared_outputs == ["other"]
    only: Values = {"classes": (INT64, ["batch"])}
    assert opened(tmp_path, outputs=only, metadata=FOREIGN).compared_outputs == ["classes"]
    with pytest.raises(OnnxError, match=r"no output scores: it has logits, classes, other$"):
        opened(tmp_path, outputs=outputs, output_name="scores")


@pytest.mark.parametrize(
    ("entries", "outputs", "names"),
    [
        ({"kept_outputs": [3, 1]}, 2, ["output_3", "output_1"]),
        ({"kept_columns": [2, 4]}, 1, ["logits"]),
        ({}, 2, ["logits_1", "logits_2"]),
    ],
)
def test_what_a_file_keeps_is_kept_of_the_model(
    entries: dict[str, Any], outputs: int, names: list[str], tmp_path: Path
) -> None:
    values = {f"y{number}": (FLOAT, ["batch", 3]) for number in range(outputs)}
    model = model_of(None, labels=[*"abcde"])
    pair = opened(tmp_path, outputs=values, metadata=Metadata(**entries), model=model)
    assert pair.output_names == names
    assert isinstance(pair.model.module, KeptOutputs) is bool(entries)
    assert pair.model.labels == ([*"bcd"] if "kept_columns" in entries else [*"abcde"])
    assert not pair.module.training


@pytest.mark.parametrize(
    ("inputs", "outputs", "metadata", "kind"),
    [
        (IMAGE, SCORES, Metadata(), "logits"),
        # Maps of scores, several outputs, and steps or places in place of examples.
        (IMAGE, {"y": (FLOAT, ["batch", 5, 8, 6])}, Metadata(), "features"),
        (IMAGE, {**SCORES, "b": (FLOAT, ["batch", 2])}, Metadata(), "features"),
        (IMAGE, {"y": (FLOAT, ["4*batch", 5])}, Metadata(), "features"),
        ({"x": (FLOAT, [7, "batch", 3])}, {"y": (FLOAT, [7, 5])}, Metadata(), "logits"),
        # Of another program: the batch has any name, and scores by a convolution are scores.
        (IMAGE, {"y": (FLOAT, ["n", 5])}, FOREIGN, "logits"),
        (IMAGE, {"y": (FLOAT, ["n", 5, 1, 1])}, FOREIGN, "logits"),
        (IMAGE, {"y": (FLOAT, ["n", 5, 1, 2])}, FOREIGN, "features"),
        (IMAGE, {"label": (INT64, ["n"]), "y": (FLOAT, ["n", 5])}, FOREIGN, "logits"),
    ],
)
def test_scores_are_those_of_one_example_in_a_row(
    inputs: Values, outputs: Values, metadata: Metadata, kind: str, tmp_path: Path
) -> None:
    pair = opened(tmp_path, inputs, outputs, metadata)
    found = pair.with_kind_of_outputs(np.zeros((1, 3, 8, 6), np.float32))
    assert found.model.output_kind == kind
    assert pair.model.output_kind == "logits"


def test_the_meaning_of_what_is_kept_is_asked_of_the_layer_that_gives_it(tmp_path: Path) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Softmax(1), nn.Linear(3, 3)

        def forward(self, input: torch.Tensor) -> list[torch.Tensor]:
            return [self.first(input), self.last(input)]

    values: Values = {"output_1": (FLOAT, ["batch", 3])}
    inputs: Values = {"input": (FLOAT, ["batch", 3])}
    pair = opened(
        tmp_path, inputs, values, Metadata(kept_outputs=[1]), SavedModel(Two(), "features")
    )
    found = pair.with_kind_of_outputs(np.eye(3, dtype=np.float32))
    assert found.model.output_kind == "probabilities"
    # That the model cannot run them is a finding of its own.
    found = pair.with_kind_of_outputs(np.ones((1, 4), np.float32))
    assert found.model.output_kind == "features"


def test_all_that_a_file_says_and_holds_is_looked_at(tmp_path: Path) -> None:
    names = [one.name for one in check_contents(opened(tmp_path))]
    assert names == [
        *("structure", "interface", "preprocessing", "output_kind", "source", "labels", "folding")
    ]
    names = [one.name for one in check_contents(opened(tmp_path, metadata=FOREIGN))]
    assert names == ["structure", "interface", "metadata"]


def test_random_operators_and_versions_of_the_exporter_are_told(tmp_path: Path) -> None:
    drawn = ["Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"]
    drawn += ["RandomUniformLike"]
    pair = opened(tmp_path, operators=(*reversed(drawn), "Relu", "Bernoulli"))
    assert pair.random_operators == drawn
    assert opened(tmp_path).random_operators == []
    for exporter, is_this in ((EXPORTER, True), ("torch 1.0", False), (None, False)):
        pair = opened(tmp_path, metadata=Metadata(exporter=exporter))
        assert pair.is_of_this_exporter is is_this


@pytest.mark.parametrize(
    ("axes", "kind", "is_baked", "takes_image"),
    [
        (["height", "width", 3], UINT8, True, True),
        (["height", "width", 3], UINT8, False, False),
        (["batch", 3, 8, 6], UINT8, True, False),
    ],
)
def test_a_file_takes_an_image_if_its_preprocessing_is_inside(
    axes: list[Any], kind: int, is_baked: bool, takes_image: bool, tmp_path: Path
) -> None:
    metadata = Metadata(baked_preprocessing=Preprocessing() if is_baked else None)
    pair = opened(tmp_path, {"image": (kind, axes)}, metadata=metadata)
    assert pair.takes_image is takes_image
    assert pair.needs_images is is_baked
