"""Rules of the training loop that a linear network on twelve images shows in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional
from training_support import QUIET, difference, experiment

from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.saved import SavedModel, load
from torchlift.transfer.data import Dataset, Splits
from torchlift.transfer.data.plan import BatchPlan
from torchlift.transfer.errors import TrainingError
from torchlift.transfer.freezing import Freezing
from torchlift.transfer.training.experiment import RunResult, run_experiment
from torchlift.transfer.training.loop import run_epochs, update
from torchlift.transfer.training.lr_finder import find_rate
from torchlift.transfer.training.measuring import count, measure
from torchlift.transfer.training.optimizer import moving_average
from torchlift.transfer.training.options import Optimization, Run
from torchlift.transfer.training.processes import start_processes

_RANDOM = np.random.default_rng(0)
DATA = Dataset(_RANDOM.integers(0, 256, (12, 1, 4, 4), np.uint8), np.arange(12) % 3)
NONE = DATA.take(np.arange(0))
#: Without validation, the last epoch counts as the best.
SPLITS = Splits(DATA, NONE, NONE)
#: One update in each epoch: the order of the images changes nothing but rounding.
WHOLE = {"batch_size": 12, "schedule": "constant", "lr": 0.1, "epochs": 4}


def network(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 16), *layers, nn.Linear(16, 3))


def train(
    folder: Path, *layers: nn.Module, splits: Splits[Any] = SPLITS, **options: Any
) -> tuple[SavedModel, RunResult]:
    model = SavedModel(network(*layers), "logits", (1, 4, 4), None, Preprocessing("gray"))
    return model, run_experiment(model, experiment(splits, **options), folder)


def plain(
    optimizer_of: Callable[[nn.Module], torch.optim.Optimizer],
    after_update: Callable[[nn.Module], None] = lambda module: None,
) -> nn.Module:
    """Train by four updates with all images at once."""
    module = network()
    optimizer = optimizer_of(module)
    inputs, classes = torch.from_numpy(DATA.images) / 255, torch.from_numpy(np.arange(12) % 3)
    for _ in range(4):
        optimizer.zero_grad()
        functional.cross_entropy(module(inputs), classes).backward()
        optimizer.step()
        after_update(module)
    return module


def test_weight_decay_of_adamw_is_decoupled_from_the_gradients(tmp_path: Path) -> None:
    def adamw(module: nn.Module) -> torch.optim.Optimizer:
        weights = [value for value in module.parameters() if value.dim() > 1]
        others = [value for value in module.parameters() if value.dim() == 1]
        groups = [{"params": weights}, {"params": others, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=0.1, weight_decay=0.5)

    model, _ = train(tmp_path / "run", optimizer="adamw", weight_decay=0.5, **WHOLE)
    # Other sums in another order; Adam enlarges the rounding of small gradients.
    assert difference(model.module, plain(adamw)) < 1e-4


def test_the_average_of_the_weights_is_what_a_training_returns(tmp_path: Path) -> None:
    average = moving_average(network(), 0.5, torch.device("cpu"))
    last = plain(
        lambda module: torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9),
        average.update_parameters,
    )
    model, _ = train(tmp_path / "run", ema=0.5, weight_decay=0, **WHOLE)
    assert difference(model.module, average.module) < 1e-6
    assert difference(model.module, last) > 1e-3


def test_momentum_is_that_of_the_options(tmp_path: Path) -> None:
    last = plain(lambda module: torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.3))
    model, _ = train(tmp_path / "run", momentum=0.3, weight_decay=0, **WHOLE)
    assert difference(model.module, last) < 1e-6


def test_a_run_that_goes_on_ends_like_one_that_did_not_stop(tmp_path: Path) -> None:
    """It has the same momentum, average of the weights and draws."""
    options: dict[str, Any] = {**WHOLE, "ema": 0.5, "run": replace(QUIET, resume="auto")}
    whole, expected = train(tmp_path / "whole", nn.Dropout(0.5), **options)
    train(tmp_path / "halves", nn.Dropout(0.5), **options | {"epochs": 2})
    torch.rand(7)
    model, resumed = train(tmp_path / "halves", nn.Dropout(0.5), **options)
    assert difference(model.module, whole.module) == 0
    assert resumed.history == expected.history


@pytest.mark.parametrize("clip_norm", [0.5, 3.0, 1e9, None])
def test_the_gradients_together_are_no_longer_than_the_limit(clip_norm: float | None) -> None:
    """With a rate of 1 and no momentum an update is as long as the gradients."""
    module = network()
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    batch = 100 * torch.from_numpy(DATA.images).float(), torch.from_numpy(np.arange(12) % 3)
    before = [value.detach().clone() for value in module.parameters()]
    functional.cross_entropy(module(batch[0]), batch[1]).backward()
    whole = torch.cat([value.grad.flatten() for value in module.parameters()]).norm()  # type: ignore[union-attr]
    optimizer.zero_grad()
    loss = partial(functional.cross_entropy, reduction="sum")
    options, accelerator = Optimization(clip_norm=clip_norm), Accelerator(cpu=True)
    update(module, optimizer, loss, batch, 12, options, accelerator)
    pairs = zip(before, module.parameters(), strict=True)
    length = torch.cat([(new - old).detach().flatten() for old, new in pairs]).norm()
    assert 3 < whole < 1e9
    expected = float(whole) if clip_norm is None else min(float(whole), clip_norm)
    assert float(length) == pytest.approx(expected, rel=1e-4)


def test_the_rate_of_each_update_is_that_of_the_schedule(tmp_path: Path) -> None:
    made: list[torch.optim.Optimizer] = []

    def sgd(module: nn.Module) -> torch.optim.Optimizer:
        made.append(torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9))
        return made[0]

    def halve(module: nn.Module) -> None:
        made[0].param_groups[0]["lr"] /= 2

    schedule = {"schedule": "step", "step_epochs": 1, "step_factor": 0.5}
    model, _ = train(tmp_path / "run", weight_decay=0, **WHOLE | schedule)
    assert difference(model.module, plain(sgd, halve)) < 1e-6


def test_a_trained_network_is_in_evaluation_mode_and_nothing_in_it_is_frozen(
    tmp_path: Path,
) -> None:
    freezing = Freezing(freeze="all-but-head")
    model, _ = train(tmp_path / "run", nn.Dropout(), freezing=freezing, epochs=1)
    assert not any(module.training for module in model.module.modules())
    assert all(value.requires_grad for value in model.module.parameters())
    model.module.train()
    assert all(module.training for module in model.module.modules())


def test_epochs_count_from_one(tmp_path: Path) -> None:
    _, outcome = train(tmp_path / "run", epochs=3)
    assert [row["epoch"] for row in outcome.history] == [1, 2, 3]
    assert (outcome.evaluation["epoch"], outcome.evaluation["split"]) == (3, None)
    assert load(outcome.folder.model).notes[-1] == "trained by torchlift, epoch 3 of 3"
    untrained, _ = train(tmp_path / "untrained", epochs=0)
    assert untrained.notes[-1] == "not trained"
    seconds = (tmp_path / "run" / "seconds.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[0] for line in seconds] == ["epoch", "1", "2", "3"]


def test_the_seed_decides_the_order_of_the_images(tmp_path: Path) -> None:
    options = {**WHOLE, "batch_size": 3}
    first, _ = train(tmp_path / "first", seed=1, **options)
    again, _ = train(tmp_path / "again", seed=1, **options)
    other, _ = train(tmp_path / "other", seed=2, **options)
    assert difference(first.module, again.module) == 0
    assert difference(first.module, other.module) > 1e-4


def test_classes_without_images_to_validate_do_not_count() -> None:
    """Of three classes two have images: one is right in half of its images, the other always."""
    logits = torch.tensor([[3.0, 0, 0], [0, 3, 0], [0, 3, 0]])
    batches: Any = SimpleNamespace(epoch=lambda number: [(logits, torch.tensor([0, 0, 1]))])
    row, counts = measure(nn.Identity(), batches, Accelerator(cpu=True))
    assert counts.tolist() == [[2, 1, 0], [1, 1, 0], [1, 2, 0]]
    assert row["val_accuracy"] == pytest.approx(2 / 3)
    assert row["val_recall"] == row["val_precision"] == 0.75
    assert row["val_f1"] == pytest.approx(2 / 3)


def test_a_class_that_is_never_predicted_counts_and_one_without_images_does_not() -> None:
    """Images 0, 0, 1, 1, 2 are taken for 0, 1, 1, 3, 1: recalls of 1/2, 1/2 and 0."""
    logits = functional.one_hot(torch.tensor([0, 1, 1, 3, 1]), 4).float()
    batches: Any = SimpleNamespace(epoch=lambda number: [(logits, torch.tensor([0, 0, 1, 1, 2]))])
    row, counts = measure(nn.Identity(), batches, Accelerator(cpu=True))
    assert counts.tolist() == [[2, 2, 1, 0], [1, 1, 0, 0], [1, 3, 0, 1]]
    assert row["val_recall"] == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    assert row["val_precision"] == pytest.approx((1 / 1 + 1 / 3 + 0) / 3)
    assert row["val_f1"] == pytest.approx((2 / 3 + 2 / 5 + 0) / 3)


def test_only_batches_of_the_training_are_divided(tmp_path: Path) -> None:
    """One image is enough to validate with; a batch of one cannot be accumulated in two steps."""
    splits = Splits(DATA, DATA.take(np.arange(1)), NONE)
    _, outcome = train(tmp_path / "run", splits=splits, accumulate=2, epochs=1)
    assert outcome.history[0]["val_accuracy"] in (0, 1)
    with pytest.raises(TrainingError, match="a batch of 1 images cannot be divided"):
        train(tmp_path / "one", splits=splits, accumulate=2, epochs=1, batch_size=1)


def test_a_mixed_image_counts_as_the_class_of_its_larger_part() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]])
    targets = torch.tensor([[0.7, 0.3, 0.0], [0.3, 0.7, 0.0]])
    _, correct, size = count(torch.tensor(1.0), logits, targets)
    assert (int(correct), size) == (1, 2)


def test_the_test_split_is_evaluated_if_there_is_one(tmp_path: Path) -> None:
    val, test = DATA.take(np.arange(4)), DATA.take(np.arange(7))
    _, outcome = train(tmp_path / "run", splits=Splits(DATA, val, test), epochs=1)
    assert (outcome.evaluation["split"], outcome.evaluation["count"]) == ("test", 7)


def test_a_network_that_cannot_be_saved_is_evaluated_all_the_same(tmp_path: Path) -> None:
    class Own(nn.Module):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return input

    splits = Splits(DATA, DATA, NONE)
    model, outcome = train(tmp_path / "run", Own(), splits=splits, epochs=1)
    assert model.notes[-1].startswith("only the weights are saved, not a model: 2: Own is neither")
    assert not outcome.folder.model.exists()
    assert outcome.evaluation["count"] == 12


class Recorder(nn.Module):
    """Records in which state of PyTorch each forward pass runs, and in which dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[bool, int, torch.dtype]] = []

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        strict = torch.are_deterministic_algorithms_enabled()
        self.seen.append((strict, torch.get_num_threads(), input.dtype))
        return input


