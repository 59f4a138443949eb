"""The updates of a training, against a plain loop of PyTorch and against Torch7's formulas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim import lr_scheduler
from training_support import (
    PREPROCESSING,
    classifier,
    difference,
    digit_splits,
    experiment,
    trained,
)

from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.saved import SavedModel, open_model
from torchlift.transfer.data import Dataset, Splits
from torchlift.transfer.data.plan import BatchPlan
from torchlift.transfer.training.experiment import run_experiment


@pytest.fixture(scope="module")
def splits() -> Splits[Any]:
    return digit_splits()


def plain_batches(
    splits: Splits[Any], epochs: int, size: int, sampling: str = "shuffle"
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield inputs and classes in the order of `BatchPlan`."""
    inputs = torch.from_numpy(PREPROCESSING(splits.train.images))
    classes = torch.from_numpy(splits.train.classes)
    plan = BatchPlan(len(inputs), size, 0, sampling=sampling)  # type: ignore[arg-type]  # one of its literals
    for epoch in range(1, epochs + 1):
        for chosen in torch.from_numpy(plan.order(epoch)).split(size)[: len(inputs) // size]:
            yield inputs[chosen], classes[chosen]


def test_the_loop_equals_a_plain_loop(splits: Splits[Any], tmp_path: Path) -> None:
    # Plain torch, except for the order of the images.
    plain = classifier().module
    decay = [p for p in plain.parameters() if p.dim() > 1]
    rest = [p for p in plain.parameters() if p.dim() == 1]
    groups = [{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9)
    schedule = lr_scheduler.CosineAnnealingLR(optimizer, 2 * (len(splits.train) // 32))
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    plain.train()
    for inputs, classes in plain_batches(splits, 2, 32):
        optimizer.zero_grad()
        loss(plain(inputs), classes).backward()
        # Small enough to clip every gradient.
        assert nn.utils.clip_grad_norm_(plain.parameters(), 0.1) > 0.1
        optimizer.step()
        schedule.step()
    model, outcome = trained(
        splits, tmp_path / "run", weight_decay=0.01, label_smoothing=0.1, clip_norm=0.1
    )
    # The loop divides a sum by a constant where the plain loop takes a mean: other rounding.
    assert difference(model.module, plain) < 1e-6

    with torch.no_grad():
        logits = plain.eval()(torch.from_numpy(PREPROCESSING(splits.val.images)))
    target = torch.from_numpy(splits.val.classes)
    last = outcome.history[-1]
    assert last["val_loss"] == pytest.approx(float(functional.cross_entropy(logits, target)), 1e-5)
    assert last["val_accuracy"] == float((logits.argmax(1) == target).double().mean())


def torch7_sgd(
    network: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    lr: float,
    momentum: float,
    dampening: float,
) -> None:
    """Train by the formulas of `optim/sgd.lua`, which does not dampen the first gradient."""
    momenta: list[torch.Tensor] | None = None
    for inputs, classes in batches:
        loss = functional.cross_entropy(network(inputs), classes)
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        if momenta is None:
            momenta = [gradient.clone() for gradient in gradients]
        else:
            for buffer, gradient in zip(momenta, gradients, strict=True):
                buffer.mul_(momentum).add_(gradient, alpha=1 - dampening)
        with torch.no_grad():
            for parameter, buffer in zip(network.parameters(), momenta, strict=True):
                parameter.sub_(lr * buffer)


def test_sgd_with_dampening_equals_torch7s(splits: Splits[Any], tmp_path: Path) -> None:
    lua = classifier().module
    torch7_sgd(lua, plain_batches(splits, 2, 32, "replacement"), 0.1, 0.9, 0.9)
    recipe = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0, "schedule": "constant"}
    model, _ = trained(splits, tmp_path / "run", **recipe, dampening=0.9, sampling="replacement")
    assert difference(model.module, lua) < 1e-6
    # Without dampening each step is up to ten times as long.
    other, _ = trained(splits, tmp_path / "other", **recipe, sampling="replacement")
    assert difference(other.module, lua) > 1e-2


def test_sgd_with_a_fixed_order_equals_stochastic_gradient(
    splits: Splits[Any], tmp_path: Path
) -> None:
    # nn.StochasticGradient takes one image at a time, in an order that is drawn once.
    lua = classifier().module
    first = list(plain_batches(splits, 1, 1, "shuffle-once"))
    torch7_sgd(lua, first + first, 0.001, 0, 0)
    options: dict[str, Any] = {
        "lr": 0.001,
        "momentum": 0,
        "weight_decay": 0,
        "schedule": "constant",
    }
    options |= {"batch_size": 1, "sampling": "shuffle-once"}
    model, _ = trained(splits, tmp_path / "run", **options)
    # 260 updates, each with its rounding.
    assert difference(model.module, lua) < 1e-6


def test_adamw_without_decay_is_adam(splits: Splits[Any], tmp_path: Path) -> None:
    plain = classifier().module
    adam = torch.optim.Adam(plain.parameters(), lr=0.002)
    for inputs, classes in plain_batches(splits, 2, 32):
        adam.zero_grad()
        functional.cross_entropy(plain(inputs), classes).backward()
        adam.step()
    options = {"optimizer": "adamw", "lr": 0.002, "weight_decay": 0, "schedule": "constant"}
    model, _ = trained(splits, tmp_path / "run", **options)
    # Adam divides by the size of the gradients, which enlarges their rounding.
    assert difference(model.module, plain) < 1e-5


def test_accumulation_steps_add_up_to_the_gradient_of_the_batch(
    splits: Splits[Any], tmp_path: Path
) -> None:
    one, first = trained(splits, tmp_path / "one")
    four, second = trained(splits, tmp_path / "four", accumulate=4)
    # The sums have another order, and SGD adds up ten updates.
    assert difference(one.module, four.module) < 1e-6
    assert first.history[-1]["train_loss"] == pytest.approx(second.history[-1]["train_loss"], 1e-6)


def test_balancing_weights_classes_by_their_frequency(splits: Splits[Any], tmp_path: Path) -> None:
    # Nine images of one class for each of another: with weights the gradients of the bias cancel.
    images = np.zeros((100, 1, 8, 8), np.uint8)
    classes = np.array([0] * 90 + [1] * 10)
    data = Dataset(images, classes)
    unbalanced = Splits(data, data.take(np.arange(0)), data.take(np.arange(0)))
    biases = {}
    for balanced in (False, True):
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        nn.init.zeros_(network[1].bias)
        model = SavedModel(network, "logits", (1, 8, 8), None, Preprocessing("gray"))
        options = {"balanced": balanced, "batch_size": 100, "epochs": 1, "lr": 1.0}
        folder = tmp_path / str(balanced)
        run_experiment(model, experiment(unbalanced, **options), folder)
        biases[balanced] = network[1].bias.detach()
    assert biases[False][0] > 0.3
    torch.testing.assert_close(biases[True], torch.zeros(2), atol=1e-6, rtol=0)


def test_zero_epochs_save_the_initial_network(splits: Splits[Any], tmp_path: Path) -> None:
    expected = classifier().module
    _, outcome = trained(splits, tmp_path / "run", epochs=0)
    saved = open_model(outcome.folder.model)
    assert difference(saved.module, expected) == 0
    assert (outcome.history, outcome.evaluation["epoch"]) == ([], 0)
    logits = expected(torch.from_numpy(PREPROCESSING(splits.val.images)))
    correct = (logits.argmax(1).numpy() == splits.val.classes).sum()
    assert outcome.evaluation["correct"] == correct
    assert outcome.folder.read_metrics() == []
