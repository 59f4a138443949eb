"""`predict` over processes: one file with the bytes of one process, whatever is killed meanwhile.

`TORCHLIFT_KILLS=20 TORCHLIFT_IMAGES=200000` makes the kill test as long as docs/soak.md says.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import FIXTURES

from torchlift.cli.main import main
from torchlift.cli.predict import _Input, _results
from torchlift.converters.errors import WriteError
from torchlift.converters.inference import InferenceError, Prediction
from torchlift.converters.inference.processes import Process
from torchlift.converters.inference.result_shards import open_shard, shard_of
from torchlift.converters.inference.results import jsonl_bytes, open_results, write_lines

MODEL = FIXTURES / "0.1.0" / "model.onnx"
IMAGES = [(f"{number}.png", [Prediction(number, f"c,{number}", 1 / 3)], "") for number in range(7)]
IMAGES[3] = ("3.png", [], "3.png: broken")


@dataclass(frozen=True)
class Unconnected(Process):
    """A process that waits for nobody: the test does one thing after the other."""

    def wait(self) -> None:
        pass


@pytest.mark.parametrize("counts", [[10], [7, 1, 9], [0, 5, 0], [0], [3] * 9])
@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_shards_cover_all_images_and_cut_no_batch(counts: list[int], world_size: int) -> None:
    shards = [shard_of(counts, 4, Process(rank, world_size)) for rank in range(world_size)]
    assert [index for shard in shards for index in shard] == list(range(sum(counts)))
    starts = {
        first + start
        for first, count in zip(np.cumsum([0, *counts]), counts, strict=False)
        for start in range(0, count, 4)
    }
    assert {shard.start for shard in shards if shard} <= starts


def test_batches_are_shared_evenly() -> None:
    shards = [shard_of([4, 4], 2, Process(rank, 4)) for rank in range(4)]
    assert shards == [range(2), range(2, 4), range(4, 6), range(6, 8)]
    # Six batches, of 1, 1, 1, 1, 2 and 2 images.
    shards = [shard_of([1, 1, 1, 1, 2, 2], 2, Process(rank, 2)) for rank in range(2)]
    assert shards == [range(3), range(3, 8)]


def test_shards_are_joined_when_all_have_ended(tmp_path: Path) -> None:
    target = tmp_path / "r.csv"
    waited: list[bool] = []

    class First(Process):
        def wait(self) -> None:
            waited.append(target.exists())

    (tmp_path / "r.csv.2-of-2.partial").write_bytes(b"")
    with open_shard(target, First(0, 2), overwrite=False, resume=False, facts={}) as write:
        write(*IMAGES[0])
        assert (tmp_path / "r.csv.1-of-2.partial").exists()
    # Before the shards are opened, before they are joined, and when the file is there.
    assert waited == [False, False, True]


def test_no_shard_is_opened_for_a_file_of_an_unknown_kind(tmp_path: Path) -> None:
    opened = open_shard(
        tmp_path / "r.txt", Unconnected(0, 2), overwrite=False, resume=False, facts={}
    )
    with pytest.raises(InferenceError, match="the suffix must be"), opened:
        pytest.fail("images would be computed")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_the_joined_file_has_the_bytes_of_one_process(suffix: str, tmp_path: Path) -> None:
    with open_results(tmp_path / f"one{suffix}") as write:
        for image in IMAGES:
            write(*image)
    target = tmp_path / f"many{suffix}"
    with ExitStack() as stack:
        for rank in (2, 1, 0):
            process = Unconnected(rank, 3)
            write = stack.enter_context(
                open_shard(target, process, overwrite=False, resume=False, facts={})
            )
            for index in shard_of([7], 2, process):
                write(*IMAGES[index])
    assert target.read_bytes() == (tmp_path / f"one{suffix}").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"many{suffix}", f"one{suffix}"]


def test_a_shard_goes_on_with_as_many_processes_only(tmp_path: Path) -> None:
    target = tmp_path / "r.csv"
    first, second = Unconnected(0, 2), Unconnected(1, 2)

    def stop_after_one_image() -> None:
        options = {"overwrite": False, "resume": False, "facts": {"top": 1}}
        with open_shard(target, second, **options) as write:
            write(*IMAGES[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_after_one_image()
    assert not target.exists()
    with (
        pytest.raises(WriteError, match="resume='auto' goes on"),
        open_shard(target, second, overwrite=False, resume=False, facts={"top": 1}),
    ):
        pass
    with (
        pytest.raises(WriteError, match="is of a run of 2 processes"),
        open_shard(target, Unconnected(0, 3), overwrite=False, resume=True, facts={"top": 1}),
    ):
        pass
    with ExitStack() as stack:
        write = stack.enter_context(
            open_shard(target, second, overwrite=False, resume=True, facts={"top": 1})
        )
        assert [one.name for one in write.done] == ["0.png"]
        stack.enter_context(
            open_shard(target, first, overwrite=False, resume=True, facts={"top": 1})
        )
    assert b"0.png" in target.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["r.csv"]


def test_a_run_that_starts_again_removes_what_others_left(tmp_path: Path) -> None:
    """Of this file and no other, and of other numbers of processes alone; the first one looks."""
    target = tmp_path / "r.csv"
    others = ["r.csv.1-of-20.partial", "r.csv.1-of-20.partial.json", "r.csv.20-of-20.partial"]
    kept = ["r1csv.1-of-20.partial", "r.csv.1-of-20.partial.txt", "my-r.csv.1-of-20.partial"]
    for name in others + kept:
        (tmp_path / name).touch()

    def stop(rank: int, overwrite: bool) -> None:
        options: Any = {"overwrite": overwrite, "resume": not overwrite, "facts": {}}
        with open_shard(target, Unconnected(rank, 2), **options):
            raise RuntimeError

    with pytest.raises(WriteError, match=r"r\.csv\.1-of-20\.partial is of a run of 20 processes"):
        stop(0, overwrite=False)
    with pytest.raises(RuntimeError):
        stop(1, overwrite=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(others + kept)
    with pytest.raises(RuntimeError):
        stop(0, overwrite=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(kept)


def test_a_shard_of_other_settings_is_not_continued(tmp_path: Path) -> None:
    def run(top: int, resume: bool) -> None:
        with open_shard(
            tmp_path / "r.csv",
            Unconnected(1, 2),
            overwrite=False,
            resume=resume,
            facts={"top": top},
        ) as write:
            write(*IMAGES[0])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        run(1, resume=False)
    with pytest.raises(WriteError, match="top"):
        run(2, resume=True)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_joined_file_appears_complete_or_not_at_all(suffix: str, tmp_path: Path) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")

    def lines() -> Iterator[bytes]:
        yield jsonl_bytes(*IMAGES[0])
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_lines(lines(), tmp_path / f"r{suffix}")
    assert not [*tmp_path.iterdir()]


def test_a_file_that_is_there_is_kept_and_no_shard_is_opened(tmp_path: Path) -> None:
    target = tmp_path / "r.csv"
    target.write_text("mine", encoding="utf-8")
    for rank in (0, 1):
        opened = open_shard(target, Unconnected(rank, 2), overwrite=False, resume=True, facts={})
        with pytest.raises(WriteError, match=r"r\.csv"), opened:
            pytest.fail("images would be computed")
    assert [file.name for file in tmp_path.iterdir()] == ["r.csv"]
    assert target.read_text(encoding="utf-8") == "mine"


def test_a_run_that_goes_on_computes_the_batches_of_one_that_does_not() -> None:
    """An image's scores depend on its batch by the last digit."""
    asked: list[tuple[str, int]] = []

    def source(name: str, count: int) -> _Input:
        names = [f"{name}{number}" for number in range(count)]

        def results(start: int) -> list[tuple[str, list[Prediction], str]]:
            asked.append((name, start))
            return [(one, [], "") for one in names[start:]]

        return _Input(names, results)

    sources = [source("a", 7), source("b", 6)]
    found = [name for name, _, _ in _results(sources, range(5, 11), 4)]
    assert found == ["a5", "a6", "b0", "b1", "b2", "b3"]
    assert asked == [("a", 4), ("b", 0)]
    # The batches of an input are counted from its own first image.
    asked.clear()
    assert [name for name, _, _ in _results(sources, range(12, 13), 4)] == ["b5"]
    assert asked == [("b", 4)]


