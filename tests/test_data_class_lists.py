"""Which class a label stands for, where a file has no class names, several lists, or other keys."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from torchlift.converters.t7 import LuaTable
from torchlift.transfer.data import (
    Dataset,
    class_count,
    dataset_from,
    match_classes,
    open_data,
    select_classes,
    split,
)
from torchlift.transfer.data.class_matching import match_names, name_classes
from torchlift.transfer.errors import DataError

PIXELS = np.arange(6 * 4, dtype=np.uint8).reshape(6, 1, 2, 2)
#: Counted from 0.
CLASSES = np.array([0, 1, 2, 2, 1, 0])


def chosen_without_names() -> Dataset:
    """Return the images of Torch7's classes 3 and 1, in this order."""
    return select_classes(Dataset(PIXELS, CLASSES), ["3", "1"])


@pytest.mark.parametrize("labels", [None, list("0123456789"), ["1", "2", "3"]])
def test_numbers_of_unnamed_classes_are_positions(labels: list[str] | None) -> None:
    """A digits model names its first output 0, and Torch7 calls that class 1."""
    matched, notes = match_classes(chosen_without_names(), labels, count=10)
    assert matched.classes is not None
    assert matched.classes.tolist() == [0, 2, 2, 0]
    assert matched.names == (None if labels is None else tuple(labels))
    assert notes[0].startswith("classes were matched by position, because ")


def test_numbers_of_unnamed_classes_match_a_network_that_was_trained_on_them() -> None:
    """Training on classes 3 and 1 names a network's outputs so."""
    matched, notes = match_classes(chosen_without_names(), ["3", "1"])
    assert matched.classes is not None
    assert (matched.classes.tolist(), notes) == ([1, 0, 0, 1], [])


def test_positions_beyond_a_model_are_refused() -> None:
    with pytest.raises(DataError, match="3 classes, the model has 2"):
        match_classes(chosen_without_names(), ["cat", "dog"])


def test_a_choice_of_a_choice_keeps_the_positions_in_the_source() -> None:
    assert select_classes(chosen_without_names(), ["3"]).source_classes == (2,)


def split_table(classes: list[str], names: list[str] | None) -> LuaTable:
    """Return images of the classes cat, dog and owl, as a split numbers them by its own list."""
    labels = [classes.index(["cat", "dog", "owl"][index]) + 1 for index in CLASSES.tolist()]
    listed = {} if names is None else {"classes": LuaTable.from_list(names)}
    return LuaTable({"data": PIXELS, "labels": np.array(labels), **listed})


@pytest.mark.parametrize("listed", ["by the splits", "by the table too"])
def test_each_split_of_a_t7_numbers_its_classes_by_its_own_list(listed: str) -> None:
    own, other = ["cat", "dog", "owl"], ["owl", "cat", "dog"]
    value = LuaTable({"trainData": split_table(own, own), "testData": split_table(other, other)})
    if listed == "by the table too":
        value["classes"] = LuaTable.from_list(["dog", "owl", "cat"])
    data = dataset_from(value)
    assert data.classes is not None
    assert data.names is not None
    assert [data.names[label] for label in data.classes.tolist()] == [
        ["cat", "dog", "owl"][index] for index in (*CLASSES, *CLASSES)
    ]


def test_splits_of_a_t7_with_other_classes_are_refused() -> None:
    own, other = ["cat", "dog", "owl"], ["cat", "dog", "elk"]
    value = LuaTable({"trainData": split_table(own, own), "testData": split_table(own, other)})
    with pytest.raises(DataError, match="first list of class names has no class elk"):
        dataset_from(value)


def test_each_split_of_an_npz_numbers_its_classes_by_its_own_list(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "data.npz",
        train_x=PIXELS,
        train_y=CLASSES,
        train_classes=["cat", "dog", "owl"],
        test_x=PIXELS,
        test_y=(CLASSES + 1) % 3,
        test_classes=["owl", "cat", "dog"],
    )
    data = open_data(tmp_path / "data.npz")
    assert data.classes is not None
    assert data.classes.tolist() == [*CLASSES, *CLASSES]


def test_label_names_of_an_npz_are_its_class_names(tmp_path: Path) -> None:
    """It is CIFAR's own key."""
    np.savez(tmp_path / "data.npz", x=PIXELS, y=CLASSES, label_names=["cat", "dog", "owl"])
    assert open_data(tmp_path / "data.npz").names == ("cat", "dog", "owl")


