"""Rules of running a model, each by itself: precision, bytes, sizes, texts and copies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from torchlift.converters import t7
from torchlift.converters.errors import NotFiniteError
from torchlift.converters.images import Preprocessing, PreprocessingError
from torchlift.converters.images.image_to_image import ImageToImage
from torchlift.converters.images.normalization import Normalization
from torchlift.converters.inference import (
    InferenceError,
    OnnxPredictor,
    TorchPredictor,
    provider_diagnostics,
)
from torchlift.converters.inference.image_decoding import preprocessing_outside
from torchlift.converters.inference.image_model import ImageModel, _fill
from torchlift.converters.inference.metadata import Metadata
from torchlift.converters.inference.not_finite import require_finite_scores
from torchlift.converters.inference.onnx_interface import find_input, find_scores
from torchlift.converters.inference.onnx_weights import first_not_finite_weight, missing_weights
from torchlift.converters.inference.prepare import prepare_all
from torchlift.converters.inference.protobuf import fields
from torchlift.converters.inference.scores import log_probabilities
from torchlift.converters.inference.text import Tokenizer, open_language_model
from torchlift.converters.inference.text.language_model import log_softmax
from torchlift.converters.inference.torch_module import batch_size, inference_copy
from torchlift.converters.modules.layers.shape import View
from torchlift.converters.saved import SavedModel
from torchlift.converters.t7 import LuaObject, LuaTable
from torchlift.converters.vocabulary import Vocabulary

value = helper.make_tensor_value_info


def test_scores_of_a_file_in_half_precision_are_float32(tmp_path: Path) -> None:
    values = [value(name, TensorProto.FLOAT16, ["batch", 3]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, tmp_path / "half.onnx")
    scores = OnnxPredictor(tmp_path / "half.onnx", "cpu")(np.array([[1, 2, -1]], np.float32))
    assert scores.dtype == np.float32
    assert scores.tolist() == [[1, 2, 0]]


@pytest.mark.parametrize(
    ("offset", "length", "problem"),
    [
        ("0", "8", ""),
        ("8", "8", ""),
        ("8", "9", "are cut: 17 bytes were expected"),
        ("9", "8", "are cut: 17 bytes were expected"),
        ("", "16", ""),
        ("", "17", "are cut: 17 bytes were expected"),
    ],
)
def test_weights_beside_a_graph_end_in_their_file(
    offset: str, length: str, problem: str, tmp_path: Path
) -> None:
    # Weights in the file itself stand before it.
    inside = helper.make_tensor("inside", TensorProto.FLOAT, [1], [2.0])
    graph = helper.make_graph([], "g", [], [], [inside])
    tensor = graph.initializer.add()
    tensor.name, tensor.data_type, tensor.data_location = "w", TensorProto.FLOAT, 1
    places = {"location": "w.data", "offset": offset, "length": length}
    for key, text in places.items():
        if text:
            entry = tensor.external_data.add()
            entry.key, entry.value = key, text
    (tmp_path / "f.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    missing = "its weights are in w.data, which is missing beside it"
    assert missing_weights(tmp_path / "f.onnx") == missing
    (tmp_path / "w.data").write_bytes(bytes(16))
    found = missing_weights(tmp_path / "f.onnx")
    assert (problem in found) if problem else found == ""


def test_images_that_keep_their_sizes_are_one_array_if_they_have_one() -> None:
    decodes = Preprocessing(resize="none", value_range=255)
    small, large = np.zeros((4, 5, 3), np.uint8), np.ones((6, 5, 3), np.uint8)
    together = prepare_all([small, small], decodes)
    assert isinstance(together, np.ndarray)
    assert (together.shape, together.dtype) == ((2, 3, 4, 5), np.uint8)
    apart = prepare_all([small, large], decodes)
    assert [array.shape for array in apart] == [(1, 3, 4, 5), (1, 3, 6, 5)]
    with pytest.raises(PreprocessingError, match="different sizes"):
        prepare_all([small, large], Preprocessing())


@pytest.mark.parametrize(
    ("kind", "score", "is_number"),
    [
        ("logits", -np.inf, True),
        ("log_probabilities", -np.inf, True),
        ("probabilities", -np.inf, False),
        ("features", -np.inf, False),
        ("logits", np.inf, False),
        ("log_probabilities", np.inf, False),
        ("log_probabilities", np.nan, False),
    ],
)
def test_minus_infinity_is_a_probability_of_0(kind: str, score: float, is_number: bool) -> None:
    scores = np.array([[0, 1], [score, 0]], np.float32)
    if is_number:
        require_finite_scores(scores, kind, "net")
        return
    with pytest.raises(NotFiniteError, match=r"net: the outputs of 1 of 2 examples .*\[1, 0\]"):
        require_finite_scores(scores, kind, "net")
    if kind != "probabilities" and kind != "features":
        # Also beside what may be: another class is impossible.
        scores[0, 1] = -np.inf
        with pytest.raises(NotFiniteError, match=r"1 of 2 examples .*\[1, 0\]"):
            require_finite_scores(scores, kind, "net")


def test_what_is_said_of_a_file_is_compared_with_what_its_graph_does() -> None:
    own = Preprocessing(mean=(0.5,), std=(0.25,))
    outside = Preprocessing(resize="none", value_range=255)
    metadata = Metadata(preprocessing=outside, baked_preprocessing=own)
    metadata.require_normalization(Normalization((0.5,), (0.25,), "RGB", 1))
    with pytest.raises(PreprocessingError, match="not the model's own"):
        metadata.require_normalization(Normalization(value_range=255))
    with pytest.raises(PreprocessingError, match="says nothing of its preprocessing"):
        Metadata().require_normalization(Normalization(value_range=255))


def image_model(size: Any, **options: Any) -> ImageModel:
    steps = ImageToImage(1, "gray", border=2, multiple=4, scale=2)
    own = Preprocessing("gray", size)
    model = SavedModel(nn.Conv2d(1, 1, 1), "features", None, None, own, image_to_image=steps)
    return ImageModel(TorchPredictor(model, "cpu"), **options)


def test_images_of_one_size_are_neither_extended_nor_cut_nor_run_in_tiles() -> None:
    free, fixed = image_model(None).output, image_model((8, 8)).output
    assert (free.border, free.multiple, free.scale) == (2, 4, 2)
    assert (fixed.border, fixed.multiple, fixed.scale, fixed.color) == (0, 1, None, "gray")
    image_model(None, tile=16)
    with pytest.raises(InferenceError, match="images of one size: leave out tile=…"):
        image_model((8, 8), tile=16)


def test_holes_are_filled_and_nothing_else() -> None:
    holes = np.array([[True, False]])
    gray, color = np.full((1, 2, 1), 7, np.uint8), np.full((1, 2, 3), [1, 2, 3], np.uint8)
    made = np.full((1, 2, 3), 9, np.uint8)
    assert _fill(color, holes, made).tolist() == [[[9, 9, 9], [1, 2, 3]]]
    assert _fill(gray, holes, made).tolist() == [[[9, 9, 9], [7, 7, 7]]]
    assert _fill(gray, holes, made[..., 0]).tolist() == [[9, 7]]


def test_a_fifth_of_white_makes_a_hole() -> None:
    """As in siggraph2017_inpainting's inpaint.lua: what is at least 0.2."""
    steps = ImageToImage(1, "RGB", scale=1, takes_mask=True)
    network = SavedModel(nn.Conv2d(4, 3, 1), "features", preprocessing=Preprocessing())
    network.image_to_image = steps
    model = ImageModel(TorchPredictor(network, "cpu"))
    mask = np.array([[0, 50, 51, 52, 255]], np.uint8)
    assert model._holes(mask, (1, 5)).tolist() == [[False, False, True, True, True]]  # type: ignore[union-attr]


