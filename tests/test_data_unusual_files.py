"""Files of data that are unusual and right, and files that look right and are not."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow
import pytest
import torch
from data_support import RANDOM, archive, in_memory, png
from PIL import Image
from pyarrow import parquet
from test_data_idx import write_idx

from torchlift.converters import t7
from torchlift.converters.images import Preprocessing
from torchlift.converters.t7 import LuaTable
from torchlift.transfer.data import (
    Batches,
    BatchPlan,
    Dataset,
    ImageFiles,
    Splits,
    dataset_from,
    open_data,
    read_dataset,
    select_classes,
)
from torchlift.transfer.data.array_layout import group_by_split
from torchlift.transfer.data.description import describe_data, find_duplicates
from torchlift.transfer.data.image_files import FileSlice, name_of, readable
from torchlift.transfer.data.image_folder_index import ClassIndex
from torchlift.transfer.data.readers.registry import find_reader
from torchlift.transfer.data.remote_files import RemoteFile
from torchlift.transfer.data.row_labels import classes_of
from torchlift.transfer.errors import DataError

PIXELS = RANDOM.integers(0, 256, (6, 3, 4, 5), np.uint8)


def test_labels_of_an_npz_are_texts_in_all_splits_or_in_none(tmp_path: Path) -> None:
    texts, numbers = np.array(["a", "b"]), np.array([0, 1])
    for train, test in ((texts, numbers), (numbers, texts)):
        arrays = {"x_train": PIXELS[:2], "y_train": train, "x_test": PIXELS[2:4], "y_test": test}
        np.savez(tmp_path / "d.npz", allow_pickle=False, **arrays)
        with pytest.raises(DataError, match=r"d\.npz: the labels are not numbers"):
            open_data(tmp_path / "d.npz")


def test_names_of_an_npz_are_read_from_a_column_and_not_from_objects(tmp_path: Path) -> None:
    column = np.array([["cat"], ["dog"]])
    np.savez(tmp_path / "d.npz", x=PIXELS[:2], y=[0, 1], classes=column)
    assert in_memory(tmp_path / "d.npz").names == ("cat", "dog")
    np.savez(tmp_path / "d.npz", x=PIXELS[:2], y=[0, 1], classes=column.astype(object))
    with pytest.raises(DataError, match=r"classes\.npy holds Python objects, which are not loaded"):
        open_data(tmp_path / "d.npz")


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_arrays_of_an_npz_are_of_either_version_of_the_format(
    version: tuple[int, int], tmp_path: Path
) -> None:
    """The second one has a longer length of its header; NumPy writes it for many fields."""
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        for name, array in (("x", PIXELS), ("y", np.arange(6))):
            stream = io.BytesIO()
            np.lib.format.write_array(stream, array, version)
            archive.writestr(f"{name}.npy", stream.getvalue())
    data = in_memory(tmp_path / "d.npz")
    assert np.array_equal(data.images, PIXELS)
    assert data.classes is not None
    assert data.classes.tolist() == [*range(6)]


def test_an_index_keeps_classes_without_images_and_names_all_or_none() -> None:
    index = ClassIndex({"owl": "Owl", "cat": None})
    assert index.ordered({"cat", "bee", "ant"}) == ("owl", "cat", "ant", "bee")
    assert index.labels(("owl", "ant")) == ("Owl", "ant")
    assert index.labels(("owl", "cat")) is None
    assert index.labels(()) == ()


@pytest.mark.parametrize("images", [True, False])
def test_every_split_is_decoded(images: bool) -> None:
    """What is in memory stays as it is; a split without images has no size."""
    files = ImageFiles(
        np.array([png(each) for each in PIXELS], object), np.arange(6), tuple("abcdef")
    )
    parts = [files.take(np.array(rows, np.int64)) for rows in ([0, 1], [2], [3, 4, 5])]
    if not images:
        parts = [part.take(np.array([], np.int64)) for part in parts]
    train, val, test = parts
    decoded = Splits(train, val, test, ("n",)).in_memory()
    assert decoded.notes == ("n",)
    found = [decoded.train, decoded.val, decoded.test]
    assert all(isinstance(part, Dataset) for part in found)
    assert [len(part) for part in found] == ([2, 1, 3] if images else [0, 0, 0])
    assert all(part.names == tuple("abcdef") for part in found)
    if images:
        assert np.array_equal(np.concatenate([part.images for part in found]), PIXELS)
        assert decoded.in_memory().test is decoded.test


def test_images_beside_an_empty_folder_have_no_classes(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(png(PIXELS[0]))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("no image")
    data = in_memory(tmp_path)
    assert (data.classes, len(data)) == (None, 1)


def test_a_whole_dataset_in_a_table_has_no_splits_though_some_stand_beside_it() -> None:
    """`{data = …, labels = …, testData = …}`: the images at the top are meant."""
    table = LuaTable({"data": PIXELS[:2], "labels": np.array([1, 2]), "testData": PIXELS[2:4]})
    data = dataset_from(table)
    assert (len(data), data.splits) == (2, None)
    assert np.array_equal(data.images, PIXELS[:2])


def test_more_files_than_are_decoded_at_a_time_are_kept_in_order() -> None:
    """Of 130 files three parts, none of which has as many as are decoded at most."""
    stored = []
    for index in range(130):
        stream = io.BytesIO()
        Image.new("L", (1, 1), index).save(stream, "png")
        stored.append(stream.getvalue())
    files = ImageFiles(np.array(stored, object), color="gray")
    batches = Batches(files, Preprocessing("gray"), BatchPlan(130, 130), workers=0)
    ((inputs, _),) = batches.epoch(0)
    assert torch.equal((inputs.flatten() * 255).round(), torch.arange(130.0))


@pytest.mark.parametrize(
    "text", ["NA", "NaN", "nan", "N/A", "n/a", "None", "NULL", "<NA>", "Inf", "-inf", "+Inf"]
)
def test_what_programs_write_for_no_number_is_no_name_among_numbers(text: str) -> None:
    with pytest.raises(DataError, match=rf"1 of 3 .* the first in row 2, which has .*{text[-2:]}"):
        classes_of(["1", text, "2"])
    classes, names, _ = classes_of(["a", text, "2"])
    assert classes is not None
    assert names is not None
    assert [names[index] for index in classes] == ["a", text, "2"]


@pytest.mark.parametrize("path", ["", "  ", None, 7])
def test_a_row_of_a_table_names_a_file(path: Any, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(PIXELS[0]))
    values = ["a.png", path] if path != 7 else [7, 7]
    table = pyarrow.table({"path": values, "label": ["cat", "dog"]})
    parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match=f"row {1 if path == 7 else 2} names no file"):
        open_data(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("name", "split"), [("Test", "test"), ("VALID", "val"), ("train", "train")]
)
def test_splits_of_parquet_files_are_told_in_any_case(
    name: str, split: str, tmp_path: Path
) -> None:
    table = pyarrow.table({"image": [png(PIXELS[0])], "label": ["cat"]})
    parquet.write_table(table, tmp_path / f"{name}-00000-of-00001.parquet")
    data = open_data(tmp_path)
    assert data.splits is not None
    assert data.splits.tolist() == [split]


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_file_with_more_behind_the_name_of_an_idx_file_is_none(
    ending: str, tmp_path: Path
) -> None:
    """Such as one that is not downloaded yet."""
    file = tmp_path / f"train-images-idx3-ubyte{ending}"
    write_idx(file, np.zeros((2, 4, 4), np.uint8))
    assert "idx" in find_reader(str(file)).kind
    file = file.rename(f"{file}.part")
    with pytest.raises(DataError, match=r"\.part: not a dataset"):
        find_reader(str(file))


def test_an_image_elsewhere_is_called_by_its_address() -> None:
    """As one here is by its path; what has neither by its name in the source."""
    remote = RemoteFile("memory://r", "r/a.png")
    assert name_of(remote, "a") == "memory://r/a.png"
    assert name_of(Path("r/a.png"), "a") == "r/a.png"
    assert name_of(b"", "a") == "a"


def test_the_largest_image_has_the_most_pixels() -> None:
    """Not the longest side: 1×9 is smaller than 3×4."""
    stored = []
    for height, width in ((3, 4), (1, 9), (4, 3), (2, 5)):
        stream = io.BytesIO()
        Image.new("L", (width, height)).save(stream, "png")
        stored.append(stream.getvalue())
    sizes = describe_data(ImageFiles(np.array(stored, object), color="gray")).sizes
    assert sizes is not None
    assert (sizes.smallest, sizes.largest) == ((1, 9), (4, 3))
    assert (sizes.different, sizes.examined) == (4, 4)


@pytest.mark.parametrize("names", [["cat", "CAT"], ["Cat", "cat"], ["dog", "cat", "Dog"], []])
def test_a_class_in_two_spellings_is_named_twice(names: list[str]) -> None:
    data = Dataset(PIXELS, np.arange(6) % 2, ("cat", "dog"))
    with pytest.raises(DataError, match="name at least one class, and each only once"):
        select_classes(data, names)
    apart = Dataset(PIXELS, np.arange(6) % 2, ("cat", "CAT"))
    assert select_classes(apart, ["CAT", "cat"]).names == ("CAT", "cat")


@pytest.mark.parametrize("label", [["a"], ("a",), {"a"}, {"a": 1}, np.array(["a"])])
def test_what_holds_labels_is_no_label(label: Any) -> None:
    with pytest.raises(DataError, match=r"several labels an image \(row 2 has "):
        classes_of(["b", label])


@pytest.mark.parametrize("color", ["RGB", "gray"])
def test_every_image_of_files_has_the_color_that_the_files_have(color: str) -> None:
    stored = []
    for mode in ("L", "RGB"):
        stream = io.BytesIO()
        Image.new(mode, (2, 2)).save(stream, "png")
        stored.append(stream.getvalue())
    files = ImageFiles(np.array(stored, object), color=color)
    assert {files[index].mode for index in range(2)} == {"L" if color == "gray" else "RGB"}


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((2, 4, 5, 3), (3, 4, 5)),
        ((2, 4, 5, 1), (1, 4, 5)),
        ((2, 3, 5, 3), (3, 5, 3)),
        ((2, 1, 5, 3), (1, 5, 3)),
        ((2, 4, 5, 2), (4, 5, 2)),
        ((2, 4, 5, 6), (4, 5, 6)),
    ],
)
def test_channels_of_an_npz_are_last_where_only_the_last_axis_may_be_them(
    shape: tuple[int, ...], found: tuple[int, ...], tmp_path: Path
) -> None:
    values = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)
    np.savez(tmp_path / "d.npz", x=values, y=[0, 1])
    images = in_memory(tmp_path / "d.npz").images
    assert images.shape[1:] == found
    moved = values if images.shape == values.shape else np.moveaxis(values, 3, 1)
    assert np.array_equal(images, moved)


def test_a_label_has_no_spaces_around_it() -> None:
    classes, names, _ = classes_of([" cat", "dog ", "cat\t", "dog"])
    assert names == ("cat", "dog")
    assert classes is not None
    assert classes.tolist() == [0, 1, 0, 1]


def test_of_positions_below_0_only_the_first_means_no_label() -> None:
    """As Hugging Face's datasets write it; another one is out of range, which is said later."""
    names = ["cat", "dog"]
    assert classes_of([-1, -1], None, names) == (None, None, [])
    with pytest.raises(DataError, match="1 of 2 images have no label, the first in row 2"):
        classes_of([0, -1], None, names)
    for labels, given in (([0, -2], names), ([0, -1], None)):
        classes, found, _ = classes_of(labels, 0, given)
        assert classes is not None
        assert (classes.tolist(), found) == (labels, None if given is None else tuple(names))