def test_text_of_an_npz_that_could_be_class_names_is_noted(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=PIXELS, y=CLASSES, kinds=["cat", "dog", "owl"])
    data = open_data(tmp_path / "data.npz")
    assert data.names is None
    assert "the array kinds of 3 texts is not used" in data.notes[-1]


def test_a_wrong_label_does_not_make_a_table_of_all_numbers_below_it(tmp_path: Path) -> None:
    """A table of 99,999 × 99,999 classes takes 74 GiB."""
    np.savez(tmp_path / "data.npz", x=PIXELS, y=[0, 1, 2, 2, 1, 99999])
    with pytest.raises(DataError, match=r"1 labels out of range 0 to 24999 .*99999 of image 5"):
        open_data(tmp_path / "data.npz")


def test_classes_that_only_another_split_has_are_counted() -> None:
    """Data without names knows its last classes only by their images."""
    data = Dataset(PIXELS, CLASSES, splits=np.array(["train", "train", *["val"] * 4]))
    splits = split(data)
    assert class_count(splits.train) == 3
    assert match_classes(splits.val, list("abc"))[0].names == ("a", "b", "c")


def test_a_network_that_was_trained_on_the_same_numbers_may_have_another_order() -> None:
    """They are names then, as of any other classes."""
    matched, notes = match_classes(chosen_without_names(), ["1", "3"])
    assert matched.classes is not None
    assert (matched.classes.tolist(), matched.names) == ([0, 1, 1, 0], ("1", "3"))
    assert notes == ["the data's classes were matched with the model's by name"]


@pytest.mark.parametrize(
    ("names", "labels", "reason"),
    [
        (None, None, "neither the test data nor the head names them"),
        (("a", "b", "c"), None, "the head does not name them"),
        (None, ["a", "b", "c"], "the test data does not name them"),
    ],
)
def test_why_classes_are_matched_by_position(
    names: tuple[str, ...] | None, labels: list[str] | None, reason: str
) -> None:
    data = Dataset(PIXELS, CLASSES, names)
    matched, notes = match_classes(data, labels, sides=("the test data", "the head"))
    assert notes == [f"classes were matched by position, because {reason}"]
    assert matched.names == (names or (tuple(labels) if labels else None))


def test_names_of_images_without_labels_are_ordered_too() -> None:
    found = name_classes(Dataset(PIXELS, None, ("cat", "dog")), ["Dog", "cat"])
    assert (found.names, found.classes) == (("dog", "cat"), None)


def test_a_label_below_the_first_is_no_image_of_a_class() -> None:
    """It is refused, or left out, behind the naming."""
    found = name_classes(Dataset(PIXELS[:4], np.array([-1, 0, 0, 2])), ["cat", "dog", "owl"])
    assert found.notes == ("1 of 3 class names have no images: dog",)


@pytest.mark.parametrize(("count", "ends"), [(10, "9: no name"), (11, "9, …: no name")])
def test_ten_names_are_listed(count: int, ends: str) -> None:
    with pytest.raises(DataError, match=f"has {', '.join(map(str, range(10)))[:-1]}{ends}"):
        match_names(["cat"], [str(number) for number in range(count)])


def test_classes_that_are_missing_are_listed_in_order() -> None:
    with pytest.raises(DataError, match=r"the model has no class ant, bee, fly; it has cat, dog"):
        match_names(["fly", "cat", "bee", "ant", "fly"], ["cat", "dog"])


@pytest.mark.parametrize(("count", "ends"), [(20, "n19"), (21, "n19, …")])
def test_twenty_classes_are_listed_that_could_be_chosen(count: int, ends: str) -> None:
    names = tuple(f"n{number}" for number in range(count))
    with pytest.raises(DataError, match=r"no class cat, owl; the data has: n0, n1, ") as error:
        select_classes(Dataset(PIXELS, CLASSES, names), ["cat", "n3", "owl"])
    assert str(error.value).endswith(ends)


def test_a_choice_of_no_class_is_refused() -> None:
    with pytest.raises(DataError, match="name at least one class, and each only once"):
        select_classes(Dataset(PIXELS, CLASSES), [])
