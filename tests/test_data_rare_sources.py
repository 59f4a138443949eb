"""Rules of data that only rare sources show: shards of no split, labels below the first, BGR."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from data_support import RANDOM, archive, png
from PIL import Image
from pyarrow import parquet

from torchlift.converters import t7
from torchlift.converters.errors import TorchliftError
from torchlift.converters.images.errors import ImageError
from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.t7 import LuaTable
from torchlift.transfer import data as data_package
from torchlift.transfer.data import (
    Augmentation,
    Batches,
    BatchPlan,
    Dataset,
    ImageFiles,
    dataset_from,
    open_data,
    select_classes,
    split,
)
from torchlift.transfer.data.array_layout import build_dataset_of_splits
from torchlift.transfer.data.augmentation import jitter
from torchlift.transfer.data.description import find_duplicates
from torchlift.transfer.data.image_files import FileSlice
from torchlift.transfer.data.image_folder_index import read_index
from torchlift.transfer.data.lua_tables import label_array
from torchlift.transfer.data.readers import ReadOptions
from torchlift.transfer.data.readers.tables import dataset_of_table
from torchlift.transfer.data.remote_files import RemoteFile
from torchlift.transfer.errors import DataError

PIXELS = RANDOM.integers(0, 256, (8, 3, 6, 8), np.uint8)


@pytest.mark.parametrize(
    ("other", "splits"), [("val-0.tar", ["train", "val"]), ("more-0.tar", None)]
)
def test_archives_have_splits_where_each_name_tells_one(
    other: str, splits: list[str] | None, tmp_path: Path
) -> None:
    archive(tmp_path / "train-0.tar", a__png=png(PIXELS[0]), a__cls=b"cat")
    archive(tmp_path / other, b__png=png(PIXELS[1]), b__cls=b"dog")
    data = open_data(tmp_path)
    assert len(data) == 2
    assert (None if data.splits is None else data.splits.tolist()) == splits


def test_labels_below_the_first_stay_so_where_a_split_orders_its_names_otherwise() -> None:
    splits: dict[str, tuple[np.ndarray, np.ndarray | None]] = {
        "train": (PIXELS[:2], np.array([1, 2])),
        "test": (PIXELS[2:6], np.array([-1, 0, 2, 4])),
    }
    names = {"train": ("cat", "dog", "owl"), "test": ("owl", "dog", "cat")}
    data = build_dataset_of_splits(splits, None, split_names=names, first_label=1)
    assert data.classes is not None
    assert data.classes.tolist() == [0, 1, -1, -1, 1, -1]


def test_an_image_that_is_listed_twice_without_a_label_has_none(tmp_path: Path) -> None:
    """A label that is no number differs from itself, and is no second label."""
    (tmp_path / "0.png").write_bytes(png(PIXELS[0]))
    table: dict[str, list[Any]] = {"path": ["0.png"] * 2, "label": [float("nan"), float("nan")]}
    data = dataset_of_table(table, lambda name: tmp_path / name, ReadOptions())
    assert (len(data), data.classes) == (2, None)
    with pytest.raises(DataError, match=r"0\.png has nan and 1\.0"):
        dataset_of_table({**table, "label": [float("nan"), 1.0]}, lambda _: b"", ReadOptions())


@pytest.mark.parametrize(("dtype", "examined"), [(np.uint8, 8), (np.float32, 4)])
def test_how_many_images_are_compared_depends_on_their_bytes(
    dtype: Any, examined: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight images of four numbers: of 32 bytes all, of 128 as many as have 64."""
    monkeypatch.setattr("torchlift.transfer.data.description._MOST_BYTES", 64)
    images = np.arange(32).reshape(8, 1, 2, 2).astype(dtype)
    assert find_duplicates({"": Dataset(images)}).examined == examined


def test_test_images_with_other_colors_are_noted() -> None:
    data = Dataset(PIXELS, np.arange(8) % 2)
    gray = Dataset(PIXELS[:2, :1], np.arange(2))
    note = "test images are 1×6×8, the others 3×6×8: each is converted"
    assert note in split(data, 0.25, test_data=gray).notes
    same = split(data, 0.25, test_data=data.take(np.arange(2))).notes
    assert not any("converted" in each for each in same)


def test_chosen_numbers_of_classes_are_those_of_the_source_also_the_second_time() -> None:
    """And once the files are decoded."""
    images = np.array([png(pixels) for pixels in PIXELS[:6]], object)
    data = ImageFiles(images, np.arange(6))
    chosen = select_classes(data, ["5", "3"])
    assert (chosen.names, chosen.source_classes) == (("5", "3"), (4, 2))
    assert chosen.in_memory().source_classes == (4, 2)
    again = select_classes(chosen, ["3"])
    assert (again.names, again.source_classes) == (("3",), (2,))


GOOD = [{"folder": "a", "label": None}, {"folder": "b", "label": "owl"}]


@pytest.mark.parametrize(
    "changed",
    [
        {"version": 2},
        {"version": None},
        {"classes": None},
        {"classes": 3},
        {"classes": ["a"]},
        {"classes": [{"folder": "a"}]},
        {"classes": [{"label": "a"}]},
        {"classes": [{"folder": 1, "label": "a"}]},
        {"classes": [{"folder": "a", "label": 1}]},
        {"classes": [*GOOD, {"folder": ["c"], "label": None}]},
    ],
)
def test_an_index_of_a_folder_is_whole_or_refused(changed: dict[str, Any], tmp_path: Path) -> None:
    document = {"format": "torchlift image folder", "version": 1, "classes": GOOD}
    (tmp_path / "dataset.json").write_text(json.dumps(document))
    index = read_index(tmp_path)
    assert index is not None
    assert dict(index.classes) == {"a": None, "b": "owl"}
    (tmp_path / "dataset.json").write_text(json.dumps(document | changed))
    with pytest.raises(ImageError, match=r"dataset\.json: not an index that this version reads"):
        read_index(tmp_path)


