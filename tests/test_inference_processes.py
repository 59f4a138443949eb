"""Processes that work together: their share of the cores, and how they join."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import distributed

from torchlift.converters.inference import threads
from torchlift.converters.inference.processes import ALONE, Process, joined_process


def test_processes_share_the_cores_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    monkeypatch.setattr("joblib.cpu_count", lambda: 8)
    for processes, cores in (("1", 8), ("2", 4), ("100", 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        assert threads.available_cpus() == cores


def test_a_process_of_a_launcher_joins_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("init_process_group", "destroy_process_group"):
        monkeypatch.setattr(
            f"torch.distributed.{name}", lambda *_, name=name, **__: calls.append(name)
        )
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 5)
    for name, value in {"WORLD_SIZE": 6, "LOCAL_WORLD_SIZE": 3, "LOCAL_RANK": 2}.items():
        monkeypatch.setenv(name, str(value))
    with joined_process() as process:
        assert process == Process(5, 6)
        assert not process.is_first
        assert calls == ["init_process_group"]
    assert calls == ["init_process_group", "destroy_process_group"]
    monkeypatch.setenv("WORLD_SIZE", "1")
    with joined_process() as process:
        assert process is ALONE


@pytest.mark.parametrize(("size", "waits"), [(1, 0), (2, 1), (3, 1)])
def test_only_processes_that_are_not_alone_wait_and_tell(
    size: int, waits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def gather(values: list[Any], value: Any) -> None:
        calls.append("gather")
        values[:] = [f"{value} of {rank}" for rank in range(len(values))]

    monkeypatch.setattr(distributed, "barrier", lambda: calls.append("wait"))
    monkeypatch.setattr(distributed, "all_gather_object", gather)
    process = Process(0, size)
    process.wait()
    assert calls == ["wait"] * waits
    told = process.gather("score")
    assert told == (["score"] if size == 1 else [f"score of {rank}" for rank in range(size)])
    assert calls == [*["wait"] * waits, *["gather"] * waits]
    assert [Process(rank, size).is_first for rank in range(size)] == [True, *[False] * (size - 1)]


@pytest.mark.parametrize(
    ("rank", "gpus", "device"), [(0, 2, 0), (1, 2, 1), (3, 2, 1), (None, 2, 0)]
)
def test_each_process_takes_a_gpu_and_waits_for_days(
    rank: int | None, gpus: int, device: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And leaves the others also when its work fails."""
    calls: list[Any] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", calls.append)
    monkeypatch.setattr(
        distributed, "init_process_group", lambda name, timeout: calls.append((name, timeout.days))
    )
    monkeypatch.setattr(distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(distributed, "destroy_process_group", lambda: calls.append("left"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    if rank is None:
        monkeypatch.delenv("LOCAL_RANK", raising=False)
    else:
        monkeypatch.setenv("LOCAL_RANK", str(rank))
    with pytest.raises(KeyboardInterrupt), joined_process():
        raise KeyboardInterrupt
    assert calls == [device, ("gloo", 7), "left"]


def test_a_process_without_a_launcher_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("joblib.cpu_count", lambda: 3)
    with joined_process() as process:
        assert process is ALONE
        assert (process.rank, process.world_size, process.is_first) == (0, 1, True)
    assert threads.available_cpus() == 3
