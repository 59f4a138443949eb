"""Every usual name of columns, arrays and splits, and every way in which a Torch7 file begins."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from torchlift.transfer.data import Dataset, open_data
from torchlift.transfer.data.collect_images import SPLITS_BY_NAME
from torchlift.transfer.data.readers.torch7 import is_torch7_file
from torchlift.transfer.data.row_labels import classes_of
from torchlift.transfer.errors import DataError

PATHS = [
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "image",
    "image_path",
    "img",
    "img_path",
]
LABELS = ["label", "labels", "class", "class_name", "category", "target", "y"]
SPLITS = ["split", "subset", "fold", "partition"]


@pytest.mark.parametrize(
    ("path", "label", "split"),
    [*itertools.zip_longest(PATHS, LABELS, SPLITS, fillvalue=None)],
)
def test_columns_of_a_table(
    path: str, label: str | None, split: str | None, tmp_path: Path
) -> None:
    for index in range(2):
        Image.new("L", (3, 2), 9 + index).save(tmp_path / f"{index}.png")
    head = f"{path},{label or 'label'},{split or 'split'}"
    table = tmp_path / "table.csv"
    table.write_text(f"{head}\n0.png,dog,train\n1.png,cat,test\n", encoding="utf-8")
    data = open_data(table)
    assert (data.names, len(data)) == (("cat", "dog"), 2)
    assert data.classes is not None
    assert data.splits is not None
    assert data.classes.tolist() == [1, 0]
    assert data.splits.tolist() == ["train", "test"]


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        *(("data", "label"), ("x", "labels"), ("images", "y")),
        *(("image", "targets"), ("inputs", "target"), ("input", "label")),
    ],
)
def test_arrays_of_an_npz(images: str, labels: str, tmp_path: Path) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)
    np.savez(tmp_path / "data.npz", **{images: pixels, labels: np.array([1, 0])})  # type: ignore[arg-type]
    data = open_data(tmp_path / "data.npz")
    assert isinstance(data, Dataset)
    assert np.array_equal(data.images, pixels)
    assert data.classes is not None
    assert data.classes.tolist() == [1, 0]


def test_names_of_splits() -> None:
    assert {
        **dict.fromkeys(("train", "training"), "train"),
        **dict.fromkeys(("val", "valid", "validation"), "val"),
        **dict.fromkeys(("test", "testing"), "test"),
    } == SPLITS_BY_NAME


@pytest.mark.parametrize(
    "text", ["nan", "NA", "n/a", "<NA>", "null", "None", "inf", "+inf", "-inf"]
)
def test_a_word_for_no_number_among_numbers_is_no_class(text: str) -> None:
    with pytest.raises(
        DataError, match="have no label where others have a number, the first in row 2"
    ):
        classes_of(["1", text, "2"])


@pytest.mark.parametrize("tag", [3, 4])
def test_a_torch7_file_is_known_by_its_first_bytes(tag: int, tmp_path: Path) -> None:
    """In both byte orders, and as text with the line ends of either system."""
    file = tmp_path / "data.bin"
    for start in (tag.to_bytes(4, "little"), tag.to_bytes(4, "big"), b"%d\n1", b"%d\r\n"):
        file.write_bytes(start.replace(b"%d", b"%d" % tag) + bytes(9))
        assert is_torch7_file(file)
    for other in (b"5\n11", b"%d 11" % tag, (tag + 2).to_bytes(4, "little")):
        file.write_bytes(other + bytes(9))
        assert not is_torch7_file(file)
