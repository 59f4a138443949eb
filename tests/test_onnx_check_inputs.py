"""Which examples a check runs, in which batches, and how images reach the model and the file."""

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
from PIL import Image
from torch import nn

from torchlift.converters.images import Preprocessing
from torchlift.converters.inference import InferenceError
from torchlift.converters.input_shapes import (
    BATCH_AXIS,
    SIZE_AXES,
    InputShape,
    InputShapes,
    parse_inputs,
)
from torchlift.converters.onnx import OnnxError, check, export
from torchlift.converters.onnx.checker.check_inputs import (
    CheckInputs,
    _model_sizes,
    _to_inputs,
    count_examples,
    indices_of,
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


@pytest.mark.parametrize(
    ("leaf", "beside", "values"),
    [
        (InputShape(("N", 9), "int64"), False, {4, 5, 6}),
        (InputShape(("N", 9), "int32"), True, {4, 5, 6}),
        (InputShape(("N", 9), "bool"), False, {0, 1}),
        # Bytes are indices, but a mask beside other inputs.
        (InputShape(("N", 9), "uint8"), False, {4, 5, 6}),
        (InputShape(("N", 9), "uint8"), True, {0, 1}),
    ],
)
def test_random_whole_numbers_are_indices_from_the_first_to_the_last_or_a_mask(
    leaf: InputShape, beside: bool, values: set[int], pair: ExportPair
) -> None:
    inputs = CheckInputs(pair, None, 0)
    inputs._axes = [0, 0] if beside else [0]
    drawn = inputs._draw(leaf, (50, 9), range(4, 7))
    assert drawn.dtype.name == leaf.dtype
    assert {int(number) for number in np.unique(drawn)} == values


def test_random_images_have_all_bytes_and_random_numbers_both_signs(pair: ExportPair) -> None:
    int8 = replace(pair, metadata=replace(pair.metadata, precision="int8"))
    images = CheckInputs(int8, None, 3)
    assert images.description == "pixels from seed 3 (no data given)"
    leaf = InputShape(("N", 3, 40, 40))
    drawn = images._draw(leaf, (2, 3, 40, 40), range(3))
    assert (drawn.dtype, drawn.min(), drawn.max()) == (np.uint8, 0, 255)
    # Pixels are normalized on their way, and keep their size.
    batch = next(iter(images))
    assert batch.model.shape == (1, 3, 4, 6)
    assert batch.model.min() < -1.5
    noise = CheckInputs(pair, None, 3)._draw(leaf, (2, 3, 40, 40), range(3))
    assert noise.dtype == np.float32
    assert abs(noise.mean()) < 0.05 < 0.9 < noise.std() < 1.1


class Multiples(nn.Module):
    """A network that takes heights and widths that are multiples of a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def forward(self, input: Any) -> Any:
        if input.shape[2] % self.step or input.shape[3] % self.step:
            raise ValueError("odd")
        return input.mean((2, 3))


@pytest.mark.parametrize(
    ("step", "sizes"),
    [
        (1, [(6, 12), (8, 7)]),
        (2, [(6, 12), (8, 6)]),
        (8, [(8, 8), (8, 8)]),
        (32, [(32, 32), (32, 32)]),
        (64, []),
    ],
)
def test_other_sizes_are_the_first_that_the_network_takes(
    step: int, sizes: list[tuple[int, int]], pair: ExportPair
) -> None:
    """By 1.5 and 2, and by 2 and 1.3: 4×6 in steps of 1, 2, 8 or 32."""
    inputs = CheckInputs(replace(pair, module=Multiples(step)), None, 0)
    found = [batch for batch in inputs if not batch.is_real]
    assert [batch.model.shape for batch in found] == [(2, 3, *size) for size in sizes]


def test_a_file_gets_no_size_that_it_has_and_one_of_fixed_sizes_no_other(pair: ExportPair) -> None:
    """8 steps, 1.5 times as many in multiples of 8, are 8 again; the next try is 32."""

    class Steps(nn.Module):
        def forward(self, input: Any) -> Any:
            if input.shape[1] % 8:
                raise ValueError("odd")
            return input

    inputs = CheckInputs(pair, None, 0)
    inputs._module, inputs._sizes = Steps(), [(8, 5)]
    inputs._shapes = InputShapes([InputShape(("N", "?", 5))])
    assert [*inputs._other_sizes()] == [[(32, 5)], [(16, 5)]]
    inputs._shapes = InputShapes([InputShape(("N", 8, 5))])
    assert [*inputs._other_sizes()] == []


@pytest.mark.parametrize(("needs_images", "dtype"), [(True, "float32"), (False, "uint8")])
def test_another_size_is_tried_as_it_is_run_then(
    needs_images: bool, dtype: str, pair: ExportPair
) -> None:
    """Two examples; images are numbers by then, whatever the file takes."""
    tried: list[Any] = []

    class Seen(nn.Module):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            tried.append((str(input.dtype), *input.shape))
            return input

    inputs = CheckInputs(pair, None, 0)
    inputs._module, inputs._needs_images = Seen(), needs_images
    inputs._shapes = InputShapes([InputShape(("N", 3, "?", "?"), "uint8")])
    sizes = [*inputs._other_sizes()]
    assert tried == [(f"torch.{dtype}", 2, *size) for ((*size,),) in sizes]
    assert len(sizes) == 2


def test_images_of_other_sizes_are_not_resized_beside_real_ones(
    pair: ExportPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ExportPair, "needs_images", True)
    batches = [*CheckInputs(pair, np.zeros((10, 3, 8, 8), np.uint8), 0)]
    assert {batch.model.shape[2:] for batch in batches if batch.is_real} == {(2, 2)}
    assert [b.model.shape for b in batches if not b.is_real] == [(2, 3, 6, 12), (2, 3, 8, 7)]
    assert [b.file.shape for b in batches if not b.is_real] == [(2, 3, 6, 12), (2, 3, 8, 7)]


class Least(nn.Module):
    """A network that takes images of so many rows, or more."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, input: Any) -> Any:
        if input.shape[2] < self.rows:
            raise ValueError("small")
        return input


def test_free_axes_are_as_the_model_has_them_and_further_inputs_as_the_file() -> None:
    def sizes(model: str | None, file: str) -> list[tuple[int, ...]]:
        known = None if model is None else parse_inputs(model)
        pair: Any = SimpleNamespace(
            model=SimpleNamespace(input_shapes=known),
            shapes=parse_inputs(file),
            module=Least(100),
        )
        return _model_sizes(pair)

    assert sizes("3x8x6", "3x?x?") == [(3, 8, 6)]
    assert sizes("3x8x6", "3x8x6,4") == [(3, 8, 6), (4,)]
    assert sizes(None, "3x8x6,4") == [(3, 8, 6), (4,)]
    # What the model leaves free is a size that it takes, whatever the file says.
    assert sizes("3x?x?", "3x8x6") == [(3, 128, 128)]


def test_pixels_go_through_the_preprocessing_of_each_side(pair: ExportPair) -> None:
    """That of the model where the file says none, as files of other programs do."""
    pixels = np.full((1, 3, 4, 4), 255, np.uint8)
    other = replace(pair.metadata, preprocessing=Preprocessing(size=(2, 2), value_range=255))
    unsaid = replace(pair.metadata, preprocessing=None)
    for metadata, of_file in ((pair.metadata, 2), (other, 255), (unsaid, 2)):
        batch = next(iter(CheckInputs(replace(pair, metadata=metadata), pixels, 0)))
        # (1 - 0.5) / 0.25 of the model.
        assert np.unique(batch.model).tolist() == [2]
        assert np.unique(batch.file).tolist() == [of_file]
    given = CheckInputs(pair, torch.zeros(4, 3, 4, 6), 0)
    assert (given.count, given.description, given.is_random) == (4, "data given (4)", False)


def test_examples_are_counted_and_taken_along_the_axis_of_each_input() -> None:
    first, second = np.arange(6).reshape(2, 3), np.arange(15).reshape(3, 5)
    indices = np.array([2, 0])
    assert count_examples([first, second], [1, 0]) == 3
    taken = take_examples([first, second], indices, [1, 0])
    assert taken[0].tolist() == [[2, 0], [5, 3]]
    assert taken[1].tolist() == [[10, 11, 12, 13, 14], [0, 1, 2, 3, 4]]
    # Axes of another number of inputs say nothing, and neither does one that an array has not.
    assert count_examples([second, second], [1]) == 3
    assert take_examples([second], indices, [1, 0])[0].shape == (2, 5)
    assert count_examples([second, np.arange(3)], [0, 1]) == 3
    for axes in (None, [0, 0], [1, 1]):
        with pytest.raises(InferenceError, match="of the same size in all of them"):
            count_examples([first, second], axes)


class Table(nn.Module):
    """A layer that looks indices up, as those of this package say it."""

    def __init__(self, **sizes: Any) -> None:
        super().__init__()
        for name, size in sizes.items():
            setattr(self, name, size)


@pytest.mark.parametrize(
    ("tables", "indices"),
    [
        ([{"largest_index": 4}, {"num_embeddings": 9}], range(1, 5)),
        ([{"num_classes": 3}, {"num_embeddings": 9}], range(1, 4)),
        ([{"num_embeddings": 0}], range(1, 2)),
        ([{"num_classes": None}], range(3)),
    ],
)
def test_every_kind_of_table_says_its_indices(tables: list[dict[str, Any]], indices: range) -> None:
    assert indices_of(nn.Sequential(*(Table(**sizes) for sizes in tables))) == indices


def test_images_that_keep_their_size_are_not_cropped_either() -> None:
    pixels = np.zeros((2, 3, 4, 6), np.uint8)
    cropped = Preprocessing(size=(8, 8), crop=(2, 2))
    assert _to_inputs(pixels, cropped, keep_size=True).shape == (2, 3, 4, 6)
    assert _to_inputs(pixels, cropped, keep_size=False).shape == (2, 3, 2, 2)
    # With preprocessing a single image is a batch of one.
    assert _to_inputs(pixels[0, 0], cropped, keep_size=True).shape == (1, 3, 4, 6)
