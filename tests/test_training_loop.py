"""The loop over epochs: what ends it, what it measures and what it leaves."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn
from training_support import QUIET, classifier, experiment

from torchlift.transfer.data import Dataset, Splits
from torchlift.transfer.data.augmentation import Augmentation
from torchlift.transfer.errors import DivergedError
from torchlift.transfer.freezing import Freezing
from torchlift.transfer.training import loop, lr_finder
from torchlift.transfer.training.checkpoints import saved_epochs
from torchlift.transfer.training.loop import Trained, run_epochs
from torchlift.transfer.training.lr_finder import RangeTest
from torchlift.transfer.training.measuring import count
from torchlift.transfer.training.monitoring import best_epochs
from torchlift.transfer.training.optimizer import moving_average
from torchlift.transfer.training.options import Distillation

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 1, 32, 32), np.uint8)
DATA = Dataset(IMAGES, np.arange(12) % 3)
SPLITS = Splits(DATA, DATA, DATA.take(np.arange(0)))


def run(folder: Path, *, teacher: Any = None, **options: Any) -> Trained:
    asked = experiment(SPLITS, **{"epochs": 1, "batch_size": 6, **options})
    if teacher is not None:
        asked = replace(asked, teacher=teacher, distillation=Distillation("t"))
    return run_epochs(classifier(), asked, Accelerator(cpu=True), folder)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The networks that are measured: the accuracy falls with each epoch, and so does the loss."""
    networks: list[nn.Module] = []

    def measure(network: nn.Module, *given: Any) -> Any:
        networks.append(network)
        count = len(networks)
        row = {"val_accuracy": 1 - count / 10, "val_loss": 1 - count / 10}
        return row, torch.zeros(3, 3)

    monkeypatch.setattr(loop, "measure", measure)
    return networks


@pytest.mark.parametrize(("monitor", "epochs", "kept"), [("accuracy", 3, [1, 3]), ("loss", 5, [5])])
def test_the_metric_that_decides_ends_a_training_and_says_what_is_kept(
    monitor: str, epochs: int, kept: list[int], measured: list[nn.Module], tmp_path: Path
) -> None:
    options: dict[str, Any] = {"epochs": 5, "patience": 2, "monitor": monitor}
    trained = run(tmp_path, **options)
    assert len(trained.state.history) == epochs
    assert saved_epochs(tmp_path) == kept
    # What a kill left between a checkpoint and the removal of the one before.
    shutil.copytree(tmp_path / f"epoch-000{epochs}", tmp_path / "epoch-0002")
    again = run(tmp_path, **options)
    assert len(measured) == epochs
    assert saved_epochs(tmp_path) == kept
    for one, other in zip(trained.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("freezing", [Freezing(body_lr=0.001), Freezing(layer_decay=0.5)], ids=str)
def test_the_rate_of_an_epoch_is_that_of_the_head(
    freezing: Freezing, measured: list[nn.Module], tmp_path: Path
) -> None:
    trained = run(tmp_path, freezing=freezing, lr=0.05, schedule="constant", batch_size=12)
    assert trained.state.history[0]["lr"] == 0.05


@pytest.mark.parametrize("ema", [None, 0.5])
def test_nothing_is_frozen_any_more_when_a_training_has_ended(
    ema: float | None, measured: list[nn.Module], tmp_path: Path
) -> None:
    """Whoever trains the network on would otherwise train its head alone, without a word."""
    freezing = Freezing("all-but-head")
    network = run(tmp_path, freezing=freezing, ema=ema, batch_size=12).network
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(layer.training for layer in network.modules())
    assert all(layer.training for layer in network.train().modules())


def test_the_moving_average_is_what_is_measured(measured: list[nn.Module], tmp_path: Path) -> None:
    assert [run(tmp_path / "a").state.network] == measured
    state = run(tmp_path / "b", ema=0.9).state
    assert measured[1] is state.evaluated
    assert measured[1] is not state.network


def test_a_teacher_tells_of_each_batch_what_it_would_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Teacher:
        def to(self, device: Any) -> None:
            assert torch.device(device).type == "cpu"

        def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
            return inputs.flatten(1)[:, :3].log_softmax(1)

    told: list[torch.Tensor] = []
    images: list[torch.Tensor] = []

    def taught(loss: Any, options: Any, logits: Any, targets: Any, soft: torch.Tensor) -> Any:
        assert options == Distillation("t")
        told.append(soft)
        return loss(logits, targets)

    update = loop.update

    def recorded(network: Any, optimizer: Any, loss: Any, batch: Any, *rest: Any) -> Any:
        images.append(batch[0])
        return update(network, optimizer, loss, batch, *rest)

    monkeypatch.setattr(loop, "_taught", taught)
    monkeypatch.setattr(loop, "update", recorded)
    run(tmp_path, teacher=Teacher())
    assert len(images) == 2
    for soft, inputs in zip(told, images, strict=True):
        assert torch.equal(soft, inputs.flatten(1)[:, :3].log_softmax(1))


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_the_mean_over_all_processes_may_tell_what_no_batch_of_ones_own_does(
    loss: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "mean_of", lambda *given: (loss, 0.5))
    with pytest.raises(DivergedError, match="training"):
        run(tmp_path)
    assert not saved_epochs(tmp_path)


def test_a_trained_network_is_plain_again(tmp_path: Path) -> None:
    """In evaluation mode, with all of its weights to be trained, and contiguous."""
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=8),
        nn.Conv2d(2, 2, 3, padding=1),
        nn.BatchNorm2d(2),
        nn.Flatten(),
        nn.Linear(32, 3),
    )
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert not network[1].weight.is_contiguous()
    asked = experiment(SPLITS, epochs=1, batch_size=6)
    trained = run_epochs(classifier(network), asked, Accelerator(cpu=True), tmp_path)
    assert not any(module.training for module in trained.network.modules())
    assert all(one.requires_grad and one.is_contiguous() for one in trained.network.parameters())


