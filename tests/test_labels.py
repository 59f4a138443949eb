"""What labels mean: the number or the text in the file, or an error that says why not."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from torchlift.transfer.data import open_data
from torchlift.transfer.data.class_matching import match_names
from torchlift.transfer.errors import DataError

IMAGES = np.arange(3 * 48, dtype=np.uint8).reshape(3, 3, 4, 4)


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "data.npz", **{"images": IMAGES, **arrays})
    return folder / "data.npz"


def table(folder: Path, text: str, suffix: str = ".csv") -> Path:
    for index, image in enumerate(IMAGES):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{index}.png")
    file = folder / f"table{suffix}"
    file.write_text(text, encoding="utf-8", newline="")
    return file


def names(file: Path) -> list[str]:
    """Return the name of each image's class."""
    data = open_data(file)
    assert data.names is not None
    assert data.classes is not None
    return [data.names[index] for index in data.classes]


def test_a_text_is_its_class_where_the_first_class_has_no_images(tmp_path: Path) -> None:
    file = npz(tmp_path, labels=["b", "c", "b"], classes=["a", "b", "c"])
    assert names(file) == ["b", "c", "b"]
    assert not [note for note in open_data(file).notes if "counted" in note]


def test_numbers_that_are_texts_are_the_classes_of_the_same_numbers(tmp_path: Path) -> None:
    for labels in ([5, 7, 5], [10, 2, 4], [0, 1, 1]):
        numbers = open_data(npz(tmp_path, labels=labels))
        texts = open_data(npz(tmp_path, labels=list(map(str, labels))))
        assert texts.classes.tolist() == numbers.classes.tolist()  # type: ignore[union-attr]
        assert texts.notes == numbers.notes


def test_texts_of_splits_are_their_classes_whatever_order_a_split_lists(tmp_path: Path) -> None:
    parts = {"train_images": IMAGES, "train_labels": ["a", "b", "a"]}
    test = {"test_images": IMAGES[:2], "test_labels": ["b", "a"]}
    lists = {"train_classes": ["a", "b"], "test_classes": ["b", "a"]}
    np.savez(tmp_path / "data.npz", **parts, **test, **lists)  # type: ignore[arg-type]
    assert names(tmp_path / "data.npz") == ["a", "b", "a", "b", "a"]


@pytest.mark.parametrize("label", [2.0**60, 2**63 + 3, 10**25])
def test_a_label_beyond_all_classes_is_named(label: float, tmp_path: Path) -> None:
    dtype = np.float64 if label != 2**63 + 3 else np.uint64
    message = r"the label \S+ is out of range: no data has so many classes"
    with pytest.raises(DataError, match=message):
        open_data(npz(tmp_path, labels=np.array([0, label, 1], dtype)))
    with pytest.raises(DataError, match=message):
        open_data(table(tmp_path, f"path,label\n0.png,0\n1.png,{int(label)}\n"))


@pytest.mark.parametrize("absent", ["nan", "NA", "NULL", "inf"])
def test_no_number_among_numbers_is_no_class(absent: str, tmp_path: Path) -> None:
    rows = f"path,label\n0.png,1\n1.png,{absent}\n2.png,0\n"
    with pytest.raises(
        DataError, match=f"1 of 3 images have no label .* row 2, which has {absent}"
    ):
        open_data(table(tmp_path, rows))
    assert names(table(tmp_path, "path,label\n0.png,nan\n1.png,naan\n")) == ["nan", "naan"]
    # Where none is a number, they are names like others.
    assert names(table(tmp_path, f"path,label\n0.png,{absent}\n1.png,none\n")) == [absent, "none"]


def test_nan_in_json_is_no_label_rather_than_two(tmp_path: Path) -> None:
    rows = '{"path": "0.png", "label": NaN}\n{"path": "1.png", "label": 1}\n'
    with pytest.raises(DataError, match="1 of 2 images have no label, the first in row 1"):
        open_data(table(tmp_path, rows, ".jsonl"))


