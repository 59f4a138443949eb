"""`extract`: correct values on disk, and the same bytes when resumed or shared by processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from support import FIXTURES, ROOT
from torch import nn

from torchlift.cli.main import main
from torchlift.converters import t7
from torchlift.converters.errors import WriteError
from torchlift.converters.files import _machine as machine_id
from torchlift.converters.inference.processes import Process
from torchlift.converters.saved import SavedModel, open_model
from torchlift.transfer.data import Dataset, open_data
from torchlift.transfer.errors import StoreError
from torchlift.transfer.features.extraction import (
    ExtractionPlan,
    example_of,
    extract,
    plan_extraction,
)
from torchlift.transfer.features.extractors import build_extractor
from torchlift.transfer.features.files import read_features, write_features
from torchlift.transfer.features.settings import Settings
from torchlift.transfer.features.store import FeatureStore, describe_store, open_store

DIGITS = FIXTURES / "digits"
MODEL, DATA = DIGITS / "digits-lenet5-bn.t7", DIGITS / "digits-test.t7"
SCALE = DIGITS / "digits_meanStd.t7"
SMALL = Settings(batch_size=16, chunk=64)


def planned(
    settings: Settings = SMALL, layers: tuple[str, ...] = ("penultimate", "3")
) -> ExtractionPlan:
    model, data = open_model(MODEL, mean_std=SCALE), open_data(DATA)
    extractor = build_extractor(model, layers, example_of(data, model.preprocessing))
    return plan_extraction(extractor, data, settings)


@pytest.fixture(scope="module")
def plan() -> ExtractionPlan:
    return planned()


@pytest.fixture(scope="module")
def complete(plan: ExtractionPlan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store that one worker wrote without interruption."""
    folder = tmp_path_factory.mktemp("features") / "complete"
    extract(plan, folder, workers=1)
    return folder


class Turn(Process):
    """One of several processes that run one after another, so it never waits."""

    def wait(self) -> None:
        pass


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file in a folder, by its path."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_features_equal_a_plain_forward_pass(complete: Path) -> None:
    model, data = open_model(MODEL, mean_std=SCALE), t7.load(DATA)
    pixels = torch.from_numpy(np.array(data["data"])).float()
    table = t7.load(SCALE)
    inputs = (pixels - table["mean"][1]) / table["std"][1]
    with torch.no_grad():
        third = model.module[:4](inputs)
        last = model.module[:13](inputs)
    group = zarr.open_group(complete, mode="r")
    # A batch of 500 sums in another order than batches of 16.
    np.testing.assert_allclose(group["features/3"][:], third, atol=1e-4)
    np.testing.assert_allclose(group["features/penultimate"][:], last, atol=1e-4)
    assert np.array_equal(group["labels"][:], np.asarray(data["label"]) - 1)
    assert np.array_equal(group["ids"][:], np.arange(500))


def test_the_manifest_describes_the_features(plan: ExtractionPlan, complete: Path) -> None:
    manifest = describe_store(complete)
    assert manifest["features"] == [
        {"layer": "penultimate", "shape": [84], "description": "the input of 13"},
        {"layer": "3", "shape": [6, 14, 14], "description": "3"},
    ]
    assert manifest["preprocessing"]["mean"] == pytest.approx([60.42], abs=0.01)
    assert manifest["count"] == 500
    assert (manifest["dtype"], manifest["complete"]) == ("float32", True)
    arrays = [complete / "features" / name for name in ("penultimate", "3")]
    files = [file for array in arrays for file in array.rglob("c/**/*") if file.is_file()]
    # The last chunk is padded.
    assert manifest["bytes"] == plan.bytes == sum(f.stat().st_size for f in files) * 500 // 512


@pytest.mark.parametrize("pool", ["avg", "max"])
def test_pooling_and_flattening(
    plan: ExtractionPlan, complete: Path, tmp_path: Path, pool: Any
) -> None:
    maps = open_store(complete).read("3").images.reshape(500, 6, 14, 14)
    expected = maps.mean((2, 3)) if pool == "avg" else maps.max((2, 3))
    pooled = extract(planned(replace(SMALL, pool=pool, dtype="float16")), tmp_path / "pooled")
    # Half precision has 11 bits.
    np.testing.assert_allclose(pooled.read("3").images, expected, rtol=1e-3, atol=1e-6)
    flat = extract(planned(replace(SMALL, flatten=True)), tmp_path / "flat")
    assert flat.layers == {"penultimate": (84,), "3": (6 * 14 * 14,)}
    assert np.array_equal(flat.read("3").images, maps.reshape(500, -1))