def test_a_copy_runs_as_an_exported_network_does_and_trains_as_before() -> None:
    """In evaluation mode, with its batch; what is frozen stays so, here and in the model."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.9), View([2]))
    model[0].weight.requires_grad_(False)
    model.train()
    copy = inference_copy(model)
    assert [p.requires_grad for p in copy.parameters()] == [False, True]
    assert [p.requires_grad for p in model.parameters()] == [False, True]
    assert (copy.training, copy[1].training, model.training, model[1].training) == (
        *(False, False),
        *(True, True),
    )
    example = torch.ones(1, 2)
    assert copy(example).shape == (1, 2)
    assert torch.equal(copy(example), model[0](example))


@pytest.mark.parametrize(("total", "are_probabilities"), [(1.00009, True), (1.0002, False)])
def test_rows_that_add_up_to_1_are_probabilities(total: float, are_probabilities: bool) -> None:
    """And are made to add up exactly; others are logits."""
    rows = np.array([[0.25, 0.75], [0.5, total - 0.5]])
    expected = rows / rows.sum(1, keepdims=True)
    if not are_probabilities:
        expected = np.exp(rows) / np.exp(rows).sum(1, keepdims=True)
    np.testing.assert_allclose(np.exp(log_softmax(rows)), expected, rtol=1e-12)
    with np.errstate(divide="raise"):
        assert log_softmax(np.array([[0.0, 1.0]])).tolist() == [[-np.inf, 0]]


def test_a_token_without_characters_is_written_as_nothing() -> None:
    tokenizer = Tokenizer(Vocabulary("vocab", ("a", "", None, "b")))
    assert "".join(tokenizer.texts([0, 1, 3])) == "ab"
    assert "".join(tokenizer.texts([0, 2, 3])) == "a\ufffdb"
    assert tokenizer.encode(b"ab") == [0, 3]


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (("encoder", "decoder"), "holds several networks: encoder.*decoder"),
        (("encoder", "rnn"), "several modules could be the model"),
        (("encoder", "model"), "no model of a text's characters or words"),
    ],
)
def test_a_file_of_several_networks_is_named_with_them(
    names: tuple[str, str], problem: str, tmp_path: Path
) -> None:
    """Captions and translations; char-rnn and torch-rnn name theirs `rnn` and `model`."""
    fields = {"weight": np.ones((2, 2)), "bias": np.zeros(2)}
    networks = {name: LuaObject("nn.Linear", LuaTable(dict(fields))) for name in names}
    t7.save(LuaTable(networks), tmp_path / "f.t7")
    with pytest.raises(Exception, match=problem) as found:
        open_language_model(tmp_path / "f.t7", "cpu")
    assert ("holds several networks" in str(found.value)) == (names[1] == "decoder")
    # The one that is named is opened, whatever stands beside it.
    with pytest.raises(InferenceError, match="no model of a text's characters or words"):
        open_language_model(tmp_path / "f.t7", "cpu", at=names[0])


def output(name: str, kind: str, *shape: Any) -> Any:
    return SimpleNamespace(name=name, type=f"tensor({kind})", shape=["N", *shape])


@pytest.mark.parametrize(
    ("outputs", "name", "found"),
    [
        ([output("label", "int64"), output("scores", "float", 3)], None, "scores"),
        ([output("label", "int64", 3), output("scores", "double", 3)], None, "scores"),
        # One number an example, such as a distance, is no score of a class.
        ([output("loss", "float"), output("scores", "float16", 3)], None, "scores"),
        ([output("a", "float", 3), output("b", "float", 3)], "b", "b"),
        ([output("alone", "float")], None, "alone"),
        ([output("a", "float", 3), output("b", "float", 3)], None, r"2 outputs \(a, b\)"),
        ([output("a", "float"), output("b", "int64", 3)], None, r"2 outputs \(a, b\)"),
        ([output("a", "float", 3)], "c", "no output c: it has a"),
    ],
)
def test_the_scores_are_the_only_rows_of_numbers_or_what_is_named(
    outputs: list[Any], name: str | None, found: str
) -> None:
    if " " in found:
        with pytest.raises(InferenceError, match=found):
            find_scores(outputs, name)
        return
    scores, note = find_scores(outputs, name)
    assert scores.name == found
    assert bool(note) == (name is None and len(outputs) > 1)


@pytest.mark.parametrize(
    ("axes", "is_foreign", "last"),
    [
        ([None, 8, 6, 3], True, True),
        ([1, 28, 28, 1], True, True),
        # The second axis may be that of the channels: it is, as in most files.
        ([None, 3, 6, 3], True, False),
        ([None, 1, 28, 1], True, False),
        ([None, 8, 6, 4], True, False),
        ([None, 8, 3], True, False),
        # Of its own files the program knows it.
        ([None, 8, 6, 3], False, False),
    ],
)
def test_channels_are_last_where_a_file_of_others_has_them_there_alone(
    axes: list[int | None], is_foreign: bool, last: bool
) -> None:
    given = SimpleNamespace(name="x", type="tensor(float)", shape=axes)
    assert find_input([given], is_foreign).channels_last is last


def test_a_message_that_is_cut_is_not_read_to_its_end() -> None:
    """Field 1 is a number, field 2 two bytes, field 3 four."""
    message = memoryview(b"\x08\x05\x12\x02ab\x1d1234")
    found = [(number, value) for number, value in fields(message)]
    assert [(n, v if n == 1 else bytes(v)) for n, v in found] == [(1, 5), (2, b"ab"), (3, b"1234")]
    for end in range(1, len(message)):
        if end in (2, 6):  # between two fields
            assert len(list(fields(message[:end]))) < len(found)
        else:
            with pytest.raises(IndexError):
                list(fields(message[:end]))


@pytest.mark.parametrize(
    ("axes", "is_foreign", "shape", "channels"),
    [
        ([None, 8, 6, 3], True, (3, 8, 6), 3),
        ([None, 3, 8, 6], True, (3, 8, 6), 3),
        ([None, 8, 6, 3], False, (8, 6, 3), 8),
        ([None, 3, None, 6], True, None, 3),
        ([None, 12], True, None, 1),
        ([None, 5, 7], True, None, None),
    ],
)
def test_the_size_of_an_image_is_its_height_and_its_width(
    axes: list[int | None], is_foreign: bool, shape: Any, channels: int | None
) -> None:
    given = SimpleNamespace(name="x", type="tensor(float)", shape=axes)
    found = find_input([given], is_foreign)
    assert (found.image_shape, found.channels, found.batch) == (shape, channels, None)


def test_a_batch_has_examples_and_as_many_in_every_input() -> None:
    assert batch_size([np.zeros((3, 2)), [torch.zeros(3)]]) == 3
    for inputs in (np.zeros((0, 2)), np.zeros(()), [np.zeros(3), np.zeros(2)], []):
        with pytest.raises(InferenceError, match="needs a batch axis in front"):
            batch_size(inputs)


class Two(nn.Module):
    def forward(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        return [inputs, inputs]


def test_a_classifier_has_one_output() -> None:
    predictor = TorchPredictor(SavedModel(Two(), "logits"), "cpu")
    with pytest.raises(InferenceError, match="the network has 2 outputs, a classifier has one"):
        predictor(np.zeros((1, 3), np.float32))


def test_the_logarithm_of_a_probability_of_0_is_that_of_the_smallest_number() -> None:
    scores = np.array([[0.0, 0.25, 0.75]], np.float32)
    found = log_probabilities(scores, "probabilities")
    expected = np.log([np.finfo(np.float32).tiny, 0.25, 0.75])
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        *((kind, True) for kind in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)),
        *((kind, False) for kind in (TensorProto.FLOAT, TensorProto.DOUBLE)),
    ],
)
def test_an_infinite_weight_may_be_meant_and_one_that_is_no_number_is_named(
    kind: int, raw: bool, tmp_path: Path
) -> None:
    """Such as the -infinity of a mask. However the file holds its numbers."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    for last, found in ((-np.inf, ""), (np.nan, "w[1, 2] is nan")):
        values = np.array([[1, np.inf, 2], [3, 4, last]], dtype)
        content = values.tobytes() if raw else values.ravel().tolist()
        tensor = helper.make_tensor("w", kind, [2, 3], content, raw=raw)
        graph = helper.make_graph([], "g", [], [], [tensor])
        (tmp_path / "f.onnx").write_bytes(helper.make_model(graph).SerializeToString())
        assert first_not_finite_weight(tmp_path / "f.onnx").partition(" (")[0] == found


