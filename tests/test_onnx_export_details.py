"""What an export takes for granted, says in an error and writes beside the graph, one by one."""

from __future__ import annotations

from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from torchlift.converters.errors import NotFiniteError
from torchlift.converters.images import Preprocessing
from torchlift.converters.images.image_to_image import ImageToImage
from torchlift.converters.inference.errors import ModelInputError
from torchlift.converters.inference.metadata import Metadata
from torchlift.converters.input_shapes import parse_inputs
from torchlift.converters.onnx import OnnxError, export
from torchlift.converters.onnx.exporter.bake_preprocessing import (
    bake,
    byte_step,
    remaining_preprocessing,
)
from torchlift.converters.onnx.exporter.bake_resize import (
    _require_exact,
    bake_resize,
    image_preprocessing,
)
from torchlift.converters.onnx.exporter.example import example_of
from torchlift.converters.onnx.exporter.export import (
    as_saved_model,
    baked_metadata,
    holds_batch,
    metadata_of,
)
from torchlift.converters.onnx.exporter.kept_outputs import Kept
from torchlift.converters.onnx.exporter.outputs import names_of_outputs
from torchlift.converters.onnx.exporter.tracing import _root_cause, _two_examples
from torchlift.converters.onnx.onnx_file import read_file
from torchlift.converters.saved import SavedModel
from torchlift.converters.saved.model import Provenance
from torchlift.converters.vocabulary import Vocabulary

EXPORT = import_module("torchlift.converters.onnx.exporter.export")


@pytest.mark.parametrize(
    ("network", "hint"), [(nn.Conv2d(3, 2, 1), "3x?x?"), (nn.Linear(9, 2), "9"), (nn.Tanh(), "")]
)
def test_an_unknown_input_is_asked_for_in_the_words_of_whoever_gave_the_model(
    network: nn.Module, hint: str
) -> None:
    model = SavedModel(network, "features")
    for is_saved, remedy, name in (
        (True, "open it with input_size=(H, W) or input='SIZE'", "input"),
        (False, "pass input_shape=(C, H, W)", "input_shape"),
    ):
        with pytest.raises(OnnxError) as caught:
            example_of(model, network, None, any_size=False, is_saved=is_saved)
        more = f"; the first layer suggests {name}='{hint}'" if hint else ""
        assert str(caught.value) == f"the input shape of the model is unknown: {remedy}{more}"


@pytest.mark.parametrize("given", [None, torch.zeros(3, 3, 8, 8)])
@pytest.mark.parametrize(("any_size", "shapes"), [(False, "3x8x8"), (True, "3x?x?")])
def test_height_and_width_are_free_if_that_is_said_with_an_example_and_without(
    any_size: bool, shapes: str, given: Any
) -> None:
    network = nn.Conv2d(3, 2, 1).eval()
    model = SavedModel(network, "features", (3, 8, 8))
    found, example = example_of(model, network, given, any_size, is_saved=True)
    assert str(found) == shapes
    assert example.shape == ((2, 3, 8, 8) if given is None else given.shape)


def test_an_input_that_the_network_refuses_is_named_with_its_shape() -> None:
    network = nn.Sequential(nn.Linear(9, 2)).eval()
    model = SavedModel(network, "features")
    model.set_inputs(parse_inputs("8,?x7"))
    with pytest.raises(ModelInputError, match=r"of shape \(2, 8\), \(2, 64, 7\): "):
        example_of(model, network, None, any_size=False, is_saved=True)


