"""`extract`: the right numbers on disk, resumed and shared out without a byte's difference."""

from __future__ import annotations

import multiprocessing
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
from torchlift.converters.saved import SavedModel, open_model
from torchlift.transfer.data import Dataset, open_data
from torchlift.transfer.errors import StoreError
from torchlift.transfer.features.extraction import (
    ExtractionPlan,
    example_of,
    extract,
    plan_extraction,
)
from torchlift.transfer.features.files import read_features, write_features
from torchlift.transfer.features.processes import Process
from torchlift.transfer.features.settings import Settings
from torchlift.transfer.features.sources import features_of
from torchlift.transfer.features.store import describe_store, open_store

DIGITS = FIXTURES / "digits"
MODEL, DATA = DIGITS / "digits-lenet5-bn.t7", DIGITS / "digits-test.t7"
SCALE = DIGITS / "digits_meanStd.t7"
SMALL = Settings(batch_size=16, chunk=64)


def planned(
    settings: Settings = SMALL, layers: tuple[str, ...] = ("penultimate", "3")
) -> ExtractionPlan:
    model, data = open_model(MODEL, mean_std=SCALE), open_data(DATA)
    source = features_of(model, layers, example_of(data, model.preprocessing))
    return plan_extraction(source, data, settings)


@pytest.fixture(scope="module")
def plan() -> ExtractionPlan:
    return planned()


@pytest.fixture(scope="module")
def undisturbed(plan: ExtractionPlan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features") / "whole"
    extract(plan, folder, workers=1)
    return folder


class Turn(Process):
    """One of several processes that run one after another: nobody to wait for."""

    def wait(self) -> None:
        pass


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder: where it is and its bytes."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_the_features_are_those_of_a_plain_forward_pass(undisturbed: Path) -> None:
    model, data = open_model(MODEL, mean_std=SCALE), t7.load(DATA)
    pixels = torch.from_numpy(np.array(data["data"])).float()
    table = t7.load(SCALE)
    inputs = (pixels - table["mean"][1]) / table["std"][1]
    with torch.no_grad():
        third = model.module[:4](inputs)
        last = model.module[:13](inputs)
    group = zarr.open_group(undisturbed, mode="r")
    # One batch of 500 is summed in another order than batches of 16.
    np.testing.assert_allclose(group["features/3"][:], third, atol=1e-4)
    np.testing.assert_allclose(group["features/penultimate"][:], last, atol=1e-4)
    assert np.array_equal(group["labels"][:], np.asarray(data["label"]) - 1)
    assert np.array_equal(group["ids"][:], np.arange(500))


def test_the_manifest_says_what_the_numbers_are_of(plan: ExtractionPlan, undisturbed: Path) -> None:
    said = describe_store(undisturbed)
    assert said["features"] == {"penultimate": [84], "3": [6, 14, 14]}
    assert said["layers"] == {"penultimate": "the input of 13", "3": "3"}
    assert said["preprocessing"]["mean"] == pytest.approx([60.42], abs=0.01)
    assert (said["data"]["count"], said["dtype"], said["complete"]) == (500, "float32", True)
    arrays = [undisturbed / "features" / name for name in ("penultimate", "3")]
    files = [file for array in arrays for file in array.rglob("c/**/*") if file.is_file()]
    # The last chunk is filled up.
    assert said["bytes"] == plan.bytes == sum(f.stat().st_size for f in files) * 500 // 512


@pytest.mark.parametrize("pool", ["avg", "max"])
def test_pooling_and_flattening(
    plan: ExtractionPlan, undisturbed: Path, tmp_path: Path, pool: Any
) -> None:
    whole = open_store(undisturbed).read("3").images.reshape(500, 6, 14, 14)
    expected = whole.mean((2, 3)) if pool == "avg" else whole.max((2, 3))
    pooled = extract(planned(replace(SMALL, pool=pool, dtype="float16")), tmp_path / "pooled")
    # Half precision has 11 bits.
    np.testing.assert_allclose(pooled.read("3").images, expected, rtol=1e-3, atol=1e-6)
    flat = extract(planned(replace(SMALL, flatten=True)), tmp_path / "flat")
    assert flat.layers == {"penultimate": (84,), "3": (6 * 14 * 14,)}
    assert np.array_equal(flat.read("3").images, whole.reshape(500, -1))


class TestResuming:
    def test_what_is_there_is_not_computed_again(
        self, plan: ExtractionPlan, undisturbed: Path, tmp_path: Path
    ) -> None:
        store = extract(plan, tmp_path / "store")
        (tmp_path / "store/features/3/c/2/0/0/0").unlink()
        (tmp_path / "store/features/penultimate/c/5/0.abc.partial").write_bytes(b"half")
        assert store.missing() == [2]
        seen: list[int] = []

        def counting(inputs: np.ndarray) -> list[np.ndarray]:
            seen.append(len(inputs))
            return plan.source(inputs)

        counting.__dict__.update(vars(plan.source))
        extract(replace(plan, source=counting), tmp_path / "store", workers=1)
        assert sum(seen) == 64
        assert contents(tmp_path / "store") == contents(undisturbed)

    def test_a_chunk_of_zeros_counts_as_computed(self, tmp_path: Path) -> None:
        network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        nn.init.constant_(network[1].weight, 0)
        nn.init.constant_(network[1].bias, -1)
        data = Dataset(np.ones((10, 1, 2, 2), np.float32))
        source = features_of(SavedModel(network, "logits"), ["penultimate"], data.images[:2])
        store = extract(plan_extraction(source, data, Settings(chunk=4)), tmp_path / "zeros")
        assert store.missing() == []
        assert not store.read("penultimate").images.any()

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"model": "0" * 64}, "model was"),
            ({"pool": "avg"}, "pool was none, now avg"),
            ({"data": {"fingerprint": "0", "count": 500, "classes": None}}, "data.fingerprint was"),
        ],
    )
    def test_another_model_data_or_setting_is_refused(
        self, plan: ExtractionPlan, undisturbed: Path, change: dict[str, Any], said: str
    ) -> None:
        before = contents(undisturbed)
        with pytest.raises(StoreError, match=said):
            extract(replace(plan, manifest={**plan.manifest, **change}), undisturbed)
        assert contents(undisturbed) == before

    def test_what_is_no_feature_store_is_never_touched(
        self, plan: ExtractionPlan, tmp_path: Path
    ) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/notes.txt").write_text("mine")
        with pytest.raises(StoreError, match="no feature store"):
            extract(plan, tmp_path / "mine", overwrite=True)
        assert contents(tmp_path / "mine") == {"notes.txt": b"mine"}

    def test_an_unfinished_store_is_not_read(self, plan: ExtractionPlan, tmp_path: Path) -> None:
        store = extract(plan, tmp_path / "store", process=Turn(rank=0, count=2))
        with pytest.raises(StoreError, match="4 of 8 chunks are missing"):
            store.read("3")


