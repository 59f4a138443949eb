"""Which images are taken, drawn and matched, and what is said about it: small rules of many."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.transfer.data import (
    Augmentation,
    Batches,
    BatchPlan,
    Dataset,
    ImageFiles,
    Splits,
    class_weights,
    fingerprint,
    match_classes,
    open_data,
    select_classes,
    split,
)
from torchlift.transfer.data.augmentation import draw, jitter, mix
from torchlift.transfer.data.class_matching import MatchBy, match_names, name_classes
from torchlift.transfer.data.selection import draw_stratified, keep_valid_labels
from torchlift.transfer.data.writing import write_npz
from torchlift.transfer.errors import DataError
from torchlift.transfer.training import draw_splits as draw_splits_file
from torchlift.transfer.training.draw_splits import draw_splits
from torchlift.transfer.training.options import SplitOptions

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (8, 3, 4, 5), np.uint8)
DATA = Dataset(PIXELS, np.array([0, 1] * 4), ("cat", "dog"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.savez(tmp_path / "data.npz", x=PIXELS, y=[0, 0, 0, 0, 0, 0, 1, 1])
    return tmp_path / "data.npz"


def test_options_of_opening(file: Path) -> None:
    with pytest.raises(DataError, match="on_error='ignore': expected 'raise' or 'skip'"):
        open_data(file, on_error="ignore")
    with pytest.raises(DataError, match="classes='cat': a list of names was expected"):
        open_data(file, classes="cat")
    named = open_data(file, default_class_names=["cat", "dog"])
    assert named.names == ("cat", "dog")
    # Class names of a source stay, whatever the default.
    np.savez(file, x=PIXELS, y=[0, 1] * 4, classes=["owl", "emu"])
    assert open_data(file, default_class_names=["cat", "dog"]).names == ("owl", "emu")
    assert open_data(file, class_names=["emu", "owl"]).names == ("emu", "owl")
    kept = open_data(file, size=(2, 2))
    assert kept.ids is not None
    assert kept.ids.tolist() == list(range(8))


@pytest.mark.parametrize(
    ("size", "is_noted"), [(None, False), ((4, 5), False), ((5, 4), True), ((4, 4), True)]
)
def test_images_of_an_array_keep_their_size_which_is_noted_where_another_is_asked_for(
    size: tuple[int, int] | None, is_noted: bool, file: Path
) -> None:
    """The images are 4 high and 5 wide."""
    kept = open_data(file, size=size)
    assert isinstance(kept, Dataset)
    assert kept.images.shape == PIXELS.shape
    note = "the images keep their size: only those of a folder are resized"
    assert (note in kept.notes) is is_noted


def test_what_is_left_of_the_images(file: Path) -> None:
    classes = ["cat", "dog", "owl"]
    np.savez(file, x=PIXELS, y=[0, 0, 0, 9, 0, 1, 1, 1], classes=classes)
    with pytest.raises(DataError, match="1 labels out of range"):
        open_data(file)
    data = open_data(file, on_error="skip")
    assert np.asarray(data.classes).tolist() == [0, 0, 0, 0, 1, 1, 1]
    with pytest.raises(DataError, match=r"data\.npz: no images are left"):
        open_data(file, on_error="skip", classes=["owl"])


def test_a_limit_is_drawn_by_seed_and_balanced_on_request(file: Path) -> None:
    drawn = {tuple(open_data(file, limit=4, seed=seed).ids.tolist()) for seed in range(8)}  # type: ignore[union-attr]
    assert len(drawn) > 1
    for balanced, expected in ((False, [3, 1]), (True, [2, 2])):
        classes = open_data(file, limit=4, balanced=balanced).classes
        assert np.bincount(np.asarray(classes)).tolist() == expected


@pytest.mark.parametrize(
    ("names", "labels", "said"),
    [
        (["crane", "owl"], ["owl", "crane", "crane"], "the model has 2 classes of the name crane"),
        (["cat", "Cat"], ["owl", "cat"], "the data has 2 classes of the name cat"),
        (["cat", "emu"], ["cat", "dog"], "the model has no class emu; it has cat, dog"),
    ],
)
def test_names_that_leave_a_choice_are_refused(
    names: list[str], labels: list[str], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        match_names(names, labels)


def test_a_name_is_first_looked_for_in_its_own_spelling() -> None:
    assert match_names(["cat"], ["Cat", "cat"]) == [1]
    data = Dataset(PIXELS[:2], np.array([0, 1]), ("Cat", "cat"))
    assert select_classes(data, ["cat"]).classes.tolist() == [0]  # type: ignore[union-attr]
    with pytest.raises(DataError, match="no class CAT"):
        select_classes(data, ["CAT"])
    with pytest.raises(DataError, match="each only once"):
        select_classes(data, ["cat", "cat"])


def test_a_list_orders_the_names_of_data_and_keeps_their_spelling() -> None:
    named = name_classes(DATA, ["Dog", "Cat"])
    assert named.names == ("dog", "cat")
    assert named.classes.tolist() == [1, 0] * 4  # type: ignore[union-attr]
    with pytest.raises(DataError, match="it lacks dog"):
        name_classes(DATA, ["cat"])
    with pytest.raises(DataError, match="it has 3 names for 2 classes"):
        name_classes(DATA, ["cat", "dog", "Dog"])
    unnamed = name_classes(replace(DATA, names=None), ["cat", "dog", "owl"])
    assert unnamed.notes == ("1 of 3 class names have no images: owl",)


def test_more_classes_than_a_model_has_are_not_matched_by_position() -> None:
    unnamed = replace(DATA, names=None)
    matched, notes = match_classes(unnamed, ["a", "b"])
    assert matched.names == ("a", "b")
    assert notes == ["classes were matched by position, because the data does not name them"]
    with pytest.raises(DataError, match="the data has 2 classes, the model has 1"):
        match_classes(unnamed, ["a"])
    many = [f"class {index}" for index in range(11)]
    with pytest.raises(DataError, match="class 9, …: no name in common"):
        match_classes(DATA, many)


@pytest.mark.parametrize(
    ("count", "largest", "is_valid"),
    [(3, 24_999, True), (3, 25_000, False), (3_000, 29_999, True), (3_000, 30_000, False)],
)
def test_without_names_labels_may_be_as_large_as_data_has_classes(
    count: int, largest: int, is_valid: bool
) -> None:
    """Memory grows with the largest label: one that is damaged would take all of it."""
    labels = np.zeros(count, np.int64)
    labels[-1] = largest
    data = Dataset(np.zeros((count, 1, 1, 1), np.uint8), labels)
    assert len(keep_valid_labels(data, "skip")) == (count if is_valid else count - 1)
    named = replace(data, names=tuple(map(str, range(largest + 1))))
    assert keep_valid_labels(named) is named


def test_labels_out_of_range_are_left_out_and_five_are_named() -> None:
    wrong = replace(DATA, classes=np.array([0, 7, 8, 9, -1, 10, 11, 1]))
    kept = keep_valid_labels(wrong, "skip")
    assert kept.classes.tolist() == [0, 1]  # type: ignore[union-attr]
    assert kept.notes[-1] == (
        "left out: 6 labels out of range 0 to 1 (counted from 0): 7 of image 1, 8 of image 2, "
        "9 of image 3, -1 of image 4, 10 of image 5"
    )


def test_what_is_said_of_splits() -> None:
    large = Dataset(np.zeros((40, 3, 4, 5), np.uint8), np.array([0, 1] * 20), ("cat", "dog"))
    other = Dataset(np.zeros((2, 1, 4, 5), np.uint8), np.array([0, 1]), ("dog", "cat"))
    splits = split(large, 0.25, test_data=other)
    assert splits.test.classes.tolist() == [1, 0]
    assert splits.notes == (
        "the test data's classes were matched with the training data's by name",
        "test: 2 images, given",
        "test images are 1×4×5, the others 3×4×5: each is converted",
        "val: 10 images drawn by seed 0, stratified by class",
    )
    by_position = split(large, 0.25, test_data=other, match_classes="position")
    assert by_position.test.classes.tolist() == [0, 1]
    for fractions in ((0.5, 0.5), (1.0, 0.0), (-0.1, 0.0)):
        with pytest.raises(DataError, match="leave nothing to train on"):
            split(large, *fractions)
    # The second split has its own draw, and its fraction is of all images.
    both = split(large, 0.25, 0.5, seed=3)
    assert [len(each) for each in (both.train, both.val, both.test)] == [10, 10, 20]
    assert both.test.ids is not None
    assert both.val.ids is not None
    chosen = draw_stratified(np.array([0, 1] * 20), 20, seed=3)
    assert both.test.ids.tolist() == chosen.tolist()
    rest = np.setdiff1d(np.arange(40), chosen)
    of_rest = draw_stratified(np.array([0, 1] * 20)[rest], 10, seed=4)
    assert both.val.ids.tolist() == rest[of_rest].tolist()


@pytest.mark.parametrize(
    ("match_by", "classes", "said"),
    [
        ("name", [1, 0], "{}'s classes were matched with the model's by name"),
        (
            "position",
            [0, 1],
            "classes were matched by position, as was asked for: cat with dog, dog with cat",
        ),
    ],
)
def test_the_classes_of_a_kept_head_are_those_of_all_splits(
    match_by: MatchBy, classes: list[int], said: str
) -> None:
    """Both datasets are matched with the model's outputs in the way that was asked for."""
    data, test = replace(DATA, notes=("as found",)), DATA.take(np.arange(2))
    splits = draw_splits(data, test, SplitOptions(0.0), 0, match_by, ["dog", "cat"])
    assert splits.test.classes.tolist() == classes
    assert splits.train.classes.tolist() == classes * 4
    assert splits.train.names == splits.test.names == ("dog", "cat")
    assert splits.notes[:3] == ("as found", said.format("the data"), said.format("the test data"))


