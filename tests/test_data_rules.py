"""Rules of data that examples leave at their usual value: batches of one, odd splits, labels."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_support import archive, png
from PIL import Image

from torchlift.converters import t7
from torchlift.converters.images.errors import ImageError
from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.images.resize import as_image, as_pixels
from torchlift.converters.t7 import LuaTable
from torchlift.transfer.data import (
    Augmentation,
    Batches,
    BatchPlan,
    Dataset,
    ImageFiles,
    dataset_from,
    match_classes,
    open_data,
    split,
)
from torchlift.transfer.data.augmentation import draw
from torchlift.transfer.data.class_matching import name_classes
from torchlift.transfer.data.dataset import join_splits
from torchlift.transfer.data.image_changes import ImageChanges, seeds_of_images
from torchlift.transfer.data.pixels import pixel_source
from torchlift.transfer.data.row_labels import classes_of
from torchlift.transfer.data.safe_pickle import read_pickle
from torchlift.transfer.data.selection import conversion_note
from torchlift.transfer.data.write_image_folder import write_image_folder
from torchlift.transfer.errors import DataError

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (8, 3, 6, 8), np.uint8)
DATA = Dataset(PIXELS, np.array([0, 1] * 4), ("cat", "dog"))


def test_a_batch_of_one_image_is_augmented_too() -> None:
    plan = BatchPlan(8, 1, shuffle_seed=0)
    batches = Batches(DATA, Preprocessing(), plan, augmentation=Augmentation(flip=True))
    order, numbers = plan.order(1), draw(0, 1, 8)
    found = torch.cat([inputs for inputs, _ in batches.epoch(1)]).numpy()
    mirrored = numbers[:, 0] < 0.5
    assert 0 < mirrored.sum() < 8
    for inputs, index, is_mirrored in zip(found, order, mirrored, strict=True):
        pixels = PIXELS[index][..., ::-1] if is_mirrored else PIXELS[index]
        np.testing.assert_array_equal(np.rint(inputs * 255), pixels)


def test_a_factor_below_zero_is_none() -> None:
    """Contrast 2 draws factors from -1 to 3: an image turned into its negative is none."""
    numbers = np.full((1, 6), 0.5, np.float32)
    numbers[:, 4] = 0.0
    pixels = torch.from_numpy(PIXELS[:1])
    weights = torch.tensor([0.2989, 0.587, 0.114]).view(1, 3, 1, 1)
    gray = (pixels * weights).sum(1).floor().mean()
    changed = Augmentation(contrast=2)(pixels, numbers)
    assert torch.equal(changed, torch.full_like(pixels, int(gray)))


@pytest.mark.parametrize(
    ("options", "is_valid"),
    [
        ({"rotation": 0}, True), ({"rotation": 180}, True), ({"rotation": 181}, False),
        ({"erasing": 1}, True), ({"erasing": 1.01}, False), ({"erasing": -0.1}, False),
        ({"resized_crop": 1}, True), ({"resized_crop": 0}, False), ({"resized_crop": 1.1}, False),
        ({"auto_augment": "randaugment", "magnitude": 0}, True),
        ({"auto_augment": "randaugment", "magnitude": 30}, True),
        ({"auto_augment": "randaugment", "magnitude": 31}, False),
        ({"auto_augment": "trivialaugment", "magnitude": 8}, False),
        ({"mixup": float("inf")}, False), ({"crop_padding": -1}, False),
    ],
)  # fmt: skip
def test_both_ends_of_every_range(options: dict[str, Any], is_valid: bool) -> None:
    if is_valid:
        Augmentation(**options)
    else:
        with pytest.raises(DataError):
            Augmentation(**options)


def test_images_in_memory_are_changed_as_the_network_sees_them() -> None:
    """Resized, cut to the middle and then rotated: once, whatever is kept in memory."""
    preprocessing = Preprocessing("BGR", size=7, crop=(5, 5))
    augmentation = Augmentation(rotation=40)
    batches = Batches(DATA, preprocessing, BatchPlan(8, 8), augmentation=augmentation)
    (found, _), *_ = batches.epoch(2)
    seen = preprocessing.pixels(PIXELS)
    changes, seeds = ImageChanges(augmentation, (5, 5)), seeds_of_images(0, 2, 8)
    for inputs, pixels, seed in zip(found, seen, seeds.tolist(), strict=True):
        changed = as_pixels(changes(as_image(pixels[..., ::-1]), seed))[..., ::-1]
        expected = torch.from_numpy(changed.transpose(2, 0, 1).copy()).float() / 255
        assert torch.equal(inputs, expected)


def test_classes_of_an_unnamed_side_are_counted_where_they_are_known() -> None:
    unnamed = Dataset(PIXELS, np.array([0, 1, 2, 3] * 2))
    with pytest.raises(DataError, match="the data has 4 classes, the model has 3"):
        match_classes(unnamed, None, count=3)
    assert match_classes(unnamed, None, count=4)[0] is unnamed
    assert match_classes(unnamed, None)[0] is unnamed


def test_notes_of_all_splits_are_kept_once() -> None:
    first = Dataset(PIXELS[:2], np.array([0, 1]), notes=("both", "of the first"))
    second = Dataset(PIXELS[2:], np.array([0, 1] * 3), notes=("both", "of the second"))
    whole = join_splits({"train": first, "test": second})
    assert whole.notes == ("both", "of the first", "of the second")
    assert whole.splits is not None
    assert whole.splits.tolist() == ["train"] * 2 + ["test"] * 6


@pytest.mark.parametrize(
    ("labels", "classes", "problem"),
    [
        (["1.0", "2.0", "2"], [0, 1, 1], ""),
        (["1.0", "1.5", "2"], None, "real numbers, such as 1.5"),
        (["1e0", "2.5e-1"], None, "real numbers"),
        (["2e0", "1"], [1, 0], ""),
    ],
)
def test_one_real_number_among_whole_ones_is_no_class(
    labels: list[str], classes: list[int] | None, problem: str
) -> None:
    if classes is None:
        with pytest.raises(DataError, match=problem):
            classes_of(labels)
    else:
        found, names, _ = classes_of(labels)
        assert found is not None
        assert (found.tolist(), names) == (classes, None)


def test_other_numbers_of_channels_have_no_color() -> None:
    for channels, note in ((1, "gray"), (2, ""), (3, ""), (4, "")):
        data = Dataset(np.zeros((2, channels, 4, 4), np.uint8))
        notes = conversion_note(data, 3)
        assert bool(notes) == bool(note)
        assert not note or note in notes[0]


@pytest.mark.parametrize(("val", "test"), [(0.5, 0.5), (0.0, 1.0), (1.0, 0.0), (-0.1, 0.2)])
def test_fractions_leave_something_to_train_on(val: float, test: float) -> None:
    with pytest.raises(DataError, match="leave nothing to train on"):
        split(DATA, val, test)
    assert len(split(DATA, 0.25, 0.5).train) == 2


def test_unlabeled_images_are_written_to_one_folder_whatever_their_splits(tmp_path: Path) -> None:
    splits = np.array(["train", "test"] * 4)
    write_image_folder(Dataset(PIXELS, splits=splits), tmp_path / "plain")
    assert len(list((tmp_path / "plain").glob("*.png"))) == 8
    write_image_folder(Dataset(PIXELS, DATA.classes, DATA.names, splits=splits), tmp_path / "split")
    assert sorted(path.name for path in (tmp_path / "split").iterdir()) == [
        "dataset.json", "test", "train",
    ]  # fmt: skip


def test_a_single_archive_has_no_splits(tmp_path: Path) -> None:
    """Its name may tell one: it is all that there is, to be split as is asked for."""
    file = archive(tmp_path / "train-0000.tar", a__png=png(PIXELS[0]), a__cls=b"cat")
    assert open_data(file).splits is None


def test_suffixes_of_an_archive_in_any_case_are_one(tmp_path: Path) -> None:
    file = archive(tmp_path / "a.tar", a__PNG=png(PIXELS[0]), a__png=png(PIXELS[1]), a__cls=b"cat")
    with pytest.raises(DataError, match=r"a\.png is in it twice"):
        open_data(file)


def test_rows_without_a_split_among_others_are_refused(tmp_path: Path) -> None:
    for index in (0, 1):
        (tmp_path / f"{index}.png").write_bytes(png(PIXELS[index]))
    table = tmp_path / "t.csv"
    table.write_text("path,label,split\n0.png,a,Train\n1.png,b,\n", encoding="utf-8")
    with pytest.raises(DataError, match="row 2 has the split ''; train, val or test is one"):
        open_data(table)
    table.write_text("path,label,split\n0.png,a,Train\n1.png,b, VALID \n", encoding="utf-8")
    data = open_data(table)
    assert data.splits is not None
    assert data.splits.tolist() == ["train", "val"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_may_have_tabs_or_semicolons(delimiter: str, tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(png(PIXELS[0]))
    rows = [["path", "label"], ["0.png", "a, b or c" if delimiter != "," else "a"]]
    text = "".join(delimiter.join(row) + "\n" for row in rows)
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    assert open_data(tmp_path / "t.csv").names == (rows[1][1],)


def test_digits_have_ten_names_and_an_eleventh_class_none(tmp_path: Path) -> None:
    def write(labels: list[int]) -> Dataset:
        images = np.zeros((len(labels), 2, 2), np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", np.uint8(labels))):
            head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (tmp_path / f"train-{name}-ubyte").write_bytes(head + array.tobytes())
        data = open_data(tmp_path)
        assert isinstance(data, Dataset)
        return data

    assert write([0, 9]).names == tuple("0123456789")
    assert write([0, 10]).names is None


def test_splits_of_a_t7_may_be_called_sets_and_wrong_labels_be_skipped(tmp_path: Path) -> None:
    def part(*labels: int) -> LuaTable:
        images = np.zeros((len(labels), 1, 2, 2), np.uint8)
        return LuaTable({"data": images, "label": np.array(labels)})

    listed = LuaTable.from_list(["cat", "dog"])
    value = LuaTable({"train_set": part(1, 2), "test_set": part(2, 1), "classes": listed})
    data = dataset_from(value)
    assert data.splits is not None
    assert data.splits.tolist() == ["train", "train", "test", "test"]
    wrong = LuaTable({"data": np.zeros((3, 1, 2, 2), np.uint8), "label": np.array([1, 7, 2])})
    wrong["classes"] = listed
    t7.save(wrong, tmp_path / "wrong.t7")
    with pytest.raises(DataError, match="1 labels out of range 0 to 1"):
        open_data(tmp_path / "wrong.t7")
    kept = open_data(tmp_path / "wrong.t7", on_error="skip")
    assert kept.classes is not None
    assert kept.classes.tolist() == [0, 1]


@pytest.mark.parametrize("names", [("mean",), ("std",), ("mean", "std")])
def test_a_mean_or_a_deviation_beside_images_is_not_applied_and_named(names: Any) -> None:
    entries = {name: np.ones(1) for name in names}
    images = np.zeros((2, 1, 2, 2), np.uint8)
    data = dataset_from(LuaTable({"data": images, "label": np.array([1, 2]), **entries}))
    named = " and ".join(names)
    assert data.notes[-1] == f"not applied: {named}, which stand beside the images"


def files_of(folder: Path, sizes: list[tuple[int, int]]) -> ImageFiles:
    """Images of some sizes (width, height); each is darker than the one before it."""
    files = np.empty(len(sizes), object)
    for index, size in enumerate(sizes):
        files[index] = folder / f"{index}.png"
        Image.new("RGB", size, (200 - index, 100, 50)).save(files[index])
    return ImageFiles(files, np.arange(len(sizes)) % 2, ("cat", "dog"))


@pytest.mark.parametrize("others", [(6, 8), (6, 9)])
def test_images_must_have_one_size_where_the_network_gives_them_none(
    others: tuple[int, int], tmp_path: Path
) -> None:
    data = files_of(tmp_path, [(6, 8), others])
    plan = BatchPlan(2, 2)
    if others == (6, 8):
        inputs, _ = next(Batches(data, Preprocessing(), plan, workers=0).epoch(1))
        assert inputs.shape == (2, 3, 8, 6)
        return
    with pytest.raises(
        DataError, match="images of 8×6 and 9×6: the preprocessing must give them one size"
    ):
        [*Batches(data, Preprocessing(), plan, keep=False, workers=0).epoch(1)]
    inputs, _ = next(Batches(data, Preprocessing(size=(4, 4)), plan, workers=0).epoch(1))
    assert inputs.shape == (2, 3, 4, 4)


def test_an_image_that_cannot_be_read_is_named_by_its_own_error(tmp_path: Path) -> None:
    data = files_of(tmp_path, [(6, 8), (6, 8)])
    batches = Batches(data, Preprocessing(), BatchPlan(2, 2), keep=False, workers=0)
    assert len([*batches.epoch(1)]) == 1
    (tmp_path / "1.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"1\.png"):
        [*batches.epoch(2)]


@pytest.mark.parametrize("color", ["RGB", "gray"])
def test_random_crops_are_of_whole_images(color: Any, tmp_path: Path) -> None:
    """Those of files as those of the same pixels in memory, in the network's colors."""
    files = files_of(tmp_path, [(6, 8), (6, 8)])
    here = files.in_memory(None)
    found = []
    for data in (files, here):
        batches = Batches(
            data,
            Preprocessing(color, size=(4, 4)),
            BatchPlan(2, 2),
            augmentation=Augmentation(resized_crop=0.5),
            workers=0,
        )
        found.append(next(batches.epoch(1))[0])
    assert found[0].shape == (2, 3 if color == "RGB" else 1, 4, 4)
    assert torch.equal(*found)


