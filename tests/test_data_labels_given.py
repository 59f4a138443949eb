"""Labels as sources give them: what is none, what is several, which splits and images have any."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow
import pytest
from data_support import RANDOM, archive, png
from pyarrow import parquet

from torchlift.converters.images.errors import ImageError
from torchlift.converters.t7 import LuaTable
from torchlift.transfer.data import (
    Dataset,
    ImageFiles,
    dataset_from,
    match_classes,
    open_data,
    select_classes,
    stream_folder,
)
from torchlift.transfer.data.array_layout import build_dataset, build_dataset_of_splits, to_classes
from torchlift.transfer.data.class_matching import name_classes
from torchlift.transfer.data.description import find_duplicates
from torchlift.transfer.data.lua_tables import label_array
from torchlift.transfer.data.readers import arrow_images, find_reader
from torchlift.transfer.data.readers.tables import read_rows
from torchlift.transfer.data.row_labels import classes_of
from torchlift.transfer.data.selection import conversion_note, keep_valid_labels
from torchlift.transfer.errors import DataError

PIXELS = RANDOM.integers(0, 256, (6, 3, 4, 5), np.uint8)


@pytest.mark.parametrize("text", ["nan", "NaN", "NA", "n/a", "<NA>", "null", "None", "-inf", "INF"])
def test_what_programs_write_for_no_number_is_no_class_among_numbers(text: str) -> None:
    with pytest.raises(
        DataError, match=rf"^2 of 4 images have no label where others .* in row 2, which has {text}"
    ):
        classes_of(["1", text, "2", text])
    # Among names, and where there is nothing else, it is one.
    for labels, names in ((["cat", text], sorted(["cat", text])), ([text, text], [text])):
        classes, found, _ = classes_of(labels)
        assert found == tuple(names)
        assert classes is not None
        assert classes.tolist() == [names.index(label) for label in labels]


def test_one_word_among_numbers_is_a_name_and_so_are_they() -> None:
    classes, names, _ = classes_of(["1", "nan", "cat", "2"])
    assert names == ("1", "2", "cat", "nan")
    assert classes is not None
    assert classes.tolist() == [0, 3, 2, 1]


@pytest.mark.parametrize("label", [None, "", "  ", float("nan"), np.float64("nan")])
def test_an_image_without_a_label_among_others_is_refused(label: Any) -> None:
    assert classes_of([label, label]) == (None, None, [])
    with pytest.raises(DataError, match=r"^1 of 3 images have no label, the first in row 2$"):
        classes_of(["a", label, "b"])


def test_the_unlabeled_images_of_hugging_face_are_those_of_minus_one() -> None:
    assert classes_of([-1, -1], names=["a", "b"])[0] is None
    with pytest.raises(DataError, match="1 of 2 images have no label, the first in row 1"):
        classes_of([-1, 0], names=["a", "b"])
    # Without names it is a number, and so is any other below 0.
    for labels, given in (([-1, 1], None), ([-2, 1], ["a", "b"])):
        classes, *_ = classes_of(labels, 0, given)
        assert classes is not None
        assert classes.tolist() == labels


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["cat", "dog", "cat|dog"], r"row 3 has cat\|dog"),
        (["cat", "dog ; bird"], ""),
        (["dog", "dog ; bird"], "row 2 has dog ; bird"),
        (["a", "b, c", "c"], "row 2 has b, c"),
        (["a", ["b"]], r"row 2 has \['b'\]"),
        (["a", {"b"}], "row 2 has {'b'}"),
        (["a", {"b": 1}], "row 2 has {'b': 1}"),
        (["a", ("b", "c" * 40)], r"row 2 has \('b', '" + "c" * 33 + "…"),
    ],
)
def test_several_labels_of_an_image_are_refused(labels: list[Any], said: str) -> None:
    """A sign between words is one between labels if one of the words is a label by itself."""
    if said:
        with pytest.raises(DataError, match=rf"^several labels an image \({said}\)"):
            classes_of(labels)
    else:
        assert classes_of(labels)[1] == tuple(labels)


def test_labels_are_those_of_the_names_and_their_numbers_are_positions() -> None:
    classes, names, notes = classes_of([" b", "a", "b "], names=["b", "c", "a"])
    assert classes is not None
    assert (classes.tolist(), names, notes) == ([0, 2, 0], ("b", "c", "a"), [])
    classes, names, notes = classes_of(["1", "2.0", 1], 1, ["b", "c", "a"])
    assert classes is not None
    assert (classes.tolist(), names, notes) == ([1, 2, 1], ("b", "c", "a"), [])
    with pytest.raises(DataError, match="the label 'd' is none of the class names"):
        classes_of(["a", "d"], names=["b", "c", "a"])


@pytest.mark.parametrize("label", [2**53, -(2**53), 2.0**60, -1e300])
def test_labels_that_no_data_has_are_refused_on_both_sides(label: float) -> None:
    for given in (np.array([label, 1]), np.array([1, label], np.float64)):
        with pytest.raises(DataError, match="out of range: no data has so many classes"):
            to_classes(given, 0)
    with pytest.raises(DataError, match="out of range: no data has so many classes"):
        classes_of([str(label), "1"])
    inside = int(np.sign(label)) * (2**53 - 1)
    assert to_classes(np.array([inside]), 0)[0].tolist() == [inside]


def test_a_split_without_images_is_to_be_left_out() -> None:
    splits: dict[str, tuple[np.ndarray, np.ndarray | None]]
    splits = {"train": (PIXELS, np.arange(6)), "test": (PIXELS[:0], np.arange(0))}
    with pytest.raises(DataError, match="the split test has no images: leave it out"):
        build_dataset_of_splits(splits, None)
    unlabeled = {"train": (PIXELS[:4], None), "test": (PIXELS[4:], None)}
    data = build_dataset_of_splits(unlabeled, ("a", "b"), split_names={"test": ("b", "a")})
    assert (data.classes, data.names) == (None, ("a", "b"))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".ndjson"])
def test_a_table_in_another_coding_says_where(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"t{suffix}").write_bytes(b"x" * 1234 + b"\xe9\n")
    with pytest.raises(DataError, match=r"^is not UTF-8 text \(byte 1,234\): save it as UTF-8$"):
        read_rows(tmp_path / f"t{suffix}")


def test_two_images_of_one_sample_are_refused_unless_one_has_a_longer_suffix(
    tmp_path: Path,
) -> None:
    """`1.seg.png` beside `1.png` is no image of its own; alone it is one."""
    first, second = png(PIXELS[0]), png(PIXELS[1])
    both = archive(tmp_path / "both.tar", a__png=first, a__jpg=second, a__cls=b"0")
    with pytest.raises(DataError, match=r"a\.png and a\.jpg are images of one sample"):
        open_data(both)
    for name, members in (
        ("beside", {"a__seg__png": second, "a__png": first}),
        ("alone", {"a__seg__png": first}),
    ):
        data = open_data(archive(tmp_path / f"{name}.tar", **members, a__cls=b"0"))
        assert isinstance(data, Dataset)
        assert np.array_equal(data.images, PIXELS[:1])


@pytest.mark.parametrize(
    ("color", "channels", "note"),
    [("gray", 3, "are gray and are converted to RGB"), ("gray", 1, ""), ("RGB", 3, ""),
     ("RGB", 1, "are RGB and are converted to gray")],
)  # fmt: skip
def test_colors_of_files_that_the_network_does_not_take_are_noted(
    color: str, channels: int, note: str
) -> None:
    notes = conversion_note(ImageFiles(np.array([b""], object), color=color), channels)
    assert len(notes) == (1 if note else 0)
    assert note in "".join(notes)


def test_numbers_of_a_source_are_forgotten_once_its_classes_are_matched() -> None:
    """Else they would be taken for those of the other side the next time."""
    data = select_classes(Dataset(PIXELS, np.arange(6)), ["6", "2"])
    assert data.source_classes == (5, 1)
    names = ["a", "b", "c", "d", "e", "f"]
    found, _ = match_classes(data, names)
    assert found.classes is not None
    assert (found.classes.tolist(), found.names) == ([1, 5], tuple(names))
    assert found.source_classes is None
    again, notes = match_classes(found, names[::-1])
    assert again.classes is not None
    assert (again.classes.tolist(), len(notes)) == ([4, 0], 1)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["cat", "cat"], "it lacks dog$"),
        (["cat", "owl"], "it names owl, which the data does not have; it lacks dog$"),
        (["cat"], "it lacks dog$"),
        (["cat", "dog", "CAT"], "it has 3 names for 2 classes$"),
    ],
)
def test_names_that_only_order_those_of_the_data_are_all_of_them(
    names: list[str], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        name_classes(Dataset(PIXELS[:2], np.array([0, 1]), ("cat", "dog")), names)


def test_labels_beside_images_may_be_a_list_of_floats() -> None:
    labels = LuaTable.from_list([2.0, 1.0])
    for pair in ([PIXELS[:2], labels], [labels, PIXELS[:2]]):
        data = dataset_from(LuaTable.from_list(pair))
        assert data.classes is not None
        assert data.classes.tolist() == [1, 0]


@pytest.mark.parametrize("shape", [(2,), (2, 1), (1, 2)])
def test_labels_may_stand_before_the_images_in_any_shape_of_one_row(shape: tuple[int, ...]) -> None:
    data = dataset_from(LuaTable.from_list([np.array([2, 1]).reshape(shape), PIXELS[:2]]))
    assert np.array_equal(data.images, PIXELS[:2])
    assert data.classes is not None
    assert data.classes.tolist() == [1, 0]


def test_what_is_noted_of_a_t7_comes_before_what_is_not_applied() -> None:
    table = {"data": PIXELS[:2, 0], "label": np.array([1, 2]), "mean": np.ones(1)}
    assert [note[:18] for note in dataset_from(LuaTable(table)).notes] == [
        "2×4×5 taken as gra", "labels 1 to 2, cou", "not applied: mean,",
    ]  # fmt: skip


def test_what_is_left_out_is_noted_after_what_was_found() -> None:
    classes = np.array([0, 7, 1, -1, 8, 9, 10, 11])
    pixels = RANDOM.integers(0, 256, (8, 1, 2, 2), np.uint8)
    data = Dataset(pixels, classes, ("a", "b"), ("as found",), np.array(list("stuvwxyz")))
    kept = keep_valid_labels(data, "skip")
    assert kept.ids is not None
    assert kept.ids.tolist() == ["s", "u"]
    listed = "7 of image t, -1 of image v, 8 of image w, 9 of image x, 10 of image y"
    problem = f"6 labels out of range 0 to 1 (counted from 0): {listed}"
    assert kept.notes == ("as found", f"left out: {problem}")
    with pytest.raises(DataError) as error:
        keep_valid_labels(data)
    assert str(error.value) == problem


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_step_from_0_to_1_is_its_pixel(dtype: Any) -> None:
    """Whatever is lost of 1/255 in the numbers that they were saved as."""
    steps = np.arange(256).reshape(4, 1, 8, 8)
    data = build_dataset((steps / 255).astype(dtype), None, None)
    if dtype is np.float16:  # Too little is left of them.
        assert data.images.dtype == np.float16
    else:
        assert data.images.dtype == np.uint8
        assert np.array_equal(data.images, steps)
    whole = build_dataset(steps.astype(dtype), None, None)
    assert whole.images.dtype == np.uint8
    assert np.array_equal(whole.images, steps)


def test_what_is_close_to_a_pixel_is_the_nearest_one() -> None:
    """A decoder of floats may give 199.9996 for 200."""
    steps = np.arange(256).reshape(4, 1, 8, 8)
    for shift in (-4e-4, 4e-4):
        data = build_dataset(np.maximum(steps + shift, 0), None, None)
        assert np.array_equal(data.images, steps)
        data = build_dataset(np.maximum(steps + shift, 0) / 255, None, None)
        assert np.array_equal(data.images, steps)


@pytest.mark.parametrize("changed", [{"at": -0.25}, {"at": 255.6}, {"at": 0.5}, {"at": 256.0}])
def test_one_number_that_is_no_pixel_makes_all_inputs(changed: dict[str, float]) -> None:
    images = np.arange(256, dtype=np.float64).reshape(4, 1, 8, 8)
    images[2, 0, 3, 4] = changed["at"]
    for given in (images, images / 255):
        data = build_dataset(given, None, None)
        assert data.images is given
        assert data.notes == ("float64 values are not pixels: taken as a network's inputs",)


def test_equal_images_of_other_classes_conflict_across_splits_and_within(tmp_path: Path) -> None:
    def part(rows: list[int], *labels: int) -> Dataset:
        return Dataset(PIXELS[rows], np.array(labels))

    splits = {"train": part([0, 1, 2], 0, 1, 2), "test": part([0, 1, 2, 3, 3], 1, 0, 2, 4, 5)}
    found = find_duplicates(splits)
    assert (found.conflicting, found.shared) == (3, (("train", "test", 3),))
    assert found.repeated == (("test", 1),)
    unlabeled = {name: replace(data, classes=None) for name, data in splits.items()}
    assert find_duplicates(unlabeled).conflicting == 0


def test_labels_of_a_list_that_are_no_whole_numbers_are_not_rounded() -> None:
    labels = LuaTable.from_list([1.0, np.array([0.5])])
    assert label_array(labels).tolist() == [1.0, 0.5]
    with pytest.raises(DataError, match=r"the labels are not integers, but real .* 0\.5"):
        dataset_from(LuaTable({"data": PIXELS[:2], "label": labels}))


def test_a_table_of_images_is_read_as_a_table_of_files_without_pyarrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which then says what is missing."""
    parquet.write_table(pyarrow.table({"image": [png(PIXELS[0])]}), tmp_path / "t.parquet")
    assert "image column" in find_reader(str(tmp_path / "t.parquet")).kind
    monkeypatch.setattr(arrow_images, "is_installed", lambda package: package != "pyarrow")
    assert "table of image files" in find_reader(str(tmp_path / "t.parquet")).kind


