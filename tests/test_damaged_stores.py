"""A damaged store of features is refused in one line by whatever opens it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import FIXTURES

from torchlift.converters.errors import TorchliftError
from torchlift.transfer.errors import StoreError
from torchlift.transfer.features.files import read_features
from torchlift.transfer.features.store import describe_store, open_store

#: 60 examples of 84 features in one chunk, written by torchlift 0.1.0.
STORE = FIXTURES / "0.1.0" / "features"
LAYER = "features/penultimate"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return Path(shutil.copytree(STORE, tmp_path / "store"))


def edit(file: Path, change: Callable[[Any], Any]) -> None:
    value = json.loads(file.read_text(encoding="utf-8"))
    change(value)
    file.write_text(json.dumps(value), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": {"count": 10**15}}, r"data\.count is 1000000000000000"),
        ({"data": {"count": -5}}, r"data\.count is -5"),
        ({"data": {"count": "abc"}}, r"data\.count is 'abc'"),
        ({"data": {"count": 61}}, "shape is not what torchlift writes"),
        ({"data": {"classes": [1, 2]}}, r"data\.classes\[0\] is 1"),
        ({"chunk": 0}, "chunk is 0"),
        ({"chunk": 10**15}, "chunk is 1000000000000000"),
        ({"chunk": True}, "chunk is True"),
        ({"features": None}, "features is None"),
        ({"features": {}}, "features has no layers"),
        ({"features": {"..": [84]}, "layers": {"..": ""}}, "features has no layers or invalid"),
        ({"features": {"penultimate": [-84]}}, r"features\.penultimate\[0\] is -84"),
        ({"layers": 5}, "layers is 5"),
        ({"layers": {}}, "layers does not describe"),
        ({"dtype": "object"}, "dtype is 'object'"),
        ({"preprocessing": {"color": "evil"}}, "color is 'evil'"),
        ({"pool": 5}, "pool is 5"),
        ({"format_version": 99}, "format version 99"),
        ({"format_version": []}, "format_version is a list"),
    ],
)
def test_a_damaged_manifest(changes: dict[str, Any], said: str, store: Path) -> None:
    def change(value: Any) -> None:
        manifest = value["attributes"]["torchlift_features"]
        manifest["data"] |= changes.get("data", {})
        manifest |= {name: entry for name, entry in changes.items() if name != "data"}

    edit(store / "zarr.json", change)
    for opens in (open_store, describe_store, read_features):
        with pytest.raises(StoreError, match=said) as error:
            opens(store)
        assert str(store) in str(error.value)


def _codec(name: str) -> Callable[[Any], Any]:
    return lambda array: array["codecs"].append({"name": name, "configuration": {}})


@pytest.mark.parametrize("name", [LAYER, "labels", "ids"])
@pytest.mark.parametrize(
    "change",
    [
        _codec("evil"),
        _codec("gzip"),
        lambda array: array["shape"].__setitem__(0, 10**12),
        lambda array: array["shape"].__setitem__(0, 5),
        lambda array: array.update(data_type="evil"),
        lambda array: array.update(data_type=["float32"]),
        # A type that another array of a store may have.
        lambda array: array.update(data_type="float16"),
        lambda array: array["chunk_grid"]["configuration"].update(chunk_shape=[10**11]),
        lambda array: array.clear(),
    ],
)
def test_an_array_is_described_as_torchlift_writes_it(
    change: Callable[[Any], Any], name: str, store: Path
) -> None:
    edit(store / name / "zarr.json", change)
    for opens in (open_store, describe_store, read_features):
        with pytest.raises(StoreError, match=f"{name}/zarr.json: damaged"):
            opens(store)


@pytest.mark.parametrize("content", [b"\xff garbage", b"", b"null", b"[" * 100_000])
@pytest.mark.parametrize("name", [LAYER, "labels", "ids", "."])
def test_garbage_instead_of_a_description(content: bytes, name: str, store: Path) -> None:
    (store / name / "zarr.json").write_bytes(content)
    for opens in (open_store, describe_store, read_features):
        with pytest.raises(StoreError):
            opens(store)


def test_a_chunk_that_a_power_failure_cut_is_missing(store: Path) -> None:
    chunk = store / LAYER / "c" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[: chunk.stat().st_size // 2])
    assert open_store(store).missing() == [0]
    assert not describe_store(store)["complete"]
    with pytest.raises(StoreError, match="1 of 1 chunks are missing"):
        read_features(store)


@pytest.mark.parametrize("name", ["labels", "ids"])
def test_a_column_that_was_cut_or_holds_anything(name: str, store: Path) -> None:
    chunk = store / name / "c" / "0"
    content = chunk.read_bytes()
    chunk.write_bytes(content[:20])
    with pytest.raises(StoreError, match=f"{name}/c/0: damaged: 20 bytes for 60 numbers"):
        open_store(store)
    chunk.write_bytes(b"\xaa" * len(content))
    if name == "labels":
        with pytest.raises(StoreError, match="60 labels out of range"):
            read_features(store)


def test_a_text_column_that_claims_more_texts_than_it_has(tmp_path: Path) -> None:
    """The codec would make a list of four billion texts."""
    from test_features_store import planned

    from torchlift.transfer.features.extraction import extract

    plan = planned()
    data = plan.data
    import numpy as np

    object.__setattr__(data, "ids", np.array([f"image {index}" for index in range(len(data))]))
    extract(plan, tmp_path / "store", workers=1)
    assert open_store(tmp_path / "store").read("penultimate").ids[3] == "image 3"
    chunk = tmp_path / "store" / "ids" / "c" / "0"
    chunk.write_bytes(b"\xff" * 4 + chunk.read_bytes()[4:])
    with pytest.raises(TorchliftError, match=r"4,294,967,295 texts in .* bytes, 500 were expected"):
        open_store(tmp_path / "store")
    # As many as there are examples, in a file that is too short for their lengths.
    chunk.write_bytes((500).to_bytes(4, "little") + bytes(4 * 500 - 1))
    with pytest.raises(TorchliftError, match=r"500 texts in 2,003 bytes, 500 were expected"):
        open_store(tmp_path / "store")
