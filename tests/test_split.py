"""`torchlift split`: a file that holds the splits that a training would draw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import FIXTURES

from torchlift.cli.main import main
from torchlift.transfer.data import (
    Dataset,
    Splits,
    match_classes,
    open_data,
    select_classes,
    split,
)
from torchlift.transfer.data.writing import write_npz
from torchlift.transfer.errors import DataError


def counts(result: Any) -> dict[str, int]:
    """Return the images of each split, from the command's JSON."""
    return {row["split"]: row["count"] for row in result["splits"]}


def run_json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def pixels(data: Any, name: str) -> set[tuple[bytes, int]]:
    chosen = data.take(np.flatnonzero(data.splits == name))
    pairs = zip(chosen.images, chosen.classes, strict=True)
    return {(image.tobytes(), int(label)) for image, label in pairs}


def test_the_splits_are_those_of_a_training_and_are_kept(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = str(tmp_path / "data.npz")
    result = run_json(
        capsys, "split", "sklearn:digits", file, "--val-fraction", "0.25", "--test-fraction", "0.2"
    )
    expected = split(open_data("sklearn:digits"), 0.25, 0.2, 0)
    data: Any = open_data(file)
    sizes = {"train": len(expected.train), "val": len(expected.val), "test": len(expected.test)}
    assert counts(result) == sizes == {"train": 989, "val": 449, "test": 359}
    for name in sizes:
        original = getattr(expected, name)
        assert np.array_equal(data.images[data.splits == name], original.images)
        assert np.array_equal(data.classes[data.splits == name], original.classes)
    assert data.names == tuple("0123456789")
    again = split(data, 0.4, 0.5, seed=9)
    assert [len(again.train), len(again.val), len(again.test)] == list(sizes.values())


def test_options_of_the_data_apply_before_the_split(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    digits, file = FIXTURES / "digits", str(tmp_path / "data.npz")
    words = ["split", str(digits / "digits-train.t7"), file, "--class-names"]
    words += [str(digits / "digits_classes.t7"), "--classes", "eight,three", "--limit", "100"]
    words += ["--test-data", str(digits / "digits-test.t7")]
    result = run_json(capsys, *words)
    assert [row["label"] for row in result["classes"]] == ["eight", "three"]
    assert counts(result) == {"train": 90, "val": 10, "test": 93}
    for name, count in counts(result).items():
        assert sum(row[name] for row in result["classes"]) == count
    data: Any = open_data(file)
    assert data.names == ("eight", "three")
    assert len(pixels(data, "train") & pixels(data, "val")) == 0


def test_an_existing_file_is_kept(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "data.npz"
    file.write_bytes(b"existing")
    assert main(["split", "sklearn:digits", str(file)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert file.read_bytes() == b"existing"
    run_json(capsys, "split", "sklearn:digits", str(file), "--overwrite")
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]
    assert main(["split", "sklearn:digits", str(tmp_path / "data.t7")]) == 2


def test_a_split_without_the_first_class_keeps_its_labels(tmp_path: Path) -> None:
    images = np.arange(6 * 4, dtype=np.uint8).reshape(6, 1, 2, 2)
    train = Dataset(images[:4], np.array([1, 3, 2, 1]))
    val = Dataset(images[4:], np.array([1, 2]))
    empty = Dataset(images[:0], np.array([], np.int64))
    data: Any = open_data(write_npz(Splits(train, val, empty), tmp_path / "new" / "data.npz"))
    assert data.classes.tolist() == [1, 3, 2, 1, 1, 2]
    assert data.names is None
    with pytest.raises(DataError, match=r"written as \.npz"):
        write_npz(Splits(train, val, empty), tmp_path / "data.t7")
    with pytest.raises(DataError, match="labels"):
        write_npz(Splits(Dataset(images), val, empty), tmp_path / "other.npz")


def test_classes_that_were_chosen_by_their_numbers_are_those_of_the_source(tmp_path: Path) -> None:
    """A model without names of classes would be compared by other outputs."""
    images = np.arange(6 * 4, dtype=np.uint8).reshape(6, 1, 2, 2)
    source = Dataset(images, np.array([0, 2, 4, 2, 4, 4]))
    chosen, empty = select_classes(source, ["5", "3"]), source.take(np.arange(0))
    file = write_npz(Splits(chosen, empty, empty), tmp_path / "d.npz")
    for names, classes, numbers in (
        (None, [1, 0, 1, 0, 0], (4, 2)),
        (["3", "5"], [0, 1, 0, 1, 1], (2, 4)),
    ):
        found: Any = open_data(file, class_names=names)
        assert (found.classes.tolist(), found.source_classes) == (classes, numbers)
        assert match_classes(found, None)[0].classes.tolist() == [2, 4, 2, 4, 4]
        # A network that was trained on them has their names, in whatever order.
        by_name, _ = match_classes(found, ["3", "5"])
        assert (by_name.classes.tolist(), by_name.source_classes) == ([0, 1, 0, 1, 1], (2, 4))


@pytest.mark.parametrize("numbers", [[2], [[2, 4]], [2.0, 4.0], [-1, 4], ["2", "4"]], ids=str)
def test_what_is_no_number_of_each_class_is_refused(numbers: list[Any], tmp_path: Path) -> None:
    images = np.zeros((2, 1, 2, 2), np.uint8)
    given: Any = {"source_classes": np.array(numbers), "classes": np.array(["3", "5"])}
    np.savez(tmp_path / "d.npz", x=images, y=np.array([0, 1]), **given)
    with pytest.raises(DataError, match="source_classes are no indices from 0"):
        open_data(tmp_path / "d.npz")


def test_classes_without_names_count_from_one_as_in_torch7(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pixels = np.arange(12 * 4, dtype=np.uint8).reshape(12, 1, 2, 2)
    np.savez(tmp_path / "d.npz", x=pixels, y=np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0, 0]))
    words = ["split", str(tmp_path / "d.npz"), str(tmp_path / "s.npz"), "--val-fraction", "0.25"]
    result = run_json(capsys, *words, "--test-fraction", "0.25")
    assert [row["label"] for row in result["classes"]] == ["1", "2", "3"]
    assert [row["train"] + row["val"] + row["test"] for row in result["classes"]] == [6, 3, 3]
    assert result["image_shape"] == [1, 2, 2]