class TestResuming:
    def test_complete_chunks_are_not_computed_again(
        self, plan: ExtractionPlan, complete: Path, tmp_path: Path
    ) -> None:
        store = FeatureStore(tmp_path / "store", open_store(complete).manifest)
        shutil.copytree(complete, store.path)
        (store.path / "features/3/c/2/0/0/0").unlink()
        # The folder of a process that was killed while it wrote a chunk.
        started, process = 1, 2**22 + 1
        abandoned = f".torchlift-{machine_id()}-{process}-{started}-0"
        (store.path / "features/penultimate/c/5" / abandoned).mkdir()
        (store.path / "features/penultimate/c/5" / abandoned / "0").write_bytes(b"half")
        assert store.missing() == [2]
        computed: list[int] = []

        def counting(inputs: np.ndarray) -> list[np.ndarray]:
            computed.append(len(inputs))
            return plan.extractor(inputs)

        counting.__dict__.update(vars(plan.extractor))
        extract(replace(plan, extractor=counting), store.path, workers=1)
        assert sum(computed) == 64
        assert contents(store.path) == contents(complete)
        assert not list(store.path.rglob(".torchlift-*"))

    def test_a_truncated_chunk_is_computed_again(
        self, plan: ExtractionPlan, complete: Path, tmp_path: Path
    ) -> None:
        """A power failure may leave a file without all of its bytes under its final name."""
        store = FeatureStore(tmp_path / "store", open_store(complete).manifest)
        shutil.copytree(complete, store.path)
        # One is longer: such as the chunk of another store.
        for chunk, size in ((1, 0), (4, 64 * 84 * 4 + 4), (7, 64 * 84 * 4 - 1)):
            os.truncate(store.path / f"features/penultimate/c/{chunk}/0", size)
        assert store.missing() == [1, 4, 7]
        extract(plan, store.path, workers=1)
        assert contents(store.path) == contents(complete)

    def test_a_chunk_is_replaced_and_never_written_in_place(
        self, complete: Path, tmp_path: Path
    ) -> None:
        store = FeatureStore(tmp_path / "store", open_store(complete).manifest)
        shutil.copytree(complete, store.path)
        file, link = store.path / "features/penultimate/c/1/0", tmp_path / "link"
        before = file.read_bytes()
        os.link(file, link)
        zeros = [np.zeros((64, *shape)) for shape in store.layers.values()]
        with store.writer() as write:
            write(1, zeros)
        assert file.read_bytes() == bytes(len(before))
        assert link.read_bytes() == before

    def test_a_file_in_place_of_a_folder_of_chunks_is_an_error_of_the_store(
        self, complete: Path, tmp_path: Path
    ) -> None:
        store = FeatureStore(tmp_path / "store", open_store(complete).manifest)
        shutil.copytree(complete, store.path)
        folder = store.path / "features/penultimate/c"
        shutil.rmtree(folder)
        folder.write_text("mine")
        zeros = [np.zeros((64, *shape)) for shape in store.layers.values()]
        with store.writer() as write, pytest.raises(WriteError, match="c/1/0: cannot be written"):
            write(1, zeros)
        assert folder.read_text() == "mine"

    def test_a_chunk_of_zeros_counts_as_computed(self, tmp_path: Path) -> None:
        network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        nn.init.constant_(network[1].weight, 0)
        nn.init.constant_(network[1].bias, -1)
        data = Dataset(np.ones((10, 1, 2, 2), np.float32))
        model = SavedModel(network, "logits")
        extractor = build_extractor(model, ["penultimate"], data.images[:2])
        store = extract(plan_extraction(extractor, data, Settings(chunk=4)), tmp_path / "zeros")
        assert store.missing() == []
        assert not store.read("penultimate").images.any()

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            ({"model": "0" * 64}, "model was"),
            ({"pool": "avg"}, "pool was none, now avg"),
            ({"data": {"fingerprint": "0", "count": 500, "classes": None}}, "data.fingerprint was"),
        ],
    )
    def test_another_model_data_or_setting_is_refused(
        self, plan: ExtractionPlan, complete: Path, change: dict[str, Any], problem: str
    ) -> None:
        before = contents(complete)
        with pytest.raises(StoreError, match=problem):
            extract(replace(plan, manifest={**plan.manifest, **change}), complete)
        assert contents(complete) == before

    def test_other_folders_are_never_changed(self, plan: ExtractionPlan, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        (tmp_path / "other/notes.txt").write_bytes(b"other")
        with pytest.raises(StoreError, match="already exists and is not a feature store"):
            extract(plan, tmp_path / "other", overwrite=True)
        assert contents(tmp_path) == {"other/notes.txt": b"other"}

    def test_overwrite_replaces_a_store_of_other_features(
        self, plan: ExtractionPlan, complete: Path, tmp_path: Path
    ) -> None:
        extract(planned(replace(SMALL, pool="avg")), tmp_path / "store")
        extract(plan, tmp_path / "store", overwrite=True, workers=1)
        assert contents(tmp_path / "store") == contents(complete)
        assert [path.name for path in tmp_path.iterdir()] == ["store"]

    def test_an_incomplete_store_is_not_read(self, plan: ExtractionPlan, tmp_path: Path) -> None:
        store = extract(plan, tmp_path / "store", process=Turn(rank=0, world_size=2))
        with pytest.raises(StoreError, match="4 of 8 chunks are missing"):
            store.read("3")


def test_workers_threads_and_processes_do_not_change_a_byte(
    plan: ExtractionPlan, complete: Path, tmp_path: Path
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    extract(plan, tmp_path / "threads", workers=3)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
    for rank in range(3):
        extract(plan, tmp_path / "processes", process=Turn(rank, 3), workers=1)
    for folder in ("threads", "processes"):
        assert contents(tmp_path / folder) == contents(complete)


class TestFormats:
    def test_t7_and_npz_hold_the_same_features(self, complete: Path, tmp_path: Path) -> None:
        store = open_store(complete)
        for name in ("features.t7", "features.npz"):
            write_features(store, tmp_path / name, name.rpartition(".")[2])
            features = read_features(tmp_path / name)
            assert list(features) == ["penultimate", "3"]
            for layer, data in features.items():
                assert np.array_equal(data.images, store.read(layer).images)
                assert np.array_equal(data.classes, store.read(layer).classes)
        table = t7.load(tmp_path / "features.t7")
        assert np.asarray(table["labels"]).min() == 1
        assert table["data"]["3"].shape == (500, 6, 14, 14)

    def test_the_command_writes_a_single_file_and_nothing_else(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["extract", str(MODEL), str(DATA), str(tmp_path / "f.t7"), "--mean-std", str(SCALE)]
        assert main(words) == 0
        assert [file.name for file in tmp_path.iterdir()] == ["f.t7"]
        messages = " ".join(capsys.readouterr().err.split())  # Lines wrap where the path is long.
        assert "penultimate 500×84 float32, 0.2 MB" in messages
        table = t7.load(tmp_path / "f.t7")
        assert table["data"].shape == (500, 84)
        assert main(words) == 1
        assert "already exists; --overwrite replaces it" in capsys.readouterr().err


def extract_again(folder: str) -> None:
    """Run an extraction, in the processes that are killed."""
    extract(planned(), folder, workers=2)


@pytest.mark.slow
def test_the_bytes_are_the_same_after_kills_and_resuming(complete: Path, tmp_path: Path) -> None:
    # With a server that has imported everything, a process starts as fast as a fork.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "torchlift.transfer.features.extraction", "zarr"])

    def start(folder: Path) -> Any:
        process = context.Process(target=extract_again, args=(str(folder),))
        process.start()
        return process

    start(tmp_path / "first").join()
    began = time.monotonic()
    start(tmp_path / "timed").join()
    duration = time.monotonic() - began
    folder, draw, kills = tmp_path / "killed", random.Random(7), 0
    while kills < 20:
        process = start(folder)
        process.join(draw.uniform(0, duration))
        if process.is_alive():
            process.kill()
            kills += 1
        process.join()
        if folder.exists() and not open_store(folder).missing():
            assert contents(folder) == contents(complete)
            # Leave work for the processes that are killed next.
            for layer in ("penultimate", "3"):
                for chunk in draw.sample(range(8), 5):
                    shutil.rmtree(folder / "features" / layer / "c" / str(chunk))
    extract_again(str(folder))
    assert contents(folder) == contents(complete)
    assert not list(folder.rglob(".torchlift-*"))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_two_processes_write_the_same_bytes_as_one(tmp_path: Path, backend: str) -> None:
    options = ["--mean-std", str(SCALE), "--chunk", "64", "--backend", backend]
    for folder, launcher in (
        ("one", [sys.executable]),
        ("two", [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]),
    ):
        words = ["extract", str(MODEL), str(DATA), str(tmp_path / folder), *options]
        module = ["-m", "torchlift.cli"]
        result = subprocess.run(
            [*launcher, *module, *words], capture_output=True, text=True, cwd=ROOT.parent
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout.count("500 examples") == 1
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize("suffix", [".t7", ".npz"])
def test_a_file_has_the_dtype_and_the_size_that_are_said(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"features{suffix}"
    words = ["extract", str(MODEL), str(DATA), str(file), "--mean-std", str(SCALE), "--json"]
    assert main([*words, "--dtype", "float16", "--layers", "3"]) == 0
    said = json.loads(capsys.readouterr().out)["bytes"]
    # Beside the features stand 500 labels of 8 bytes each, and what the format adds.
    assert 0 < file.stat().st_size - said < 8 * 500 + 2000
    stored = t7.load(file)["data"] if suffix == ".t7" else np.load(file)["data"]
    assert np.asarray(stored).dtype == np.float16
    exact = extract(planned(), tmp_path / "exact").read("3").images
    read = read_features(file)["data"].images
    assert read.dtype == np.float32
    # Rounded to 11 bits.
    np.testing.assert_allclose(read, exact, rtol=2**-10, atol=1e-6)