def test_a_class_without_images_has_no_weight() -> None:
    named = Dataset(PIXELS[:4], np.array([0, 0, 0, 2]), ("a", "b", "c"))
    assert class_weights(named).tolist() == pytest.approx([4 / 9, 0, 4 / 3])


def test_a_fingerprint_is_of_shapes_and_of_every_image() -> None:
    many = np.zeros((600, 1, 2, 2), np.uint8)
    changed = many.copy()
    changed[599] = 1
    datasets = [
        Dataset(many),
        Dataset(changed),
        Dataset(many.reshape(600, 1, 1, 4)),
        Dataset(many.view(np.int8)),
    ]
    assert len({fingerprint(data) for data in datasets}) == len(datasets)


@pytest.mark.parametrize("shape", [(2, 1, 4, 5), (2, 3, 5, 5), (2, 3, 4, 4)])
def test_an_npz_holds_images_of_one_shape(shape: tuple[int, ...], tmp_path: Path) -> None:
    other = Dataset(np.zeros(shape, np.uint8), np.array([0, 1]), ("cat", "dog"))
    size = "×".join(map(str, shape[1:]))
    with pytest.raises(DataError, match=f"one shape, not {size} in test, 3×4×5 in train"):
        write_npz(split(DATA, 0.25, test_data=other), tmp_path / "data.npz")
    assert not (tmp_path / "data.npz").exists()


