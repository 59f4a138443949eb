"""Classes, limits, splits, measurements: nothing is lost or doubled, and draws are repeatable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.utils.class_weight import compute_class_weight
from support import FIXTURES, SHARED

from torchlift.converters import t7
from torchlift.converters.t7 import LuaTable
from torchlift.transfer.data import (
    Dataset,
    ImageFiles,
    channel_statistics,
    class_count,
    class_weights,
    fingerprint,
    limited,
    open_data,
    select_classes,
    split,
    stream_folder,
    test_split,
)
from torchlift.transfer.data.selection import conversion_note, keep_valid_labels
from torchlift.transfer.errors import DataError

# It is a function of the library, not a test.
test_split.__test__ = False  # type: ignore[attr-defined]

SIZES = [400, 100, 37, 3]


@pytest.fixture
def data() -> Dataset:
    """Return 540 different images of four shuffled classes of very different sizes."""
    random = np.random.default_rng(0)
    classes = random.permutation(np.repeat(np.arange(4), SIZES))
    images = np.arange(540, dtype=np.uint16).view(np.uint8).reshape(540, 1, 1, 2)
    return Dataset(images, classes, ("a", "b", "c", "d"), ids=np.arange(540))


def counts(data: Dataset, of: int = 4) -> list[int]:
    assert data.classes is not None
    return np.bincount(data.classes, minlength=of).tolist()


def ids(data: Dataset) -> list[int]:
    assert data.ids is not None
    return data.ids.tolist()


def test_selected_classes_are_renumbered(data: Dataset) -> None:
    chosen = select_classes(data, ["c", "a"])
    assert chosen.names == ("c", "a")
    assert counts(chosen, 2) == [37, 400]
    assert chosen.classes is not None
    for image, label in zip(ids(chosen), chosen.classes, strict=True):
        assert data.classes[image] == (2, 0)[label]  # type: ignore[index]
    assert np.array_equal(chosen.images, data.images[ids(chosen)])
    unnamed = replace(data, names=None)
    assert ids(select_classes(unnamed, ["3", "1"])) == ids(chosen)
    for names, problem in (
        (["x"], "the data has: a, b, c, d"),
        (["a", "a"], "only once"),
    ):
        with pytest.raises(DataError, match=problem):
            select_classes(data, names)


def test_a_limit_keeps_the_proportions_or_balances(data: Dataset) -> None:
    drawn = limited(data, 54, seed=1)
    assert counts(drawn) == [40, 10, 4, 0]
    assert ids(drawn) == sorted(set(ids(drawn)))
    assert counts(limited(data, 54, balanced=True)) == [17, 17, 17, 3]
    assert ids(limited(data, 54, seed=1)) == ids(drawn)
    assert ids(limited(data, 54, seed=2)) != ids(drawn)
    assert limited(data, 540) is data
    with pytest.raises(DataError, match="limit=0: expected at least 1"):
        limited(data, 0)
    for count in (1, 2, 101, 539):
        for balanced in (False, True):
            assert len(limited(data, count, balanced=balanced)) == count


def test_a_limit_keeps_the_proportions_of_splits(data: Dataset) -> None:
    splits = np.where(np.arange(540) < 360, "train", "test")
    drawn = limited(replace(data, splits=splits), 54)
    assert drawn.splits is not None
    assert (drawn.splits == "train").sum() == pytest.approx(36, abs=1)


@pytest.mark.parametrize(("val", "test"), [(0.1, 0.0), (0.25, 0.25), (0.0, 0.5), (0.0, 0.0)])
def test_every_class_is_split_in_the_same_fractions(data: Dataset, val: float, test: float) -> None:
    splits = split(data, val, test, seed=3)
    everything = ids(splits.train) + ids(splits.val) + ids(splits.test)
    assert sorted(everything) == list(range(540))
    assert len(splits.val) == round(540 * val)
    assert len(splits.test) == round(540 * test)
    for images, fraction in ((splits.val, val), (splits.test, test)):
        for count, size in zip(counts(images), SIZES, strict=True):
            assert abs(count - size * fraction) <= 1
    again = split(data, val, test, seed=3)
    assert ids(again.train) == ids(splits.train)
    assert ids(again.val) == ids(splits.val)
    if val:
        assert ids(split(data, val, test, seed=4).val) != ids(splits.val)


def test_the_splits_of_a_seed_are_the_same_in_every_version() -> None:
    """A run that is resumed, or compared with an older one, must not validate on other images."""
    plain = Dataset(np.zeros((20, 1, 1, 1), np.uint8), np.arange(20) % 2, ids=np.arange(20))
    splits = split(plain, 0.2, 0.2, seed=7)
    assert (ids(splits.val), ids(splits.test)) == ([0, 4, 9, 15], [3, 8, 12, 13])


def test_the_sources_own_splits_are_kept(data: Dataset) -> None:
    names = np.array(["train"] * 300 + ["val"] * 40 + ["test"] * 200)
    own = split(replace(data, splits=names), 0.5, 0.4)
    assert ids(own.train) == list(range(300))
    assert ids(own.val) == list(range(300, 340))
    assert ids(own.test) == list(range(340, 540))
    assert own.notes == (
        "test: the source's own 200 images",
        "val: the source's own 40 images",
    )
    # A split has no splits itself: it can be split again.
    assert own.train.splits is own.val.splits is own.test.splits is None
    names[names == "val"] = "train"
    drawn = split(replace(data, splits=names), 0.1)
    assert ids(drawn.test) == list(range(340, 540))
    assert len(drawn.val) == 34
    assert sorted(ids(drawn.train) + ids(drawn.val)) == list(range(340))
    assert ids(test_split(replace(data, splits=names))) == list(range(340, 540))
    assert test_split(data) is data


def test_a_test_split_from_another_dataset(data: Dataset) -> None:
    other = data.take(np.arange(10))
    splits = split(data, 0.1, 0.3, test_data=other)
    assert ids(splits.test) == list(range(10))
    assert len(splits.train) + len(splits.val) == 540


def test_splits_that_leave_no_training_images(data: Dataset) -> None:
    with pytest.raises(DataError, match="leave nothing to train on"):
        split(data, 0.5, 0.5)
    with pytest.raises(DataError, match="no training split"):
        split(replace(data, splits=np.full(540, "test")))
    unlabeled = split(replace(data, classes=None), 0.1)
    assert (len(unlabeled.train), len(unlabeled.val)) == (486, 54)


def test_labels_out_of_range(tmp_path: Path) -> None:
    names = LuaTable.from_list(["a", "b", "c"])
    pixels = np.zeros((5, 1, 2, 2), np.uint8)
    table = LuaTable({"data": pixels, "label": np.array([1, 9, 3, 0, 2]), "classes": names})
    t7.save(table, tmp_path / "data.t7")
    with pytest.raises(DataError, match=r"2 labels out of range 0 to 2 .*: 8 of image 1, -1 of"):
        open_data(tmp_path / "data.t7", first_label=1)
    # One more than the number of names is the usual case: labels counted from 1 taken as from 0.
    beyond = Dataset(pixels, np.array([1, 2, 3, 0, 2]), ("a", "b", "c"))
    assert ids(keep_valid_labels(beyond, "skip")) == [0, 1, 3, 4]
    kept = open_data(tmp_path / "data.t7", first_label=1, on_error="skip")
    assert isinstance(kept, Dataset)
    assert ids(kept) == [0, 2, 4]
    assert kept.classes is not None
    assert kept.classes.tolist() == [0, 2, 1]
    assert "left out: 2 labels out of range" in kept.notes[-1]


def test_open_data_selects_and_limits() -> None:
    chosen = open_data("sklearn:digits", classes=["3", "8"], limit=20, balanced=True, seed=5)
    assert isinstance(chosen, Dataset)
    assert counts(chosen, 2) == [10, 10]
    assert chosen.names == ("3", "8")
    every = open_data("sklearn:digits")
    assert isinstance(every, Dataset)
    assert np.array_equal(every.images[ids(chosen)], chosen.images)
    ordered = open_data("sklearn:digits", class_names=list("9876543210"), limit=20, seed=5)
    assert ordered.names == tuple("9876543210")
    assert np.array_equal(9 - every.classes[ids(ordered)], ordered.classes)  # type: ignore[index]
    with pytest.raises(DataError, match="no split val; it has no splits"):
        open_data("sklearn:digits", split="val")


def test_channel_statistics_equal_numpys() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (1000, 3, 9, 8), np.uint8)
    pixels[:, 1] //= 3
    for value_range in (1, 255):
        mean, std = channel_statistics(Dataset(pixels), value_range)
        scaled = pixels * (value_range / 255)
        assert np.allclose(mean, scaled.mean((0, 2, 3)), rtol=1e-12)
        assert np.allclose(std, scaled.std((0, 2, 3)), rtol=1e-10)
    mean, std = channel_statistics(Dataset(np.full((2, 1, 4, 4), 77, np.uint8)), 255)
    assert (mean, std) == ((77.0,), (0.0,))
    with pytest.raises(DataError, match="already inputs"):
        channel_statistics(Dataset(pixels.astype(np.float32)))
    assert channel_statistics(Dataset(pixels[:1, :, :1, :1]))[1] == (0.0,) * 3
    with pytest.raises(DataError, match="no images to measure"):
        channel_statistics(Dataset(pixels[:0]))


def test_channel_statistics_equal_those_that_lua_saved() -> None:
    train = open_data(FIXTURES / "digits" / "digits-train.t7")
    saved = t7.load(FIXTURES / "digits" / "digits_meanStd.t7")
    mean, std = channel_statistics(train, 255)
    assert mean[0] == pytest.approx(saved["mean"][1], rel=1e-6)
    # Torch7 divides by N - 1, we divide by N.
    assert std[0] == pytest.approx(saved["std"][1], rel=1e-6)


def test_class_weights_equal_scikit_learns(data: Dataset) -> None:
    expected = compute_class_weight("balanced", classes=np.arange(4), y=data.classes)
    assert np.allclose(class_weights(data), expected)
    without_b = data.take(np.flatnonzero(data.classes != 1))
    assert class_weights(without_b)[1] == 0


def test_a_fingerprint_depends_on_pixels_labels_and_order(data: Dataset, tmp_path: Path) -> None:
    images, classes = data.images.copy(), np.array(data.classes)
    images[17] += 1
    classes[3] = (classes[3] + 1) % 4
    others = [
        replace(data, images=images),
        replace(data, classes=classes),
        # The same labels, of other images.
        replace(data, classes=np.roll(np.array(data.classes), 1)),
        replace(data, classes=None),
        data.take(np.arange(540)[::-1]),
        data.take(np.arange(539)),
        replace(data, images=data.images.reshape(540, 1, 2, 1)),
    ]
    assert len({fingerprint(each) for each in [data, *others]}) == 8
    renamed = replace(data, names=("e", "f", "g", "h"), notes=("a note",))
    assert fingerprint(renamed) == fingerprint(data)
    (tmp_path / "a").mkdir()
    Image.fromarray(images[0, 0]).save(tmp_path / "a" / "0.png")
    before = fingerprint(stream_folder(tmp_path))
    Image.fromarray(images[1, 0]).save(tmp_path / "a" / "0.png")
    assert fingerprint(stream_folder(tmp_path)) != before


def test_real_cifar_classes_by_name() -> None:
    folder = SHARED / "data"
    if not folder.exists():
        pytest.skip("needs the CIFAR-10 images")
    names = t7.load(FIXTURES / "cifar" / "cifar_classes.t7").to_list()
    file, chosen = folder / "cifar10-small-train.t7", ["airplane", "bird"]
    data = open_data(file, class_names=names, classes=chosen)
    assert isinstance(data, Dataset)
    # The training images of the fifth lab.
    assert counts(data, 2) == [1029, 996]


@pytest.mark.parametrize("color", ["RGB", "gray"])
def test_channel_statistics_of_files_are_those_of_all_their_pixels(
    color: str, tmp_path: Path
) -> None:
    """An image that is larger counts more; they are of several sizes."""
    random = np.random.default_rng(3)
    flat, files = [], np.empty(3, object)
    for index, size in enumerate(((4, 6), (9, 2), (3, 3))):
        pixels = random.integers(0, 200 - 60 * index, (*size, 3), np.uint8)
        files[index] = tmp_path / f"{index}.png"
        image = Image.fromarray(pixels).convert("L" if color == "gray" else "RGB")
        image.save(files[index])
        flat.append(np.asarray(image).reshape(size[0] * size[1], -1))
    whole = np.concatenate(flat).astype(np.float64)
    mean, std = channel_statistics(ImageFiles(files, color=color), 255)
    np.testing.assert_allclose(mean, whole.mean(0), rtol=1e-12)
    np.testing.assert_allclose(std, whole.std(0), rtol=1e-10)


def test_which_images_a_network_sees_in_other_colors() -> None:
    """Those of files by the color that all are decoded to; inputs are not changed."""
    files = np.empty(0, object)
    for data, own in (
        (ImageFiles(files, color="gray"), "gray"),
        (ImageFiles(files), "RGB"),
        (Dataset(np.zeros((2, 1, 4, 4), np.uint8)), "gray"),
        (Dataset(np.zeros((2, 3, 4, 4), np.uint8)), "RGB"),
        (Dataset(np.zeros((2, 3, 4, 4), np.float32)), ""),
        (Dataset(np.zeros((2, 3), np.uint8)), ""),
    ):
        for channels, name in ((1, "gray"), (3, "RGB")):
            said = f"the images are {own} and are converted to {name}, which the network takes"
            expected = (said,) if own and own != name else ()
            assert conversion_note(data, channels) == expected


def test_no_images_are_of_no_class() -> None:
    data = Dataset(np.zeros((0, 1, 2, 2), np.uint8), np.zeros(0, np.int64))
    assert class_count(data) == 0
    assert class_count(replace(data, names=("a", "b"))) == 2


def test_the_sources_own_test_images_are_left_out_beside_others(data: Dataset) -> None:
    """They are neither trained nor validated on."""
    names = np.array(["train"] * 300 + ["test"] * 240)
    splits = split(replace(data, splits=names), 0.1, 0.2, test_data=data.take(np.arange(10)))
    assert sorted(ids(splits.train) + ids(splits.val)) == list(range(300))
    assert (len(splits.val), ids(splits.test)) == (30, list(range(10)))
    assert splits.notes[0] == "test: 10 images, given"


def test_of_test_data_with_splits_only_its_test_split_is_tested_on(data: Dataset) -> None:
    """As `evaluate` and `calibrate` do: the rest may be what was trained on."""
    names = np.array(["train"] * 300 + ["test"] * 240)
    splits = split(data, 0.1, test_data=replace(data, splits=names))
    assert ids(splits.test) == list(range(300, 540))
    assert splits.notes[0] == "test: 240 images, given: the test split of 540"
    untested = replace(data, splits=np.full(540, "val"))
    assert len(split(data, 0.1, test_data=untested).test) == 540


def test_each_split_of_a_class_is_drawn_in_proportion() -> None:
    """Of ten images each, five are drawn, whatever the seed."""
    splits = np.array(["train", "test"] * 10)
    plain = Dataset(np.zeros((20, 1, 1, 1), np.uint8), np.zeros(20, np.int64), splits=splits)
    for unlabeled in (plain, replace(plain, classes=None)):
        for seed in range(5):
            drawn = limited(unlabeled, 10, seed=seed).splits
            assert drawn is not None
            assert (drawn == "train").sum() == 5


@pytest.mark.parametrize("seed", range(3))
def test_where_data_has_splits_each_class_of_each_split_is_drawn_in_proportion(
    data: Dataset, seed: int
) -> None:
    """A limit, and the validation split of data that has a test split alone."""
    names = np.array(["train"] * 360 + ["test"] * 180)
    own = replace(data, splits=names)
    drawn = limited(own, 108, seed=seed)
    for name, rows in (("train", slice(0, 360)), ("test", slice(360, 540))):
        there = counts(data.take(np.arange(540)[rows]))
        kept = counts(drawn.take(np.flatnonzero(drawn.splits == name)))
        for count, size in zip(kept, there, strict=True):
            assert abs(count - size / 5) <= 1
    there = counts(data.take(np.arange(360)))
    for count, size in zip(counts(split(own, 0.25, seed=seed).val), there, strict=True):
        assert abs(count - size / 4) <= 1


def test_a_split_that_is_not_drawn_is_not_noted(data: Dataset) -> None:
    assert split(data, 0.1).notes == ("val: 54 images drawn by seed 0, stratified by class",)
    assert split(data, 0.0, 0.1, seed=2).notes == (
        "test: 54 images drawn by seed 2, stratified by class",
    )
