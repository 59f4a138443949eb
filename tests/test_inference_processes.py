"""Processes that work together: their share of the cores, and how they join."""

from __future__ import annotations

import pytest
import torch

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