def test_batches_of_no_images_are_refused() -> None:
    with pytest.raises(DataError, match=r"^no images$"):
        pixel_source(DATA.take(np.arange(0)), Preprocessing(), Augmentation())
    source = pixel_source(DATA.take(np.arange(1)), Preprocessing(), Augmentation())
    assert len(next(source([np.arange(1)], [np.arange(1)]))) == 1


@pytest.mark.parametrize("labeled", [True, False])
def test_names_without_images_are_noted_where_there_are_labels(labeled: bool) -> None:
    data = Dataset(PIXELS[:2], np.array([0, 2]) if labeled else None)
    found = name_classes(data, ["cat", "dog", "owl"])
    note = ("1 of 3 class names have no images: dog",) if labeled else ()
    assert (found.names, found.notes) == (("cat", "dog", "owl"), note)


@pytest.mark.parametrize("label", ["testing batch 1 of 1", b"testing batch 1 of 1", 5])
def test_what_stands_beside_the_images_of_cifar_is_text(label: Any, tmp_path: Path) -> None:
    """Python 2 wrote bytes; numbers are left as they are."""
    content = {b"batch_label": label, b"filenames": [b"a.png"], b"data": PIXELS[0].reshape(1, -1)}
    (tmp_path / "b").write_bytes(pickle.dumps(content, 4))
    found = read_pickle(tmp_path / "b")
    assert found["batch_label"] == (5 if label == 5 else "testing batch 1 of 1")
    assert found["filenames"] == ["a.png"]
    assert np.array_equal(found["data"], content[b"data"])