@pytest.mark.parametrize("text", ['{"version": 1, "classes": []}', "[1]", "{", "\xff", "[" * 10**5])
def test_a_file_of_the_indexs_name_of_another_kind_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_bytes(text.encode("latin-1"))
    assert read_index(tmp_path) is None


@pytest.mark.parametrize(("channels", "color"), [(1, "RGB"), (3, "gray")])
def test_images_in_memory_are_cropped_in_the_colors_of_the_network(
    channels: int, color: Any
) -> None:
    batches = Batches(
        Dataset(PIXELS[:2, :channels]),
        Preprocessing(color),
        BatchPlan(2, 2),
        augmentation=Augmentation(resized_crop=0.5),
    )
    inputs, _ = next(batches.epoch(1))
    assert inputs.shape == (2, 4 - channels, 6, 8)


def test_a_list_of_two_images_of_one_row_is_two_images() -> None:
    rows = [PIXELS[index, 0, :1] for index in range(2)]
    data = dataset_from(LuaTable.from_list(rows))
    assert data.classes is None
    assert np.array_equal(data.images, np.stack(rows)[:, None])


def test_names_beside_the_images_of_a_split_are_its_own() -> None:
    """`{trainData = {data, labels, classes}, testData = …}`, which order their names otherwise."""

    def part(*names: str) -> LuaTable:
        entries = {"data": PIXELS[:2], "labels": np.array([1, 2])}
        return LuaTable(entries | {"classes": LuaTable.from_list([*names])})

    data = dataset_from(LuaTable({"trainData": part("cat", "dog"), "testData": part("dog", "cat")}))
    assert data.names == ("cat", "dog")
    assert data.classes is not None
    assert data.classes.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("header", [("path", "label"), ("Path", "LABEL"), (" path ", "label")])
def test_columns_of_a_parquet_table_are_found_however_they_are_spelled(
    header: tuple[str, str], tmp_path: Path
) -> None:
    for index in range(2):
        (tmp_path / f"{index}.png").write_bytes(png(PIXELS[index]))
    columns = dict(zip(header, (["0.png", "1.png"], ["dog", "cat"]), strict=True))
    parquet.write_table(pyarrow.table({**columns, "note": [1, 2]}), tmp_path / "t.parquet")
    data = open_data(tmp_path / "t.parquet")
    assert data.names == ("cat", "dog")


@pytest.mark.parametrize("count", [7, 9])
def test_a_plan_is_for_as_many_images_as_there_are(count: int) -> None:
    with pytest.raises(DataError, match=f"a plan for {count} images, but 8 images"):
        Batches(Dataset(PIXELS), Preprocessing(), BatchPlan(count, 2))


def test_a_part_of_a_file_ends_where_it_ends(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    assert FileSlice(tmp_path / "f", 2, 3).read() == b"234"


def test_the_gray_of_an_image_does_not_depend_on_the_order_of_its_colors() -> None:
    pixels = torch.from_numpy(PIXELS)
    for factors in ((1.0, 0.3, 1.0), (1.0, 1.0, 0.2)):
        given = [torch.full((8,), factor) for factor in factors]
        reversed_colors = jitter(pixels.flip(1), given, bgr=True)
        assert torch.equal(reversed_colors.flip(1), jitter(pixels, given))


def test_augmentation_leaves_the_pixels_that_it_is_given() -> None:
    pixels = torch.from_numpy(PIXELS.copy())
    everything = Augmentation(flip=True, crop_padding=2, brightness=0.5, contrast=0.5)
    changed = everything(pixels, np.full((8, 6), 0.1, np.float32))
    assert not torch.equal(changed, pixels)
    assert np.array_equal(pixels, PIXELS)


def test_files_at_an_address_are_in_the_order_of_their_paths(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed = ["r/b/1.png", "r/a/2.png", "r/a/10.png"]
    monkeypatch.setattr(RemoteFile, "_system", SimpleNamespace(find=lambda path: listed))
    found = [file.path for file in RemoteFile("memory://r", "r").files()]
    assert found == ["r/a/10.png", "r/a/2.png", "r/b/1.png"]


@pytest.mark.parametrize("wrapped", [False, True])
def test_labels_may_be_a_list_in_a_text(wrapped: bool) -> None:
    """As `torch.serialize` writes it."""
    labels: Any = LuaTable.from_list([2, np.array([1.0]), 3])
    found = label_array(t7.dumps(labels) if wrapped else labels)
    assert found.tolist() == [2, 1, 3]


def test_what_needs_pillow_says_so_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = "torchlift.converters.requirements.is_installed"
    monkeypatch.setattr(installed, lambda package: package != "PIL")
    with pytest.raises(TorchliftError, match=r"torchlift\.transfer\.data\.Dataset needs pillow"):
        data_package.__getattr__("Dataset")
    with pytest.raises(AttributeError, match="has no attribute 'Datasets'"):
        data_package.__getattr__("Datasets")


def test_a_part_of_a_file_equals_a_file_of_the_same_bytes(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[0].transpose(1, 2, 0)).save(tmp_path / "0.png")
    size = (tmp_path / "0.png").stat().st_size
    files = ImageFiles(np.array([tmp_path / "0.png", FileSlice(tmp_path / "0.png", 0, size)]))
    assert find_duplicates({"": files}).repeated == (("", 1),)
