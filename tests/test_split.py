"""`torchlift split`: one file that holds the parts that a training would have drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import FIXTURES

from torchlift.cli.main import main
from torchlift.transfer.data import Dataset, Splits, open_data, split
from torchlift.transfer.data.writing import write_npz
from torchlift.transfer.errors import DataError


def run_json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def pixels(data: Any, part: str) -> set[tuple[bytes, int]]:
    chosen = data.take(np.flatnonzero(data.splits == part))
    pairs = zip(chosen.images, chosen.classes, strict=True)
    return {(image.tobytes(), int(label)) for image, label in pairs}


def test_the_parts_are_those_of_a_training_and_stay_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = str(tmp_path / "new" / "data.npz")
    found = run_json(
        capsys, "split", "digits", file, "--val-fraction", "0.25", "--test-fraction", "0.2"
    )
    expected = split(open_data("digits"), 0.25, 0.2, 0)
    data: Any = open_data(file)
    sizes = {"train": len(expected.train), "val": len(expected.val), "test": len(expected.test)}
    assert found["splits"] == sizes == {"train": 989, "val": 449, "test": 359}
    for part in sizes:
        original = getattr(expected, part)
        assert np.array_equal(data.images[data.splits == part], original.images)
        assert np.array_equal(data.classes[data.splits == part], original.classes)
    assert data.names == tuple("0123456789")
    again = split(data, 0.4, 0.5, seed=9)
    assert [len(again.train), len(again.val), len(again.test)] == list(sizes.values())


def test_options_of_the_data_are_done_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    digits, file = FIXTURES / "digits", str(tmp_path / "data.npz")
    words = ["split", str(digits / "digits-train.t7"), file, "--class-names"]
    words += [str(digits / "digits_classes.t7"), "--classes", "eight,three", "--limit", "100"]
    words += ["--test-data", str(digits / "digits-test.t7")]
    found = run_json(capsys, *words)
    assert found["classes"] == ["eight", "three"]
    assert found["splits"] == {"train": 90, "val": 10, "test": 93}
    assert [sum(pair) for pair in found["images"].values()] == [90, 10, 93]
    data: Any = open_data(file)
    assert data.names == ("eight", "three")
    assert len(pixels(data, "train") & pixels(data, "val")) == 0


def test_a_file_that_is_there_stays(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "data.npz"
    file.write_bytes(b"mine")
    assert main(["split", "digits", str(file)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert file.read_bytes() == b"mine"
    run_json(capsys, "split", "digits", str(file), "--overwrite")
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]
    assert main(["split", "digits", str(tmp_path / "data.t7")]) == 1


def test_a_part_without_the_first_class_keeps_its_labels(tmp_path: Path) -> None:
    images = np.arange(6 * 4, dtype=np.uint8).reshape(6, 1, 2, 2)
    train = Dataset(images[:4], np.array([0, 1, 2, 1]))
    val = Dataset(images[4:], np.array([1, 2]))
    empty = Dataset(images[:0], np.array([], np.int64))
    data: Any = open_data(write_npz(Splits(train, val, empty), tmp_path / "data.npz"))
    assert data.classes.tolist() == [0, 1, 2, 1, 1, 2]
    assert data.names == ("1", "2", "3")
    with pytest.raises(DataError, match="labels"):
        write_npz(Splits(Dataset(images), val, empty), tmp_path / "other.npz")
