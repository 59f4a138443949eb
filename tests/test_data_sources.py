"""Sources of datasets: the registry of readers, .npz files, and scikit-learn's digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_support import RANDOM, Malicious, in_memory
from sklearn.datasets import load_digits
from support import FIXTURES

from torchlift.converters.errors import TorchliftError
from torchlift.transfer.data import Dataset, open_data
from torchlift.transfer.data.readers import (
    ReadOptions,
    has_suffix,
    reader,
    registered_readers,
    registry,
)
from torchlift.transfer.errors import DataError


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("pattern", ["{}", "{}_{split}", "{split}_{}"])
def test_an_npz_is_read_with_its_splits_and_either_order_of_axes(
    tmp_path: Path, pattern: str, channels_last: bool
) -> None:
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
    np.savez(tmp_path / "malicious.npz", x=np.array([Malicious(witness)], object))
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
