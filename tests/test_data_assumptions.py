"""Where the values of a file leave something open: what is assumed, and where that ends."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_support import in_memory
from PIL import Image

from torchlift.converters.images.errors import ImageError
from torchlift.converters.t7 import LuaTable
from torchlift.transfer.data import Dataset, dataset_from, open_data, stream_folder
from torchlift.transfer.data.array_layout import to_classes
from torchlift.transfer.data.image_files import MEMORY_LIMIT
from torchlift.transfer.data.readers import ReadOptions, find_reader, reader, registered_readers
from torchlift.transfer.data.safe_pickle import _byte_array, _DtypeStandIn
from torchlift.transfer.errors import DataError

RANDOM = np.random.default_rng(0)


def table(**entries: Any) -> LuaTable:
    return LuaTable(entries)


@pytest.mark.parametrize(
    ("values", "is_pixels"),
    [
        ([0, 128, 255], True),
        ([0, 128, 256], False),
        ([0, 128, 2550], False),
        ([0, 128, 254.95], False),
        # A thousandth of a step is rounding, five are not.
        ([0, 128.0005, 255], True),
        ([0, 128.005, 255], False),
        ([-1, 128, 255], False),
        ([0, 0.5, 1], False),
        ([0, 51 / 255, 1], True),
    ],
)
def test_only_steps_of_0_to_255_are_pixels(values: list[float], is_pixels: bool) -> None:
    images = np.array(values, np.float32).reshape(1, 1, 1, 3)
    assert (dataset_from(images).images.dtype == np.uint8) == is_pixels


@pytest.mark.parametrize(
    ("shape", "labels", "expected", "note"),
    [
        ((2, 1024), 2, (2, 1, 32, 32), "1024 values per image taken as 1×32×32"),
        ((2, 784), 2, (2, 1, 28, 28), "784 values per image taken as 1×28×28"),
        ((3072, 5), 5, (5, 3, 32, 32), "3072 values per image taken as 3×32×32"),
        ((2, 4, 5), 2, (2, 1, 4, 5), "2×4×5 taken as gray images"),
    ],
)
def test_the_shape_of_images_that_do_not_say_it(
    shape: tuple[int, ...], labels: int, expected: tuple[int, ...], note: str
) -> None:
    pixels = RANDOM.integers(0, 256, shape, np.uint8)
    data = dataset_from(table(data=pixels, label=np.arange(labels)))
    assert data.images.shape == expected
    assert data.notes[0] == note


def test_as_many_images_as_values_are_not_transposed() -> None:
    pixels = RANDOM.integers(0, 256, (784, 784), np.uint8)
    data = dataset_from(table(data=pixels, label=np.arange(784) % 10))
    assert np.array_equal(data.images.reshape(784, 784), pixels)


def test_a_list_of_three_tensors_is_no_pair() -> None:
    images, labels = np.zeros((2, 1, 2, 2), np.uint8), np.array([1, 2])
    with pytest.raises(DataError, match="images of different shapes"):
        dataset_from(LuaTable.from_list([images, labels, labels]))
    pairs = [LuaTable.from_list([images[0], 1]), LuaTable.from_list([1, 2])]
    with pytest.raises(DataError, match="no images under a usual name"):
        dataset_from(LuaTable.from_list(pairs))


@pytest.mark.parametrize("name", ["val", "valid", "validation", "validData", "x_val"])
def test_every_usual_name_of_a_validation_split(name: str) -> None:
    images, labels = np.zeros((2, 1, 2, 2), np.uint8), np.array([1, 2])
    part = table(data=images, label=labels)
    entries = {"x_train": images, "y_train": labels} if name == "x_val" else {"train": part}
    own = {"x_val": images, "y_val": labels} if name == "x_val" else {name: part}
    data = dataset_from(table(**entries, **own))
    assert data.splits is not None
    assert data.splits.tolist() == ["train"] * 2 + ["val"] * 2


@pytest.mark.parametrize("names", [["cat", "dog"], ["dog", "cat"]])
def test_only_a_list_in_another_order_is_matched(names: list[str]) -> None:
    images, listed = np.zeros((2, 1, 2, 2), np.uint8), LuaTable.from_list
    splits = {
        "train": table(data=images, label=np.array([1, 2]), classes=listed(["cat", "dog"])),
        "test": table(data=images, label=np.array([1, 2]), classes=listed(names)),
    }
    data = dataset_from(table(**splits))
    assert data.classes is not None
    assert data.classes.tolist() == [0, 1, *((0, 1) if names[0] == "cat" else (1, 0))]
    matched = [note for note in data.notes if "were matched with the others by name" in note]
    assert len(matched) == (names[0] == "dog")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.array([1.0, np.nan]), "labels"),
        (np.array([0, 2**62]), "is out of range"),
        (np.array(["cat", ""]), "1 of 2 images have no label, the first in row 2"),
    ],
    ids=["not a number", "too large", "no text"],
)
def test_labels_that_are_none(labels: np.ndarray, said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.zeros((2, 1, 2, 2), np.uint8), y=labels)
    with pytest.raises(Exception, match=said) as error:
        open_data(tmp_path / "data.npz")
    assert isinstance(error.value, DataError) or "finite" in type(error.value).__name__.lower()


def test_the_first_label_of_an_npz_can_be_given(tmp_path: Path) -> None:
    images, labels = np.zeros((2, 1, 2, 2), np.uint8), np.array([1, 2])
    np.savez(tmp_path / "one.npz", x=images, y=labels)
    np.savez(tmp_path / "two.npz", x_train=images, y_train=labels)
    for name in ("one.npz", "two.npz"):
        for first, expected in ((None, [0, 1]), (0, [1, 2]), (1, [0, 1])):
            data = open_data(tmp_path / name, first_label=first)
            assert data.classes is not None
            assert data.classes.tolist() == expected


@pytest.mark.parametrize(
    ("shape", "is_last"),
    [((2, 5, 6, 3), True), ((2, 5, 6, 1), True), ((2, 3, 6, 3), False), ((2, 1, 6, 1), False)],
)
def test_channels_are_last_only_where_they_cannot_be_first(
    shape: tuple[int, ...], is_last: bool, tmp_path: Path
) -> None:
    pixels = RANDOM.integers(0, 256, shape, np.uint8)
    np.savez(tmp_path / "data.npz", x=pixels, y=[0, 1])
    expected = pixels.transpose(0, 3, 1, 2) if is_last else pixels
    assert np.array_equal(in_memory(tmp_path / "data.npz").images, expected)


def write_idx(file: Path, values: np.ndarray) -> None:
    head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    whole = head + values.tobytes()
    file.write_bytes(gzip.compress(whole) if file.suffix == ".gz" else whole)


def write_mnist(folder: Path, prefix: str, labels: list[int], suffix: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.full((len(labels), 2, 2), len(labels), np.uint8)
    write_idx(folder / f"{prefix}-images-idx3-ubyte{suffix}", pixels)
    write_idx(folder / f"{prefix}-labels-idx1-ubyte{suffix}", np.array(labels, np.uint8))


def test_an_idx_file_beside_its_archive_counts_once(tmp_path: Path) -> None:
    write_mnist(tmp_path, "train", [1, 2, 3])
    write_mnist(tmp_path, "train", [1, 2, 3], ".gz")
    write_mnist(tmp_path, "t10k", [4, 5], ".gz")
    assert len(in_memory(tmp_path)) == 5


def test_several_datasets_in_one_folder_are_refused(tmp_path: Path) -> None:
    for prefix in ("emnist-letters-train", "emnist-digits-train"):
        write_mnist(tmp_path, prefix, [1, 2])
    with pytest.raises(DataError, match="several datasets; name a file of one"):
        open_data(tmp_path)


def test_names_of_fashion_are_given_to_ten_classes_only(tmp_path: Path) -> None:
    write_mnist(tmp_path / "fashion", "train", [1, 26])
    data = in_memory(tmp_path / "fashion")
    assert (data.names, data.notes) == (None, ())


def test_an_empty_cifar_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "test_batch.bin").write_bytes(b"")
    with pytest.raises(DataError, match="0 bytes are not a multiple"):
        open_data(tmp_path / "test_batch.bin")


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_of_a_pickle_may_be_stored_by_columns(order: Any) -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    state = (1, (2, 3), _DtypeStandIn("u1"), order == "F", array.tobytes(order))
    assert np.array_equal(_byte_array(state), array)


def write_images(folder: Path, **modes: str) -> None:
    for name, mode in modes.items():
        file = folder / f"{name.replace('__', '/')}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RANDOM.integers(0, 256, (4, 6), np.uint8)).convert(mode).save(file)


def test_a_folder_is_gray_only_if_every_image_is(tmp_path: Path) -> None:
    write_images(tmp_path / "gray", cat__a="L", dog__b="L")
    write_images(tmp_path / "mixed", cat__a="L", dog__b="RGB")
    assert in_memory(tmp_path / "gray").images.shape == (2, 1, 4, 6)
    assert in_memory(tmp_path / "mixed").images.shape == (2, 3, 4, 6)
    # Sizes are (height, width), also where every image is decoded to find those that cannot be.
    for on_error in ("raise", "skip"):
        assert isinstance(open_data(tmp_path / "mixed", on_error=on_error), Dataset)
    write_images(tmp_path / "mixed", dog__turned="L")
    Image.new("L", (4, 6)).save(tmp_path / "mixed/dog/turned.png")
    assert not isinstance(open_data(tmp_path / "mixed", on_error="skip"), Dataset)


def test_names_of_split_folders_in_any_case(tmp_path: Path) -> None:
    write_images(tmp_path, Training__cat__a="L", VALID__cat__b="L", Testing__cat__c="L")
    data = stream_folder(tmp_path)
    assert data.splits is not None
    assert data.splits.tolist() == ["train", "val", "test"]
    write_images(tmp_path, train__cat__a="L")
    with pytest.raises(ImageError, match="both Training and train are train splits"):
        stream_folder(tmp_path)


def test_a_class_without_a_readable_image_is_an_error(tmp_path: Path) -> None:
    write_images(tmp_path, cat__a="L", dog__b="L")
    (tmp_path / "dog" / "b.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match="dog: no readable image"):
        open_data(tmp_path, on_error="skip")


def test_images_beyond_two_gigabytes_stay_in_their_files() -> None:
    assert MEMORY_LIMIT == 2**31


def test_readers_are_asked_in_their_order_and_registered_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = registered_readers()
    assert [each.order for each in kinds] == sorted(each.order for each in kinds)
    with pytest.raises(ValueError, match="is already registered"):
        reader(kinds[0].kind, accepts=lambda source: True, order=1)(lambda *_: Dataset(np.empty(0)))
    # A folder of MNIST's files is one, and not a folder of images.
    write_mnist(tmp_path, "train", [1])
    assert "MNIST" in find_reader(str(tmp_path)).kind
    (tmp_path / "DATA.NPZ").write_bytes(b"")
    assert find_reader(str(tmp_path / "DATA.NPZ")).kind == "a .npz file"
    assert ReadOptions() == ReadOptions(None, None, None, "raise")


def test_of_many_images_each_must_be_of_pixels() -> None:
    """They are examined 1,024 at a time."""
    images = np.zeros((1030, 1, 1, 2), np.float32)
    images[:, 0, 0, 1] = np.arange(1030) % 256
    found = dataset_from(images).images
    assert found.dtype == np.uint8
    assert np.array_equal(found, images)
    for place in (0, 1029):
        changed = images.copy()
        changed[place, 0, 0, 0] = 0.5
        assert dataset_from(changed).images.dtype == np.float32


@pytest.mark.parametrize(
    ("labels", "first", "expected"),
    [
        ([0, 2], None, [0, 2]),
        ([1, 2], None, [0, 1]),
        # Without the first class, labels still count from 1.
        ([3, 5], None, [2, 4]),
        ([-1, 2], None, [-1, 2]),
        ([3, 5], 3, [0, 2]),
        ([2**53 - 1, 1], 0, [2**53 - 1, 1]),
        ([2**53, 1], 0, None),
        ([-(2**53), 1], 0, None),
    ],
)
def test_labels_count_from_0_or_1(
    labels: list[int], first: int | None, expected: list[int] | None
) -> None:
    if expected is None:
        with pytest.raises(DataError, match=f"the label {labels[0]} is out of range"):
            to_classes(np.array(labels), first)
    else:
        assert to_classes(np.array(labels), first)[0].tolist() == expected


def test_a_shape_that_is_given_goes_before_those_that_are_known() -> None:
    """784 values need not be 28×28; but they must be as many as the shape has."""
    flat = RANDOM.integers(0, 256, (2, 784), np.uint8)
    found = dataset_from(flat, image_shape=(4, 14, 14))
    assert np.array_equal(found.images, flat.reshape(2, 4, 14, 14))
    assert found.notes == ("784 values per image taken as 4×14×14",)
    for values, shape in ((flat, (1, 14, 14)), (flat[:, :780], None)):
        with pytest.raises(DataError, match=r"shape 2×78[04], expected N×C×H×W"):
            dataset_from(values, image_shape=shape)


@pytest.mark.parametrize("transposed", [False, True])
def test_flat_images_of_splits_have_one_shape_and_one_note(transposed: bool) -> None:
    """Each split is turned by its own number of labels."""
    flat = RANDOM.integers(0, 256, (6, 60), np.uint8)
    parts = [np.ascontiguousarray(part.T) if transposed else part for part in (flat[:4], flat[4:])]
    labels = np.array([1, 2, 1, 2, 2, 1])
    value = table(
        trainData=parts[0], trainLabels=labels[:4], testData=parts[1], testLabels=labels[4:]
    )
    found = dataset_from(value, image_shape=(3, 4, 5))
    assert np.array_equal(found.images, flat.reshape(6, 3, 4, 5))
    assert found.notes == (
        "60 values per image taken as 3×4×5",
        "labels 1 to 2, counted from 1 as found",
    )


def test_a_label_beyond_the_names_of_its_split_is_no_class_of_another() -> None:
    images, listed = np.zeros((2, 1, 2, 2), np.uint8), LuaTable.from_list
    names = ["cat", "dog"]
    splits = {
        "train": table(data=images, label=np.array([1, 2]), classes=listed(names)),
        "test": table(data=images, label=np.array([1, 6]), classes=listed(names[::-1])),
    }
    with pytest.raises(DataError, match=r"1 labels out of range 0 to 1 .*: -1 of image 3"):
        dataset_from(table(**splits))
    kept = dataset_from(table(**splits), on_error="skip")
    assert np.asarray(kept.classes).tolist() == [0, 1, 1]


def test_labels_with_a_number_for_each_class_are_named_as_such() -> None:
    """Beside the images of a list of two, as `{images, labels}`."""
    images = np.zeros((2, 1, 2, 2), np.uint8)
    with pytest.raises(DataError, match="expected one label per image, not 2×3"):
        dataset_from(LuaTable.from_list([images, np.zeros((2, 3))]))


def test_splits_of_inputs_and_of_pixels_are_no_one_dataset() -> None:
    pixels = np.zeros((2, 1, 2, 2), np.uint8)
    splits = {"train": pixels, "test": pixels.astype(np.float32)}
    value = {name: table(data=images, label=np.array([1, 2])) for name, images in splits.items()}
    said = r"different kinds \(train: 1×2×2 uint8 with labels, test: 1×2×2 float32 with labels\)"
    with pytest.raises(DataError, match=said):
        dataset_from(table(**value))
