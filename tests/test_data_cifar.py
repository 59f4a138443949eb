"""CIFAR's files are read as torchvision reads them; code in a pickle never runs.

The files are written here to the letter of their formats, so that nothing has to be downloaded.
"""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_support import RANDOM, Malicious, in_memory
from torchvision.datasets import CIFAR10, CIFAR100

from torchlift.transfer.data import open_data
from torchlift.transfer.errors import DataError

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def cifar_pixels(count: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (count, 3072), np.uint8)


def write_cifar_python(folder: Path, files: dict[str, dict[str, Any]], protocol: int = 2) -> None:
    folder.mkdir()
    for name, entries in files.items():
        (folder / name).write_bytes(pickle.dumps(entries, protocol))


def integrity(folder: Path, names: list[str]) -> list[list[str]]:
    return [[name, hashlib.md5((folder / name).read_bytes()).hexdigest()] for name in names]


@pytest.mark.parametrize("protocol", [2, 4])
def test_cifar10_binary_and_python_versions_are_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    pixels, labels = cifar_pixels(60), RANDOM.integers(0, 10, 60)
    binary, python = tmp_path / "cifar-10-batches-bin", tmp_path / "cifar-10-batches-py"
    binary.mkdir()
    names = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    pickles: dict[str, dict[str, Any]] = {"batches.meta": {"label_names": NAMES}}
    for index, name in enumerate(names):
        rows = slice(index * 10, index * 10 + 10)
        records = np.hstack([labels[rows, None].astype(np.uint8), pixels[rows]])
        (binary / f"{name}.bin").write_bytes(records.tobytes())
        pickles[name] = {"data": pixels[rows], "labels": labels[rows].tolist()}
    (binary / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n", encoding="utf-8")
    write_cifar_python(python, pickles, protocol)
    monkeypatch.setattr(CIFAR10, "train_list", integrity(python, names[:5]))
    monkeypatch.setattr(CIFAR10, "test_list", integrity(python, names[5:]))
    monkeypatch.setattr(
        CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names",
                          "md5": integrity(python, ["batches.meta"])[0][1]},
    )  # fmt: skip
    for split, train in (("train", True), ("test", False)):
        expected = CIFAR10(str(tmp_path), train=train)
        for folder in (binary, python):
            actual = in_memory(folder, split=split)
            assert np.array_equal(actual.images.transpose(0, 2, 3, 1), expected.data)
            assert actual.classes is not None
            assert actual.classes.tolist() == expected.targets
            assert actual.names == tuple(expected.classes)
    assert len(in_memory(binary)) == 60
    assert len(in_memory(binary / "test_batch.bin")) == 10
    (binary / "test_batch.bin").write_bytes(bytes(3072))
    with pytest.raises(DataError, match="3,072 bytes are not a multiple of 3,073"):
        open_data(binary)


