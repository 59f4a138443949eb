"""What `inspect` and a training say of a dataset: counts, sizes, imbalance, equal images."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import numpy as np
import pytest
from cli_support import shown
from PIL import Image

from torchlift.cli.dataset import dataset_view, findings, summary_lines
from torchlift.cli.main import main
from torchlift.transfer.data import Dataset, Splits, open_data, split
from torchlift.transfer.data import description as describing
from torchlift.transfer.data.description import describe_data
from torchlift.transfer.data.image_files import FileSlice, ImageFiles
from torchlift.transfer.data.remote_files import RemoteFile


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 1, 4, 4)).astype(np.uint8)


def test_equal_images_are_found_within_and_across_splits() -> None:
    pixels = images(10)
    pixels[3] = pixels[1]  # within train, of the same class
    pixels[4] = pixels[1]  # within train, of another class
    pixels[8], pixels[9] = pixels[0], pixels[7]  # test: one of train, one of itself
    splits = np.array(["train"] * 6 + ["test"] * 4)
    classes = np.array([0, 0, 1, 0, 1, 0, 1, 1, 0, 1])
    found = describe_data(Dataset(pixels, classes, ("cat", "dog"), splits=splits))
    assert found.duplicates.repeated == (("train", 2), ("test", 1))
    assert found.duplicates.shared == (("train", "test", 1),)
    assert (found.duplicates.conflicting, found.duplicates.examined) == (1, 10)
    assert found.duplicates.examples[0] == ("train: 1", "train: 3")
    assert found.counts == {"train": [4, 2], "test": [1, 3]}
    assert found.imbalance == 2
    assert findings(found)[0].startswith("imbalance: 2 images of the largest class")
    assert "1 of test are in train too" in findings(found)[1]


def test_a_class_without_images_is_not_the_smallest() -> None:
    found = describe_data(Dataset(images(5), np.array([0, 0, 0, 3, 0]), ("a", "b", "c", "d")))
    assert (found.counts, found.imbalance) == ({"": [4, 0, 0, 1]}, 4)


def test_of_many_images_some_are_looked_at_and_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describing, "_MOST_BYTES", 160)  # 10 images of 16 bytes
    found = describe_data(Dataset(images(100), np.zeros(100, np.int64)))
    assert found.duplicates.examined == 10
    assert findings(found) == ["duplicates (looked at 10 of 100): none"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of files of several sizes; a file of train is in test too."""
    for index, (name, size) in enumerate(
        {
            "train/cat/1": (8, 6),
            "train/cat/2": (4, 5),
            "train/dog/1": (8, 6),
            "test/dog/1": (9, 9),
        }.items()
    ):
        file = tmp_path / "data" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (index, 0, 0)).save(file)
    (tmp_path / "data" / "test" / "cat").mkdir()
    shutil.copy(tmp_path / "data/train/cat/2.png", tmp_path / "data/test/cat/9.png")
    return tmp_path / "data"