def test_a_folder_is_streamed_by_the_split_and_with_what_is_skipped(tmp_path: Path) -> None:
    for index, name in enumerate(("train/a", "train/b", "test/a", "test/b")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / f"{index}.png").write_bytes(png(PIXELS[index]))
    data = stream_folder(tmp_path, split="test")
    assert data.ids is not None
    assert data.ids.tolist() == ["test/a/2.png", "test/b/3.png"]
    (tmp_path / "test/a/x.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"x\.png"):
        stream_folder(tmp_path)
    data = stream_folder(tmp_path, on_error="skip")
    assert len(data) == 4
    assert data.notes[0].startswith("left out, unreadable: 1 (")
    assert len(stream_folder(tmp_path, split="train")) == 2


def test_folders_of_splits_elsewhere_are_known_in_any_case() -> None:
    memory = fsspec.filesystem("memory")
    for index, name in enumerate(("Train/cat", "TRAIN/dog", "Validation/cat")):
        memory.pipe(f"/cases/{name}/{index}.png", png(PIXELS[index]))
    data = open_data("memory://cases")
    assert data.ids is not None
    assert data.splits is not None
    found = dict(zip(data.ids.tolist(), data.splits.tolist(), strict=True))
    assert found == {
        "TRAIN/dog/1.png": "train", "Train/cat/0.png": "train", "Validation/cat/2.png": "val",
    }  # fmt: skip
    assert data.names == ("cat", "dog")
    memory.rm("/cases", recursive=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 10**5, "cannot be read"),
        ('{"path": "0.png"}\n{"path": "1.png", "label": "a"}', "1 of 2 images have no label"),
        ('{"path": "0.png", "label": "a"}\n3', "line 2 is no object with a path and a label"),
        ('{"path": "0.png", "label": "a"}\n\n{', "line 3 is no JSON"),
        ('{"path": "0.png", "label": "a", "Label": "b"}', "2 columns are called label"),
        ('{"path": "0.png"}\n{"path": "1.png", " PATH ": "b"}', "2 columns are called path"),
        ('{"path": 3, "label": "a"}', "row 1 names no file"),
        ('{"path": " ", "label": "a"}', "row 1 names no file"),
        ('{"path": "s3://b/0.png"}', "row 1 is an address, s3://b/0.png: nothing is fetched"),
    ],
)
def test_lines_that_are_no_images_with_labels_are_refused(
    text: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "t.jsonl").write_text(text + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=said):
        open_data(tmp_path / "t.jsonl")
