"""Datasets in their own files: read as torchvision, NumPy and scikit-learn read them.

The files are written here to the letter of their formats, so that nothing has to be downloaded;
torchvision's own readers provide the expected contents.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from support import FIXTURES, SHARED
from torchvision.datasets import CIFAR10, CIFAR100, MNIST, ImageFolder
from torchvision.datasets.mnist import read_image_file, read_label_file

from torchlift.converters.errors import TorchliftError
from torchlift.converters.images.errors import ImageError
from torchlift.transfer.data import Dataset, ImageFiles, open_data, stream_folder
from torchlift.transfer.data.readers import (
    ReadOptions,
    has_suffix,
    reader,
    registered_readers,
    registry,
)
from torchlift.transfer.errors import DataError

RANDOM = np.random.default_rng(0)
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def in_memory(source: Any, **options: Any) -> Dataset:
    data = open_data(source, **options)
    assert isinstance(data, Dataset)
    return data


def of_files(source: Any, **options: Any) -> ImageFiles:
    data = open_data(source, **options)
    assert isinstance(data, ImageFiles)
    return data


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


def test_real_mnist() -> None:
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


class _Malicious:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.witness),))


@pytest.mark.parametrize("protocol", range(6))
def test_code_in_a_pickle_never_runs(tmp_path: Path, protocol: int) -> None:
    witness = tmp_path / "was_run"
    folder = tmp_path / "cifar-10-batches-py"
    write_cifar_python(
        folder,
        {"test_batch": {"x": _Malicious(witness), "data": cifar_pixels(1), "labels": [0]}},
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


def test_a_damaged_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "test_batch").write_bytes(b"\x80\x02}q\x00(U")
    with pytest.raises(DataError, match="test_batch: not a readable pickle"):
        open_data(tmp_path)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("pattern", ["{}", "{}_{split}", "{split}_{}"])
def test_npz(tmp_path: Path, pattern: str, channels_last: bool) -> None:
    pixels = RANDOM.integers(0, 256, (6, 3, 8, 9), np.uint8)
    stored = pixels.transpose(0, 2, 3, 1) if channels_last else pixels
    arrays: dict[str, np.ndarray] = {"class_names": np.array(["a", "b", "c"])}
    for split in ("train", "test"):
        arrays[pattern.format("images", split=split)] = stored
        arrays[pattern.format("labels", split=split)] = np.array([[0], [1], [2], [0], [1], [2]])
    np.savez(tmp_path / "data.npz", **arrays)  # type: ignore[arg-type]  # the stub takes keywords for options
    data = in_memory(tmp_path / "data.npz")
    count = 1 if pattern == "{}" else 2
    assert np.array_equal(data.images, np.concatenate([pixels] * count))
    assert data.classes is not None
    assert data.classes.tolist() == [0, 1, 2, 0, 1, 2] * count
    assert data.names == ("a", "b", "c")
    assert (data.splits is None) == (count == 1)


def test_npz_with_objects_is_refused(tmp_path: Path) -> None:
    witness = tmp_path / "was_run"
    np.savez(tmp_path / "malicious.npz", x=np.array([_Malicious(witness)], object))
    with pytest.raises(DataError, match=r"malicious\.npz: cannot be read"):
        open_data(tmp_path / "malicious.npz")
    assert not witness.exists()
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    with pytest.raises(DataError, match=r"no images under a usual name .* among: weights"):
        open_data(tmp_path / "other.npz")


def test_digits_are_those_of_scikit_learn_and_of_the_fixtures() -> None:
    data, bunch = in_memory("sklearn:digits"), load_digits()
    assert data.classes is not None
    assert np.array_equal(data.classes, bunch.target)
    assert data.images.shape == (1797, 1, 32, 32)
    # The fixtures hold the same images, in another order.
    known = {(image.tobytes(), int(c)) for image, c in zip(data.images, data.classes, strict=True)}
    for split in ("train", "test"):
        fixture = in_memory(FIXTURES / "digits" / f"digits-{split}.t7")
        assert fixture.classes is not None
        for image, label in zip(fixture.images, fixture.classes, strict=True):
            assert (image.tobytes(), int(label)) in known


def test_only_the_prefixed_name_of_the_digits_is_unambiguous(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(in_memory("digits")) == 1797
    write_images(tmp_path / "digits" / "a", 2)
    assert len(in_memory("digits")) == 2
    assert len(in_memory("sklearn:digits")) == 1797


def write_images(
    folder: Path, count: int, size: tuple[int, int] = (9, 7), mode: str = "RGB"
) -> None:
    folder.mkdir(parents=True)
    shape = size if mode == "L" else (*size, 3)
    for number in range(count):
        Image.fromarray(RANDOM.integers(0, 256, shape, np.uint8)).save(folder / f"{number}.png")


def test_a_folder_of_images_as_torchvision_reads_it(tmp_path: Path) -> None:
    for name, count in (("owl", 3), ("cat", 2), ("Dog", 4)):
        write_images(tmp_path / name, count)
    expected = ImageFolder(str(tmp_path))
    data = in_memory(tmp_path)
    assert data.names == tuple(expected.classes) == ("Dog", "cat", "owl")
    assert data.classes is not None
    assert data.classes.tolist() == expected.targets
    assert data.ids is not None
    for pixels, (path, _), (image, _), name in zip(
        data.images, expected.samples, expected, data.ids, strict=True
    ):
        assert np.array_equal(pixels.transpose(1, 2, 0), np.asarray(image))
        assert tmp_path / name == Path(path)
    streamed = stream_folder(tmp_path)
    images = [np.asarray(image) for batch, _ in streamed.batches(4) for image in batch]
    assert np.array_equal(np.stack(images).transpose(0, 3, 1, 2), data.images)


def test_splits_of_a_folder_and_images_of_many_sizes(tmp_path: Path) -> None:
    write_images(tmp_path / "train" / "a", 2, (9, 7), "L")
    write_images(tmp_path / "train" / "b", 1, (8, 8), "L")
    write_images(tmp_path / "valid" / "b", 1, (5, 6), "L")
    write_images(tmp_path / "test" / "a", 1, (5, 6), "L")
    data = of_files(tmp_path)
    assert data.names == ("a", "b")
    assert data.color == "gray"
    assert data.splits is not None
    assert data.splits.tolist() == ["train"] * 3 + ["val", "test"]
    assert data.classes is not None
    assert data.classes.tolist() == [0, 0, 1, 1, 0]
    sized = in_memory(tmp_path, size=(6, 6), split="train")
    assert sized.images.shape == (3, 1, 6, 6)
    with pytest.raises(DataError, match="8×8 pixels, others have 9×7: give one size"):
        stream_folder(tmp_path, split="train").in_memory()


def test_a_folder_without_classes(tmp_path: Path) -> None:
    write_images(tmp_path / "images", 3)
    data = open_data(tmp_path / "images")
    assert data.classes is None
    assert data.names is None
    assert len(data) == 3


def test_unreadable_images_are_an_error_or_skipped_with_a_note(tmp_path: Path) -> None:
    write_images(tmp_path / "a", 3)
    write_images(tmp_path / "b", 2)
    (tmp_path / "a" / "1.png").write_bytes(b"not an image")
    whole = (tmp_path / "b" / "0.png").read_bytes()
    (tmp_path / "b" / "0.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match=r"a/1\.png"):
        open_data(tmp_path)
    data = in_memory(tmp_path, on_error="skip")
    assert data.ids is not None
    assert data.ids.tolist() == ["a/0.png", "a/2.png", "b/1.png"]
    assert data.notes[0].startswith("2 files cannot be read and are left out: ")
    assert "a/1.png" in data.notes[0]
    assert "b/0.png" in data.notes[0]


def test_a_new_kind_of_dataset_is_one_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_READERS", list(registry._READERS))

    @reader("a .npy file", accepts=has_suffix(".npy"), order=25)
    def read_npy(source: str, options: ReadOptions) -> Dataset:
        return Dataset(np.load(source))

    pixels = RANDOM.integers(0, 256, (2, 3, 4, 5), np.uint8)
    np.save(tmp_path / "data.npy", pixels)
    assert np.array_equal(in_memory(tmp_path / "data.npy").images, pixels)
    with pytest.raises(
        DataError, match=r"a \.t7 file, a \.npy file, a \.npz file, .*, or a folder"
    ):
        open_data(tmp_path / "other.npy")
    with pytest.raises(ValueError, match=r"a \.npy file is already registered"):
        reader("a .npy file", accepts=has_suffix(".npy"), order=25)(read_npy)


def test_every_module_of_the_folder_registers_its_readers() -> None:
    modules = {Path(str(each.read.__code__.co_filename)).stem for each in registered_readers()}  # type: ignore[attr-defined]  # readers are functions
    folder = Path(registry.__file__).parent
    assert modules == {path.stem for path in folder.glob("*.py")} - {"__init__", "registry"}


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("nowhere", "no such file or folder; a dataset is"),
        ("data.xyz", "not a dataset; a dataset is"),
        ("empty", "no images in this folder"),
    ],
)
def test_a_source_that_is_not_a_dataset(tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / "data.xyz").write_text("x", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TorchliftError, match=problem):
        open_data(tmp_path / name)