def test_a_fixed_size_is_found_before_anything_is_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some versions of torch trace such a network as if it took all sizes."""
    traced: list[Any] = []
    monkeypatch.setattr(EXPORT, "trace", lambda *words: traced.append(words))
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    with pytest.raises(OnnxError, match="a fixed input size: leave out any_size=True"):
        export(network, tmp_path / "m.onnx", input_shape=(3, 2, 2), any_size=True)
    assert traced == []


def test_a_weight_that_is_no_number_is_found_before_anything_is_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EXPORT, "trace", lambda *_: pytest.fail("it was traced"))
    network = nn.Linear(3, 2)
    nn.init.constant_(network.bias, torch.nan)
    with pytest.raises(NotFiniteError, match="bias"):
        export(network, tmp_path / "m.onnx", inputs=torch.zeros(2, 3))


@pytest.mark.parametrize(("limit", "files"), [(12, 1), (11, 2)])
def test_weights_of_just_the_size_of_one_file_stay_in_it(
    limit: int, files: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EXPORT, "SINGLE_FILE_BYTES", limit)
    monkeypatch.setattr(EXPORT, "trace", lambda *_: graph())
    exported = export(nn.Identity(), tmp_path / "m.onnx", inputs=torch.zeros(2, 3))
    names = ["m.onnx", "m.onnx.data"][:files]
    assert [file.name for file in exported.files] == names
    assert sorted(file.name for file in tmp_path.iterdir()) == names


def test_one_file_is_less_than_two_gibibytes_with_room_for_its_graph() -> None:
    """Protobuf reads no larger message."""
    assert 2**31 - 2**25 < EXPORT.SINGLE_FILE_BYTES < 2**31 - 2**20


def test_probabilities_that_are_none_are_refused_before_anything_is_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EXPORT, "trace", lambda *_: pytest.fail("it was traced"))
    model = SavedModel(nn.Identity(), "probabilities")
    with pytest.raises(
        OnnxError, match=r"add up to 3, not to 1: .*; output_kind='features' exports"
    ):
        export(model, tmp_path / "m.onnx", inputs=torch.ones(2, 3))


def test_all_of_preprocessing_and_half_precision_go_into_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EXPORT, "trace", lambda *_: graph("batch", 3, 4, 4))
    own = Preprocessing("RGB", (4, 4), mean=(0.5,))
    model = SavedModel(nn.Identity(), "features", (3, 4, 4), preprocessing=own)
    for baked, inputs, kept in (
        ({"bake_resize": True}, ["image"], image_preprocessing(own)),
        ({"bake_preprocessing": True}, ["input"], remaining_preprocessing(own)),
    ):
        file = tmp_path / f"{inputs[0]}.onnx"
        assert export(model, file, fp16=True, **baked).inputs == inputs
        stored, metadata = read_file(file)
        assert [value.name for value in stored.graph.input] == inputs
        assert (metadata.preprocessing, metadata.baked_preprocessing) == (kept, own)
        kinds = {tensor.name: tensor.data_type for tensor in stored.graph.initializer}
        assert kinds["weight"] == TensorProto.FLOAT16


@pytest.mark.parametrize(("rows", "kind"), [((2, 3), "logits"), ((6, 1), "features")])
def test_rows_that_are_no_examples_are_features(
    rows: tuple[int, int], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Rows(nn.Module):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return input.reshape(rows)

    monkeypatch.setattr(EXPORT, "trace", lambda *_: graph())
    model = SavedModel(Rows(), "logits")
    assert export(model, tmp_path / "m.onnx", inputs=torch.zeros(2, 3)).output_kind == kind


def graph(*shape: Any) -> onnx_ir.Model:
    """Return a graph that adds three numbers, 12 bytes."""
    sizes = list(shape) or ["batch", 3]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)
        for name in ("input", "output")
    ]
    weight = numpy_helper.from_array(np.ones((1, 3, *[1] * (len(sizes) - 2)), np.float32), "weight")
    node = helper.make_node("Add", ["input", "weight"], ["output"])
    inner = helper.make_graph([node], "graph", values[:1], values[1:], [weight])
    opsets = [helper.make_opsetid("", 18)]
    return onnx_ir.from_proto(helper.make_model(inner, opset_imports=opsets, ir_version=8))


@pytest.mark.parametrize(
    ("last", "said", "kind"),
    [
        (nn.Sigmoid(), None, "features"),
        (nn.Sigmoid(), "probabilities", "probabilities"),
        (nn.Softmax(1), None, "probabilities"),
        (nn.LogSoftmax(1), None, "log_probabilities"),
        (nn.Identity(), None, "logits"),
        (nn.Tanh(), "logits", "logits"),
    ],
)
@pytest.mark.parametrize("is_saved", [False, True])
def test_a_sigmoid_gives_features_unless_something_else_is_said(
    last: nn.Module, said: str | None, kind: str, is_saved: bool
) -> None:
    network = nn.Sequential(nn.Linear(4, 2), last)
    own = "probabilities" if isinstance(last, nn.Sigmoid) else kind
    model = SavedModel(network, own) if is_saved else network
    assert as_saved_model(model, output_kind=said).output_kind == kind
    if isinstance(model, SavedModel):
        assert model.output_kind == own


@pytest.mark.parametrize(
    ("shape", "inputs"),
    [
        ((3, 8, 6), "3x8x6"),
        ((), "scalar"),
        (["t", 20], "tx20"),
        ("?x20", "?x20"),
        (parse_inputs("a=3,4"), "a=3,4"),
    ],
)
def test_a_shape_is_given_in_any_form_and_the_model_stays_as_it_was(
    shape: Any, inputs: str
) -> None:
    model = SavedModel(nn.Identity(), "features", (1, 2, 2), labels=["a"])
    found = as_saved_model(model, input_shape=shape, labels=["b", "c"])
    assert (str(found.input_shapes), found.labels) == (inputs, ["b", "c"])
    assert (model.input_shape, model.labels) == ((1, 2, 2), ["a"])


def test_a_file_carries_all_that_is_known_of_its_model() -> None:
    own = Preprocessing("BGR", (8, 8), mean=(1.0,), std=(2.0,), value_range=255)
    words = Vocabulary("vocab", ("a", "b"))
    model = SavedModel(
        nn.Identity(),
        "logits",
        (3, 8, 8),
        labels=["a", "b"],
        preprocessing=own,
        source=Provenance("f.t7", "ab" * 32),
        vocabularies=[words],
        image_to_image=ImageToImage(1),
    )
    found = metadata_of(model, Kept((2, 1), (3, 4)))
    assert found == Metadata(
        labels=["a", "b"],
        preprocessing=own,
        output_kind="logits",
        source={"file": "f.t7", "sha256": "ab" * 32},
        vocabularies=[words],
        image_to_image=ImageToImage(1),
        kept_outputs=[2, 1],
        kept_columns=[3, 4],
    )
    assert metadata_of(SavedModel(nn.Identity(), "features")) == Metadata(output_kind="features")
    # What stays outside of the graph, beside what is in it.
    part, whole = baked_metadata(found), baked_metadata(found, with_resizing=True)
    assert part.preprocessing == Preprocessing("RGB", (8, 8), value_range=255, round_pixels=True)
    assert whole.preprocessing == Preprocessing("RGB", None, "none", value_range=255)
    assert part.baked_preprocessing == whole.baked_preprocessing == own
    assert part.labels == whole.labels == ["a", "b"]


@pytest.mark.parametrize("color", ["RGB", "BGR", "gray"])
def test_outside_a_graph_that_takes_images_they_are_only_decoded(color: str) -> None:
    given = Preprocessing(color, 20, "image.scale-bilinear", crop=(8, 8), mean=(0.5,), std=(0.1,))
    found = image_preprocessing(given)
    assert found.only_decodes
    assert found.color == ("gray" if color == "gray" else "RGB")


@pytest.mark.parametrize(
    ("shape", "holds"),
    [
        (["batch", 10], True),
        (["batch*t", 10], True),
        ([10, "batch"], True),
        (["t", "batch + 1"], True),
        (["minibatch", 10], False),
        (["batch_2", 10], False),
        ([2, 10], False),
        ([], False),
    ],
)
def test_the_batch_of_an_output_is_that_of_the_inputs(shape: list[Any], holds: bool) -> None:
    assert holds_batch(shape) is holds


def test_two_examples_are_traced_whatever_is_given() -> None:
    """A size of 1 would become a constant."""
    numbers = torch.arange(12.0).reshape(4, 3)
    assert torch.equal(_two_examples(numbers, 0), numbers[:2])
    assert torch.equal(_two_examples(numbers, 1), numbers[:, :2])
    assert torch.equal(_two_examples(numbers[:1], 0), numbers[[0, 0]])
    assert torch.equal(_two_examples(numbers[:, :1], 1), numbers[:, [0, 0]])


def test_the_innermost_error_tells_what_is_wrong() -> None:
    first, second, third = RuntimeError("outer"), RuntimeError("middle"), KeyError("inner")
    first.__cause__, second.__cause__ = second, third
    assert _root_cause(first, parse_inputs("3")) == "KeyError: 'inner'"


@pytest.mark.parametrize(
    ("kind", "count", "kept", "names"),
    [
        ("logits", 1, None, ["logits"]),
        ("features", 1, None, ["output"]),
        ("features", 3, None, ["output_1", "output_2", "output_3"]),
        ("log_probabilities", 1, Kept(columns=(1, 2)), ["log_probabilities"]),
        ("probabilities", 1, Kept((2,)), ["output_2"]),
        ("features", 2, Kept((3, 1)), ["output_3", "output_1"]),
    ],
)
def test_outputs_keep_the_numbers_that_they_have_in_the_network(
    kind: str, count: int, kept: Kept | None, names: list[str]
) -> None:
    assert names_of_outputs(kind, count, kept) == names


BGR = Preprocessing("BGR", (4, 4), value_range=255, mean=(3.0, 2.0, 1.0), std=(4.0, 2.0, 1.0))
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 4), np.uint8)


def test_what_is_baked_stands_in_front_under_names_of_its_own() -> None:
    model = graph("batch", 3, 4, 4)
    bake(model, BGR)
    proto = onnx_ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    (input,) = proto.graph.input
    assert (input.name, input.type.tensor_type.elem_type) == ("input", TensorProto.UINT8)
    assert [axis.dim_param or axis.dim_value for axis in input.type.tensor_type.shape.dim] == [
        *("batch", 3, 4, 4)
    ]
    nodes = proto.graph.node
    assert [node.op_type for node in nodes] == ["Cast", "Gather", "Mul", "Sub", "Add"]
    assert [node.name for node in nodes[:4]] == [f"baked_{node.op_type}" for node in nodes[:4]]
    assert nodes[3].output[0] == nodes[4].input[0] == "normalized_input"
    told = {each.name: each.type.tensor_type for each in proto.graph.value_info}["normalized_input"]
    assert told.elem_type == TensorProto.FLOAT
    assert [axis.dim_param or axis.dim_value for axis in told.shape.dim] == ["batch", 3, 4, 4]
    names = {tensor.name for tensor in proto.graph.initializer}
    assert names == {"baked_order", "baked_scale", "baked_shift", "weight"}
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"input": PIXELS})
    np.testing.assert_allclose(found, BGR(PIXELS) + 1, rtol=1e-6, atol=1e-5)
    assert byte_step(BGR).ravel().tolist() == [0.25, 0.5, 1.0]


@pytest.mark.parametrize(
    ("shape", "color", "said"),
    [
        (("batch", 1, 4, 4), "RGB", r"a RGB image has 3 channels, the input is \[batch,1,4,4\]"),
        (("batch", 3, 4), "RGB", "a RGB image has 3 channels"),
        (("batch", 3, 4, 4), "gray", "a gray image has 1 channels"),
    ],
)
def test_preprocessing_of_other_images_is_not_baked(
    shape: tuple[Any, ...], color: str, said: str
) -> None:
    for put in (bake, bake_resize):
        with pytest.raises(OnnxError, match=f"preprocessing cannot be baked: {said}"):
            put(graph(*shape), Preprocessing(color))


@pytest.mark.parametrize(("color", "channels"), [("gray", "channels"), ("RGB", 3), ("BGR", 3)])
def test_an_image_and_its_outputs_have_their_axes(color: str, channels: Any) -> None:
    count = 1 if color == "gray" else 3
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", count, 4, 4])
        for name in ("input", "output", "other")
    ]
    nodes = [helper.make_node("Relu", ["input"], [name]) for name in ("output", "other")]
    model = onnx_ir.from_proto(
        helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:]))
    )
    bake_resize(model, Preprocessing(color, (4, 4)))
    (image,), outputs = model.graph.inputs, model.graph.outputs
    assert (image.name, image.dtype) == ("image", onnx_ir.DataType.UINT8)
    assert [str(axis) for axis in image.shape or ()] == ["height", "width", str(channels)]
    for output in outputs:
        assert [str(axis) for axis in output.shape or ()] == ["1", str(count), "4", "4"]


def test_a_factor_is_tried_up_to_the_longest_side() -> None:
    for form in ("*1/2", "*2", "*3/4"):
        _require_exact(form, Fraction(form[1:]))
    with pytest.raises(OnnxError, match=r"image\.scale rounds 100 times"):
        _require_exact("*0.29", Fraction("0.29"))
    # In floating point the first side that is cut to less is 15,000, and 17,000.
    with pytest.raises(OnnxError, match=r"image\.scale rounds 15000 times"):
        _require_exact("*0.1266", Fraction("0.1266"))
    _require_exact("*0.469", Fraction("0.469"))


def test_the_kind_that_is_given_holds_for_a_map_too(tmp_path: Path) -> None:
    for kind, said, output in (("logits", "logits", "logits"), (None, "features", "output")):
        options: Any = {"input_shape": (3, 2, 2), "output_kind": kind}
        made = export(nn.Conv2d(3, 4, 1).eval(), tmp_path / f"{said}.onnx", **options)
        assert (made.output_kind, made.outputs) == (said, [output])
