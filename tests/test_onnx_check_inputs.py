"""Which examples a check runs, in which batches, and how images reach the model and the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image
from torch import nn

from torchlift.converters.images import Preprocessing
from torchlift.converters.inference import InferenceError
from torchlift.converters.input_shapes import BATCH_AXIS, SIZE_AXES, InputShape
from torchlift.converters.onnx import OnnxError, check, export
from torchlift.converters.onnx.checker.check_inputs import (
    CheckInputs,
    _to_inputs,
    count_examples,
    take_examples,
)
from torchlift.converters.onnx.checker.pair import ExportPair
from torchlift.converters.onnx.exporter.export import metadata_of
from torchlift.converters.saved import SavedModel
from torchlift.transfer.data import ImageFiles


@pytest.fixture
def pair(tmp_path: Path) -> ExportPair:
    """Return a network without weights, for images of any size."""
    preprocessing = Preprocessing(size=(4, 4), crop=(2, 2), mean=(0.5,), std=(0.25,))
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = SavedModel(network, "logits", (3, 4, 6), None, preprocessing)
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["logits"]),
    ]
    float32 = TensorProto.FLOAT
    input = helper.make_tensor_value_info("input", float32, [BATCH_AXIS, 3, *SIZE_AXES])
    output = helper.make_tensor_value_info("logits", float32, [BATCH_AXIS, 3])
    graph = helper.make_model(helper.make_graph(nodes, "network", [input], [output]))
    helper.set_model_props(graph, metadata_of(model).to_props())
    onnx.save(graph, tmp_path / "network.onnx")
    return ExportPair.open(model, tmp_path / "network.onnx")


def files(folder: Path, count: int) -> ImageFiles:
    for number in range(count):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
    names = np.array([folder / f"{number}.png" for number in range(count)], object)
    return ImageFiles(names, np.zeros(count, np.int64), ("a",))


def test_examples_are_taken_from_arrays_lists_and_files(tmp_path: Path) -> None:
    indices = np.array([2, 0])
    array = np.arange(6).reshape(3, 2)
    assert take_examples(array, indices).tolist() == [[4, 5], [0, 1]]
    both = take_examples([array, array + 10], indices)
    assert [each.tolist() for each in both] == [[[4, 5], [0, 1]], [[14, 15], [10, 11]]]
    images = files(tmp_path, 3)
    assert [image.getpixel((0, 0))[0] for image in take_examples(images, indices)] == [2, 0]
    assert [count_examples(each) for each in (array, [array, array], images)] == [3, 3, 3]


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(1, [1, 2, 7]), (3, [1, 2, 7]), (10, [1, 2, 7]), (11, [1, 2, 7, 1]), (45, [1, 2, 7, 32, 3])],
)
def test_all_examples_run_in_batches_of_several_sizes(
    count: int, sizes: list[int], pair: ExportPair
) -> None:
    pixels = np.zeros((count, 3, 4, 4), np.uint8)
    batches = [batch for batch in CheckInputs(pair, pixels, 0) if batch.is_real]
    assert [len(batch.examples) for batch in batches] == sizes
    # Too few examples are repeated; of more, each runs once.
    examples = np.concatenate([batch.examples for batch in batches])
    assert examples.tolist() == [place % count for place in range(max(count, 10))]


def test_real_images_are_resized_and_random_ones_are_not(pair: ExportPair, tmp_path: Path) -> None:
    real, *_, first, second = CheckInputs(pair, files(tmp_path, 1), 0)
    assert real.model.shape == real.file.shape == (1, 3, 2, 2)
    assert real.model[0, 0, 0, 0] == pytest.approx(-2)
    # Height and width change by different factors, so that they cannot be exchanged unnoticed.
    assert [batch.model.shape for batch in (first, second)] == [(2, 3, 6, 12), (2, 3, 8, 7)]
    assert not (first.is_real)
    assert not (second.is_real)
    assert [batch.examples.tolist() for batch in (first, second)] == [[0, 1], [0, 1]]


def test_random_examples_depend_on_the_seed(pair: ExportPair) -> None:
    def drawn(seed: int) -> Any:
        return next(iter(CheckInputs(pair, None, seed))).model

    assert np.array_equal(drawn(1), drawn(1))
    assert not np.array_equal(drawn(1), drawn(2))
    assert CheckInputs(pair, None, 7).description == "noise from seed 7 (no data given)"
    assert CheckInputs(pair, None, 7).count == 10
    assert drawn(1).shape == (1, 3, 4, 6)


def test_a_free_size_is_one_that_the_model_takes(pair: ExportPair) -> None:
    model = SavedModel(pair.model.module, "logits", None, None, pair.model.preprocessing)
    unknown = ExportPair.open(model, pair.path)
    assert next(iter(CheckInputs(unknown, None, 0))).model.shape == (1, 3, 64, 64)
    refusing = replace(unknown, module=nn.Linear(5, 2))
    with pytest.raises(OnnxError, match="leaves the size of its input free"):
        CheckInputs(refusing, None, 0)


def test_random_inputs_of_an_int8_file_are_pixels_where_the_preprocessing_is_known(
    pair: ExportPair,
) -> None:
    """It is calibrated for the values that pixels give."""
    int8 = replace(pair, metadata=replace(pair.metadata, precision="int8"))
    unknown = replace(int8, model=replace(int8.model, preprocessing=None))
    assert [each.needs_images for each in (pair, int8, unknown)] == [False, True, False]


def test_a_random_mask_holds_both_values(pair: ExportPair) -> None:
    leaf = InputShape(("N", 100), "bool")
    mask = CheckInputs(pair, None, 0)._draw(leaf, (2, 100), range(10))
    assert mask.dtype == bool
    assert 50 < mask.sum() < 150


@pytest.mark.parametrize("weight", [0.1, 0.0])
def test_outputs_of_changing_sizes_are_compared_within_a_batch(
    weight: float, tmp_path: Path
) -> None:
    """A network that sees large values only is no constant one, whatever the sizes; zeros are."""
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Threshold(1000.0, 0.0))
    nn.init.constant_(network[0].weight, weight)
    export(network, tmp_path / "image.onnx", input_shape="3x?x?")
    report = check(network, tmp_path / "image.onnx", input_shape="3x?x?")
    failed = [finding.name for finding in report.findings if not finding.passed]
    assert failed == ([] if weight else ["input"])


@pytest.mark.parametrize("keep_size", [True, False])
def test_pixels_and_images_are_preprocessed_and_inputs_are_not(keep_size: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 4), np.uint8)
    floats, doubled = pixels.astype(np.float32), Preprocessing(size=(8, 8), value_range=255)
    size = 4 if keep_size else 8
    for images in (pixels, list(pixels.transpose(0, 2, 3, 1)), [Image.new("RGB", (4, 4))] * 2):
        is_list = isinstance(images, list) and isinstance(images[0], np.ndarray)
        found = _to_inputs(images, doubled, keep_size)
        if is_list:  # A list of arrays is one for each input.
            assert found is images
        else:
            assert found.shape == (2, 3, size, size)
    for inputs in (floats, floats[:, 0, 0], [floats, floats]):
        assert _to_inputs(inputs, doubled, keep_size) is inputs
        assert _to_inputs(inputs, None, keep_size) is inputs
    with pytest.raises(InferenceError, match="no preprocessing, so it cannot read images"):
        _to_inputs(pixels, None, keep_size)
    rows = pixels[:, 0, 0]  # Numbers of two examples, not an image.
    assert _to_inputs(rows, None, keep_size) is rows