@pytest.mark.parametrize(
    ("run", "seen"),
    [
        (Run(device="cpu", tracker=["none"], threads=1), (False, 1, torch.float32)),
        (
            Run(device="cpu", tracker=["none"], threads=3, deterministic=True, precision="bf16"),
            (True, 3, torch.bfloat16),
        ),
    ],
    ids=["plain", "everything"],
)
def test_the_options_of_a_run_hold_while_it_trains_and_not_after(
    run: Run, seen: tuple[bool, int, torch.dtype], tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    recorder = Recorder()
    train(tmp_path / "run", recorder, run=run, epochs=1)
    # The first pass finds the shapes, before a precision applies; the last is the evaluation.
    assert seen in recorder.seen
    assert {each[:2] for each in recorder.seen} == {seen[:2]}
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == threads


def test_tied_weights_stay_tied_in_checkpoints(tmp_path: Path) -> None:
    resume = replace(QUIET, resume="auto")
    for epochs in (1, 2):
        torch.manual_seed(1)
        tied = nn.Linear(16, 16)
        model, outcome = train(tmp_path / "run", tied, tied, epochs=epochs, run=resume)
        assert len(outcome.history) == epochs
        assert model.module[2].weight is model.module[3].weight
        assert torch.equal(model.module[2].weight, load(outcome.folder.model).module[3].weight)


def test_the_range_test_follows_its_formula(tmp_path: Path) -> None:
    """A plain loop: rates from 1e-6 to 10 in 100 steps, and the mean that Adam calls debiased."""
    module = network()
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-6, momentum=0.9)
    plan = BatchPlan(12, 3, 0)
    rates, losses, mean = [], [], 0.0
    for step in range(100):
        epoch, batch = divmod(step, 4)
        chosen = plan.order(epoch)[3 * batch : 3 * batch + 3]
        optimizer.param_groups[0]["lr"] = 1e-6 * 1e7 ** (step / 99)
        inputs = torch.from_numpy(DATA.images[chosen]) / 255
        loss = functional.cross_entropy(module(inputs), torch.from_numpy(chosen % 3))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mean = 0.9 * mean + 0.1 * loss.item()
        smoothed = mean / (1 - 0.9 ** (step + 1))
        if losses and smoothed > 4 * min(losses):
            break
        rates.append(optimizer.param_groups[0]["lr"])
        losses.append(smoothed)
    model = SavedModel(network(), "logits", (1, 4, 4), None, Preprocessing("gray"))
    options = experiment(SPLITS, lr="find", batch_size=3, weight_decay=0)
    result = find_rate(model, options, start_processes(QUIET, Freezing(), tmp_path))
    assert 20 < len(losses) < 100
    np.testing.assert_allclose(result.rates, rates, rtol=1e-6)
    # Rounding grows with the loss where the rate is too large.
    np.testing.assert_allclose(result.losses, losses, rtol=1e-3)