@pytest.mark.parametrize("name", ["d.npz", "d.t7", "d.csv", "d.jsonl", "d.parquet"])
def test_a_folder_is_one_of_images_whatever_its_name(name: str, tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / name / label).mkdir(parents=True)
        (tmp_path / name / label / "1.png").write_bytes(png(PIXELS[0]))
    assert in_memory(tmp_path / name).names == ("cat", "dog")


@pytest.mark.parametrize("place", ["", "raw", "MNIST/raw"])
@pytest.mark.parametrize("unpacked", [False, True])
def test_idx_files_are_found_where_torchvision_puts_them(
    place: str, unpacked: bool, tmp_path: Path
) -> None:
    """A file that was unpacked beside its archive is the same one."""
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    for content, values in (
        ("images-idx3", np.full((2, 4, 4), 7, np.uint8)),
        ("labels-idx1", np.array([1, 0], np.uint8)),
    ):
        for ending in ("", ".gz") if unpacked else (".gz",):
            write_idx(tmp_path / place / f"train-{content}-ubyte{ending}", values)
    data = in_memory(tmp_path)
    assert (data.images.shape, int(data.images.min())) == ((2, 1, 4, 4), 7)
    assert data.classes is not None
    assert data.classes.tolist() == [1, 0]


def test_names_of_splits_may_be_in_any_case() -> None:
    found = group_by_split({"TRAIN_X": 1, "testLabels": 2, "X_Val": 3, "other": 4})
    assert found == {"train": {"x": 1}, "test": {"labels": 2}, "val": {"x": 3}}


