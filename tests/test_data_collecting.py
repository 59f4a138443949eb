"""From listed images to a dataset: what is kept in memory, and what rows and files mean."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_support import archive, png

from torchlift.converters import t7
from torchlift.converters.t7 import LuaTable
from torchlift.transfer.data import Dataset, ImageFiles, open_data
from torchlift.transfer.data.collect_images import unreadable_note
from torchlift.transfer.data.dataset import join_splits
from torchlift.transfer.data.readers.cifar import read_cifar
from torchlift.transfer.data.readers.registry import ReadOptions
from torchlift.transfer.data.readers.webdataset import split_of
from torchlift.transfer.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 3, 4, 5), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images of 4×5 pixels."""
    for index in range(4):
        (tmp_path / f"{index}.png").write_bytes(png(PIXELS[index]))
    return tmp_path


def table(folder: Path, text: str, name: str = "t.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def classes(source: Path, **options: Any) -> list[int]:
    found = open_data(source, **options).classes
    assert found is not None
    return found.tolist()


@pytest.mark.parametrize(
    ("size", "needed"), [(None, 2 * 3 * 4 * 5), ((2, 3), 2 * 3 * 2 * 3), ((8, 9), 2 * 3 * 8 * 9)]
)
@pytest.mark.parametrize("spare", [0, -1])
def test_images_are_decoded_at_once_if_that_takes_no_more_than_is_allowed(
    size: tuple[int, int] | None,
    needed: int,
    spare: int,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the size that they get, with three colors."""
    monkeypatch.setattr("torchlift.transfer.data.collect_images.MEMORY_LIMIT", needed + spare)
    data = open_data(table(folder, "path,label\n0.png,a\n1.png,b\n"), size=size)
    assert isinstance(data, Dataset if spare == 0 else ImageFiles)
    if isinstance(data, Dataset):
        assert data.images.nbytes == needed


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (1, "1 (p0)"),
        (5, "5 (p0; p1; p2; p3; p4)"),
        (6, "6 (p0; p1; p2; p3; p4; …)"),
        (1234, "1,234 (p0; p1; p2; p3; p4; …)"),
    ],
)
def test_five_images_that_cannot_be_read_are_named(count: int, told: str) -> None:
    problems = [f"p{index}" for index in range(count)]
    assert unreadable_note(problems) == f"left out, unreadable: {told}"


@pytest.mark.parametrize(("first", "expected"), [(None, [0, 1, 2]), (0, [1, 2, 3])])
def test_the_first_label_is_said_of_numbers_in_any_source(
    first: int | None, expected: list[int], folder: Path
) -> None:
    """Of a table, of texts that are numbers, and of a `.t7` under another suffix."""
    rows = "".join(f"{index}.png,{index + 1}\n" for index in range(3))
    np.savez(folder / "d.npz", x=PIXELS[:3], y=["1", "2", "3"])
    value = LuaTable({"data": PIXELS[:3], "label": np.array([1, 2, 3])})
    t7.save(value, folder / "d.dat")
    for source in (table(folder, f"path,label\n{rows}"), folder / "d.npz", folder / "d.dat"):
        assert classes(source, first_label=first) == expected


def test_wrong_labels_of_a_t7_under_another_suffix_are_skipped_as_asked(tmp_path: Path) -> None:
    names = LuaTable.from_list(["cat", "dog"])
    value = LuaTable({"data": PIXELS[:3], "label": np.array([1, 7, 2]), "classes": names})
    t7.save(value, tmp_path / "d.dat")
    with pytest.raises(DataError, match=r"d\.dat: 1 labels out of range 0 to 1"):
        open_data(tmp_path / "d.dat")
    assert classes(tmp_path / "d.dat", on_error="skip") == [0, 1]


def test_rows_may_be_empty_and_name_an_image_again(folder: Path) -> None:
    """An image that is listed twice counts twice, as long as it is of one class."""
    file = table(folder, "path,label\n\n0.png,cat\n\n1.png,dog\n0.png,cat\n")
    data = open_data(file)
    assert data.ids is not None
    assert (data.ids.tolist(), classes(file)) == (["0.png", "1.png", "0.png"], [0, 1, 0])
    # The first line says what stands between columns, and how many there are.
    data = open_data(table(folder, "path,label\n0.png,a;b;c;d\n"))
    assert data.names == ("a;b;c;d",)
    with pytest.raises(DataError, match="row 2 has 3 columns, the first line 2"):
        open_data(table(folder, "path,label\n0.png,cat\n1.png,dog,more\n"))
    # Of columns with usual names, those of files come first.
    data = open_data(table(folder, "image,file,label\n1.png,0.png,cat\n"))
    assert isinstance(data, Dataset)
    assert np.array_equal(data.images, PIXELS[:1])


@pytest.mark.parametrize("name", ["t.jsonl", "t.ndjson", "T.NDJSON"])
def test_json_lines_may_leave_out_what_they_do_not_know(name: str, folder: Path) -> None:
    rows = [{"path": "0.png", "label": "cat"}, {"path": "1.png", "label": "dog", "note": 1}]
    file = table(folder, "\n".join(map(json.dumps, rows)), name)
    assert classes(file) == [0, 1]
    file = table(folder, "\n".join(map(json.dumps, [*rows, {"path": "2.png"}])), name)
    with pytest.raises(DataError, match="1 of 3 images have no label, the first in row 3"):
        open_data(file)


def test_a_limit_is_of_the_split_that_was_asked_for(folder: Path) -> None:
    rows = "".join(
        f"{index % 4}.png,{'ab'[index % 2]},{'test' if index < 4 else 'train'}\n"
        for index in range(20)
    )
    file = table(folder, f"path,label,split\n{rows}")
    assert len(open_data(file, split="test", limit=4)) == 4
    assert len(open_data(file, split="test", classes=["a"])) == 2
    with pytest.raises(DataError, match=r"t\.csv: no split val; it has test, train$"):
        open_data(file, split="val")


def test_a_label_stands_in_the_first_file_that_has_one(tmp_path: Path) -> None:
    """Beside JSON that says nothing of the class."""
    about = json.dumps({"width": 5}).encode()
    file = archive(tmp_path / "a.tar", a__json=about, a__png=png(PIXELS[0]), a__cls=b" owl\n")
    assert open_data(file).names == ("owl",)
    file = archive(tmp_path / "a.tar", a__png=png(PIXELS[0]), a__txt=b"an owl")
    assert open_data(file).names is None
    # What macOS writes beside each file is no image, though it is called like one.
    file = archive(tmp_path / "a.tar", **{"x/___a.png": b"mine", "x/a.png": png(PIXELS[0])})
    assert np.asarray(open_data(file).ids).tolist() == ["x/a.png"]


@pytest.mark.parametrize(
    ("pack", "is_packed"), [(gzip.compress, True), (bz2.compress, True), (lzma.compress, True),
                            (lambda content: content[:700], False)],
)  # fmt: skip
def test_a_packed_archive_is_told_from_a_damaged_one(
    pack: Callable[[bytes], bytes], is_packed: bool, tmp_path: Path
) -> None:
    file = archive(tmp_path / "a.tar", a__png=png(PIXELS[0]), a__cls=b"owl")
    file.write_bytes(pack(file.read_bytes()))
    with pytest.raises(DataError, match=r"a\.tar: cannot be read: ") as error:
        open_data(file)
    assert ("compressed: unpack it" in str(error.value)) is is_packed


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-000012.tar", "train"),
        ("train_1.tar", "train"),
        ("train.tar", "train"),
        ("VALID.0.tar", "val"),
        ("training-1.tar", "train"),
        ("0001.tar", None),
        ("images-1.tar", None),
        ("my-train-1.tar", None),
        ("train-1.tar.gz", None),
    ],
)
def test_the_name_of_an_archive_may_begin_with_its_split(name: str, split: str | None) -> None:
    assert split_of(name) == split


def idx(values: np.ndarray) -> bytes:
    head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return head + values.astype(np.uint8).tobytes()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_an_idx_file_is_packed_if_it_begins_so(packed: bool, suffix: str, tmp_path: Path) -> None:
    """Browsers unpack what they download, and keep its name."""
    pack = gzip.compress if packed else bytes
    images = tmp_path / f"train-images-idx3-ubyte{suffix}"
    images.write_bytes(pack(idx(PIXELS[:, 0])))
    labels = tmp_path / f"train-labels-idx1-ubyte{suffix}"
    labels.write_bytes(pack(idx(np.arange(4))))
    data = open_data(images)
    assert isinstance(data, Dataset)
    assert np.array_equal(data.images, PIXELS[:, :1])


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_an_array_of_any_version_of_numpys_format_is_read(
    version: tuple[int, int], tmp_path: Path
) -> None:
    """Beside it, an archive may hold what is no array."""
    import zipfile

    file = tmp_path / "d.npz"
    with zipfile.ZipFile(file, "w") as stream:
        for name, array in (("x", PIXELS), ("y", np.arange(4))):
            content = io.BytesIO()
            np.lib.format.write_array(content, array, version)
            stream.writestr(f"{name}.npy", content.getvalue())
        stream.writestr("README.txt", "four images")
    data = open_data(file)
    assert isinstance(data, Dataset)
    assert np.array_equal(data.images, PIXELS)
    assert classes(file) == [0, 1, 2, 3]


def test_the_names_of_arrays_may_have_capital_letters(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", X=PIXELS[:2], Y=[1, 0], Class_Names=["cat", "dog"])
    data = open_data(tmp_path / "d.npz")
    assert (classes(tmp_path / "d.npz"), data.names) == ([1, 0], ("cat", "dog"))
    np.savez(tmp_path / "d.npz", X_Train=PIXELS[:2], Y_Train=[1, 0], TestImages=PIXELS[2:3])
    with pytest.raises(DataError, match="train: 3×4×5 uint8 with labels, test: 3×4×5 uint8"):
        open_data(tmp_path / "d.npz")


def test_of_cifar_only_the_split_that_is_asked_for_is_read(tmp_path: Path) -> None:
    """The others may be damaged, or large."""
    record = bytes([3]) + bytes(3072)
    (tmp_path / "test_batch.bin").write_bytes(record)
    (tmp_path / "data_batch_1.bin").write_bytes(record[:-1])
    found = read_cifar(str(tmp_path), ReadOptions(split="test"))
    assert (len(found), found.names) == (1, None)
    with pytest.raises(DataError, match=r"data_batch_1\.bin: 3,072 bytes are not a multiple"):
        read_cifar(str(tmp_path), ReadOptions())


@pytest.mark.parametrize("kind", ["t.jsonl", "t.parquet", "t.csv"])
def test_columns_of_one_name_are_refused_in_any_table(kind: str, folder: Path) -> None:
    """Names that differ in the case of letters are one."""
    row = {"path": "0.png", "label": "cat", "Label": "dog"}
    if kind == "t.parquet":
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(
            pyarrow.table({name: [cell] for name, cell in row.items()}), folder / kind
        )
    else:
        cells = [",".join(row), ",".join(row.values())]
        table(folder, json.dumps(row) if kind == "t.jsonl" else "\n".join(cells), kind)
    with pytest.raises(DataError, match="2 columns are called label: which one counts"):
        open_data(folder / kind)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["a" * 30 + "|" + "b" * 10, "b" * 10], f"row 1 has {'a' * 30}|{'b' * 9}…)"),
        (["a" * 29 + "|" + "b" * 10, "b" * 10], f"row 1 has {'a' * 29}|{'b' * 10})"),
        (["1", "-1" + "0" * 25], f"the label -1{'0' * 25} is out of range"),
    ],
)
def test_what_is_wrong_with_a_label_shows_it(labels: list[str], said: str, folder: Path) -> None:
    """Forty letters of it; and a number of any size is one."""
    rows = "".join(f"{index}.png,{label}\n" for index, label in enumerate(labels))
    with pytest.raises(DataError, match=re.escape(said)):
        open_data(table(folder, f"path,label\n{rows}"))


@pytest.mark.parametrize("kind", ["files", "memory"])
def test_what_is_known_of_images_goes_with_them(kind: str, folder: Path) -> None:
    """Their classes, names and splits, in the order in which they are taken."""
    splits, ids = np.array(["train", "val", "test", "train"]), np.array(list("abcd"))
    known: dict[str, Any] = {"ids": ids, "splits": splits}
    files = np.array([folder / f"{index}.png" for index in range(4)], object)
    data: Any = ImageFiles(files, np.array([0, 1, 2, 1]), ("x", "y", "z"), **known)
    if kind == "memory":
        data = Dataset(PIXELS, data.classes, data.names, **known)
    taken = data.take(np.array([2, 0]))
    assert (taken.classes.tolist(), taken.names) == ([2, 0], ("x", "y", "z"))
    assert (taken.ids.tolist(), taken.splits.tolist()) == (["c", "a"], ["test", "train"])
    images = taken.images if kind == "memory" else taken.in_memory().images
    assert np.array_equal(images, PIXELS[[2, 0]])
    bare = (Dataset(PIXELS) if kind == "memory" else ImageFiles(files)).take(np.array([2, 0]))
    assert (bare.classes, bare.splits) == (None, None)
    # Of images in memory without names, the positions are kept.
    assert bare.ids is None if kind == "files" else np.asarray(bare.ids).tolist() == [2, 0]


def test_images_of_several_splits_have_names_if_all_have() -> None:
    named = [
        Dataset(PIXELS[:1], ids=np.array(["a"])),
        Dataset(PIXELS[1:3], ids=np.array(["b", "c"])),
    ]
    whole = join_splits(dict(zip(("train", "test"), named, strict=True)))
    assert np.asarray(whole.ids).tolist() == ["a", "b", "c"]
    assert join_splits({"train": named[0], "test": Dataset(PIXELS[1:3])}).ids is None