def test_the_range_test_trains_like_the_training_and_is_repeatable(tmp_path: Path) -> None:
    module = network(nn.Dropout(0.5))
    model = SavedModel(module, "logits", (1, 4, 4), None, Preprocessing("gray"))
    accelerator = start_processes(QUIET, Freezing(), tmp_path)
    whole, head = (
        [
            find_rate(model, experiment(SPLITS, lr="find", freezing=freezing), accelerator).losses
            for _ in range(2)
        ]
        for freezing in (Freezing(), Freezing("all-but-head"))
    )
    assert whole[0] == whole[1]
    assert head[0] == head[1]
    # Frozen layers do not learn in the range test either.
    assert head[0] != whole[0]
    # Dropout is on also if the network, as it was opened, is in evaluation mode.
    module.eval()
    assert find_rate(model, experiment(SPLITS, lr="find"), accelerator).losses == whole[0]
    without = SavedModel(network(), "logits", (1, 4, 4), None, Preprocessing("gray"))
    assert find_rate(without, experiment(SPLITS, lr="find"), accelerator).losses != whole[0]


def test_only_the_first_process_writes_and_evaluates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_first = False
    monkeypatch.setattr(Accelerator, "is_main_process", property(lambda _: is_first))
    real = run_epochs

    def first_trains(*arguments: Any) -> Any:
        nonlocal is_first
        is_first = True
        found = real(*arguments)
        is_first = False
        return found

    monkeypatch.setattr("torchlift.transfer.training.experiment.run_epochs", first_trains)
    _, outcome = train(tmp_path / "run", epochs=1)
    assert (len(outcome.history), outcome.evaluation) == (1, {})
    assert not (tmp_path / "run" / "model").exists()