def test_cifar100_has_the_fine_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, fine = cifar_pixels(20), RANDOM.integers(0, 100, 20)
    names = [f"class {n}".replace(" ", "_") for n in range(100)]
    binary, python = tmp_path / "cifar-100-binary", tmp_path / "cifar-100-python"
    binary.mkdir()
    pickles: dict[str, dict[str, Any]] = {"meta": {"fine_label_names": names}}
    for name, rows in (("train", slice(0, 15)), ("test", slice(15, 20))):
        labels = np.stack([fine[rows] // 5, fine[rows]], axis=1).astype(np.uint8)
        (binary / f"{name}.bin").write_bytes(np.hstack([labels, pixels[rows]]).tobytes())
        pickles[name] = {"data": pixels[rows], "fine_labels": fine[rows].tolist()}
    (binary / "fine_label_names.txt").write_text("\n".join(names), encoding="utf-8")
    write_cifar_python(python, pickles)
    monkeypatch.setattr(CIFAR100, "test_list", integrity(python, ["test"]))
    monkeypatch.setattr(
        CIFAR100, "meta", {"filename": "meta", "key": "fine_label_names",
                           "md5": integrity(python, ["meta"])[0][1]},
    )  # fmt: skip
    monkeypatch.setattr(CIFAR100, "train_list", integrity(python, ["train"]))
    expected = CIFAR100(str(tmp_path), train=False)
    for folder in (binary, python):
        actual = in_memory(folder, split="test")
        assert np.array_equal(actual.images.transpose(0, 2, 3, 1), expected.data)
        assert actual.classes is not None
        assert actual.classes.tolist() == expected.targets
        assert actual.names == tuple(names)


def test_an_array_that_was_saved_by_columns_is_read_by_columns(tmp_path: Path) -> None:
    """NumPy keeps the order in memory; pickles of it hold the bytes in that order."""
    pixels = cifar_pixels(3)
    for name, saved in (("rows", pixels), ("columns", np.asfortranarray(pixels))):
        write_cifar_python(tmp_path / name, {"test_batch": {"data": saved, "labels": [0, 1, 2]}})
        found = in_memory(tmp_path / name)
        assert np.array_equal(found.images.reshape(3, -1), pixels)


@pytest.mark.parametrize("protocol", range(6))
def test_code_in_a_pickle_never_runs(tmp_path: Path, protocol: int) -> None:
    witness = tmp_path / "was_run"
    folder = tmp_path / "cifar-10-batches-py"
    write_cifar_python(
        folder,
        {"test_batch": {"x": Malicious(witness), "data": cifar_pixels(1), "labels": [0]}},
        protocol,
    )
    with pytest.raises(DataError, match=r"would run (posix|nt)\.mkdir.* use the binary version"):
        open_data(folder)
    assert not witness.exists()


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([1, 2], "expected a pickled dictionary, not list"),
        ({"data": np.zeros((2, 3072), np.float64), "labels": [0, 1]}, "array of f8"),
        ({"data": np.array([None]), "labels": [0]}, "array of O8"),
        ({"data": np.zeros((2, 30), np.uint8), "labels": [0, 1]}, "N×3072"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, "no list of 2 labels"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": ["cat"]}, "not integers"),
    ],
)
def test_other_pickles_are_refused(tmp_path: Path, value: Any, problem: str) -> None:
    write_cifar_python(tmp_path / "cifar", {"test_batch": value})
    with pytest.raises(DataError, match=f"test_batch.*{problem}"):
        open_data(tmp_path / "cifar")


@pytest.mark.parametrize("label", [-1, 2**16, 2**40, 2**70])
def test_a_label_that_no_dataset_has_is_refused(label: int, tmp_path: Path) -> None:
    """A pickle's integers have any number of digits, of which the message shows twenty."""
    batch = {"data": np.zeros((2, 3072), np.uint8), "labels": [0, label]}
    write_cifar_python(tmp_path / "cifar", {"test_batch": batch})
    with pytest.raises(DataError, match=f"test_batch: the label {str(label)[:20]} is out of range"):
        open_data(tmp_path / "cifar")


class DamagedArray:
    """Is pickled as NumPy pickles an array, with a state that is not that of two images."""

    def __init__(self, *state: Any) -> None:
        self.state = state

    def __reduce__(self) -> Any:
        build, arguments, _ = np.zeros(1, np.uint8).__reduce__()  # type: ignore[misc]
        return build, arguments, self.state


@pytest.mark.parametrize("count", [3072, 6143, 6145])
def test_an_array_that_has_not_its_bytes_is_refused(tmp_path: Path, count: int) -> None:
    for name, state in (
        ("cut", (1, (2, 3072), np.dtype("u1"), False, bytes(count))),
        ("short", (1, (2, 3072), np.dtype("u1"), False)),
        ("no dtype", (1, (2, 3072), None, False, bytes(6144))),
        ("no bytes", (1, (2, 3072), np.dtype("u1"), False, [0] * 6144)),
    ):
        batch = {"data": DamagedArray(*state), "labels": [0, 1]}
        write_cifar_python(tmp_path / name, {"test_batch": batch})
        with pytest.raises(DataError, match="test_batch: a damaged array: "):
            open_data(tmp_path / name)
    whole = (1, (2, 3072), np.dtype("u1"), False, bytes(6144))
    batch = {"data": DamagedArray(*whole), "labels": [0, 1]}
    write_cifar_python(tmp_path / "whole", {"test_batch": batch})
    assert in_memory(tmp_path / "whole").images.shape == (2, 3, 32, 32)


def test_a_damaged_pickle_is_refused(tmp_path: Path) -> None:
    """Whatever kind of error Python has for the bytes."""
    for content in (b"\x80\x02}q\x00(U", b"", b"Ixyz\n.", b"\x80\x02K\x01)R."):
        (tmp_path / "test_batch").write_bytes(content)
        with pytest.raises(DataError, match="test_batch: not a readable pickle"):
            open_data(tmp_path)