@pytest.mark.parametrize(
    "name",
    ["train-images-idx3-ubyte", "test_batch", "data_batch_1.bin", "a.npz", "a.t7", "a.csv", "a.tar",
     "a.parquet"],
)  # fmt: skip
def test_what_is_not_there_is_no_file_whatever_its_name_says(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{name}: no such file or folder; a dataset is"):
        find_reader(str(tmp_path / name))


@pytest.mark.parametrize("name", ["a.tar", "A.TAR", "train-0.Tar"])
def test_archives_are_known_in_any_case(name: str, tmp_path: Path) -> None:
    images = {f"{each}__png": png(PIXELS[0]) for each in "ab"}
    archive(tmp_path / name, **images, a__cls=b"cat", b__cls=b"dog")
    assert in_memory(tmp_path / name).names == ("cat", "dog")


def test_images_that_are_flat_in_a_t7_have_the_shape_that_is_given(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.uint8).reshape(2, 12)
    t7.save(LuaTable({"data": values, "label": np.array([1, 2])}), tmp_path / "d.t7")
    data = read_dataset(tmp_path / "d.t7", (3, 2, 2))
    assert np.array_equal(data.images, values.reshape(2, 3, 2, 2))
    assert read_dataset(tmp_path / "d.t7", (1, 3, 4)).images.shape == (2, 1, 3, 4)


def test_a_seed_of_0_is_a_seed() -> None:
    """Only None keeps the order of the images."""
    expected = np.random.default_rng([0, 3]).permutation(20)
    assert BatchPlan(20, 5, shuffle_seed=0).order(3).tolist() == expected.tolist()
    assert BatchPlan(20, 5).order(3).tolist() == [*range(20)]


def test_one_text_among_numbers_is_told_only_if_all_of_them_are_of_that_kind() -> None:
    """A name among them makes all of them names."""
    classes, names, _ = classes_of(["1", "NA", "cat"])
    assert names == ("1", "NA", "cat")
    assert classes is not None
    assert classes.tolist() == [0, 1, 2]


def test_what_is_elsewhere_or_within_a_file_is_read_before_it_is_decoded(tmp_path: Path) -> None:
    content = png(PIXELS[0])
    (tmp_path / "a.bin").write_bytes(b"12" + content + b"34")
    fsspec.filesystem("memory").pipe("/readable/a.png", content)
    remote = RemoteFile.at("memory://readable/a.png")
    assert readable(remote) == readable(FileSlice(tmp_path / "a.bin", 2, len(content))) == content
    assert readable(tmp_path / "a.bin") == tmp_path / "a.bin"
    assert readable(content) is content


def test_images_of_the_same_bytes_in_another_shape_or_type_are_others() -> None:
    zeros = np.zeros((1, 1, 2, 4), np.uint8)
    for other, shared in (
        (zeros.copy(), (("train", "test", 1),)),
        (zeros.reshape(1, 1, 4, 2), ()),
        (zeros.view(np.float32), ()),
    ):
        found = find_duplicates({"train": Dataset(zeros), "test": Dataset(other)})
        assert found.shared == shared