def test_workers_threads_and_shares_do_not_change_a_byte(
    plan: ExtractionPlan, undisturbed: Path, tmp_path: Path
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    extract(plan, tmp_path / "threads", workers=3)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
    for rank in range(3):
        extract(plan, tmp_path / "shares", process=Turn(rank, 3), workers=1)
    for folder in ("threads", "shares"):
        assert contents(tmp_path / folder) == contents(undisturbed)


class TestFormats:
    def test_t7_and_npz_hold_the_same_features(self, undisturbed: Path, tmp_path: Path) -> None:
        store = open_store(undisturbed)
        for name in ("features.t7", "features.npz"):
            write_features(store, tmp_path / name, name.rpartition(".")[2])
            found = read_features(tmp_path / name)
            assert list(found) == ["penultimate", "3"]
            for layer, data in found.items():
                assert np.array_equal(data.images, store.read(layer).images)
                assert np.array_equal(data.classes, store.read(layer).classes)
        table = t7.load(tmp_path / "features.t7")
        assert np.asarray(table["labels"]).min() == 1
        assert table["data"]["3"].shape == (500, 6, 14, 14)

    def test_the_command_writes_one_file_and_leaves_nothing_else(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["extract", str(MODEL), str(DATA), str(tmp_path / "f.t7"), "--mean-std", str(SCALE)]
        assert main(words) == 0
        assert [file.name for file in tmp_path.iterdir()] == ["f.t7"]
        said = " ".join(capsys.readouterr().err.split())  # Lines break where the path is long.
        assert "penultimate 500×84 float32, 0.2 MB" in said
        table = t7.load(tmp_path / "f.t7")
        assert table["data"].shape == (500, 84)
        assert main(words) == 1
        assert "there already" in capsys.readouterr().err


def extract_again(folder: str) -> None:
    """What the killed processes run."""
    extract(planned(), folder, workers=2)


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_the_bytes_are_the_same(
    undisturbed: Path, tmp_path: Path
) -> None:
    # A server that has imported everything makes each start as quick as a fork.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "torchlift.transfer.features.extraction", "zarr"])

    def start(folder: Path) -> Any:
        process = context.Process(target=extract_again, args=(str(folder),))
        process.start()
        return process

    start(tmp_path / "first").join()
    began = time.monotonic()
    start(tmp_path / "timed").join()
    whole = time.monotonic() - began
    folder, draw, kills = tmp_path / "killed", random.Random(7), 0
    while kills < 20:
        process = start(folder)
        process.join(draw.uniform(0, whole))
        if process.is_alive():
            process.kill()
            kills += 1
        process.join()
        if folder.exists() and not open_store(folder).missing():
            assert contents(folder) == contents(undisturbed)
            # Something is left to do for those that are killed next.
            for layer in ("penultimate", "3"):
                for chunk in draw.sample(range(8), 5):
                    shutil.rmtree(folder / "features" / layer / "c" / str(chunk))
    extract_again(str(folder))
    assert contents(folder) == contents(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_two_processes_write_the_same_store_as_one(tmp_path: Path, backend: str) -> None:
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
