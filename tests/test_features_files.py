"""Features in a single file: which format, what is in it, and what is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from torchlift.converters import t7
from torchlift.converters.t7 import LuaTable
from torchlift.transfer.data import Dataset
from torchlift.transfer.errors import StoreError
from torchlift.transfer.features.files import format_of, read_features, write_features
from torchlift.transfer.features.store import FeatureStore, create_store, open_store

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.mark.parametrize(
    ("path", "named", "expected"),
    [
        ("features", None, "zarr"),
        ("features.zarr", None, "zarr"),
        ("features.T7", None, "t7"),
        ("features.npz", None, "npz"),
        ("features.npz", "t7", "t7"),
        ("features", "npz", "npz"),
    ],
)
def test_the_format_is_named_or_the_suffix(path: str, named: str | None, expected: str) -> None:
    assert format_of(path, named) == expected
    with pytest.raises(StoreError, match="format='csv': expected one of zarr, t7, npz"):
        format_of(path, "csv")


@pytest.mark.parametrize("suffix", ["t7", "npz"])
def test_class_names_and_shapes_come_back(suffix: str, tmp_path: Path) -> None:
    data = Dataset(VALUES, np.array([1, 0, 1]), ("cat", "dog"))
    layers = {"maps": (2, 2), "a": (4,)}
    store: Any = SimpleNamespace(layers=layers, count=3, read=lambda _: data)
    write_features(store, tmp_path / f"written.{suffix}", suffix)
    # A file is what its suffix says, in capital letters too.
    file = (tmp_path / f"written.{suffix}").rename(tmp_path / f"f.{suffix.upper()}")
    found = read_features(file)
    assert list(found) == ["maps", "a"]
    for layer in found.values():
        assert layer.names == ("cat", "dog")
        assert layer.classes is not None
        assert layer.classes.tolist() == [1, 0, 1]
        np.testing.assert_array_equal(layer.images, VALUES)
    stored: Any = t7.load(file) if suffix == "t7" else np.load(file)
    maps = stored["data"]["maps"] if suffix == "t7" else stored["data/maps"]
    np.testing.assert_array_equal(np.asarray(maps), VALUES.reshape(3, 2, 2))
    labels = np.asarray(stored["labels"]).tolist()
    assert labels == ([2, 1, 2] if suffix == "t7" else [1, 0, 1])


@pytest.mark.parametrize("suffix", ["t7", "npz"])
@pytest.mark.parametrize("splits", [None, ["test", "train", "val"]])
def test_the_splits_of_the_data_come_back(
    splits: list[str] | None, suffix: str, tmp_path: Path
) -> None:
    """`probe` would else test on images of the data's training split."""
    own = None if splits is None else np.array(splits)
    data = Dataset(VALUES, np.array([1, 0, 1]), ("cat", "dog"), splits=own)
    store: Any = SimpleNamespace(layers={"a": (4,)}, count=3, read=lambda _: data)
    write_features(store, tmp_path / f"f.{suffix}", suffix)
    (found,) = read_features(tmp_path / f"f.{suffix}").values()
    assert (None if found.splits is None else found.splits.tolist()) == splits


@pytest.mark.parametrize("suffix", [".t7", ".npz"])
@pytest.mark.parametrize(
    ("splits", "said"),
    [
        (["train", "test"], "features of 3 examples, but 2 splits"),
        (["train", "test", "dev"], "splits are no list of train, val, test"),
        ([1.0, 2.0, 3.0], "splits are no list of train, val, test"),
        ([VALUES[0]] * 3, "splits are no list of train, val, test"),
    ],
    ids=["one missing", "another name", "numbers", "tensors"],
)
def test_what_is_no_splits_is_refused(
    splits: list[Any], said: str, suffix: str, tmp_path: Path
) -> None:
    listed = np.array(splits) if suffix == ".npz" else LuaTable.from_list(splits)
    write(tmp_path / f"f{suffix}", {"data": VALUES, "splits": listed})
    with pytest.raises(StoreError, match=said):
        read_features(tmp_path / f"f{suffix}")


def write(file: Path, entries: dict[str, Any]) -> None:
    if file.suffix == ".npz":
        np.savez(file, **entries)
    else:
        t7.save(LuaTable(entries), file)


@pytest.mark.parametrize("suffix", [".t7", ".npz"])
@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"data": np.ones(3)}, "no features: expected data of N×D"),
        ({"data": np.array(["a", "b"])[:, None]}, "no features: expected data of N×D"),
        ({"labels": np.array([1, 2])}, "no features: expected data of N×D"),
        ({"data": VALUES, "labels": np.array([1, 2])}, "features of 3 examples, but 2 labels"),
        (
            {"data": VALUES, "labels": np.array([1, 2, 2**40])},
            "1 labels out of range",
        ),
    ],
    ids=["one axis", "texts", "no data", "labels missing", "a label out of range"],
)
def test_what_is_no_features_is_refused(
    entries: dict[str, Any], said: str, suffix: str, tmp_path: Path
) -> None:
    file = tmp_path / f"features{suffix}"
    if suffix == ".t7" and entries.get("data", VALUES).dtype.kind == "U":
        pytest.skip("Torch7 has no tensors of texts")
    write(file, entries)
    with pytest.raises(StoreError, match=said) as error:
        read_features(file)
    assert str(file) in str(error.value)


def test_a_layer_of_an_onnx_file_may_have_slashes_in_its_name(tmp_path: Path) -> None:
    """It is one folder, and leads nowhere else."""
    name = "/body/../relu"
    settings = {"pool": "none", "flatten": False, "dtype": "float32", "batch_size": 4, "chunk": 4}
    manifest = {
        "format_version": 2,
        "torchlift": "0.2.0",
        "model": "digest",
        "backend": "torch",
        "preprocessing": None,
        "layers": {name: "Relu"},
        "features": {name: [4]},
        "data": {"fingerprint": "digest", "count": 3, "classes": None},
        **settings,
    }
    create_store(tmp_path / "store", manifest, {"labels": None})
    store: FeatureStore = open_store(tmp_path / "store")
    with store.writer() as write:
        write(0, [VALUES])
    np.testing.assert_array_equal(store.read(name).images, VALUES)
    folders = [path.name for path in (tmp_path / "store/features").iterdir() if path.is_dir()]
    assert folders == ["%2Fbody%2F..%2Frelu"]


@pytest.mark.parametrize(
    ("suffix", "labels"), [(".npz", [1, 2, 1]), (".t7", [2, 3, 2])], ids=["npz", "t7"]
)
def test_labels_count_as_the_format_says_though_the_first_class_is_absent(
    suffix: str, labels: list[int], tmp_path: Path
) -> None:
    write(tmp_path / f"f{suffix}", {"data": VALUES, "labels": np.array(labels)})
    (found,) = read_features(tmp_path / f"f{suffix}").values()
    assert np.asarray(found.classes).tolist() == [1, 2, 1]