def test_a_label_may_hold_what_unicode_ends_lines_with(tmp_path: Path) -> None:
    labels = ["a\u2028b", "a\x85b"]
    lines = [
        json.dumps({"path": f"{i}.png", "label": labels[i]}, ensure_ascii=False) for i in (0, 1)
    ]
    assert names(table(tmp_path, "\n".join(lines), ".jsonl")) == labels
    assert names(table(tmp_path, f"path,label\n0.png,{labels[0]}\n1.png,{labels[1]}\n")) == labels
    assert names(table(tmp_path, 'path,label\r\n0.png,"a\nb"\r\n1.png,c\r\n')) == ["a\nb", "c"]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    for head in ("path,label,label", "path,label, Label"):
        with pytest.raises(DataError, match="2 columns are called label"):
            open_data(table(tmp_path, f"{head}\n0.png,a,x\n1.png,b,y\n"))


def test_another_coding_than_utf_8_is_named(tmp_path: Path) -> None:
    file = table(tmp_path, "")
    file.write_bytes("path,label\n0.png,caf\xe9\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"not UTF-8 text \(byte 20\): save it as UTF-8"):
        open_data(file)


def test_errors_of_a_npz_name_the_file_and_the_cause(tmp_path: Path) -> None:
    file = npz(tmp_path, labels=np.array(["a", "b", "c"], dtype=object))
    with pytest.raises(DataError, match=r"data\.npz.*labels\.npy holds Python objects"):
        open_data(file)
    file = npz(tmp_path, labels=[1, 2])
    with pytest.raises(DataError, match=r"data\.npz: 3 images, but 2 labels"):
        open_data(file)
    parts = {"x_train": IMAGES, "y_train": [0, 1, 0], "x_test": IMAGES[:0], "y_test": [0][:0]}
    np.savez(file, **parts)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="the split test has no images"):
        open_data(file)


def test_an_accent_is_the_same_letter_however_it_is_coded(tmp_path: Path) -> None:
    """Folders that macOS unpacked have a letter and an accent behind it."""
    one, two = "caf\u00e9", "cafe\u0301"
    assert match_names([two, "tea"], ["tea", one]) == [1, 0]
    data = open_data(table(tmp_path, f"path,label\n0.png,{two}\n1.png,b\n"), classes=[one, "b"])
    assert data.classes is not None
    assert data.classes.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (["0.png", "0.cls", "0.png", "0.cls"], r"0\.png is in it twice"),
        (
            ["my.cat.png", "my.dog.png", "my.cls"],
            r"my\.cat\.png and my\.dog\.png are images of one",
        ),
        (["0.png", "0.json"], r"0\.json is no JSON"),
        (["0.png", "0.seg.png", "0.cls"], ""),
    ],
)
def test_no_image_of_an_archive_is_left_out_in_silence(
    members: list[str], message: str, tmp_path: Path
) -> None:
    picture = io.BytesIO()
    Image.fromarray(IMAGES[0].transpose(1, 2, 0)).save(picture, "png")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in members:
            content = picture.getvalue() if name.endswith("png") else b"cat"
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    if message:
        with pytest.raises(DataError, match=rf"a\.tar: cannot be read: {message}"):
            open_data(tmp_path / "a.tar")
    else:
        assert open_data(tmp_path / "a.tar").ids.tolist() == ["0.png"]  # type: ignore[union-attr]


@pytest.mark.parametrize("suffix", ["cls", "cls.txt", "label", "json"])
def test_what_is_too_long_for_a_label_is_not_read(suffix: str, tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.fromarray(IMAGES[0].transpose(1, 2, 0)).save(picture, "png")
    label = b'{"label": "cat"}' if suffix == "json" else b"cat"
    for size in (2**16, 2**16 + 1):
        with tarfile.open(tmp_path / "a.tar", "w") as archive:
            parts = {"0.png": picture.getvalue(), f"0.{suffix}": label.ljust(size)}
            for name, content in parts.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        if size == 2**16:
            assert names(tmp_path / "a.tar") == ["cat"]
    with pytest.raises(DataError, match=rf"0\.{suffix} has 65,537 bytes, too many for a label"):
        open_data(tmp_path / "a.tar")
