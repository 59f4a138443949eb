"""A dataset as a folder of PNG files: their places and names, and how the folder is replaced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_support import RANDOM, in_memory
from PIL import Image

from torchlift.transfer.data import Dataset
from torchlift.transfer.data.write_image_folder import write_image_folder
from torchlift.transfer.errors import DataError

PIXELS = RANDOM.integers(0, 256, (12, 3, 4, 5), np.uint8)


def places(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.png"))


def test_files_are_numbered_from_1_with_as_many_digits_as_the_last(tmp_path: Path) -> None:
    """So that their names are in the order of the images; a class without a name is a number."""
    classes = np.array([0, 10] + [1] * 10)
    write_image_folder(Dataset(PIXELS, classes), tmp_path / "i")
    expected = ["01/01.png", "02/03.png", "11/02.png"]
    assert [place for place in places(tmp_path / "i") if place in expected] == expected
    assert len(places(tmp_path / "i")) == 12
    again = in_memory(tmp_path / "i")
    assert np.array_equal(again.images, PIXELS)
    assert np.array_equal(again.classes, classes)
    assert again.names is None


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_a_file_has_the_colors_of_its_image(channels: int, mode: str, tmp_path: Path) -> None:
    write_image_folder(Dataset(PIXELS[:1, :channels]), tmp_path / "i")
    with Image.open(tmp_path / "i" / "1.png") as image:
        assert image.mode == mode
        values = np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
    assert np.array_equal(values, PIXELS[0, :channels])


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (("cat", "Cat", "CAT"), ["cat", "Cat-2", "CAT-3"]),
        (("straße", "STRASSE"), ["straße", "STRASSE-2"]),
        (("a", "a-2", "A"), ["a", "a-2", "A-3"]),
        ((" .cat. ", "a:b*c?"), ["cat", "a_b_c_"]),
        (("..", "/"), ["class", "_"]),
        (("é, (x) [y] +=@&'-", "日本"), ["é, (x) [y] +=@&'-", "日本"]),
        (("x" * 61, "y" * 59), ["x" * 60, "y" * 59]),
    ],
)
def test_folders_of_classes_differ_on_any_file_system(
    names: tuple[str, ...], folders: list[str], tmp_path: Path
) -> None:
    count = len(names)
    write_image_folder(Dataset(PIXELS[:count], np.arange(count), names), tmp_path / "i")
    expected = [f"{folder}/{number}.png" for number, folder in enumerate(folders, 1)]
    assert places(tmp_path / "i") == sorted(expected)
    text = (tmp_path / "i" / "dataset.json").read_text(encoding="utf-8")
    assert all(name in text for name in names)
    listed = json.loads(text)["classes"]
    pairs = zip(folders, names, strict=True)
    assert listed == [{"folder": folder, "label": label} for folder, label in pairs]


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (PIXELS[:2].astype(np.float32), "images of 3×4×5 float32 are no PNG files"),
        (PIXELS[:2, :2], "images of 2×4×5 uint8 are no PNG files"),
        (PIXELS[:2, 0, 0], "images of 5 uint8 are no PNG files"),
    ],
)
def test_numbers_that_are_no_pixels_are_refused(
    images: np.ndarray, said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said):
        write_image_folder(Dataset(images), tmp_path / "i")
    assert not [*tmp_path.iterdir()]


def test_a_folder_that_is_not_finished_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that is takes its place as a whole."""
    target = tmp_path / "i"
    write_image_folder(Dataset(PIXELS[:3]), target)
    saved: list[Any] = []
    save = Image.Image.save

    def fail(image: Image.Image, place: Path) -> None:
        if saved:
            raise OSError("no space")
        saved.append(place)
        save(image, place)

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", fail)
        with pytest.raises(Exception, match="no space"):
            write_image_folder(Dataset(PIXELS[4:6], np.array([0, 1]), ("a", "b")), target)
    assert saved
    assert places(target) == ["1.png", "2.png", "3.png"]
    assert [*tmp_path.iterdir()] == [target]
    write_image_folder(Dataset(PIXELS[4:6], np.array([0, 1]), ("a", "b")), target)
    assert places(target) == ["a/1.png", "b/2.png"]


@pytest.mark.parametrize("labeled", [True, False])
def test_splits_are_folders_where_there_are_classes(labeled: bool, tmp_path: Path) -> None:
    splits = np.array(["test", "train"])
    classes, names = (np.array([0, 1]), ("a", "b")) if labeled else (None, None)
    write_image_folder(Dataset(PIXELS[:2], classes, names, splits=splits), tmp_path / "i")
    expected = ["test/a/1.png", "train/b/2.png"] if labeled else ["1.png", "2.png"]
    assert places(tmp_path / "i") == expected
