"""Whole runs of the commands: accuracy, several processes, and killed runs."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from safetensors.torch import load_file
from support import FIXTURES, SHARED

from torchlift.cli.main import main
from torchlift.converters import t7
from torchlift.converters.labels import read_labels
from torchlift.converters.saved import open_model
from torchlift.converters.t7 import LuaTable
from torchlift.transfer.runs import read_run
from torchlift.transfer.training.checkpoints import saved_epochs

DIGITS = FIXTURES / "digits"
MODEL, TRAIN, TEST = (
    str(DIGITS / name) for name in ("digits-lenet5-bn.t7", "digits-train.t7", "digits-test.t7")
)
SCALE = f"--mean-std={DIGITS / 'digits_meanStd.t7'}"

pytestmark = pytest.mark.slow

_T = TypeVar("_T")

KILLS = 20


def run(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main([*words, "--tracker=none", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def even_or_odd(source: str, target: Path) -> str:
    """Write the digits with the classes even and odd, labels 1 and 2."""
    table = t7.load(source)
    parity = (np.asarray(table["label"]) - 1) % 2
    t7.save(LuaTable({"data": table["data"], "label": (parity + 1).astype(np.uint8)}), target)
    return str(target)


def test_a_network_trained_in_lua_learns_even_and_odd_with_a_new_head(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = even_or_odd(TRAIN, tmp_path / "train.t7")
    test = even_or_odd(TEST, tmp_path / "test.t7")
    began = time.perf_counter()
    report = run(
        capsys,
        *("finetune", MODEL, train, SCALE, f"--test-data={test}", "--epochs=6", "--lr=0.02"),
        f"--output={tmp_path / 'run'}",
    )
    assert report["evaluation"]["accuracy"] >= 0.98
    assert time.perf_counter() - began < 60


def test_a_network_learns_the_digits_from_scratch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.perf_counter()
    report = run(
        capsys,
        *("train", "convnet_bn", TRAIN, f"--test-data={TEST}", "--epochs=12", "--lr=0.05"),
        *("--batch-size=32", "--crop-padding=2", "--ema=0.99", f"--output={tmp_path / 'run'}"),
    )
    assert report["evaluation"]["accuracy"] >= 0.97
    assert time.perf_counter() - began < 60


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="the shared data is absent")
def test_the_network_of_the_lab_learns_airplanes_and_birds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(
        capsys,
        *("train", "tanhnet", str(SHARED / "data" / "cifar10-small-train.t7")),
        f"--test-data={SHARED / 'data' / 'cifar10-small-test.t7'}",
        f"--class-names={FIXTURES / 'cifar' / 'cifar_classes.t7'}",
        *("--classes=airplane,bird", "--epochs=40", "--lr=0.05", "--batch-size=32"),
        *("--flip", "--crop-padding=2", "--ema=0.995", f"--output={tmp_path / 'run'}"),
    )
    assert report["evaluation"]["count"] == 1003
    assert report["evaluation"]["accuracy"] >= 0.84


@pytest.mark.parametrize(
    "extra", [[], ["--freeze=until 7", "--unfreeze-at=2"]], ids=["all", "later"]
)
def test_two_processes_equal_one(extra: list[str], tmp_path: Path) -> None:
    # A BatchNorm would compute its statistics from each process's slice of a batch.
    network = str(DIGITS / "digits-lenet5.t7")
    words = ["finetune", network, TRAIN, SCALE, "--limit=450", "--epochs=2", "--lr=0.02", *extra]
    words += ["--device=cpu", "--tracker=none", "--crop-padding=1", "--debug"]
    assert main([*words, f"--output={tmp_path / 'one'}"]) == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launch, "-m", "torchlift.cli", *words, f"--output={tmp_path / 'two'}"]
    result = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert result.returncode == 0, result.stderr
    one, two = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("one", "two"))
    # Two sums over half a batch round differently than one, in 24 updates.
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-5
    texts = [
        (tmp_path / run / "metrics.jsonl").read_text(encoding="utf-8") for run in ("one", "two")
    ]
    for first, second in zip(*map(str.splitlines, texts), strict=True):
        assert json.loads(first) == pytest.approx(json.loads(second), rel=1e-4)


#: The files of a run that must be the same whether it was killed or not.
RESULTS = (
    *("metrics.csv", "metrics.jsonl", "evaluation.json"),
    *("model/model.safetensors", "model/config.json", "model/model.py"),
)


def test_a_run_killed_twenty_times_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    """Kills come at what is seen in the run's folder, so that the machine's speed is of no matter.

    By turns, a run is killed when it has written a checkpoint, and after some changes of any of its
    files and a while in which it trains on.
    """
    # Processes start with all modules imported.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(
        ["torchlift.cli.main", "torchlift.transfer.training.classifiers",
         "torchlift.transfer.training.experiment"]
    )  # fmt: skip

    def start(folder: Path) -> Any:
        words = ["finetune", MODEL, TRAIN, SCALE, "--limit=160", "--epochs=5", "--batch-size=16"]
        words += ["--head=probe", "--unfreeze=2:1?,4:[0-9]", "--optimizer=adamw"]
        words += ["--sampling=weighted", "--lr=0.001", "--ema=0.9", "--flip", "--tracker=none"]
        words += ["--device=cpu", "--json", f"--output={folder}", "--resume=auto"]
        process = processes.Process(target=main, args=(words,))
        process.start()
        return process

    def results(folder: Path) -> dict[str, bytes]:
        return {name: (folder / name).read_bytes() for name in RESULTS}

    start(tmp_path / "uninterrupted").join()
    expected = results(tmp_path / "uninterrupted")
    epoch = (read_run(tmp_path / "uninterrupted", "").seconds or 0) / 5

    moments = random.Random(0)
    kills, number, epochs_done = 0, 0, set()
    while kills < KILLS:
        folder = tmp_path / f"killed-{number}"
        before = last_checkpoint(folder)
        process = start(folder)
        if kills % 2:
            seen = changes_of(folder)
            for _ in range(moments.randint(1, 12)):
                seen = wait_for(process, partial(changes_of, folder), seen)
            process.join(moments.uniform(0, 2) * epoch)
        else:
            wait_for(process, partial(last_checkpoint, folder), before)
        if process.is_alive():
            process.kill()
            process.join()
            kills += 1
            epochs_done.add(last_checkpoint(folder))
            continue
        assert results(folder) == expected
        number += 1
    start(folder).join()
    assert results(folder) == expected
    # Behind the first unfreezing and before the second; and at several moments of all.
    assert epochs_done & {1, 2, 3}, epochs_done
    assert len(epochs_done) > 1


def last_checkpoint(folder: Path) -> int:
    return max(saved_epochs(folder / "checkpoints"), default=0)


def changes_of(folder: Path) -> dict[str, int]:
    """Return when each file in a folder was written."""
    found = {}
    for parent, _, names in os.walk(folder):  # It passes over folders that vanish meanwhile.
        for name in names:
            with suppress(FileNotFoundError):
                found[f"{parent}/{name}"] = Path(parent, name).stat().st_mtime_ns
    return found


def wait_for(process: Any, look: Callable[[], _T], before: _T) -> _T:
    """Look again and again until something else is seen, or the process has ended."""
    while (now := look()) == before and process.is_alive():
        time.sleep(0.001)
    return now


def test_the_command_writes_all_files_of_a_run_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    words = ["finetune", str(DIGITS / "digits-lenet5-bn.t7"), str(DIGITS / "digits-train.t7")]
    names = str(DIGITS / "digits_classes.t7")
    options = ["--epochs=2", "--limit=200", "--freeze=all-but-head", f"--class-names={names}"]
    more = ["--head=probe", "--optimizer=adamw", "--precision=bf16", "--lr=find", "--deterministic"]
    assert main([*words, *options, *more, f"--output={run}", "--json"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert "850 parameters are trained, 60,900 frozen" in captured.err
    assert {file.name for file in run.iterdir()} == {
        *("config.yaml", "run.json", "metrics.csv", "metrics.jsonl", "seconds.csv"),
        *("classes.csv", "lr_finder.csv", "lr_finder.png"),
        *("checkpoints", "tensorboard", "model", "evaluation.json"),
    }
    assert report["found_lr"] == json.loads((run / "run.json").read_text())["lr"]
    assert any(run.glob("tensorboard/events.*"))
    model = open_model(run / "model")
    assert model.output_kind == "logits"
    assert model.labels == read_labels(names)
    assert model.preprocessing is not None

    # `evaluate` evaluates the same model on all images.
    assert main(["evaluate", str(run / "model"), words[2], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] > 0.9

    # The stored options are those of the run.
    assert main([*words, f"--config={run / 'config.yaml'}", "--resume=auto", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["history"] == report["history"]
