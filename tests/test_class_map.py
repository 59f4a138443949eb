"""Maps of classes: their colors are PASCAL VOC's, and a PNG keeps the names of the classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from torchlift.converters.images.class_map import class_map, class_map_image, palette, png_text


@pytest.mark.parametrize(
    ("number", "color"),
    [
        # As in VOC's development kit: background, aeroplane, …, potted plant, …, tv/monitor, void.
        (0, (0, 0, 0)),
        (1, (128, 0, 0)),
        (3, (128, 128, 0)),
        (4, (0, 0, 128)),
        (8, (64, 0, 0)),
        (15, (192, 128, 128)),
        (16, (0, 64, 0)),
        (20, (0, 64, 128)),
        (255, (224, 224, 192)),
    ],
)
def test_a_class_has_the_color_of_pascal_voc(number: int, color: tuple[int, int, int]) -> None:
    image = class_map_image(np.full((2, 3), number, np.uint8))
    assert (image.mode, image.size) == ("P", (3, 2))
    assert image.convert("RGB").getpixel((2, 1)) == color
    assert len(set(zip(*[iter(palette())] * 3, strict=True))) == 256, "no two are the same"


def test_of_equal_scores_the_first_class_counts() -> None:
    scores = np.array([[[0.1, 2.0, 0.5]], [[0.1, -1.0, 0.75]], [[-0.5, 2.0, 0.75]]])
    found = class_map(scores)
    assert (found.tolist(), found.dtype) == ([[0, 0, 1]], np.uint8)
    many = np.zeros((256, 1, 1))
    many[255] = 1
    assert class_map(many).tolist() == [[255]]


@pytest.mark.parametrize("labels", [None, ["Straße", "空"]])
def test_a_png_keeps_the_names_of_the_classes_it_has(
    labels: list[str] | None, tmp_path: Path
) -> None:
    image = class_map_image(np.array([[0, 1]], np.uint8), labels)
    image.save(tmp_path / "map.png", pnginfo=png_text(image))
    with Image.open(tmp_path / "map.png") as kept:
        assert np.asarray(kept).tolist() == [[0, 1]]
        found = kept.info.get("labels")
    # As people read them.
    assert found is None or "Straße" in found
    assert (None if found is None else json.loads(found)) == labels
