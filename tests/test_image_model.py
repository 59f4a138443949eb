"""What an `ImageModel` does around its network, each step by itself.

The network is a stand-in here. What it needs beside an image, and what its outputs are taken for,
is worked out by hand or by Pillow.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import nn

from torchlift.converters.images import Preprocessing, PreprocessingError
from torchlift.converters.images.image_to_image import ImageToImage, SaidOutput
from torchlift.converters.inference import (
    ImageModel,
    InferenceError,
    Metadata,
    OnnxPredictor,
    TorchPredictor,
)
from torchlift.converters.inference.image_model import _colored
from torchlift.converters.saved import SavedModel


class Network(SimpleNamespace):
    """Gives what its attribute `function` makes of its inputs."""

    def __call__(self, inputs: np.ndarray) -> Any:
        return self.function(inputs)


def stand_in(steps: ImageToImage | None = None, **attributes: Any) -> Any:
    """A predictor that says of itself what is given, and gives what it is given."""
    said = {"provider": "none", "labels": None, "preprocessing": Preprocessing()}
    predictor = Network(image_to_image=steps, output_kind="features", **said)
    vars(predictor).update(attributes)
    return predictor


@pytest.mark.parametrize(
    ("border", "multiple", "margins"),
    [
        # Of 5×8 pixels: at the top, at the bottom, at the left, at the right.
        (0, 1, (0, 0, 0, 0)),
        (2, 1, (2, 2, 2, 2)),
        (0, 4, (0, 3, 0, 0)),
        # The border counts, too: 5 + 4 pixels become 12, and 8 + 4 stay.
        (2, 4, (2, 5, 2, 2)),
        (3, 8, (3, 8, 3, 5)),
    ],
)
def test_an_image_gets_its_border_and_then_the_size_that_the_network_takes(
    border: int, multiple: int, margins: tuple[int, int, int, int]
) -> None:
    model = ImageModel(stand_in(ImageToImage(1, "RGB", border=border, multiple=multiple)))
    pixels = np.arange(5 * 8 * 3, dtype=np.uint8).reshape(5, 8, 3)
    top, bottom, left, right = margins
    rows = [*[0] * top, *range(5), *[4] * bottom]
    columns = [*[0] * left, *range(8), *[7] * right]
    assert np.array_equal(model._extended(pixels), pixels[rows][:, columns])


def test_an_image_of_one_size_stays_as_the_network_gives_it() -> None:
    """Neither border nor multiple nor scale are of the image as it was: it has been resized."""
    steps = ImageToImage(1, "RGB", border=2, multiple=4, scale=2)
    asked: list[Any] = []

    def enlarge(inputs: np.ndarray) -> np.ndarray:
        asked.append(inputs.shape)
        return inputs.repeat(2, 2).repeat(2, 3)

    own = Preprocessing(size=(4, 6))
    found = ImageModel(stand_in(steps, preprocessing=own, function=enlarge))(
        np.zeros((9, 9), np.uint8)
    )
    assert (asked, found.size) == ([(1, 3, 4, 6)], (12, 8))


@pytest.mark.parametrize(
    ("channels", "labels", "kind", "is_map"),
    [
        (1, None, "features", False),
        (1, ["a"], "features", False),
        (1, None, "probabilities", False),
        (2, None, "features", True),
        (3, None, "features", False),
        (3, None, "logits", False),
        (3, ["a", "b", "c"], "features", True),
        (3, ["a", "b"], "features", False),
        (3, None, "log_probabilities", True),
        (4, None, "features", True),
        (256, None, "features", True),
    ],
)
def test_channels_are_classes_where_names_scores_or_their_number_tell(
    channels: int, labels: list[str] | None, kind: str, is_map: bool
) -> None:
    model = ImageModel(stand_in(labels=labels, output_kind=kind))
    assert model._is_class_map(np.zeros((channels, 2, 2))) is is_map


def test_probabilities_are_those_of_classes_where_they_add_up_to_one_at_each_pixel() -> None:
    model = ImageModel(stand_in(output_kind="probabilities"))
    scores = np.full((4, 1, 2), 0.25)
    assert model._is_class_map(scores)
    assert model._is_class_map(scores + 1e-4)
    for more in (0.0012, -0.0012, 0.05):
        scores[0, 0, 1] = 0.25 + more
        assert not model._is_class_map(scores)


def test_a_map_has_as_many_classes_as_a_byte_tells_apart() -> None:
    with pytest.raises(InferenceError, match="257 channels, an image has 1 or 3 and a map at most"):
        ImageModel(stand_in())._is_class_map(np.zeros((257, 2, 2)))


def test_a_brighter_image_has_the_colors_of_the_enlarged_one_by_lanczos() -> None:
    """waifu2x's reconstruct.lua: Y from the network, U and V from the image made larger."""
    image = Image.fromarray(np.random.default_rng(0).integers(90, 160, (5, 6, 3), np.uint8))
    for larger in (image, image.resize((12, 10), Image.Resampling.LANCZOS)):
        colors = np.asarray(larger).astype(float)
        brightness = colors @ [0.299, 0.587, 0.114]
        found = _colored(np.rint(brightness).astype(np.uint8), np.asarray(image))
        assert np.abs(found - colors).max() <= 1
        brighter = _colored(np.rint(brightness + 20).astype(np.uint8), np.asarray(image))
        assert np.abs(brighter - (colors + 20)).max() <= 1
    other = np.asarray(image.resize((12, 10), Image.Resampling.BICUBIC)).astype(float)
    assert np.abs(colors - other).max() > 2, "the methods would be told apart"