def test_only_an_npz_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.t7: a dataset is written as \.npz"):
        write_npz(split(DATA, 0.25), tmp_path / "data.t7")


def test_a_dataset_written_with_an_upper_case_suffix_is_one_file(tmp_path: Path) -> None:
    write_npz(split(DATA, 0.25), tmp_path / "DATA.NPZ")
    assert [path.name for path in tmp_path.iterdir()] == ["DATA.NPZ"]
    written = open_data(tmp_path / "DATA.NPZ")
    assert np.array_equal(np.sort(written.images, axis=0), np.sort(PIXELS, axis=0))


def test_decoded_images_keep_what_is_known_of_them(tmp_path: Path) -> None:
    for index in range(2):
        Image.fromarray(PIXELS[index].transpose(1, 2, 0)).save(tmp_path / f"{index}.png")
    files = np.array([tmp_path / f"{index}.png" for index in range(2)], object)
    data = ImageFiles(files, np.array([0, 1]), ("3", "5"), source_classes=(2, 4))
    decoded = data.in_memory()
    assert np.array_equal(decoded.images, PIXELS[:2])
    assert decoded.source_classes == (2, 4)
    # Black and white columns become gray: the nearest pixels would be one of them.
    columns = np.tile(np.array([0, 255], np.uint8), (64, 32))
    Image.fromarray(columns).save(tmp_path / "0.png")
    small = replace(data, color="gray").take(np.array([0])).in_memory((16, 16))
    assert small.images.min() > 64
    assert small.images.max() < 192


