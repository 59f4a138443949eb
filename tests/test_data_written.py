"""A dataset as a folder of PNG files: their places and names, and how the folder is replaced."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow
import pytest
from data_support import RANDOM, in_memory, png
from PIL import Image
from pyarrow import parquet

from torchlift.converters import t7
from torchlift.converters.errors import NotFiniteError
from torchlift.transfer.data import Dataset, open_data
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


def test_what_lies_beside_the_folders_of_splits_is_named(tmp_path: Path) -> None:
    """Images in the folder itself, and folders that are no split."""
    for place in ("train/a", "train/b", "notes", "."):
        (tmp_path / place).mkdir(exist_ok=True, parents=True)
        Image.fromarray(PIXELS[0].transpose(1, 2, 0)).save(tmp_path / place / "x.png")
    data = in_memory(tmp_path)
    assert data.ids.tolist() == ["train/a/x.png", "train/b/x.png"]
    assert data.notes == ("left out, in no class folder: 2 (x.png, notes)",)


def test_files_of_one_name_in_two_folders_elsewhere_are_two(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for index, place in enumerate(("x.parquet", "data/x.parquet")):
        table = pyarrow.table({"image": [png(PIXELS[index])], "label": [index]})
        parquet.write_table(table, tmp_path / "x.parquet")
        memory.pipe(f"/twice/{place}", (tmp_path / "x.parquet").read_bytes())
    data = in_memory("memory://twice")
    assert np.array_equal(data.images, PIXELS[:2])
    memory.rm("/twice", recursive=True)


@pytest.mark.parametrize(
    ("images", "kind"), [(np.full((2, 1, 2, 2), np.nan), NotFiniteError), (np.ones(2), DataError)]
)
def test_what_is_wrong_with_a_t7_keeps_its_kind_and_names_the_file(
    images: np.ndarray, kind: Any, tmp_path: Path
) -> None:
    t7.save(t7.LuaTable({"data": images, "label": np.array([1, 2])}), tmp_path / "d.t7")
    with pytest.raises(kind, match=r"d\.t7: images") as error:
        open_data(tmp_path / "d.t7")
    assert type(error.value) is kind


@pytest.mark.parametrize(
    ("place", "is_fashion"),
    [
        ("FashionMNIST/raw", True),
        ("fashion-mnist", True),
        ("data/FASHION/x", True),
        ("mnist", False),
    ],
)
@pytest.mark.parametrize("relative", [False, True])
def test_clothes_are_known_by_a_folder_above(
    place: str, is_fashion: bool, relative: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / place
    folder.mkdir(parents=True)
    for name, array in (("images-idx3", PIXELS[:2, 0]), ("labels-idx1", np.uint8([9, 0]))):
        head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        (folder / f"t10k-{name}-ubyte").write_bytes(head + array.tobytes())
    monkeypatch.chdir(folder)
    data = in_memory("." if relative else folder)
    assert data.names is not None
    assert (data.names[9], len(data.names)) == ("Ankle boot" if is_fashion else "9", 10)
    assert bool(data.notes) is is_fashion
    assert data.splits.tolist() == ["test", "test"]