@pytest.mark.parametrize(
    ("layers", "hints"),
    [([nn.Tanh()], True), ([nn.Tanh(), nn.ReLU()], False), ([nn.Sequential(nn.Tanh())], True)],
)
def test_a_tanh_at_the_end_suggests_a_range_of_values(layers: list[nn.Module], hints: bool) -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1), *layers)
    predictors = [TorchPredictor(SavedModel(network, "features"), "cpu")]
    for predictor in (*predictors, stand_in(preprocessing=None)):
        with pytest.raises(InferenceError, match="what values the network takes is not") as caught:
            ImageModel(predictor)
        said = "its last layer, a Tanh, suggests -1,1" in str(caught.value)
        assert said is (hints and predictor is predictors[0])


def test_a_file_that_says_all_itself_must_not_be_contradicted() -> None:
    predictor = stand_in(ImageToImage(1, "RGB"))
    assert ImageModel(predictor, SaidOutput(255)).output.value_range == 255
    ImageModel(predictor, SaidOutput(1), fixed=True)
    with pytest.raises(PreprocessingError, match="output_range=… is not the model's own"):
        ImageModel(predictor, SaidOutput(255), fixed=True)


def test_a_mask_is_given_where_one_is_taken_and_has_the_size_of_the_image() -> None:
    image, mask = np.zeros((3, 4, 3), np.uint8), np.zeros((3, 4), np.uint8)
    painter = ImageModel(stand_in(ImageToImage(1, "RGB", scale=1, takes_mask=True)))
    with pytest.raises(InferenceError, match="give mask=FILE"):
        painter(image)
    with pytest.raises(InferenceError, match="the mask is 4×3, the image 3×4"):
        painter(image, mask.T)
    with pytest.raises(InferenceError, match="takes no mask"):
        ImageModel(stand_in(ImageToImage(1, "RGB")))(image, mask)


#: Bytes in and out, in float32.
GRAY, COLOR = Preprocessing("gray", value_range=255), Preprocessing(value_range=255)


def test_a_gray_image_has_no_colors_to_keep() -> None:
    steps = ImageToImage(255, "gray", keeps_color=True)
    model = ImageModel(stand_in(steps, preprocessing=GRAY, function=lambda inputs: inputs + 10))
    made = model(np.full((2, 3), 50, np.uint8))
    assert (made.mode, np.asarray(made).tolist()) == ("L", [[60] * 3] * 2)
    # 0.299 of red, and 10 more of all colors.
    made = model(np.full((2, 3, 3), [100, 0, 50], np.uint8))
    assert np.asarray(made)[0, 0].tolist() == [110, 10, 60]


def test_a_colored_mask_is_as_bright_as_it_looks() -> None:
    """0.299 of red, 0.587 of green and 0.114 of blue: a hole begins at 51."""
    model = ImageModel(stand_in(ImageToImage(1, "RGB", takes_mask=True)))
    mask = np.array([[[100, 0, 0], [0, 100, 0], [255, 0, 0], [0, 0, 255]]], np.uint8)
    for given in (mask, Image.fromarray(mask)):
        assert model._holes(given, (1, 4)).tolist() == [[False, True, True, False]]  # type: ignore[union-attr]