def test_a_range_test_is_the_same_in_every_process_and_ends_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plans: list[Any] = []
    build = lr_finder.build_batches

    def recorded(*given: Any, **named: Any) -> Any:
        plans.append(build(*given, **named))
        return plans[-1]

    monkeypatch.setattr(lr_finder, "build_batches", recorded)
    monkeypatch.setattr(lr_finder, "_UPDATES", 5)
    second: Any = SimpleNamespace(num_processes=2, process_index=1, device=torch.device("cpu"))
    found = lr_finder.find_rate(classifier(), experiment(SPLITS, batch_size=4), second)
    assert [(one.plan.rank, one.plan.world_size) for one in plans] == [(0, 1)]
    assert len(found.rates) == len(found.losses) == 5
    steps = np.diff(np.log10(found.rates))
    np.testing.assert_allclose(steps, steps[0])
    assert RangeTest([0.01, 0.0123456, 0.1], [3.0, 1.0, 2.0]).suggestion == 0.0012


@pytest.mark.parametrize(
    ("freezing", "own", "factors"),
    [
        (Freezing(), [], [1]),
        (Freezing(layer_decay=0.5), [], [0.5, 1]),
        (Freezing(body_lr=0.002), [0.002], [1]),
        (Freezing(body_lr=0.002, layer_decay=0.5), [0.001], [1]),
    ],
    ids=str,
)
def test_in_a_range_test_layers_with_a_rate_of_their_own_keep_it(
    freezing: Freezing, own: list[float], factors: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the training, whatever rate of the head is found; all others grow with it."""
    seen: list[set[float]] = []
    build = lr_finder.build_optimizer

    def recorded(*given: Any) -> Any:
        optimizer = build(*given)
        optimizer.register_step_pre_hook(
            lambda one, *_: seen.append({group["lr"] for group in one.param_groups})
        )
        return optimizer

    monkeypatch.setattr(lr_finder, "build_optimizer", recorded)
    monkeypatch.setattr(lr_finder, "_UPDATES", 4)
    network = nn.Sequential(nn.Flatten(), nn.Linear(1024, 8), nn.Linear(8, 3))
    asked = experiment(SPLITS, batch_size=4, freezing=freezing)
    found = lr_finder.find_rate(classifier(network), asked, Accelerator(cpu=True))
    expected = [[*own, *(factor * rate for factor in factors)] for rate in found.rates]
    for rates, each in zip(seen, expected, strict=False):
        np.testing.assert_allclose(sorted(rates), sorted(each))
    assert len(found.rates) >= 3


@pytest.mark.parametrize("part", ["train", "val"])
def test_images_are_read_as_a_run_asks(part: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = replace(
        experiment(SPLITS, batch_size=5, augmentation=Augmentation(flip=True), seed=7),
        run=replace(QUIET, workers=3),
    )
    built: list[Any] = []
    monkeypatch.setattr(loop, "Batches", lambda *given, **named: built.append((given, named)))
    process: Any = SimpleNamespace(num_processes=2, process_index=1, device="cpu")
    loop.build_batches(classifier(), asked, part, process)
    ((images, _, plan), named) = built[0]
    training = part == "train"
    assert images is DATA
    assert named == {
        "augmentation": asked.augmentation if training else None,
        "device": "cpu",
        "workers": 3,
    }
    assert (plan.rank, plan.world_size, plan.drop_last) == (1, 2, training)
    assert plan.shuffle_seed == (7 if training else None)


def test_what_is_counted_keeps_no_graph_and_an_average_is_at_rest() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.Dropout()).train()
    logits, targets = network(torch.ones(4, 3)), torch.tensor([0, 1, 0, 1])
    loss, correct, images = count(logits.sum(), logits, targets)
    assert not loss.requires_grad
    assert float(loss) == float(logits.detach().sum())
    assert (int(correct), images) == (sum((logits.argmax(1) == targets).tolist()), 4)
    average = moving_average(network, 0.9, torch.device("cpu"))
    assert not any(module.training for module in average.modules())
    assert network.training


def test_of_equal_losses_the_higher_accuracy_is_the_better() -> None:
    rows: list[Any] = [{"val_loss": 1.0, "val_accuracy": value} for value in (0.5, 0.75, 0.25)]
    assert best_epochs(rows, "loss", 3) == [2, 1, 3]
