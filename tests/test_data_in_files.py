"""Files of data that are read as they are meant: texts as labels, odd lines, names in pickles."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from data_support import RANDOM, in_memory, png
from PIL import Image

from torchlift.converters import t7
from torchlift.converters.t7 import LuaObject, LuaTable
from torchlift.transfer.data import (
    Augmentation,
    Dataset,
    Splits,
    dataset_from,
    open_data,
    select_classes,
)
from torchlift.transfer.data.augmentation import mix
from torchlift.transfer.data.dataset import join_splits
from torchlift.transfer.data.description import describe_data, find_duplicates
from torchlift.transfer.data.image_changes import ImageChanges
from torchlift.transfer.data.readers import arrow_images
from torchlift.transfer.data.remote_files import RemoteFile
from torchlift.transfer.data.safe_pickle import read_pickle
from torchlift.transfer.errors import DataError

PIXELS = RANDOM.integers(0, 256, (6, 3, 4, 5), np.uint8)


@pytest.mark.parametrize("in_splits", [False, True])
def test_texts_in_an_npz_are_positions_of_its_names(in_splits: bool, tmp_path: Path) -> None:
    """Also where the first of them does not occur; numbers as texts are numbers of classes."""

    def written(*labels: str, **more: Any) -> Path:
        arrays = {"x": PIXELS[:2], "y": np.array(labels)}
        if in_splits:
            arrays = {"x_train": PIXELS[:1], "x_test": PIXELS[1:2]}
            arrays |= {"y_train": np.array(labels[:1]), "y_test": np.array(labels[1:])}
        np.savez(tmp_path / "d.npz", **arrays, **more)
        return tmp_path / "d.npz"

    data = in_memory(written("owl", "cat", classes=["ant", "cat", "owl"]))
    assert (data.classes.tolist(), data.names) == ([2, 1], ("ant", "cat", "owl"))
    data = in_memory(written("owl", "cat"))
    assert (data.classes.tolist(), data.names) == ([1, 0], ("cat", "owl"))
    data = in_memory(written("7", "6"))
    assert (data.classes.tolist(), data.names) == ([6, 5], None)
    assert data.notes == ("labels 6 to 7, counted from 1 as found",)
    data = in_memory(written("7", "6"), first_label=6)
    assert data.classes.tolist() == [1, 0]
    assert data.notes == ("labels 6 to 7, counted from 6 as given",)
    if in_splits:
        assert data.splits is not None
        assert data.splits.tolist() == ["train", "test"]


def test_a_line_of_a_table_ends_at_its_end_alone(tmp_path: Path) -> None:
    """A name may hold what Unicode calls a separator of lines, and lines may be blank."""
    rows = []
    for index, label in enumerate(("a\u2028b", "c\x85d", "e")):
        (tmp_path / f"{index}.png").write_bytes(png(PIXELS[index]))
        rows.append({"path": f"{index}.png", "label": label})
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (tmp_path / "t.jsonl").write_text("\n  \n".join(lines) + "\n\t\n", encoding="utf-8")
    text = "".join(f"{row['path']},{row['label']}\n" for row in rows)
    (tmp_path / "t.csv").write_text("path,label\n" + text, encoding="utf-8")
    for name in ("t.jsonl", "t.csv"):
        assert open_data(tmp_path / name).names == ("a\u2028b", "c\x85d", "e")


@pytest.mark.parametrize("labels", [[0.0, 1.0], ["0", "1"], [None, 1], [0, [1]]])
def test_labels_of_cifar_are_whole_numbers(labels: list[Any], tmp_path: Path) -> None:
    content = {"data": np.zeros((2, 3072), np.uint8), "labels": labels}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(content, 2))
    with pytest.raises(DataError, match=r"test_batch: the labels are not integers$"):
        open_data(tmp_path)


@pytest.mark.parametrize("name", [b"numpy\nload", b"numpy\nndarray.dump", b"os\nsystem"])
def test_a_name_in_a_pickle_that_builds_no_array_is_refused_by_name(
    name: bytes, tmp_path: Path
) -> None:
    """Also one of NumPy, from which other names are taken."""
    (tmp_path / "p").write_bytes(b"c" + name + b"\n.")
    called = name.decode().replace("\n", ".")
    with pytest.raises(DataError, match=f"this pickle would run {called} and is not read"):
        read_pickle(tmp_path / "p")


@pytest.mark.parametrize(
    ("drawn", "mixup", "cutmix", "alpha"),
    [(0.49, 0.2, 0.7, 0.7), (0.51, 0.2, 0.7, 0.2), (0.9, 0.0, 0.7, 0.7), (0.1, 0.2, 0.0, 0.2)],
)
def test_each_way_to_mix_has_its_own_distribution(
    drawn: float, mixup: float, cutmix: float, alpha: float
) -> None:
    asked: list[tuple[float, float]] = []

    def beta(first: float, second: float) -> float:
        asked.append((first, second))
        return 0.75

    random: Any = SimpleNamespace(random=lambda: drawn, beta=beta, integers=lambda most: most // 2)
    inputs = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 8, 8).contiguous()
    before = inputs.clone()
    result, targets = mix(inputs, torch.eye(3), Augmentation(mixup=mixup, cutmix=cutmix), random)
    assert asked == [(alpha, alpha)]
    assert torch.equal(inputs, before)
    # A quarter is of the neighbor: of each value, or of the area.
    assert torch.allclose(targets, 0.75 * torch.eye(3)[1:] + 0.25 * torch.eye(3)[:-1])
    assert torch.allclose(result.mean((1, 2, 3)), torch.tensor([0.75, 1.75]))
    assert (len(result[0].unique()) == 1) is (alpha == mixup)


@pytest.mark.parametrize("fails", [False, True])
def test_changing_an_image_leaves_the_generator_as_it_was(fails: bool) -> None:
    changes = ImageChanges(Augmentation(rotation=30, auto_augment="trivialaugment"), (8, 8))
    image: Any = None if fails else Image.new("RGB", (8, 8), (9, 99, 199))
    before = torch.get_rng_state()
    if fails:
        with pytest.raises(Exception):  # noqa: B017, PT011  # whatever torchvision raises
            changes(image, 3)
    else:
        assert np.array_equal(changes(image, 3), changes(image, 3))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("shape", "labels", "said"),
    [
        ((2, 3072), (0, 1), "it has no list of 2 labels"),
        ((2, 3072), {0: 0, 1: 1}, "it has no list of 2 labels"),
        ((2, 3072), [0], "it has no list of 2 labels"),
        ((2, 3072), None, "it has no list of 2 labels"),
        ((2, 1, 3072), [0, 1], "it has no array `data` of N×3072"),
        ((2, 3, 1024), [0, 1], "it has no array `data` of N×3072"),
        ((6144,), [0, 1], "it has no array `data` of N×3072"),
        ((2, 3071), [0, 1], "it has no array `data` of N×3072"),
    ],
)
def test_a_batch_of_cifar_has_a_row_and_a_label_for_each_image(
    shape: tuple[int, ...], labels: Any, said: str, tmp_path: Path
) -> None:
    content = {"data": np.zeros(shape, np.uint8), "labels": labels}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(content, 2))
    with pytest.raises(DataError, match=f"test_batch: not a CIFAR batch: {said}"):
        open_data(tmp_path)


def test_a_pickle_of_python_2_keeps_every_byte(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"\x80\x02}U\x04nameU\x02\xe9\xffs.")
    assert read_pickle(tmp_path / "p") == {"name": "\xe9\xff"}


@pytest.mark.parametrize("axes", [1, 2, 4, 5])
def test_images_of_an_idx_file_have_three_axes(axes: int, tmp_path: Path) -> None:
    head = struct.pack(f">BBBB{axes}I", 0, 0, 8, axes, *[2] * axes)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(head + bytes(2**axes))
    with pytest.raises(DataError, match=f"{axes} dimensions, expected images"):
        open_data(tmp_path)
    missing = tmp_path / "t10k-images-idx3-ubyte"
    with pytest.raises(DataError, match="no such file or folder; a dataset is"):
        open_data(missing)


@pytest.mark.parametrize("sparse", [False, True])
def test_an_image_that_is_not_whole_in_its_archive_is_refused(sparse: bool, tmp_path: Path) -> None:
    content = RANDOM.bytes(2000)
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("a.png")
        member.size = len(content)
        if sparse:
            member.pax_headers = {"GNU.sparse.map": "0,2000", "GNU.sparse.size": "2000"}
        tar.addfile(member, io.BytesIO(content))
    if not sparse:
        (tmp_path / "x.tar").write_bytes((tmp_path / "x.tar").read_bytes()[:1536])
    with pytest.raises(DataError, match=r"x\.tar: cannot be read: a\.png is not whole"):
        open_data(tmp_path / "x.tar")


def test_classes_keep_the_spelling_of_the_data() -> None:
    data = Dataset(PIXELS[:3], np.arange(3), ("Cat", "dog", "Owl"))
    chosen = select_classes(data, ["OWL", "cat"])
    assert chosen.names == ("Owl", "Cat")
    assert chosen.notes[-1] == "classes OWL, cat: 2 of 3"


def test_images_of_another_shape_are_others_though_their_bytes_are_the_same() -> None:
    wide, high = np.zeros((1, 1, 2, 8), np.uint8), np.zeros((1, 1, 8, 2), np.uint8)
    splits = {"train": Dataset(wide), "val": Dataset(high), "test": Dataset(wide)}
    assert find_duplicates(splits).shared == (("train", "test", 1),)
    signed = {"train": Dataset(wide), "test": Dataset(wide.view(np.int8))}
    assert find_duplicates(signed).shared == ()


def test_splits_are_described_with_their_own_notes() -> None:
    part = Dataset(PIXELS[:2], np.array([0, 1]), notes=("of the data",))
    found = describe_data(Splits(part, part.take(np.arange(0)), part, ("test: given",)))
    assert found.notes == ("test: given",)
    assert found.splits == {"train": 2, "test": 2}
    assert describe_data(part).notes == ("of the data",)


@pytest.mark.parametrize(
    ("root", "path", "shown"),
    [
        ("zip://::/tmp/a.zip", "x/1.png", "zip://x/1.png::/tmp/a.zip"),
        ("zip://x::s3://b/a.zip", "x/1.png", "zip://x/1.png::s3://b/a.zip"),
        ("memory://d", "/d/1.png", "memory:///d/1.png"),
        ("https://h/d", "https://h/d/1.png", "https://h/d/1.png"),
    ],
)
def test_a_file_elsewhere_is_called_by_its_own_address(root: str, path: str, shown: str) -> None:
    assert str(RemoteFile(root, path)) == shown


def test_each_image_that_is_also_in_an_earlier_split_counts() -> None:
    splits = {"train": Dataset(PIXELS[:1]), "test": Dataset(PIXELS[[0, 0, 1]])}
    found = find_duplicates(splits)
    assert found.shared == (("train", "test", 2),)
    assert found.repeated == (("test", 1),)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_images_keep_their_colors_where_others_are_skipped(mode: str, tmp_path: Path) -> None:
    for index in range(2):
        Image.new(mode, (5, 4), 9 if mode == "L" else (9, 8, 7)).save(tmp_path / f"{index}.png")
    (tmp_path / "2.png").write_bytes(b"no image")
    rows = "".join(f"{index}.png,{index}\n" for index in range(3))
    (tmp_path / "t.csv").write_text("path,label\n" + rows, encoding="utf-8")
    data = in_memory(tmp_path / "t.csv", on_error="skip")
    assert data.images.shape == (2, 1 if mode == "L" else 3, 4, 5)
    assert data.notes[-1].startswith("left out, unreadable: 1 (")


def test_splits_of_one_source_have_the_names_of_the_first_and_one_kind() -> None:
    train = Dataset(PIXELS[:2], np.array([0, 1]), ("a", "b"), ids=np.array([7, 8]))
    whole = join_splits({"train": train, "test": replace(train, names=None)})
    assert whole.names == ("a", "b")
    assert whole.ids is not None
    assert whole.ids.tolist() == [7, 8, 7, 8]
    for other in (
        replace(train, images=PIXELS[:2, :1]),
        replace(train, images=PIXELS[:2].astype(np.float32)),
        replace(train, classes=None),
    ):
        with pytest.raises(DataError, match="the splits hold images of different kinds"):
            join_splits({"train": train, "test": other})
    assert join_splits({"train": train, "test": replace(train, ids=None)}).ids is None


def test_a_class_that_a_split_lacks_is_counted_there_too() -> None:
    splits = np.array(["train", "train", "train", "val", "test", "test"])
    data = Dataset(PIXELS, np.array([0, 1, 1, 0, 0, 0]), ("a", "b"), splits=splits)
    found = describe_data(data)
    assert found.counts == {"train": [1, 2], "val": [1, 0], "test": [2, 0]}
    assert found.imbalance == 2
    assert found.to_json()["classes"] == [
        {"label": "a", "count": 4, "train": 1, "val": 1, "test": 2},
        {"label": "b", "count": 2, "train": 2, "val": 0, "test": 0},
    ]


def test_an_array_in_a_pickle_of_python_2_is_made_of_the_bytes_of_its_text(tmp_path: Path) -> None:
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02K\x03\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x06\x00\x80\xff\x01\x02\x03tb"
    )
    (tmp_path / "p").write_bytes(b"\x80\x02}U\x04data" + array + b"s.")
    assert read_pickle(tmp_path / "p")["data"].tolist() == [[0, 128, 255], [1, 2, 3]]


def test_the_row_of_an_image_without_bytes_is_counted_across_parts() -> None:
    parts = [[{"bytes": b"x", "path": "a"}], [{"bytes": b"y"}, {"bytes": None, "path": "b"}]]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    found = arrow_images._images(pyarrow.chunked_array(parts, kind), Path("f.arrow"))
    assert [bytes(image) + name.encode() for image, name in islice(found, 2)] == [b"xa", b"y"]
    with pytest.raises(DataError, match=r"f\.arrow: row 3 has no image, only the path 'b'"):
        next(found)


@pytest.mark.parametrize("wrapped", ["object", "text"])
def test_splits_and_images_may_be_wrapped(wrapped: str) -> None:
    """In an object of the project's own class, or by `torch.serialize`."""

    def wrap(value: Any) -> Any:
        return LuaObject("own", value) if wrapped == "object" else t7.dumps(value)

    part = LuaTable({"data": PIXELS[:2], "labels": np.array([2, 1])})
    data = dataset_from(LuaTable({"train": wrap(part), "testData": wrap(part)}))
    assert data.splits is not None
    assert data.splits.tolist() == ["train"] * 2 + ["test"] * 2
    pairs = [LuaTable.from_list([t7.dumps(PIXELS[at]), at + 1]) for at in range(2)]
    data = dataset_from(LuaTable.from_list(pairs))
    assert np.array_equal(data.images, PIXELS[:2])


@pytest.mark.parametrize("axes", [2, 3])
def test_pixels_that_begin_as_a_file_does_are_pixels(axes: int) -> None:
    """Only a row of bytes is a file."""
    image = np.zeros((4, 5) if axes == 2 else (1, 4, 5), np.uint8)
    image[..., 0, :2] = [*b"BM"]
    data = dataset_from(LuaTable.from_list([image, image]))
    assert np.array_equal(data.images, np.stack([image, image]).reshape(2, 1, 4, 5))
