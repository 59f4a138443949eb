"""What a process trains with: its trackers, its seeds, and what it leaves as it was."""

from __future__ import annotations

import random
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.tracking import TensorBoardTracker
from torch import nn

from torchlift.transfer.training import measuring
from torchlift.transfer.training.measuring import measure
from torchlift.transfer.training.processes import (
    determinism,
    end_trackers,
    seed_everything,
    start_trackers,
    torch_threads,
)


class Other:
    """A tracker such as wandb's."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def store_init_configuration(self, options: dict[str, Any]) -> None:
        self.calls.append(options)

    def finish(self) -> None:
        self.calls.append("finish")


@pytest.mark.parametrize("is_first", [True, False])
def test_trackers_are_told_the_options_of_the_run(is_first: bool) -> None:
    """TensorBoard has them in the folder of the run, once, whatever the number of processes."""
    hparams: list[Any] = []
    board: Any = object.__new__(TensorBoardTracker)
    board.writer = SimpleNamespace(add_hparams=lambda *args, **named: hparams.append((args, named)))
    other, started = Other(), []
    accelerator: Any = SimpleNamespace(
        trackers=[board, other], is_main_process=is_first, init_trackers=started.append
    )
    start_trackers(accelerator, {"lr": 0.1, "layers": ["1", "2"], "size": (3, 4), "left": None})
    options = {"lr": 0.1, "layers": "1, 2", "size": "3, 4"}
    assert started == ["tensorboard"]
    assert other.calls == [options]
    assert hparams == ([((options, {}), {"run_name": "."})] if is_first else [])


def test_every_tracker_writes_what_it_holds() -> None:
    trackers = [Other(), Other()]
    accelerator: Any = SimpleNamespace(trackers=trackers)
    end_trackers(accelerator)
    assert [each.calls for each in trackers] == [["finish"], ["finish"]]


def test_every_number_of_a_seed_counts_and_every_generator_is_seeded() -> None:
    def drawn(*numbers: int) -> tuple[float, float, float]:
        seed_everything(*numbers)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    assert drawn(1, 2, 3) == drawn(1, 2, 3)
    for other in ((0, 2, 3), (1, 0, 3), (1, 2, 0), (1, 3, 2)):
        assert all(a != b for a, b in zip(drawn(1, 2, 3), drawn(*other), strict=True))


def test_threads_and_determinism_end_with_the_run() -> None:
    def state() -> tuple[int, bool]:
        return torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()

    def run() -> None:
        with torch_threads(before[0] + 1), determinism(True):
            assert state() == (before[0] + 1, True)
            raise KeyError

    before = state()
    with pytest.raises(KeyError):
        run()
    assert state() == before
    with torch_threads(None), determinism(False):
        assert state() == before


def test_all_processes_measure_with_the_statistics_of_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """These are saved; here another process holds ones that would turn every prediction."""
    norm = nn.BatchNorm1d(2, affine=False)

    def broadcast(buffers: list[torch.Tensor]) -> None:
        """Give this process what the first one has."""
        assert [each.shape for each in buffers] == [(2,), (2,), ()]
        buffers[0].zero_()

    monkeypatch.setattr(measuring, "broadcast", broadcast)
    logits = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    batches: Any = SimpleNamespace(epoch=lambda number: [(logits, torch.tensor([0, 1]))])
    for count_, accuracy in ((1, 0.5), (2, 1.0)):
        norm.running_mean = torch.tensor([0.0, 9.0])
        processes: Any = SimpleNamespace(
            num_processes=count_, autocast=nullcontext, reduce=lambda total, how: total
        )
        row, _ = measure(norm, batches, processes)
        assert row["val_accuracy"] == accuracy