def test_packages_that_overwrite_each_other_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu, openvino = "onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"
    for installed, words in (
        ((cpu,), None),
        ((gpu,), None),
        ((cpu, gpu), f"{cpu} and {gpu} are both installed"),
        ((cpu, gpu, openvino), f"{cpu} and {gpu} and {openvino} are all installed"),
    ):
        monkeypatch.setattr(provider_diagnostics, "_is_installed", installed.__contains__)
        found = provider_diagnostics.runtime_conflict()
        assert (found is None) if words is None else str(found).startswith(words)
        remedy = provider_diagnostics.package_remedy("openvino")
        expected = "`pip uninstall onnxruntime`, then `pip install onnxruntime-openvino`"
        assert remedy == (expected if words is None else found)


def test_an_image_is_measured_against_what_the_graph_cuts_out_of_it() -> None:
    """By its height and its width, and not the other way round."""
    inside = Preprocessing("gray", None, crop=(4, 2))
    metadata = Metadata(
        preprocessing=Preprocessing("gray", resize="none", value_range=255),
        baked_preprocessing=inside,
    )
    outside = preprocessing_outside(metadata)
    assert outside is not None
    image = np.arange(15, dtype=np.uint8).reshape(5, 3)
    assert outside.pixels(image)[0, :, :, 0].tolist() == image.tolist()
    with pytest.raises(PreprocessingError, match="an image of 3×5 is too small for a crop of 4×2"):
        outside.pixels(image.T)
    # What is no matter of the graph alone stays as it is.
    resized = replace(metadata, preprocessing=inside)
    assert preprocessing_outside(resized) is inside