def test_a_hole_begins_at_a_fifth_of_white() -> None:
    model = ImageModel(stand_in(ImageToImage(1, "RGB", takes_mask=True)))
    holes = model._holes(np.array([[0, 50, 51, 52, 255]], np.uint8), (1, 5))
    assert holes is not None
    assert holes.tolist() == [[False, False, True, True, True]]


def test_holes_are_filled_in_tiles_as_in_the_whole_image() -> None:
    """The network gives the pixel above, or the mask of the pixel below."""

    def near(inputs: np.ndarray) -> np.ndarray:
        padded = np.pad(inputs, ((0, 0), (0, 0), (1, 1), (0, 0)))
        return np.asarray(padded[:, :3, :-2] / 2 + padded[:, 3:, 2:] / 4)

    random = np.random.default_rng(0)
    image = random.integers(0, 256, (45, 50, 3), np.uint8)
    mask = np.where(random.random((45, 50)) < 0.5, 255, 0).astype(np.uint8)
    steps = ImageToImage(1, "RGB", scale=1, takes_mask=True)
    whole, tiled = (
        np.asarray(ImageModel(stand_in(steps, function=near), tile=tile)(image, mask))
        for tile in (None, 20)
    )
    assert np.array_equal(tiled, whole)
    holes = mask > 0
    # A hole is 0 for the network: one below and none above are a quarter of white.
    assert np.array_equal(whole[~holes], image[~holes])
    alone = holes[1:-1] & holes[:-2] & holes[2:]
    assert set(whole[1:-1][alone].ravel().tolist()) == {64}


def test_a_hole_at_the_border_goes_on_where_the_image_is_extended() -> None:
    """As the image does: the network must not take what stands there for known pixels."""
    seen: list[np.ndarray] = []

    def remember(inputs: np.ndarray) -> np.ndarray:
        seen.append(inputs)
        return inputs[:, :3]

    steps = ImageToImage(1, "RGB", border=1, multiple=4, scale=1, takes_mask=True)
    mask = np.zeros((2, 3), np.uint8)
    mask[-1, -1] = 255
    ImageModel(stand_in(steps, function=remember))(np.full((2, 3, 3), 255, np.uint8), mask)
    expected = np.zeros((4, 8))
    expected[2:, 3:] = 1
    assert np.array_equal(seen[0][0, 3], expected)
    assert np.array_equal(seen[0][0, :3], np.broadcast_to(1 - expected, (3, 4, 8)))


def flattened(border: int, missing: int) -> Any:
    """A network that makes an image twice as large, cuts its border off, and flattens it."""

    def run(inputs: np.ndarray) -> np.ndarray:
        larger = inputs.repeat(2, axis=2).repeat(2, axis=3)
        cut = slice(border, larger.shape[2] - border - missing)
        return larger[:, :, cut, border : larger.shape[3] - border - missing].reshape(1, -1)

    return run