def numbers(count: int) -> np.ndarray:
    return draw(seed=0, epoch=1, count=count)


def test_augmenting_leaves_its_input_alone() -> None:
    pixels = torch.from_numpy(PIXELS.copy())
    everything: dict[str, Any] = {"flip": True, "crop_padding": 1, "brightness": 0.5}
    changed = Augmentation(**everything)(pixels, numbers(8))
    assert torch.equal(pixels, torch.from_numpy(PIXELS))
    assert not torch.equal(changed, pixels)
    with pytest.raises(DataError, match="crop_padding=6: at most the larger side of the images, 5"):
        Augmentation(crop_padding=6)(pixels, numbers(8))


def test_gray_is_the_same_for_both_orders_of_channels() -> None:
    pixels = torch.from_numpy(PIXELS)
    factors = [torch.full((8,), value) for value in (1.0, 0.5, 0.25)]
    expected = jitter(pixels, factors)
    assert torch.equal(jitter(pixels.flip(1), factors, bgr=True).flip(1), expected)
    # Batches say which order it is.
    batches = []
    for color in ("RGB", "BGR"):
        scale = Preprocessing(color, mean=(0.0, 0.0, 0.0), value_range=255)
        plan = BatchPlan(8, 8, shuffle_seed=0)
        (inputs, _), *_ = Batches(DATA, scale, plan, augmentation=Augmentation(saturation=0.9))
        batches.append(inputs)
    assert torch.equal(batches[0], batches[1].flip(1))


def test_each_way_of_mixing_has_its_own_strength() -> None:
    """Beta(a, a) of a large a is one half; of a small a it is 0 or 1."""
    inputs, targets = torch.rand(9, 3, 4, 5), torch.eye(9)
    both = Augmentation(mixup=1e9, cutmix=1e-9)
    seen = set()
    for seed in range(20):
        mixed, fractions = mix(inputs, targets, both, np.random.default_rng(seed))
        own = round(fractions[0, 1].item(), 3)
        seen.add(own)
        if own == 0.5:
            torch.testing.assert_close(mixed, (inputs[1:] + inputs[:-1]) / 2, rtol=1e-3, atol=1e-3)
    assert 0.5 in seen
    assert seen - {0.5} <= {0, 1} | {round(1 - k / 20, 3) for k in range(21)}
    assert Augmentation(cutmix=1).mixes
    assert Augmentation(mixup=1).mixes
    assert not Augmentation(flip=True).mixes


def test_a_plan_is_for_the_images_and_images_without_labels_have_none() -> None:
    with pytest.raises(DataError, match="a plan for 7 images, but 8 images"):
        Batches(DATA, Preprocessing(), BatchPlan(7, 2))
    unlabeled = replace(DATA, classes=None, images=PIXELS.astype(np.float32))
    ((_, targets),) = Batches(unlabeled, None, BatchPlan(8, 8))
    assert targets.tolist() == [-1] * 8


def test_what_was_asked_for_reaches_the_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where no model has names of classes."""
    asked: list[Any] = []

    def splits(*given: Any, **named: Any) -> Splits[Any]:
        asked.append((given, named))
        return Splits(DATA, DATA, DATA, notes=("of the split",))

    monkeypatch.setattr(draw_splits_file, "split", splits)
    found = draw_splits(DATA, DATA, SplitOptions(0.25, 0.125), 7, "position")
    assert asked == [((DATA, 0.25, 0.125, 7), {"test_data": DATA, "match_classes": "position"})]
    assert found.notes[-1] == "of the split"