def test_files_have_their_sizes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sizes"] == {
        "smallest": [5, 4], "largest": [9, 9], "different": 3, "examined": 5
    }  # fmt: skip
    assert found["duplicates"]["shared"] == [{"split": "train", "other": "test", "count": 1}]
    assert found["duplicates"]["examples"] == [["train: train/cat/2.png", "test: test/cat/9.png"]]
    assert main(["inspect", str(folder)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("5 images of 5×4 to 9×9, 3 sizes\n")
    assert "duplicates: 1 of test are in train too" in out


def test_the_summary_of_a_training_has_its_splits(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "softmax", str(folder), "--image-size=8", "--epochs=0", "--val-fraction=0"]
    assert main([*words, "--tracker=none", "-o", str(tmp_path / "run"), "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("data: 5 images 3×8×8; 2 classes, training images of each: ")
    found = json.loads(captured.out)["dataset"]
    assert found == json.loads((tmp_path / "run" / "run.json").read_text())["dataset"]
    assert found["classes"][0] == {"label": "cat", "count": 3, "train": 2, "test": 1}


def test_many_classes_are_counted_and_some_named() -> None:
    classes = np.arange(50) % 25
    data = Dataset(images(50), classes, tuple(f"c{index}" for index in range(25)))
    lines = summary_lines(describe_data(split(data, val_fraction=0)))
    assert lines[0].endswith("c18 2, c19 2, … 5 more")


def test_data_without_labels_is_described() -> None:
    data = Dataset(images(3))
    found = describe_data(data)
    assert (found.labels, found.imbalance, found.count) == (None, None, 3)
    empty = data.take(np.arange(0))
    assert describe_data(Splits(data, empty, empty)).splits == {"train": 3}


def test_every_kind_that_is_trained_on_is_described() -> None:
    found = describe_data(open_data("sklearn:digits"))
    assert found.count == 1797
    assert sum(found.counts[""]) == 1797


def test_what_was_looked_at_is_not_said_where_it_is_all() -> None:
    """And no imbalance where the largest class has not twice as many."""
    pixels = images(5)
    pixels[3] = pixels[1]
    found = describe_data(Dataset(pixels, np.array([0, 0, 0, 1, 1]), ("cat", "dog")))
    line = "1 repeat an earlier image, 1 have another class than an equal image (1 = 3)"
    assert findings(found) == [f"duplicates: {line}"]


@pytest.mark.parametrize(
    ("count", "more"), [(20, ""), (21, ", … 1 more"), (1030, ", … 1,010 more")]
)
def test_the_first_classes_of_a_training_are_named(count: int, more: str) -> None:
    names = tuple(f"c{index}" for index in range(count))
    pixels = np.arange(count * 2, dtype=np.uint16).view(np.uint8).reshape(count, 1, 2, 2)
    part = Dataset(pixels, np.arange(count), names)
    line = summary_lines(
        describe_data(Splits(part, part.take(np.arange(0)), part.take(np.arange(0))))
    )[0]
    assert line.startswith(
        f"data: {count:,} images 1×2×2; {count:,} classes, training images of each"
    )
    assert line.endswith(f"c18 1, c19 1{more}")


@pytest.mark.parametrize(
    ("examined", "lines"), [(0, []), (3, ["duplicates (looked at 3 of 9): none"]), (9, [])]
)
def test_nothing_is_said_of_duplicates_where_nothing_was_looked_at(
    examined: int, lines: list[str]
) -> None:
    duplicates = SimpleNamespace(
        examined=examined, repeated=(), shared=(), conflicting=0, examples=()
    )
    found: Any = SimpleNamespace(imbalance=None, duplicates=duplicates, count=9)
    assert findings(found) == lines


def encoded(content: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (content, 0, 0)).save(file, "png")
    return file.getvalue()


def test_images_within_files_are_looked_at_by_their_own_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of an archive and bytes in memory have their size, not that of a file around them."""
    memory = fsspec.filesystem("memory")
    content = [encoded(5), encoded(6), encoded(5), encoded(7)]
    size = len(content[0])
    assert {*map(len, content)} == {size}
    whole = tmp_path / "whole"
    whole.write_bytes(b"".join(content))
    parts = [FileSlice(whole, size * index, size) for index in range(4)]
    for sources in (parts, [memoryview(one) for one in content]):
        files = np.empty(4, object)
        files[:] = sources
        data = ImageFiles(files, np.zeros(4, np.int64), ("cat",))
        assert describe_data(data).duplicates.examples == (("0", "2"),)
        # Half of the bytes: the first and the last image.
        with monkeypatch.context() as patch:
            patch.setattr(describing, "_MOST_BYTES", 2 * size)
            found = describe_data(data).duplicates
        assert (found.examined, found.examples) == (2, ())
    # What would have to be fetched is not looked at.
    memory.pipe("/seen/1.png", content[0])
    memory.pipe("/seen/2.png", content[0])
    files = np.empty(2, object)
    files[:] = RemoteFile.at("memory://seen").files()
    found = describe_data(ImageFiles(files, np.zeros(2, np.int64), ("cat",))).duplicates
    memory.rm("/seen", recursive=True)
    assert (found.examined, found.examples) == (0, ())


def test_the_sizes_of_images_that_are_elsewhere_are_not_said() -> None:
    """They would have to be fetched."""
    memory = fsspec.filesystem("memory")
    for name, size in (("cat/1", 4), ("dog/2", 5)):
        file = io.BytesIO()
        Image.new("RGB", (size, size)).save(file, "png")
        memory.pipe(f"/sizes/{name}.png", file.getvalue())
    found = describe_data(open_data("memory://sizes"))
    assert (found.sizes, found.image_shape) == (None, None)
    lines = shown(dataset_view(found))
    memory.rm("/sizes", recursive=True)
    assert lines[0] == "2 images"
    assert summary_lines(found)[0].startswith("data: 2 images; 2 classes, ")


def test_equal_images_of_three_splits_are_counted_by_pairs() -> None:
    """An image of `test` that is in both others counts in each pair; three examples are named."""
    pixels = images(12)
    pixels[4], pixels[8] = pixels[0], pixels[0]  # of train in val, and in both of them in test
    pixels[9] = pixels[5]  # of val in test
    pixels[10] = pixels[1]  # of train in test
    splits = np.array(["train"] * 4 + ["val"] * 4 + ["test"] * 4)
    found = describe_data(Dataset(pixels, np.zeros(12, np.int64), ("cat",), splits=splits))
    assert found.duplicates.shared == (
        ("train", "val", 1), ("train", "test", 2), ("val", "test", 2),
    )  # fmt: skip
    assert (found.duplicates.repeated, found.duplicates.conflicting) == ((), 0)
    assert found.duplicates.examples == (
        ("train: 0", "val: 4"), ("train: 0", "test: 8"), ("val: 5", "test: 9"),
    )  # fmt: skip


def test_the_largest_image_has_the_most_pixels(tmp_path: Path) -> None:
    """Whatever its height is."""
    files = np.empty(3, object)
    for index, (height, width) in enumerate(((3, 20), (6, 5), (7, 6))):
        files[index] = tmp_path / f"{index}.png"
        Image.new("L", (width, height)).save(files[index])
    sizes = describe_data(ImageFiles(files)).sizes
    assert sizes is not None
    assert (sizes.smallest, sizes.largest) == ((6, 5), (3, 20))
    assert (sizes.different, sizes.examined) == (3, 3)


def test_a_split_without_labels_beside_one_with_some_has_no_images_of_a_class() -> None:
    labeled = Dataset(images(3), np.array([0, 2, 2]), ("a", "b", "c"))
    found = describe_data(Splits(labeled, labeled.take(np.arange(0)), Dataset(images(2))))
    assert found.counts == {"train": [1, 0, 2], "test": [0, 0, 0]}
    assert (found.splits, found.imbalance) == ({"train": 3, "test": 2}, 2)
    # Without names, a class is called by its number, which counts from 1.
    unnamed = Dataset(images(3), np.array([0, 2, 2]))
    assert describe_data(unnamed).labels == ["1", "2", "3"]
    assert describe_data(unnamed).to_json()["classes"][2] == {"label": "3", "count": 2}