def test_several_processes_need_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import nullcontext

    monkeypatch.setattr(
        "torchlift.converters.inference.processes.joined_process",
        lambda: nullcontext(Process(0, 2)),
    )
    assert main(["predict", str(MODEL), "x.png"]) == 2


@pytest.mark.slow
def test_two_launchers_that_find_each_other_write_the_file_of_one_process(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2000, 1, 32, 32), np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.zeros(len(images), int))
    words = ["predict", str(MODEL), str(tmp_path / "images.npz"), "--provider", "cpu"]
    assert main([*words, "-o", str(tmp_path / "one.csv")]) == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    machines = ["--nnodes=2", "--nproc-per-node=2", "--rdzv-backend=c10d"]
    rendezvous = [f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=1", "--local-addr=127.0.0.1"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", *machines, *rendezvous]
    target = tmp_path / "many.csv"
    launchers = [
        subprocess.Popen(
            [*torchrun, "-m", "torchlift.cli", *words, "-o", str(target)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    for launcher in launchers:
        _, errors = launcher.communicate(timeout=300)
        assert launcher.returncode == 0, errors[-2000:]
    assert target.read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert not list(tmp_path.glob("*.partial*"))


@pytest.mark.slow
def test_kills_lose_nothing_and_change_no_byte(tmp_path: Path) -> None:
    kills = int(os.environ.get("TORCHLIFT_KILLS", "3"))
    count = int(os.environ.get("TORCHLIFT_IMAGES", "12000"))
    rng = random.Random(0)
    images = np.random.default_rng(0).integers(0, 256, (count, 1, 32, 32), np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.zeros(count, int))
    target = tmp_path / "many.jsonl"
    words = ["predict", str(MODEL), str(tmp_path / "images.npz"), "--provider", "cpu", "--top=2"]
    assert main([*words, "-o", str(tmp_path / "one.jsonl")]) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command = [*torchrun, "-m", "torchlift.cli", *words, "-o", str(target), "--resume=auto"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = 0
    while not target.exists():
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        workers: list[int] = []
        if killed < kills:
            _wait_for_more_results(tmp_path, process, rng)
            workers = _children(process.pid)
        if workers:
            os.kill(rng.choice(workers), signal.SIGKILL)
            killed += 1
        _, errors = process.communicate(timeout=600)
        assert workers or process.returncode == 0, errors[-2000:]
    assert killed > 0
    assert target.read_bytes() == (tmp_path / "one.jsonl").read_bytes()
    assert not list(tmp_path.glob("*.partial*"))


def _wait_for_more_results(
    folder: Path, process: subprocess.Popen[bytes], rng: random.Random
) -> None:
    """Wait until the processes have written somewhat more than before, or have ended."""

    def written() -> int:
        return sum(file.stat().st_size for file in folder.glob("*.partial"))

    before = written()
    more = rng.randrange(20_000, 200_000)
    while process.poll() is None and written() < before + more:
        time.sleep(0.01)


def _children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                found.append(int(entry.name))
    return found