def test_a_flattened_image_gets_its_height_and_width_back() -> None:
    """waifu2x's networks end in nn.View(-1); convolutions cut off as much along both sides."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    larger = pixels.repeat(2, axis=0).repeat(2, axis=1)
    for border in (0, 3):
        steps = ImageToImage(255, "RGB", border=border, scale=2)
        network = stand_in(steps, preprocessing=COLOR, function=flattened(2 * border, 0))
        assert np.array_equal(np.asarray(ImageModel(network)(pixels)), larger)
        gray = ImageToImage(255, "gray", border=border, scale=2)
        network = stand_in(gray, preprocessing=GRAY, function=flattened(2 * border, 0))
        made = ImageModel(network)(pixels[..., 0])
        assert np.array_equal(np.asarray(made), larger[..., 0])
    network = stand_in(
        ImageToImage(255, "RGB", scale=2), preprocessing=COLOR, function=flattened(0, 3)
    )
    with pytest.raises(InferenceError, match="gives 5×7 pixels for 4×5, fewer than the 8×10 of"):
        ImageModel(network)(pixels)
    for cut, given in ((np.s_[:, :, 1:], "3×5"), (np.s_[..., 1:], "4×4")):
        network = stand_in(
            ImageToImage(255, "RGB", scale=1),
            preprocessing=COLOR,
            function=lambda inputs, cut=cut: inputs[cut],
        )
        with pytest.raises(InferenceError, match=f"gives {given} pixels for 4×5, fewer than the"):
            ImageModel(network)(pixels)
    for scale, function, given in (
        (None, flattened(0, 0), "240"),
        (2, lambda inputs: np.zeros((1, 7)), "7"),
        (2, lambda inputs: np.zeros(1), "a number"),
        (None, lambda inputs: np.zeros((1, 3, 0, 5)), "3×0×5"),
    ):
        network = stand_in(
            ImageToImage(255, "RGB", scale=scale), preprocessing=COLOR, function=function
        )
        with pytest.raises(InferenceError, match=f"gives no image: its output is {given}$"):
            ImageModel(network)(pixels)


def test_outputs_of_a_graph_that_prepares_images_are_as_the_inputs_of_its_network() -> None:
    predictor = object.__new__(OnnxPredictor)
    baked = Preprocessing("BGR", value_range=(-1, 1))
    predictor.metadata = Metadata(baked_preprocessing=baked)
    predictor.preprocessing = Preprocessing(resize="none", value_range=255)
    predictor.provider, predictor.labels, predictor.image_to_image = "none", None, None
    predictor.output_kind = "features"
    model = ImageModel(predictor)
    assert model.output == ImageToImage((-1, 1))
    made, is_map = model._pixels(np.float32([-1, 0.5, 1]).reshape(3, 1, 1))
    assert (made.tolist(), is_map) == ([[[255, 191, 0]]], False)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (SaidOutput(255, "BGR", mean=True), ""),
        (SaidOutput((-1, 1)), "output_range=… is not the model's own, which is 255"),
        (SaidOutput(color="RGB"), "output_color=… is not the model's own, which is BGR"),
        (SaidOutput(mean=True), ""),
    ],
)
def test_what_is_said_of_outputs_is_the_models_own(said: SaidOutput, problem: str) -> None:
    """A color that the model leaves open is that of its inputs."""
    inputs = Preprocessing("BGR", value_range=255, mean=(1.0, 2.0, 3.0), std=(2.0,))
    own = ImageToImage(255, None, mean=inputs.mean, std=inputs.std)
    if problem:
        with pytest.raises(PreprocessingError, match=problem):
            said.require_same(own, inputs)
    else:
        said.require_same(own, inputs)
    said.require_same(None, inputs)


def test_a_mean_of_outputs_that_the_model_does_not_add_is_refused() -> None:
    inputs = Preprocessing(value_range=255, mean=(1.0, 2.0, 3.0))
    with pytest.raises(PreprocessingError, match="output_mean=… is not the model's own, which is"):
        SaidOutput(mean=True).require_same(ImageToImage(255), inputs)


def test_outputs_are_undone_in_the_order_in_which_inputs_are_prepared() -> None:
    """(value · std + mean − low) · 255 / (high − low), in red, green and blue."""
    steps = ImageToImage((-1, 1), "BGR", mean=(0.5, 0.0, -0.5), std=(0.5, 1.0, 2.0))
    output = np.array([0.2, -0.4, 0.1], np.float32).reshape(3, 1, 1)
    blue, green, red = ((x + 1) * 127.5 for x in (0.2 * 0.5 + 0.5, -0.4, 0.1 * 2 - 0.5))
    assert steps.image(output)[0, 0].tolist() == [round(red), round(green), round(blue)]
    assert output.ravel().tolist() == pytest.approx([0.2, -0.4, 0.1])
    assert ImageToImage.from_json(json.loads(json.dumps(steps.to_json()))) == steps


def test_a_std_below_1_makes_outputs_smaller() -> None:
    steps = ImageToImage(255, "gray", std=(0.5,))
    assert steps.image(np.full((1, 1, 1), 100, np.float32)).item() == 50


@pytest.mark.parametrize(("scale", "is_taken"), [(0, False), (1, True), (64, True), (65, False)])
def test_an_image_becomes_larger_by_a_whole_number(scale: int, is_taken: bool) -> None:
    values = {"value_range": 1, "scale": scale}
    if is_taken:
        assert ImageToImage.from_json(values).scale == scale
    else:
        with pytest.raises(PreprocessingError, match="scale is"):
            ImageToImage.from_json(values)