def test_with_the_scaler_of_fp16_no_batch_tells_whether_the_loss_is_finite(tmp_path: Path) -> None:
    """It scales for the optimizer, and skips batches that overflow: only an epoch's mean tells."""
    prepared: list[bool] = []

    def losses(name: str, scaler: torch.amp.GradScaler | None) -> list[float | None]:
        accelerator: Any = start_processes(QUIET, Freezing(), tmp_path)
        accelerator.scaler, prepare = scaler, accelerator.prepare

        def recorded(value: Any) -> Any:
            prepared.append(isinstance(value, torch.optim.Optimizer))
            return prepare(value)

        accelerator.prepare = recorded
        model = SavedModel(network(), "logits", (1, 4, 4), None, Preprocessing("gray"))
        options, steps = experiment(SPLITS, epochs=1, batch_size=6), []
        run_epochs(model, options, accelerator, tmp_path / name, lambda state: None, steps.append)
        return [step.loss for step in steps]

    assert None not in losses("without", None)
    assert prepared == [False]
    assert losses("with", torch.amp.GradScaler("cpu", enabled=False)) == [None, None]
    assert prepared[1:] == [False, True]


def test_a_training_with_the_rate_that_was_found_writes_what_it_tried(tmp_path: Path) -> None:
    _, outcome = train(tmp_path / "run", lr="find", epochs=1, schedule="constant")
    lines = (tmp_path / "run" / "lr_finder.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "lr,loss"
    rates, losses = zip(*(map(float, line.split(",")) for line in lines[1:]), strict=True)
    assert rates[0] == 1e-6
    assert list(rates) == sorted(rates)
    # A tenth of the rate with the smallest loss, in two digits.
    best = rates[losses.index(min(losses))]
    assert outcome.history[0]["lr"] == pytest.approx(best / 10, rel=0.05)
