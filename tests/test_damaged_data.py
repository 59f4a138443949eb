"""Datasets whose sizes or labels are false: refused before memory is asked for."""

from __future__ import annotations

import io
import pickle
import struct
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest

from torchlift.converters import TorchliftError, t7
from torchlift.transfer.data import class_count, open_data
from torchlift.transfer.errors import DataError

IMAGES = np.zeros((40, 1, 8, 8), np.uint8)
LABELS = np.arange(40) % 10


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    """The header of an array of any size, without values."""
    text = str({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    text += b" " * (63 - (len(text) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def written(file: Path, **arrays: bytes) -> Path:
    with ZipFile(file, "w", ZIP_DEFLATED) as archive:
        for name, content in arrays.items():
            archive.writestr(f"{name}.npy", content)
    return file


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (header((10**12, 3, 32, 32)), "x.npy claims 3,072,000,000,000,000 bytes, it has 0"),
        (header((40,), "|V1000000000"), "x.npy claims 40,000,000,000 bytes"),
        (header((-1, 1, 8, 8)), "x.npy claims -64 bytes"),
        (npy(np.zeros((40, 1, 8, 8), "S4")), "images of the type"),
        (npy(np.zeros((40, 1, 8, 8), "M8[s]")), "images of the type datetime64"),
        (npy(np.zeros((40, 1, 8, 8), complex)), "images of the type complex128"),
        (npy(np.zeros((40, 1, 0, 8))), "there are no pixels"),
        (npy(np.array(5)), r"images have the shape \(\)"),
    ],
)
def test_images_that_are_none(images: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        open_data(written(tmp_path / "d.npz", x=images, y=npy(LABELS)))


def test_an_archive_that_unpacks_to_gigabytes(tmp_path: Path) -> None:
    """400 KB of zeros, of which not even the labels are looked at."""
    file = tmp_path / "bomb.npz"
    with ZipFile(file, "w", ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as stream:
        stream.write(header((400, 1, 1024, 1024)))
        for _ in range(400):
            stream.write(bytes(2**20))
    assert file.stat().st_size < 2**20
    with pytest.raises(DataError, match=r"bytes would unpack to 419,430,"):
        open_data(file)


@pytest.mark.parametrize("label", [1e9, 2.0**62, 1e30, np.inf, np.nan, -5])
def test_a_label_that_no_data_has(label: float, tmp_path: Path) -> None:
    """The memory of many commands grows with the largest label."""
    labels = LABELS.astype(float)
    labels[7] = label
    np.savez(tmp_path / "d.npz", x=IMAGES, y=labels)
    with pytest.raises(TorchliftError, match=r"out of range|not integers|NaN or infinite"):
        open_data(tmp_path / "d.npz")
    t7.save({"data": IMAGES, "label": labels}, tmp_path / "d.t7")
    with pytest.raises(TorchliftError, match=r"out of range|not integers|NaN or infinite"):
        open_data(tmp_path / "d.t7")


def test_large_labels_of_real_data_are_taken(tmp_path: Path) -> None:
    """A few images of ImageNet's 21,841 classes."""
    np.savez(tmp_path / "d.npz", x=IMAGES, y=LABELS + 21_831)
    data = open_data(tmp_path / "d.npz", first_label=0)
    assert class_count(data) == 21_841


@pytest.mark.parametrize("label", [10**30, 10**9, -3])
def test_a_label_of_a_pickle_that_is_out_of_range(label: int, tmp_path: Path) -> None:
    batch = {"data": np.zeros((4, 3072), np.uint8), "labels": [label, 0, 1, 2]}
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(DataError, match="is out of range"):
        open_data(tmp_path)


def test_an_idx_file_of_255_dimensions(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\xff" + b"\xff" * 1020)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01\0\0\0\0")
    with pytest.raises(DataError, match="255 dimensions") as error:
        open_data(tmp_path)
    assert len(str(error.value)) < 300
