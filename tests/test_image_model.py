"""What an `ImageModel` does around its network, each step by itself.

The network is a stand-in here. What it needs beside an image, and what its outputs are taken for,
is worked out by hand or by Pillow.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from torchlift.converters.images import Preprocessing, PreprocessingError
from torchlift.converters.images.image_to_image import ImageToImage, SaidOutput
from torchlift.converters.inference import ImageModel, InferenceError
from torchlift.converters.inference.image_model import _colored


def stand_in(steps: ImageToImage | None = None, **attributes: Any) -> Any:
    """A predictor that says of itself what is given, and gives what it is given."""
    said = {"provider": "none", "labels": None, "preprocessing": Preprocessing()}
    predictor = SimpleNamespace(image_to_image=steps, output_kind="features", **said)
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
    scores[0, 0, 1] = 0.3
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
