"""What an extraction is, says and refuses, on networks of a few numbers.

What is protected: a store is continued only with the same network, images and settings; how far it
is, is counted; a batch has the size that was asked for; and whatever could make a feature ambiguous
is refused before anything is computed.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from PIL import Image
from torch import nn

from torchlift.converters.errors import NotFiniteError, WriteError
from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.saved import SavedModel
from torchlift.transfer.data import Dataset, ImageFiles, fingerprint
from torchlift.transfer.errors import LayerError, StoreError
from torchlift.transfer.features import extraction
from torchlift.transfer.features.extraction import (
    ExtractionPlan,
    _run_in_workers,
    example_of,
    extract,
    features_in_memory,
    plan_extraction,
)
from torchlift.transfer.features.extractors import (
    TorchExtractor,
    build_extractor,
    network_digest,
)
from torchlift.transfer.features.model_source import ModelSource
from torchlift.transfer.features.settings import Settings
from torchlift.transfer.features.store import describe_store, open_store

NETWORK = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
SCALE = Preprocessing("gray", (2, 2), mean=(0.5,), std=(0.5,))
PIXELS = Dataset(
    np.arange(40, dtype=np.uint8).reshape(10, 1, 2, 2),
    np.arange(10) % 2,
    ("cat", "dog"),
    ids=np.array([f"image {index}" for index in range(10)]),
)


#: Three chunks, the last one of two images.
CHUNKS = Settings(chunk=4)


def planned(data: Dataset = PIXELS, settings: Settings = CHUNKS) -> ExtractionPlan:
    model = SavedModel(NETWORK, "logits", preprocessing=SCALE)
    return plan_extraction(TorchExtractor(model, ["penultimate"], "cpu"), data, settings)


def test_the_manifest_says_what_the_features_are_of() -> None:
    manifest = planned().manifest
    assert manifest["data"]["fingerprint"] == fingerprint(PIXELS)
    assert manifest["data"]["classes"] == ["cat", "dog"]
    assert manifest["preprocessing"] == SCALE.to_json()
    assert manifest["model"] == network_digest(NETWORK)
    assert manifest["backend"] == f"torch {torch.__version__} (cpu)"
    floats = Dataset(PIXELS.images.astype(np.float32), PIXELS.classes)
    # They are inputs already: nothing is done to them.
    assert planned(floats).manifest["preprocessing"] is None


@pytest.mark.parametrize(
    ("data", "settings", "said"),
    [
        (replace(PIXELS, images=PIXELS.images[::-1]), Settings(chunk=4), "data fingerprint was"),
        (PIXELS, Settings(chunk=4, batch_size=2), "batch size was 64, now 2"),
        (PIXELS, Settings(chunk=4, dtype="float16"), "dtype was float32, now float16"),
        (PIXELS, Settings(chunk=4, flatten=True), "flatten was False, now True"),
    ],
    ids=["images", "batch_size", "dtype", "flatten"],
)
def test_a_store_is_not_continued_with_something_else(
    data: Dataset, settings: Settings, said: str, tmp_path: Path
) -> None:
    extract(planned(), tmp_path / "store")
    with pytest.raises(StoreError, match=said):
        extract(planned(data, settings), tmp_path / "store")


def test_a_store_that_another_version_began_is_continued(tmp_path: Path) -> None:
    plan = planned()
    older = replace(plan, manifest={**plan.manifest, "torchlift": "0.1.9"})
    extract(older, tmp_path / "store")
    assert extract(plan, tmp_path / "store").manifest["torchlift"] == "0.1.9"


def test_the_store_keeps_what_the_data_says_of_each_image(tmp_path: Path) -> None:
    splits = np.array(["train"] * 7 + ["test"] * 3)
    extract(planned(replace(PIXELS, splits=splits)), tmp_path / "new" / "store")
    read = open_store(tmp_path / "new" / "store").read("penultimate")
    assert read.names == PIXELS.names
    np.testing.assert_array_equal(read.ids, PIXELS.ids)
    np.testing.assert_array_equal(read.splits, splits)
    np.testing.assert_array_equal(read.classes, PIXELS.classes)
    with pytest.raises(StoreError, match="no layer 'x'; it has penultimate"):
        open_store(tmp_path / "new" / "store").read("x")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_chunks_are_the_bytes_that_zarr_writes(dtype: Any, tmp_path: Path) -> None:
    """Also those of the last chunk, which ends with zeros for the images that are not there."""
    store = extract(planned(settings=Settings(chunk=4, dtype=dtype)), tmp_path / "store")
    values = store.read("penultimate").images
    assert (len(values), values.dtype) == (10, np.dtype(dtype))
    assert describe_store(store.path)["bytes"] == values.nbytes
    # Chunks of zeros are written, too; zarr leaves them out unless it is told not to.
    whole, group = {"write_empty_chunks": True}, zarr.create_group(tmp_path / "own")
    group.create_array(
        "x", shape=values.shape, chunks=(4, 3), dtype=dtype, compressors=None, config=whole
    )[:] = values
    for chunk in range(3):
        own = (tmp_path / "own/x/c" / str(chunk) / "0").read_bytes()
        assert (store.path / f"features/penultimate/c/{chunk}/0").read_bytes() == own


def test_progress_counts_every_image_once(tmp_path: Path) -> None:
    """Also of a run that is resumed: what was there counts as done at once."""
    counted: list[int] = []
    store = extract(planned(), tmp_path / "store", progress=counted.append)
    assert (counted[0], sum(counted)) == (0, 10)
    (store.path / "features/penultimate/c/1/0").unlink()
    assert describe_store(store.path)["chunks_done"] == 2
    assert not describe_store(store.path)["complete"]
    counted.clear()
    extract(planned(), store.path, progress=counted.append)
    assert (counted[0], sum(counted)) == (6, 10)
    assert describe_store(store.path)["complete"]


def test_batches_have_the_size_that_is_set(tmp_path: Path) -> None:
    plan = planned(settings=Settings(chunk=5, batch_size=2))
    sizes: list[int] = []

    def counting(inputs: np.ndarray) -> list[np.ndarray]:
        sizes.append(len(inputs))
        return plan.extractor(inputs)

    counting.__dict__.update(vars(plan.extractor))
    store = extract(replace(plan, extractor=counting), tmp_path / "store", workers=1)
    assert sizes == [2, 2, 1, 2, 2, 1]
    # A chunk of several batches holds the values of each.
    (expected,) = plan.extractor(SCALE(PIXELS.images))
    np.testing.assert_allclose(store.read("penultimate").images, expected, atol=1e-6)


def test_a_single_image_is_shown_twice() -> None:
    """A network is traced, and its layers are checked, with two examples."""
    one = PIXELS.take(np.array([3]))
    np.testing.assert_array_equal(example_of(one, SCALE), SCALE(PIXELS.images[[3, 3]]))
    np.testing.assert_array_equal(example_of(PIXELS, SCALE), SCALE(PIXELS.images[:2]))


def test_values_along_one_axis_are_pooled_too() -> None:
    """(N, C, T), as of a temporal convolution."""
    network = nn.Sequential(nn.Conv1d(2, 3, 1))
    data = Dataset(np.random.default_rng(0).normal(size=(4, 2, 5)).astype(np.float32))
    extractor = TorchExtractor(SavedModel(network, "features"), ["0"], "cpu")
    plan = plan_extraction(extractor, data, Settings(pool="max"))
    assert plan.shapes == {"0": (4, 3)}
    assert plan.bytes == 4 * 3 * 4


class TestWorkers:
    """Threads that take the next batch when they are done with one."""

    @staticmethod
    def run(compute: Callable[[int], None], batches: Iterable[int], parallel: bool = True) -> None:
        extractor = TorchExtractor(SavedModel(NETWORK, "logits"), ["penultimate"], "cpu")
        extractor.parallel = parallel
        _run_in_workers(extractor, 2, compute, batches)

    def test_no_batch_is_taken_before_a_worker_is_free(self) -> None:
        """All of them would fill the memory where the disk is slow."""
        waiting, both, left = iter(range(100)), threading.Barrier(2), []

        def compute(batch: int) -> None:
            if batch < 2:
                both.wait(timeout=10)
                left.append(next(waiting))
                both.wait(timeout=10)

        self.run(compute, waiting)
        assert sorted(left) == [2, 3]

    @pytest.mark.parametrize("parallel", [True, False])
    def test_the_error_of_the_first_batch_that_fails_is_raised(self, parallel: bool) -> None:
        """Batches that began before it, or beside it, are completed; no other one begins."""
        second_failed, done = threading.Event(), []

        def compute(batch: int) -> None:
            if batch == 1:
                second_failed.wait(timeout=10)
                raise ValueError("the first")
            if batch == 2:
                second_failed.set()
                raise ValueError("the second")
            done.append(batch)

        with pytest.raises(ValueError, match="the first"):
            self.run(compute, range(100), parallel)
        assert done == [0]

    def test_an_interrupt_ends_the_work_after_the_batches_that_began(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who waits is interrupted, as by Ctrl+C."""
        interrupted, done = threading.Event(), []

        def interrupt(futures: object) -> None:
            interrupted.set()
            raise KeyboardInterrupt

        def compute(batch: int) -> None:
            interrupted.wait(timeout=10)
            time.sleep(0.05)
            done.append(batch)

        monkeypatch.setattr(extraction, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            self.run(compute, range(100))
        assert len(done) <= 2

    def test_torch_uses_one_core_in_each_worker_and_all_of_them_again_afterwards(self) -> None:
        before, used = torch.get_num_threads(), []
        torch.set_num_threads(3)
        try:
            self.run(lambda batch: used.append(torch.get_num_threads()), range(4))
            assert (used, torch.get_num_threads()) == ([1] * 4, 3)
        finally:
            torch.set_num_threads(before)


def test_what_no_name_can_mean_is_refused_before_anything_is_computed() -> None:
    relu = nn.ReLU()
    twice = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), relu, nn.Linear(4, 4), relu)
    model = SavedModel(twice.eval(), "logits")
    with pytest.raises(LayerError, match="more than once"):
        build_extractor(model, ["2"], np.zeros((2, 1, 2, 2), np.float32))

    class Merged(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(0, 1)

    model = SavedModel(nn.Sequential(Merged()), "features")
    with pytest.raises(LayerError, match="not one row each"):
        build_extractor(model, ["0"], np.zeros((2, 3, 4), np.float32))


def test_what_is_not_finite_is_refused_by_its_place(tmp_path: Path) -> None:
    """An input, a layer that overflows, and a weight."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
    nn.init.constant_(network[1].weight, 1e38)
    extractor = TorchExtractor(SavedModel(network, "features"), ["1"], "cpu")
    images = np.zeros((6, 1, 2, 2), np.float32)
    for place, value, said in (
        (3, np.nan, "inputs of examples 2 to 3"),
        (5, 100, "layer 1, examples 4 to 5"),
    ):
        changed = images.copy()
        changed[place] = value
        plan = plan_extraction(extractor, Dataset(changed), Settings(batch_size=2))
        with pytest.raises(NotFiniteError, match=said):
            extract(plan, tmp_path / said)
    changed[5] = 1e-3
    plan = plan_extraction(extractor, Dataset(changed), Settings(batch_size=2, dtype="float16"))
    with pytest.raises(
        NotFiniteError, match=r"too large for float16 \(examples 4 to 5, .*float32'$"
    ):
        extract(plan, tmp_path / "float16")
    # Four values of 3e38 are numbers of float32, their sum is none.
    wide = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False))
    nn.init.constant_(wide[0].weight, 3e38)
    extractor = TorchExtractor(SavedModel(wide, "features"), ["0"], "cpu")
    ones = Dataset(np.ones((3, 1, 2, 2), np.float32))
    assert np.isfinite(extractor(ones.images)[0]).all()
    with pytest.raises(NotFiniteError, match="a feature is too large for float32"):
        extract(plan_extraction(extractor, ones, Settings(pool="avg")), tmp_path / "sum")
    nn.init.constant_(network[1].weight, np.inf)
    with pytest.raises(NotFiniteError):
        TorchExtractor(SavedModel(network, "features"), ["1"], "cpu")


def test_each_thread_has_its_own_network(tmp_path: Path) -> None:
    """Hooks are set during a pass: those of another pass at the same time would keep its values."""
    together = threading.Barrier(2, timeout=30)

    class Meet(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) > 2:
                together.wait()
            return x

        def __deepcopy__(self, memo: Any) -> nn.Module:
            return Meet()

    network = nn.Sequential(nn.Flatten(), Meet(), nn.Linear(4, 3), nn.Linear(3, 2))
    extractor = TorchExtractor(SavedModel(network, "logits"), ["0", "2"], "cpu")
    images = np.random.default_rng(0).normal(size=(8, 1, 2, 2)).astype(np.float32)
    with ThreadPoolExecutor(2) as pool:
        halves = list(pool.map(extractor, (images[:4], images[4:])))
    flat, _ = (np.concatenate(values) for values in zip(*halves, strict=True))
    np.testing.assert_array_equal(flat, images.reshape(8, 4))


def test_a_store_of_other_layers_is_not_continued(tmp_path: Path) -> None:
    model = SavedModel(NETWORK, "logits", preprocessing=SCALE)
    extract(planned(), tmp_path / "store")
    other = plan_extraction(TorchExtractor(model, ["1"], "cpu"), PIXELS, CHUNKS)
    with pytest.raises(StoreError, match="layers was penultimate, now 1"):
        extract(other, tmp_path / "store")


def test_files_beside_the_chunks_are_no_chunks(tmp_path: Path) -> None:
    store = extract(planned(), tmp_path / "store")
    chunks = store.path / "features/penultimate/c"
    shutil.copytree(chunks / "0", chunks / "7")
    assert store.complete_chunks() == {0, 1, 2}


def test_a_damaged_column_of_splits_is_found(tmp_path: Path) -> None:
    splits = np.array(["train"] * 7 + ["test"] * 3)
    store = extract(planned(replace(PIXELS, splits=splits)), tmp_path / "store")
    (store.path / "splits/c/0").write_bytes(b"\xff" * 60)
    with pytest.raises(StoreError, match="splits/c/0: damaged"):
        open_store(store.path)


@pytest.mark.parametrize("settings", [{"batch_size": 0}, {"chunk": 0}])
def test_settings_are_positive(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(StoreError, match=f"{name}=0: expected at least 1"):
        Settings(**settings)


def test_the_manifest_says_where_its_network_is_and_what_it_takes() -> None:
    """(C, H, W) of one image: a network without a size of its own is saved with it."""
    model = SavedModel(NETWORK, "logits", preprocessing=SCALE)
    extractor = TorchExtractor(model, ["penultimate"], "cpu")
    wide = Dataset(np.zeros((3, 1, 5, 7), np.uint8), np.zeros(3, np.int64))
    source = ModelSource("/nets/a.t7", None, "model")
    manifest = plan_extraction(extractor, wide, CHUNKS, source).manifest
    assert manifest["source"] == {
        "model": "/nets/a.t7", "weights": None, "at": "model", "input_shape": [1, 2, 2]
    }  # fmt: skip
    assert "source" not in planned().manifest


def test_a_store_with_a_link_in_it_is_not_continued(tmp_path: Path) -> None:
    """What would be written would be elsewhere."""
    store = extract(planned(), tmp_path / "store")
    (store.path / "features/penultimate/c/1/0").unlink()
    (tmp_path / "elsewhere").mkdir()
    (store.path / "features/penultimate/c/1").rmdir()
    (store.path / "features/penultimate/c/1").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WriteError, match="link"):
        extract(planned(), store.path)
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("more", [-8, 8])
def test_a_column_of_labels_has_a_number_for_each_image(more: int, tmp_path: Path) -> None:
    store = extract(planned(), tmp_path / "store")
    file = store.path / "labels/c/0"
    file.write_bytes((file.read_bytes() + bytes(8))[: 80 + more])
    with pytest.raises(StoreError, match=f"labels/c/0: damaged: {80 + more} bytes for 10 numbers"):
        open_store(store.path)


def test_features_of_files_are_those_of_each_image(tmp_path: Path) -> None:
    """In batches of two: each has its own files."""
    files = np.empty(5, object)
    for index in range(5):
        files[index] = tmp_path / f"{index}.png"
        Image.fromarray(PIXELS.images[index, 0]).save(files[index])
    extractor = planned().extractor
    (found,) = features_in_memory(
        extractor, ImageFiles(files, color="gray"), Settings(batch_size=2), workers=1
    )
    (expected,) = extractor(SCALE(PIXELS.images[:5]))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert len(np.unique(found, axis=0)) == 5
