"""Schedules, moving averages, patience and the validation of options, each by its formula."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from torchlift.transfer.errors import TrainingError
from torchlift.transfer.training.monitoring import best_epoch, best_row, is_over
from torchlift.transfer.training.optimizer import (
    moving_average,
    schedule_factor,
    set_learning_rates,
)
from torchlift.transfer.training.options import Optimization, Run


def test_patience_counts_from_the_best_epoch() -> None:
    def history(*accuracies: float) -> list[dict[str, float]]:
        return [{"epoch": 1, "val_accuracy": value, "val_loss": 1} for value in accuracies]

    assert not is_over(history(0.5, 0.7, 0.6), 2)
    assert is_over(history(0.5, 0.7, 0.6, 0.7), 2)
    assert not is_over(history(0.5, 0.7, 0.6, 0.8), 2)
    assert not is_over(history(0.5, 0.4, 0.3), None)
    assert best_epoch(history(0.5, 0.7, 0.6, 0.7)) == 2


def test_the_best_epoch_is_the_first_with_the_highest_accuracy_and_the_lowest_loss() -> None:
    def best(*scores: tuple[float, float]) -> int:
        return best_epoch([{"val_accuracy": each[0], "val_loss": each[1]} for each in scores])

    assert best((0.5, 2.0), (0.7, 3.0), (0.7, 1.0), (0.7, 1.0), (0.6, 0.5)) == 3
    # A loss that is not a number is never the lowest.
    assert best((0.7, float("nan")), (0.7, 9.0)) == 2
    assert best_epoch([{"train_loss": 1.0}, {"train_loss": 2.0}]) == 2
    assert best_epoch([]) == 0
    rows: list[dict[str, float]] = [
        {"epoch": 1, "val_accuracy": 0.9},
        {"epoch": 2, "val_accuracy": 0.1},
    ]
    assert best_row(rows) is rows[0]
    assert best_row([]) == {"epoch": 0}


@pytest.mark.parametrize("name", ["cosine", "step", "one-cycle", "constant"])
def test_schedules_equal_those_of_torch(name: str) -> None:
    steps, epochs = 7, 6
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    expected: Any = {
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, steps * epochs),
        "step": lambda: lr_scheduler.StepLR(optimizer, 2 * steps, gamma=0.1),
        "one-cycle": lambda: lr_scheduler.OneCycleLR(
            optimizer, 1.0, total_steps=steps * epochs, cycle_momentum=False
        ),
        "constant": lambda: lr_scheduler.ConstantLR(optimizer, 1),
    }[name]()
    options = Optimization(epochs=epochs, schedule=name, step_epochs=2)  # type: ignore[arg-type]  # a name of the list
    for step in range(steps * epochs):
        assert schedule_factor(options, step, steps) == pytest.approx(
            expected.get_last_lr()[0], abs=1e-9
        )
        optimizer.step()
        expected.step()


def test_the_warm_up_rises_linearly_to_the_start_of_the_schedule() -> None:
    options = Optimization(epochs=4, schedule="cosine", warmup_epochs=1)
    factors = [schedule_factor(options, step, 9) for step in range(36)]
    np.testing.assert_allclose(factors[:10], np.arange(1, 11) / 10)
    assert factors[10] < 1
    assert factors == sorted(factors[:10]) + sorted(factors[10:], reverse=True)
    # Half an epoch of three updates is two updates; the cosine has the other ten.
    short = Optimization(epochs=4, schedule="cosine", warmup_epochs=0.5)
    factors = [schedule_factor(short, step, 3) for step in range(12)]
    expected = [1 / 3, 2 / 3, *(1 + np.cos(np.pi * np.arange(10) / 10)) / 2]
    np.testing.assert_allclose(factors, expected)


def test_the_steps_of_a_schedule_are_at_epochs_of_the_training_warm_up_included() -> None:
    options = Optimization(epochs=6, schedule="step", step_epochs=2, warmup_epochs=1)
    factors = [schedule_factor(options, step, 3) for step in range(18)]
    np.testing.assert_allclose(factors, [0.25, 0.5, 0.75, *[1] * 3, *[0.1] * 6, *[0.01] * 6])
    # Of an epoch that the warm-up ends in, the rest has the rate of its step.
    half = Optimization(epochs=2, schedule="step", step_epochs=1, warmup_epochs=1.5)
    factors = [schedule_factor(half, step, 2) for step in range(4)]
    np.testing.assert_allclose(factors, [0.25, 0.5, 0.75, 0.1])
    constant = Optimization(epochs=2, schedule="constant", warmup_epochs=1)
    factors = [schedule_factor(constant, step, 2) for step in range(4)]
    np.testing.assert_allclose(factors, [1 / 3, 2 / 3, 1, 1])


def test_a_factor_applies_to_the_rate_at_the_start_of_each_group() -> None:
    groups = [
        {"params": [nn.Parameter(torch.zeros(1))], "lr": rate, "base_lr": rate}
        for rate in (0.1, 0.02)
    ]
    optimizer = torch.optim.SGD(groups)
    for factor in (0.5, 0.25, 1.0):
        set_learning_rates(optimizer, factor)
        assert [group["lr"] for group in optimizer.param_groups] == [0.1 * factor, 0.02 * factor]


def test_the_moving_average_follows_its_formula() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = moving_average(network, 0.9, torch.device("cpu"))
    expected = None
    for update in range(40):
        with torch.no_grad():
            network[0].weight.add_(torch.randn(2, 2))
            network[1].running_mean.add_(1)
            network[1].num_batches_tracked.add_(1)
        average.update_parameters(network)
        values = torch.cat([network[0].weight.detach().flatten(), network[1].running_mean])
        decay = min(0.9, (1 + update) / (10 + update))
        expected = values if expected is None else decay * expected + (1 - decay) * values
    actual = torch.cat([average.module[0].weight.flatten(), average.module[1].running_mean])
    torch.testing.assert_close(actual, expected)
    # What is counted has no average.
    assert average.module[1].num_batches_tracked == 40


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": -1},
        {"batch_size": 0},
        {"accumulate": 0},
        {"step_epochs": 0},
        {"momentum": 1},
        {"dampening": 1},
        {"label_smoothing": 1},
        {"lr": -1},
        {"lr": 0},
        {"lr": float("inf")},
        {"clip_norm": float("inf")},
        {"weight_decay": float("nan")},
        {"step_factor": float("-inf")},
        {"ema": 0},
        {"ema": 1},
        {"clip_norm": 0},
        {"patience": 0},
        {"epochs": 3, "warmup_epochs": 3},
        {"warmup_epochs": -1},
        {"schedule": "one-cycle", "warmup_epochs": 1},
    ],
    ids=str,
)
def test_invalid_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TrainingError):
        Optimization(**options)


@pytest.mark.parametrize(
    ("name", "lowest"),
    [("repeats", 1), ("keep_best", 1), ("save_every", 1), ("threads", 1), ("workers", 0)],
)
def test_numbers_of_a_run_have_a_lowest_value(name: str, lowest: int) -> None:
    options: dict[str, Any] = {name: lowest}
    assert getattr(Run(**options), name) == lowest
    with pytest.raises(TrainingError, match=f"{name}={lowest - 1} must be at least {lowest}"):
        Run(**{name: lowest - 1})


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 0},
        {"batch_size": 1, "accumulate": 1, "step_epochs": 1, "patience": 1},
        {"momentum": 0, "dampening": 0, "label_smoothing": 0},
        {"momentum": 0.99, "dampening": 0.99, "label_smoothing": 0.99, "ema": 0.99},
        {"epochs": 3, "warmup_epochs": 2.99},
    ],
    ids=str,
)
def test_the_limits_themselves_are_allowed(options: dict[str, Any]) -> None:
    made = Optimization(**options)
    assert {name: getattr(made, name) for name in options} == options


@pytest.mark.parametrize("name", ["momentum", "dampening", "label_smoothing"])
def test_fractions_are_not_negative(name: str) -> None:
    options: dict[str, Any] = {name: -0.01}
    with pytest.raises(TrainingError, match="at least 0 and below 1"):
        Optimization(**options)
