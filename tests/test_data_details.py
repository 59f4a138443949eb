"""What is kept of data on its way: numbers of classes, errors of workers, bytes of no file."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import numpy as np
import pyarrow
import pytest
import torch
from data_support import RANDOM, archive, in_memory, png
from pyarrow import parquet

from torchlift.converters.images.errors import ImageError
from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.t7 import LuaTable
from torchlift.transfer.data import (
    Augmentation,
    Batches,
    BatchPlan,
    Dataset,
    ImageFiles,
    class_count,
    class_weights,
    dataset_from,
    fingerprint,
    open_data,
    split,
    test_split,
)
from torchlift.transfer.data.description import describe_data, find_duplicates
from torchlift.transfer.data.lua_tables import label_array
from torchlift.transfer.data.pixels import _OneByOne, _stack
from torchlift.transfer.data.plan import BatchSlice
from torchlift.transfer.data.readers.tables import read_rows
from torchlift.transfer.data.remote_files import RemoteFile
from torchlift.transfer.errors import DataError

test_split.__test__ = False  # type: ignore[attr-defined]  # a function of torchlift, no test

PIXELS = RANDOM.integers(0, 256, (6, 3, 4, 5), np.uint8)


def test_a_worker_hands_an_error_over_as_it_is() -> None:
    """Raised in a worker it would arrive as the text of a traceback."""
    error = ImageError("7.png: broken")
    asked: list[Any] = []

    def read(index: int, seed: int) -> torch.Tensor:
        asked.append((index, seed))
        if index == 7:
            raise error
        return torch.ones(1, 2, 2, dtype=torch.uint8)

    images = _OneByOne(SimpleNamespace(read=read))  # type: ignore[arg-type]
    places = [images[4, 8], images[7, 9]]
    assert asked == [(4, 8), (7, 9)]
    assert places[1] is error
    assert _stack(torch.Size([1, 2, 2]), places) is error
    whole = _stack(torch.Size([1, 2, 2]), places[:1] * 3)
    assert isinstance(whole, torch.Tensor)
    assert torch.equal(whole, torch.ones(3, 1, 2, 2, dtype=torch.uint8))
    # As many pixels, in another form.
    lying = _stack(torch.Size([1, 1, 4]), places[:1])
    assert isinstance(lying, DataError)
    assert "images of 1×4 and 2×2" in str(lying)


@pytest.mark.parametrize("last", [1, 2])
def test_a_class_without_a_name_that_is_in_another_split_alone_is_counted(last: int) -> None:
    """The classes are then called by their numbers, from 1 as in Torch7."""
    splits = np.array(["train"] * 4 + ["test"] * 2)
    data = Dataset(PIXELS, np.array([0, 1, 0, 1, 0, last]), splits=splits)
    train, test = split(data, 0.0).train, split(data, 0.0).test
    if last == 2:
        assert train.names == test.names == ("1", "2", "3")
        assert train.source_classes == (0, 1, 2)
    else:
        assert train.names is train.source_classes is None
    assert class_count(train) == last + 1


def test_the_test_split_is_no_other_one() -> None:
    splits = np.array(["val", "test", "train", "test", "val", "train"])
    chosen = test_split(Dataset(PIXELS, splits=splits))
    assert chosen.ids is not None
    assert chosen.ids.tolist() == [1, 3]
    whole = Dataset(PIXELS[:2], splits=np.array(["train", "val"]))
    assert test_split(whole) is whole


def test_files_elsewhere_do_not_count_among_the_bytes_that_are_read() -> None:
    far = np.empty(1, object)
    far[0] = RemoteFile("memory://far", "far", 0, 10**12)
    found = find_duplicates({"train": ImageFiles(far), "test": Dataset(PIXELS[[0, 1, 0]])})
    assert (found.examined, found.repeated) == (3, (("test", 1),))


def test_bytes_that_are_no_image_file_are_pixels() -> None:
    """A list of images that are saved flat, such as those of MNIST."""
    rows = RANDOM.integers(0, 100, (2, 784), np.uint8)
    data = dataset_from(LuaTable.from_list([*rows]))
    assert np.array_equal(data.images, rows.reshape(2, 1, 28, 28))
    assert data.notes[0] == "784 values per image taken as 1×28×28"


@pytest.mark.parametrize("header", ["path,split", "Path, Split ", "note,path,split"])
def test_a_table_may_have_splits_and_no_labels_but_no_other_column(
    header: str, tmp_path: Path
) -> None:
    """The other one could be that of the labels."""
    (tmp_path / "0.png").write_bytes(png(PIXELS[0]))
    row = "a,0.png,train" if header.startswith("note") else "0.png,train"
    (tmp_path / "t.csv").write_text(f"{header}\n{row}\n", encoding="utf-8")
    if header.startswith("note"):
        with pytest.raises(DataError, match=r"no column of labels \(label, labels, class"):
            open_data(tmp_path / "t.csv")
    else:
        data = open_data(tmp_path / "t.csv")
        assert data.classes is None
        assert data.splits is not None
        assert data.splits.tolist() == ["train"]


@pytest.mark.parametrize("names", [["cat", "dog"], "cat dog", None, {"cat": 0}])
def test_names_of_cifar_are_a_list_or_none(names: Any, tmp_path: Path) -> None:
    content = {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(content, 2))
    (tmp_path / "batches.meta").write_bytes(pickle.dumps({"label_names": names}, 2))
    assert in_memory(tmp_path).names == (("cat", "dog") if isinstance(names, list) else None)


def test_a_parquet_table_that_is_not_there_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^cannot be read: "):
        read_rows(tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match=r"^cannot be read: "):
        read_rows(tmp_path / "t.parquet")


def test_only_what_is_read_of_a_folder_elsewhere_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = fsspec.filesystem("memory")
    for index, name in enumerate(("train-0.parquet", "test-0.parquet")):
        table = pyarrow.table({"image": [png(PIXELS[index])], "label": [index]})
        parquet.write_table(table, tmp_path / name)
        memory.pipe(f"/copied/data/{name}", (tmp_path / name).read_bytes())
    memory.pipe("/copied/README.md", b"long")
    copied: list[str] = []
    copy_to = RemoteFile.copy_to

    def copy(file: RemoteFile, target: Path) -> None:
        copied.append(file.name)
        copy_to(file, target)

    monkeypatch.setattr(RemoteFile, "copy_to", copy)
    data = open_data("memory://copied")
    assert sorted(copied) == ["test-0.parquet", "train-0.parquet"]
    assert data.splits is not None
    assert data.splits.tolist() == ["train", "test"]
    memory.rm("/copied", recursive=True)


def test_batches_of_files_have_their_own_classes() -> None:
    files = np.array([png(image) for image in PIXELS[:3]], object)
    data = ImageFiles(files, np.array([2, 0, 1]), ids=np.array(["a", "b", "c"]))
    found = [(len(images), classes) for images, classes in data.batches(2)]
    assert [count for count, _ in found] == [2, 1]
    assert [None if own is None else own.tolist() for _, own in found] == [[2, 0], [1]]
    assert [own for _, own in ImageFiles(files).batches(2)] == [None, None]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"a__json": b"{"}, "a.json is no JSON"),
        ({"a__json": b"\xff"}, "a.json is no JSON"),
        ({"a__cls": b"\xff"}, "a.cls is no UTF-8 text"),
        ({"a__label": b"1" * 65537}, "a.label has 65,537 bytes, too many for a label"),
        ({"a__json": b'"cat"', "a__cls__txt": b" dog \n"}, ""),
        ({"a__json": b'{"note": 1}', "a__label": b"dog"}, ""),
        ({"a__json": b'{"LABEL": "dog"}', "a__cls": b"cat"}, ""),
    ],
)
def test_a_label_in_an_archive_is_a_text_or_stands_in_json(
    members: dict[str, bytes], said: str, tmp_path: Path
) -> None:
    """The first that has one counts; JSON without one is no label."""
    file = archive(tmp_path / "x.tar", a__png=png(PIXELS[0]), **members)
    if said:
        with pytest.raises(DataError, match=rf"x\.tar: cannot be read: {said}"):
            open_data(file)
    else:
        assert open_data(file).names == ("dog",)


@pytest.mark.parametrize("label", ["cat", np.zeros(0), None])
def test_a_label_that_is_no_number_is_refused(label: Any) -> None:
    labels = LuaTable.from_list([1, 2])
    labels[2] = label
    if label is None:
        assert label_array(labels).tolist() == [1]
    else:
        with pytest.raises(DataError, match=r"^the labels are not numbers$"):
            label_array(labels)
    with pytest.raises(DataError, match="the labels are a int, expected a tensor or a list"):
        label_array(3)


def test_the_fingerprint_of_files_depends_on_where_each_one_ends() -> None:
    found = []
    for contents in ([b"ab", b"c"], [b"a", b"bc"], [b"c", b"ab"], [b"ab", b"c"]):
        files = np.empty(2, object)
        files[:] = contents
        found.append(fingerprint(ImageFiles(files, np.array([0, 1]))))
    assert len({*found}) == 3
    assert found[0] == found[3]


def test_a_last_class_without_images_has_the_weight_0() -> None:
    """3 images, 3 classes: 3 / (3 · 2), 3 / (3 · 1)."""
    weights = class_weights(Dataset(PIXELS[:3], np.array([0, 1, 0]), ("a", "b", "c")))
    assert (weights.dtype, weights.tolist()) == (np.float32, [0.5, 1.0, 0.0])


def test_names_of_cifar_that_are_no_utf_8_are_read_as_far_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "test_batch.bin").write_bytes(bytes(3073) + b"\1" + bytes(3072))
    (tmp_path / "batches.meta.txt").write_bytes(b"cat\nd\xf6g\n\n")
    data = in_memory(tmp_path)
    assert (data.names, data.classes.tolist()) == (("cat", "d\ufffdg"), [0, 1])


def test_a_parquet_table_without_images_says_which_columns_it_has(tmp_path: Path) -> None:
    columns = {f"c{index}": [1.5] for index in range(9)}
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    listed = ", ".join(f"c{index}" for index in range(8))
    with pytest.raises(DataError, match=rf"no column of image files .* among: {listed}$"):
        open_data(tmp_path / "t.parquet")


@pytest.mark.parametrize(("most", "largest", "different"), [(2, (9, 9), 2), (5, (9, 9), 3)])
def test_of_many_files_some_are_measured_from_the_first_to_the_last(
    most: int, largest: tuple[int, int], different: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchlift.transfer.data.description._HEADERS", most)
    sides = (3, 4, 3, 3, 9)
    files = np.array([png(np.zeros((3, side, side), np.uint8)) for side in sides], object)
    sizes = describe_data(ImageFiles(files)).sizes
    assert sizes is not None
    assert (sizes.smallest, sizes.largest, sizes.different, sizes.examined) == (
        (3, 3), largest, different, most,
    )  # fmt: skip


def test_a_file_elsewhere_is_opened_at_its_beginning() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/opened.bin", b"0123")
    with RemoteFile.at("memory://opened.bin").opened() as stream:
        assert stream.read() == b"0123"
    memory.rm("/opened.bin")


@pytest.mark.parametrize(
    ("root", "path", "name"),
    [
        ("s3://b/data/", "b/data/", "data"),
        ("s3://b/data", "b/data", "data"),
        ("memory://x.npz", "/x.npz", "x.npz"),
        ("zip://::/tmp/a.zip", "", "a.zip"),
    ],
)
def test_the_name_of_a_file_elsewhere_is_its_last_part(root: str, path: str, name: str) -> None:
    assert RemoteFile(root, path).name == name


@pytest.mark.parametrize("damage", ["inside", "end", "head"])
def test_a_packed_file_that_is_damaged_is_said_by_name(damage: str, tmp_path: Path) -> None:
    pixels = RANDOM.integers(0, 256, 2000, np.uint8).tobytes()
    content = gzip.compress(struct.pack(">BBBB3I", 0, 0, 8, 3, 20, 10, 10) + pixels)
    damaged = {
        "inside": content[:10] + b"\x07" + content[11:],  # no kind of block
        "end": content[:-300],
        "head": content[:2] + b"\x07" + content[3:],
    }[damage]
    name = "train-images-idx3-ubyte.gz"
    (tmp_path / name).write_bytes(damaged)
    with pytest.raises(DataError, match=rf"{name}: cannot be read: "):
        open_data(tmp_path)


@pytest.mark.parametrize(
    "info",
    [
        b"[" * 10**5,
        b"{",
        b"\xff",
        b"[]",
        b'{"info": {}}',
        b'{"info": {"features": 3}}',
        b'{"info": {"features": {"label": {"names": "ab"}}}}',
        b'{"info": {"features": {"label": {}}}}',
        b'{"info": {"features": {"label": 3}}}',
        b'{"info": {"features": {"Label": {"names": ["cat", "dog"]}}}}',
    ],
)
def test_names_of_hugging_face_are_read_where_they_are_whole(info: bytes, tmp_path: Path) -> None:
    table = pyarrow.table({"image": [png(PIXELS[0]), png(PIXELS[1])], "label": [1, 0]})
    parquet.write_table(
        table.replace_schema_metadata({b"huggingface": info}), tmp_path / "t.parquet"
    )
    data = in_memory(tmp_path / "t.parquet")
    assert data.names == (("cat", "dog") if b"Label" in info else None)
    assert data.classes is not None
    assert data.classes.tolist() == [1, 0]


def test_what_is_asked_for_holds_for_copies_too() -> None:
    file = io.BytesIO()
    np.savez(file, x=PIXELS, y=np.arange(1, 7))
    memory = fsspec.filesystem("memory")
    memory.pipe("/asked.npz", file.getvalue())
    for first, expected in ((None, 0), (0, 1), (1, 0)):
        data = in_memory("memory://asked.npz", first_label=first)
        assert data.classes.tolist() == [*range(expected, expected + 6)]
    memory.rm("/asked.npz")


@pytest.mark.parametrize(
    ("places", "expected"),
    [((0, 2, 2, 4), []), ((0, 0, 2, 4), [3, 0, 1]), ((4, 6, 8, 8), [5, 6, 7]), ((4, 4, 4, 4), [])],
)
def test_the_neighbor_of_a_slice_is_of_its_batch(
    places: tuple[int, int, int, int], expected: list[int]
) -> None:
    assert BatchSlice(*places).with_neighbor().tolist() == expected


@pytest.mark.parametrize("color", ["RGB", "BGR", "gray"])
def test_images_that_are_not_kept_are_changed_as_those_that_are(color: Any) -> None:
    """As the network sees them, resized and cut: not as they are."""
    found = [
        next(
            Batches(
                Dataset(PIXELS),
                Preprocessing(color, size=9, crop=(7, 8)),
                BatchPlan(6, 6),
                augmentation=Augmentation(rotation=40),
                keep=keep,
            ).epoch(1)
        )[0]
        for keep in (True, False)
    ]
    assert found[0].shape == (6, 1 if color == "gray" else 3, 7, 8)
    assert torch.equal(*found)


@pytest.mark.parametrize("content", [b"", b"\0", b"\0\0", b"\0\0\x08"])
def test_a_file_that_ends_in_its_first_bytes_is_no_idx_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataError, match="ubyte: not an idx file: it starts with b'"):
        open_data(tmp_path)


def test_classes_of_test_data_are_those_of_the_training_data() -> None:
    """Where neither has names, there are no more of them; without labels they do not matter."""
    data = Dataset(PIXELS, np.array([0, 1] * 3))
    more = Dataset(PIXELS[:3], np.array([0, 1, 2]))
    with pytest.raises(
        DataError, match="the test data has 3 classes, the training data has 2: they cannot be"
    ):
        split(data, 0.0, test_data=more)
    plain = split(Dataset(PIXELS), 0.0, test_data=Dataset(PIXELS[:3]))
    assert (len(plain.test), plain.notes) == (3, ("test: 3 images, given",))
