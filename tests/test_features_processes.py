"""Processes that extract together: their share of the cores, and how they join."""

from __future__ import annotations

import pytest
import torch

from torchlift.transfer.features import processes
from torchlift.transfer.features.processes import ALONE, Process, joined_process


def test_processes_share_the_cores_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "available_cpus", lambda: 8)
    assert Process(local_world_size=2).cores == 4
    assert Process(local_world_size=100).cores == 1
    assert ALONE.cores == 8


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
        assert process == Process(5, 6, 3)
        assert not process.is_first
        assert calls == ["init_process_group"]
    assert calls == ["init_process_group", "destroy_process_group"]
    monkeypatch.setenv("WORLD_SIZE", "1")
    with joined_process() as process:
        assert process is ALONE
