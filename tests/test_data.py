"""Datasets in the layouts in which Torch7 projects saved them, with what was assumed about each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import FIXTURES, SHARED

from torchlift.converters import t7
from torchlift.converters.t7 import LuaObject, LuaTable
from torchlift.transfer.data import Dataset, dataset_from, open_data, read_dataset, split
from torchlift.transfer.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 3, 4, 5), np.uint8)
LABELS = np.array([1, 2, 3, 1, 2, 3], np.uint8)
CLASSES = [0, 1, 2, 0, 1, 2]


def table(**entries: Any) -> LuaTable:
    return LuaTable(entries)


def pair(image: np.ndarray, label: Any) -> LuaTable:
    return LuaTable.from_list([image, label])


@pytest.mark.parametrize(
    "value",
    [
        table(data=PIXELS, label=LABELS),
        table(data=PIXELS, labels=LABELS),
        table(X=PIXELS, y=LABELS.astype(np.float64)),
        table(images=PIXELS, targets=LABELS[None]),
        table(inputs=PIXELS, labels=LuaTable.from_list(LABELS.tolist())),
        LuaTable.from_list([PIXELS, LABELS]),
        LuaTable.from_list([pair(PIXELS[i], int(LABELS[i])) for i in range(6)]),
        LuaTable.from_list([pair(PIXELS[i], LABELS[i : i + 1]) for i in range(6)]),
        LuaTable.from_list([table(image=PIXELS[i], label=int(LABELS[i])) for i in range(6)]),
    ],
)
def test_tables_in_the_usual_forms_are_the_same_dataset(value: LuaTable) -> None:
    dataset = dataset_from(value)
    assert np.array_equal(dataset.images, PIXELS)
    assert dataset.images.dtype == np.uint8
    assert dataset.classes is not None
    assert dataset.classes.tolist() == CLASSES
    assert dataset.names is None
    assert dataset.notes == ("labels 1 to 3, counted from 1 as found",)


def rows(count: int, first: int) -> dict[str, np.ndarray]:
    """Return `count` of the six images, beginning with `first`."""
    chosen = slice(first, first + count)
    return {"data": PIXELS[chosen], "labels": LABELS[chosen]}


@pytest.mark.parametrize(
    "value",
    [
        table(train=table(**rows(4, 0)), test=table(**rows(2, 4))),
        # The layout of cifar.torch's provider.t7 and of the Torch7 tutorials' training scripts.
        LuaObject("Provider", table(trainData=table(**rows(4, 0)), testData=table(**rows(2, 4)))),
        table(trainset=table(**rows(4, 0)), testset=table(**rows(2, 4)), trsize=4, tesize=2),
        table(
            trainData=PIXELS[:4], trainLabels=LABELS[:4], testData=PIXELS[4:], testLabels=LABELS[4:]
        ),
        table(x_train=PIXELS[:4], y_train=LABELS[:4], x_test=PIXELS[4:], y_test=LABELS[4:]),
        table(
            train=table(inputs=PIXELS[:4], targets=LABELS[:4]),
            testing=LuaTable.from_list([pair(PIXELS[i], int(LABELS[i])) for i in (4, 5)]),
        ),
    ],
)
def test_tables_with_a_training_and_a_test_split(value: Any) -> None:
    dataset = dataset_from(value)
    assert np.array_equal(dataset.images, PIXELS)
    assert dataset.classes is not None
    # The test split alone has no label 1: the first label is that of all splits.
    assert dataset.classes.tolist() == CLASSES
    assert dataset.splits is not None
    assert dataset.splits.tolist() == ["train"] * 4 + ["test"] * 2
    assert dataset.notes == ("labels 1 to 3, counted from 1 as found",)


def test_a_split_of_a_t7_is_opened_by_its_name(tmp_path: Path) -> None:
    names = LuaTable.from_list(["cat", "dog", "owl"])
    tables = {
        "train": table(**rows(3, 0)),
        "valid": table(**rows(2, 3)),
        "test": table(**rows(1, 5)),
    }
    file = tmp_path / "splits.t7"
    t7.save(table(**tables, classes=names), file)
    data = open_data(file, split="val")
    assert isinstance(data, Dataset)
    assert np.array_equal(data.images, PIXELS[3:5])
    assert data.names == ("cat", "dog", "owl")
    splits = split(open_data(file))
    assert [len(each) for each in (splits.train, splits.val, splits.test)] == [3, 2, 1]
    t7.save(table(**rows(6, 0)), file)
    with pytest.raises(DataError, match="no splits"):
        open_data(file, split="test")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (
            table(train=table(**rows(4, 0)), test=table(data=PIXELS[4:, :, :2], labels=LABELS[4:])),
            r"different kinds \(train: 3×4×5 uint8 with labels, test: 3×2×5 uint8 with labels\)",
        ),
        (
            table(train=table(**rows(4, 0)), test=table(data=PIXELS[4:])),
            r"different kinds \(train: 3×4×5 uint8 with labels, test: 3×4×5 uint8\)",
        ),
        (
            table(
                train=table(data=PIXELS[:4], label=LABELS[:2]),
                test=table(data=PIXELS[4:], label=LABELS[2:]),
            ),
            "4 images, but 2 labels",
        ),
    ],
)
def test_splits_of_different_kinds_are_refused(value: Any, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        dataset_from(value)


def test_labels_counted_from_0_and_class_names() -> None:
    names = LuaTable.from_list(["cat", "dog", "owl"])
    dataset = dataset_from(table(data=PIXELS, labels=LABELS - 1, classes=names))
    assert dataset.classes is not None
    assert dataset.classes.tolist() == CLASSES
    assert dataset.names == ("cat", "dog", "owl")
    assert dataset.notes == ("labels 0 to 2, counted from 0 as found",)
    # Some images of a dataset may lack class 0; then the first label must be given.
    given = dataset_from(table(data=PIXELS, labels=LABELS), first_label=0)
    assert given.classes is not None
    assert given.classes.tolist() == LABELS.tolist()
    assert given.notes == ("labels 1 to 3, counted from 0 as given",)


def test_cifar_batches_are_flat_or_transposed_with_labels_from_0() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (7, 3072), np.uint8)
    labels = np.array([[0, 9, 3, 1, 2, 5, 4]], np.uint8)
    for data in (pixels, np.ascontiguousarray(pixels.T)):
        dataset = dataset_from(table(data=data, labels=labels))
        assert np.array_equal(dataset.images, pixels.reshape(7, 3, 32, 32))
        assert dataset.classes is not None
        assert dataset.classes.tolist() == labels[0].tolist()
        assert dataset.notes[0] == "3072 values per image taken as 3×32×32"


def test_gray_images_without_a_channel_axis_and_flat_images_of_a_given_shape() -> None:
    dataset = dataset_from(table(data=PIXELS[:, 0], label=LABELS))
    assert np.array_equal(dataset.images, PIXELS[:, :1])
    flat = dataset_from(table(data=PIXELS.reshape(6, -1), label=LABELS), image_shape=(3, 4, 5))
    assert np.array_equal(flat.images, PIXELS)
    with pytest.raises(DataError, match="shape 6×60, expected N×C×H×W"):
        dataset_from(table(data=PIXELS.reshape(6, -1), label=LABELS))


@pytest.mark.parametrize("scale", [1, 255])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pixels_in_another_dtype_become_uint8(scale: int, dtype: type) -> None:
    dataset = dataset_from((PIXELS / scale).astype(dtype))
    assert np.array_equal(dataset.images, PIXELS)
    assert dataset.images.dtype == np.uint8
    assert dataset.classes is None
    assert "taken as pixels" in dataset.notes[0]


def test_images_of_two_values_are_black_and_white() -> None:
    """Taken as 0 and 1 of 255, both would be black."""
    binary = (PIXELS > 100).astype(np.float32)
    assert sorted(np.unique(dataset_from(binary).images)) == [0, 255]
    # The steps are exact although a float32 is not.
    steps = np.arange(256, dtype=np.float32).reshape(1, 1, 16, 16) / np.float32(255)
    assert dataset_from(steps).images.ravel().tolist() == list(range(256))


def test_normalized_values_stay_inputs() -> None:
    inputs = ((PIXELS - 120.0) / 60).astype(np.float32)
    dataset = dataset_from(table(data=inputs, label=LABELS))
    assert np.array_equal(dataset.images, inputs)
    assert dataset.images.dtype == np.float32
    assert "float32 values are not pixels: taken as a network's inputs" in dataset.notes[0]
    assert dataset_from(np.zeros((2, 1, 4, 4), np.float32)).images.dtype == np.float32


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("text", "not a dataset"),
        (LuaTable(), "not a dataset"),
        (table(weights=PIXELS, epoch=3), "no images under a usual name .* among: weights, epoch"),
        (table(data=PIXELS, label=LABELS[:4]), "6 images, but 4 labels"),
        (table(data=PIXELS, label=LABELS + 0.5), "not integers"),
        (
            table(data=PIXELS, label=LABELS.astype(np.int8) - 2),
            "2 labels out of range .*: -1 of image 0",
        ),
        (table(data=PIXELS, label=np.ones((6, 10))), "expected one label per image, not 6×10"),
        (table(data=PIXELS, label="cat"), "the labels are a str, expected a tensor or a list"),
        (table(data=PIXELS, label=LuaTable.from_list(["cat"] * 6)), "the labels are not numbers"),
        (table(data=PIXELS, label=np.zeros(0)), "no labels"),
        (
            LuaTable.from_list([pair(PIXELS[0], 1), pair(PIXELS[1, :, :2], 2)]),
            "images of different shapes",
        ),
    ],
)
def test_what_is_not_a_dataset_is_refused(value: Any, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        dataset_from(value)


def test_batches_cover_everything_once() -> None:
    batches = list(Dataset(PIXELS, np.array(CLASSES)).batches(4))
    assert [len(images) for images, _ in batches] == [4, 2]
    assert np.array_equal(np.concatenate([images for images, _ in batches]), PIXELS)
    assert np.concatenate([classes for _, classes in batches]).tolist() == CLASSES
    assert [classes for _, classes in Dataset(PIXELS).batches(6)] == [None]


def test_t7_files() -> None:
    digits = read_dataset(FIXTURES / "digits" / "digits-test.t7")
    assert digits.images.shape == (500, 1, 32, 32)
    assert digits.classes is not None
    assert digits.classes[:5].tolist() == [0, 9, 6, 9, 8]
    with pytest.raises(DataError, match=r"digits_classes\.t7: no images"):
        read_dataset(FIXTURES / "digits" / "digits_classes.t7")


def test_a_cifar_file() -> None:
    file = SHARED / "data" / "cifar10-small-test.t7"
    if not file.exists():
        pytest.skip("needs the CIFAR-10 images")
    dataset = read_dataset(file)
    assert dataset.images.shape == (5000, 3, 32, 32)
    assert dataset.classes is not None
    assert np.bincount(dataset.classes).sum() == 5000
    assert dataset.classes.max() == 9


@pytest.mark.parametrize(
    ("images", "classes", "message"),
    [
        (np.zeros((2, 1, 2, 2)), np.zeros(3, int), "2 images, but 3 classes"),
        (np.zeros((2, 1, 2, 2)), np.zeros(2), "classes are float64 2: expected one integer"),
        (np.zeros((2, 1, 2, 2)), np.zeros((2, 4), int), "classes are int64 2×4: expected one"),
        (np.zeros((2, 1, 2, 2)), [0, 1], "classes of the type list: expected an array"),
        ([[[[0]]]], None, "images of the type list: expected an array"),
    ],
)
def test_a_dataset_of_other_arrays_is_refused(images: Any, classes: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Dataset(images, classes)


def test_names_that_are_one_text_are_refused_and_numbers_are_names() -> None:
    with pytest.raises(DataError, match="class_names='ab': a list of names was expected"):
        open_data("sklearn:digits", class_names="ab")
    chosen = open_data("sklearn:digits", classes=[3, 8], limit=20)  # type: ignore[list-item]
    assert chosen.names == ("3", "8")
