"""MNIST's idx files are read as torchvision reads them, and damaged ones are refused.

The files are written here to the letter of their format, so that nothing has to be downloaded.
"""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from data_support import RANDOM, in_memory
from support import SHARED
from torchvision.datasets import MNIST
from torchvision.datasets.mnist import read_image_file, read_label_file

from torchlift.transfer.data import open_data
from torchlift.transfer.errors import DataError


def write_idx(file: Path, values: np.ndarray) -> None:
    head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    whole = head + values.tobytes()
    file.write_bytes(gzip.compress(whole) if file.suffix == ".gz" else whole)


@pytest.mark.parametrize("ending", ["-idx{}-ubyte", "-idx{}-ubyte.gz", ".idx{}-ubyte"])
def test_idx_files_are_read_as_torchvision_reads_them(tmp_path: Path, ending: str) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, count in (("train", 30), ("t10k", 12)):
        write_idx(
            raw / f"{split}-images{ending.format(3)}",
            RANDOM.integers(0, 256, (count, 28, 28), np.uint8),
        )
        write_idx(raw / f"{split}-labels{ending.format(1)}", np.arange(count, dtype=np.uint8) % 10)
    data = in_memory(tmp_path)
    assert data.names == tuple("0123456789")
    assert data.splits is not None
    assert data.splits.tolist() == ["train"] * 30 + ["test"] * 12
    assert data.classes is not None
    assert data.classes.tolist() == [*(i % 10 for i in range(30)), *(i % 10 for i in range(12))]
    if ending == "-idx{}-ubyte":
        for train, split in ((True, "train"), (False, "test")):
            expected = MNIST(str(tmp_path), train=train)
            actual = in_memory(tmp_path, split=split)
            assert np.array_equal(actual.images[:, 0], expected.data.numpy())
            assert np.array_equal(actual.classes, expected.targets.numpy())  # type: ignore[arg-type]
    single = in_memory(raw / f"t10k-labels{ending.format(1)}")
    assert np.array_equal(single.images, data.images[30:])


def test_mnists_own_files_are_read() -> None:
    file = SHARED / "data" / "t10k-images-idx3-ubyte.gz"
    if not file.exists():
        pytest.skip("needs MNIST's test files")
    data = in_memory(file)
    assert data.images.shape == (10_000, 1, 28, 28)
    assert data.classes is not None
    # The first digits and the number of each digit, as published.
    assert data.classes[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(data.classes).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    with gzip.open(file) as stream:
        assert np.array_equal(np.frombuffer(stream.read()[16:], np.uint8), data.images.ravel())


def test_fashion_mnist_is_recognized_by_its_folder(tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    write_idx(raw / "t10k-images-idx3-ubyte", RANDOM.integers(0, 256, (3, 28, 28), np.uint8))
    write_idx(raw / "t10k-labels-idx1-ubyte", np.array([9, 0, 1], np.uint8))
    data = in_memory(tmp_path)
    assert data.names is not None
    assert [data.names[i] for i in data.classes] == ["Ankle boot", "T-shirt/top", "Trouser"]  # type: ignore[union-attr]
    assert read_image_file(str(raw / "t10k-images-idx3-ubyte")).shape == (3, 28, 28)
    assert read_label_file(str(raw / "t10k-labels-idx1-ubyte")).tolist() == [9, 0, 1]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\x89PNG....", "not an idx file"),
        (struct.pack(">BBBB3I", 0, 0, 13, 3, 1, 1, 1) + b"\0\0\0\0", "type 0x0d"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, 2, 4, 4) + bytes(31), "expected 32 bytes, it has 31"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, 2, 4, 4) + bytes(40), "expected 32 bytes, it has more"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, *[2**31] * 3), "the file is too small"),
        (struct.pack(">BBBB", 0, 0, 8, 3) + b"\0", "truncated in its header"),
        (
            gzip.compress(struct.pack(">BBBB3I", 0, 0, 8, 3, 2, 4, 4) + bytes(32), mtime=0)[:-9],
            "cannot be read",
        ),
        (struct.pack(">BBBB1I", 0, 0, 8, 1, 3) + bytes(3), "expected images"),
    ],
)
def test_errors_name_damaged_idx_files(tmp_path: Path, content: bytes, problem: str) -> None:
    file = tmp_path / "train-images-idx3-ubyte"
    file.write_bytes(content)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(2, np.uint8))
    with pytest.raises(DataError, match=f"train-images-idx3-ubyte: .*{problem}"):
        open_data(file)


def test_an_idx_file_without_its_labels(tmp_path: Path) -> None:
    write_idx(tmp_path / "train-images-idx3-ubyte", np.zeros((2, 4, 4), np.uint8))
    with pytest.raises(DataError, match="no file of labels beside it"):
        open_data(tmp_path)


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 1)])
def test_as_many_labels_as_images_are_expected(tmp_path: Path, shape: tuple[int, ...]) -> None:
    write_idx(tmp_path / "train-images-idx3-ubyte", np.zeros((2, 4, 4), np.uint8))
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match=r"train-images.*: 2 images, but labels of shape") as error:
        open_data(tmp_path)
    assert str(error.value).endswith(str(shape))
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(2, np.uint8))
    assert len(open_data(tmp_path)) == 2
