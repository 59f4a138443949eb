"""Training: the loop against a plain one, exact resuming, accumulation, and run folders."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import FIXTURES
from torch import nn
from torch.nn import functional
from torch.optim import lr_scheduler

from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.saved import SavedModel, open_model
from torchlift.transfer.data import Dataset, Splits, open_data, split
from torchlift.transfer.data.augmentation import Augmentation
from torchlift.transfer.data.plan import BatchPlan
from torchlift.transfer.errors import TrainingError
from torchlift.transfer.freezing import Freezing
from torchlift.transfer.memory_format import to_channels_last
from torchlift.transfer.networks import convnet_bn, lenet5
from torchlift.transfer.training.checkpoints import best_epoch, saved_epochs
from torchlift.transfer.training.experiment import RunResult, run_experiment
from torchlift.transfer.training.loop import build_batches
from torchlift.transfer.training.lr_finder import RangeTest, find_rate
from torchlift.transfer.training.options import Experiment, Optimization, Run
from torchlift.transfer.training.processes import start_processes
from torchlift.transfer.training.run_folder import RunFolder

DIGITS = FIXTURES / "digits"
PREPROCESSING = Preprocessing(color="gray", size=(32, 32), mean=(0.2,), std=(0.3,))
#: Training without trackers, which have their own test.
QUIET = Run(device="cpu", tracker=["none"])


@pytest.fixture(scope="module")
def splits() -> Splits[Any]:
    """130 of Torch7's training digits for training and 20 for validation."""
    data: Any = open_data(DIGITS / "digits-train.t7", limit=150)
    return split(data, val_fraction=0.134)


def experiment(splits: Splits[Any], **options: Any) -> Experiment:
    freezing = options.pop("freezing", Freezing())
    augmentation = options.pop("augmentation", Augmentation())
    run, seed = options.pop("run", QUIET), options.pop("seed", 0)
    options = {"epochs": 2, "batch_size": 32, "lr": 0.05, **options}
    config = {**options, "seed": seed}
    return Experiment(splits, Optimization(**options), freezing, augmentation, run, seed, config)


def classifier(network: nn.Module | None = None) -> SavedModel:
    torch.manual_seed(0)
    return SavedModel(network or lenet5(1, 10), "logits", (1, 32, 32), None, PREPROCESSING)


def trained(splits: Splits[Any], folder: Path, **options: Any) -> tuple[SavedModel, RunResult]:
    model = classifier(options.pop("network", None))
    return model, run_experiment(model, experiment(splits, **options), folder)


def difference(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)


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


def test_durations_are_kept_apart_from_reproducible_results(
    splits: Splits[Any], tmp_path: Path
) -> None:
    _, outcome = trained(splits, tmp_path / "run", epochs=1)
    _, resumed = trained(splits, tmp_path / "run", epochs=2, run=replace(QUIET, resume="auto"))
    assert resumed.seconds[0] == outcome.seconds[0] > 0
    lines = (tmp_path / "run" / "seconds.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "epoch,seconds"
    assert [float(line.split(",")[1]) for line in lines[1:]] == pytest.approx(
        resumed.seconds, abs=1e-3
    )
    assert "seconds" not in (tmp_path / "run" / "metrics.csv").read_text(encoding="utf-8")


#: Every option that adds state to a training.
EVERYTHING = {
    "optimizer": "adamw",
    "lr": 0.003,
    "schedule": "constant",
    "ema": 0.9,
    "augmentation": Augmentation(flip=True, crop_padding=2, mixup=0.2),
    "freezing": Freezing(freeze="until 7", unfreeze_at=3, layer_decay=0.9),
    "accumulate": 2,
    "sampling": "replacement",
}


def with_dropout() -> nn.Module:
    torch.manual_seed(0)
    network = convnet_bn(1, 10)
    network[10] = nn.Sequential(nn.ReLU(), nn.Dropout(0.5))
    return network


def test_a_resumed_run_is_bit_identical_to_an_uninterrupted_one(
    splits: Splits[Any], tmp_path: Path
) -> None:
    def run(folder: str, epochs: int) -> tuple[SavedModel, RunResult]:
        return trained(
            splits,
            tmp_path / folder,
            **EVERYTHING,
            epochs=epochs,
            run=replace(QUIET, resume="auto"),
            network=with_dropout(),
        )

    whole, expected = run("whole", 4)
    run("halves", 2)
    torch.rand(7)  # resuming must not depend on the generators of this process
    model, resumed = run("halves", 4)
    assert difference(model.module, whole.module) == 0
    assert resumed.history == expected.history
    for name in ("metrics.csv", "metrics.jsonl", "evaluation.json", "model/model.safetensors"):
        assert (resumed.folder.path / name).read_bytes() == (
            expected.folder.path / name
        ).read_bytes(), name


def test_a_run_depends_on_nothing_but_its_seed(splits: Splits[Any], tmp_path: Path) -> None:
    options = {**EVERYTHING, "epochs": 1}
    results = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.rand(len(folder))
        model, _ = trained(splits, tmp_path / folder, **options, seed=seed, network=with_dropout())
        results.append(model.module)
    assert difference(results[0], results[1]) == 0
    assert difference(results[0], results[2]) > 0


def test_accumulation_steps_add_up_to_the_gradient_of_the_batch(
    splits: Splits[Any], tmp_path: Path
) -> None:
    one, first = trained(splits, tmp_path / "one")
    four, second = trained(splits, tmp_path / "four", accumulate=4)
    # The sums have another order, and SGD adds up ten updates.
    assert difference(one.module, four.module) < 1e-6
    assert first.history[-1]["train_loss"] == pytest.approx(second.history[-1]["train_loss"], 1e-6)


def test_only_training_images_are_augmented(splits: Splits[Any], tmp_path: Path) -> None:
    """The validation split decides: it has to be the same in each epoch and each run."""
    augmentation = Augmentation(flip=True, crop_padding=4)
    options = experiment(splits, augmentation=augmentation)
    accelerator = start_processes(QUIET, Freezing(), tmp_path)
    for name, is_changed in (("val", False), ("train", True)):
        batches = build_batches(classifier(), options, name, accelerator)  # type: ignore[arg-type]  # one of its literals
        inputs = torch.cat([inputs for inputs, _ in batches.epoch(1)])
        images = getattr(splits, name).images[batches.plan.order(1)][: len(inputs)]
        assert torch.equal(inputs, torch.from_numpy(PREPROCESSING(images))) is not is_changed


def test_the_reported_learning_rate_is_that_of_the_head(
    splits: Splits[Any], tmp_path: Path
) -> None:
    freezing = Freezing(body_lr=0.001)
    _, outcome = trained(splits, tmp_path / "run", epochs=1, schedule="constant", freezing=freezing)
    assert outcome.history[0]["lr"] == 0.05


def test_frozen_layers_are_unchanged_by_training(splits: Splits[Any], tmp_path: Path) -> None:
    network = convnet_bn(1, 10)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    model, _ = trained(
        splits, tmp_path / "run", network=network, freezing=Freezing("all-but-head"), epochs=1
    )
    changed = {n for n, tensor in model.module.state_dict().items() if not tensor.equal(before[n])}
    assert changed == {"13.weight", "13.bias"}


class Viewing(nn.Module):
    """A network in the style of PyTorch's tutorials, whose `view` needs contiguous memory."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 3, 5, stride=3), nn.Conv2d(3, 4, 1))
        self.linear = nn.Linear(4 * 10 * 10, 10)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.linear(self.features(input).view(-1, 4 * 10 * 10))
        return output


def test_channels_last_is_used_where_the_network_runs_that_way(
    splits: Splits[Any], tmp_path: Path
) -> None:
    fast, viewing = nn.Sequential(nn.Conv2d(3, 4, 5), nn.Flatten()), Viewing()
    weights = fast[0].weight.detach().clone()
    to_channels_last(fast, torch.zeros(2, 3, 8, 8))
    assert fast[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not fast[0].weight.is_contiguous()
    assert torch.equal(fast[0].weight, weights)
    with pytest.raises(RuntimeError, match="view size"):
        Viewing().to(memory_format=torch.channels_last)(torch.zeros(2, 1, 32, 32))
    _, outcome = trained(splits, tmp_path / "run", network=viewing, epochs=1)
    assert len(outcome.history) == 1


def test_layers_are_unfrozen_at_their_epoch(splits: Splits[Any], tmp_path: Path) -> None:
    network = convnet_bn(1, 10)
    before = network[0].weight.detach().clone()
    _, outcome = trained(
        splits, tmp_path / "run", network=network, freezing=Freezing("all-but-head", 2), epochs=2
    )
    from safetensors.torch import load_file

    first = outcome.folder.checkpoints / "epoch-0001" / "model.safetensors"
    if first.exists():  # it is kept only if it was the best epoch
        assert torch.equal(load_file(first)["0.weight"], before)
    last = load_file(outcome.folder.checkpoints / "epoch-0002" / "model.safetensors")
    assert not torch.equal(last["0.weight"], before)


def test_the_best_epoch_is_kept_and_saved(splits: Splits[Any], tmp_path: Path) -> None:
    # This learning rate ruins the network after some epochs, so that the best is not the last.
    model, outcome = trained(
        splits, tmp_path / "run", epochs=12, lr=0.3, schedule="constant", patience=3
    )
    best = best_epoch(outcome.history)
    assert len(outcome.history) == best + 3 < 12
    assert saved_epochs(outcome.folder.checkpoints) == [best, len(outcome.history)]
    assert outcome.evaluation["split"] == "val"
    assert outcome.evaluation["accuracy"] == outcome.history[best - 1]["val_accuracy"]
    saved = open_model(outcome.folder.model)
    assert difference(saved.module, model.module) == 0


def test_the_range_test_suggests_a_rate_and_changes_nothing(
    splits: Splits[Any], tmp_path: Path
) -> None:
    model, before = classifier(), classifier().module
    accelerator = start_processes(QUIET, Freezing(), tmp_path)
    test = find_rate(model, experiment(splits, lr="find"), accelerator)
    assert 1e-3 < test.suggestion < 1
    assert test.rates == sorted(test.rates)
    assert min(test.losses) < test.losses[0]
    assert difference(model.module, before) == 0


def test_the_suggested_rate_is_a_tenth_of_that_with_the_smallest_loss() -> None:
    assert RangeTest([1e-3, 1e-2, 1e-1], [3.0, 1.0, 2.0]).suggestion == 1e-3


class Noise(nn.Module):
    """Records a random number of each forward pass in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: list[float] = []

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.numbers.append(float(torch.rand(1)))
        return input


def test_each_epoch_has_its_own_random_numbers(splits: Splits[Any], tmp_path: Path) -> None:
    noise = Noise()
    network = nn.Sequential(noise, nn.Flatten(), nn.Linear(32 * 32, 10))
    trained(splits, tmp_path / "run", network=network, epochs=3)
    # Validation is in evaluation mode: it draws none.
    assert len(noise.numbers) == 3 * (len(splits.train) // 32)
    assert len(set(noise.numbers)) == len(noise.numbers)


def test_an_interrupted_checkpoint_leaves_the_one_before_it(
    splits: Splits[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(content: object, file: Path) -> None:
        file.write_bytes(b"half of it")
        raise KeyboardInterrupt

    _, outcome = trained(splits, tmp_path / "run", epochs=1)
    monkeypatch.setattr(torch, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        trained(splits, tmp_path / "run", epochs=2, run=replace(QUIET, resume="auto"))
    checkpoints = outcome.folder.checkpoints
    assert [path.name for path in checkpoints.iterdir()] == ["epoch-0001"]


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


def test_a_folder_with_another_run_is_refused(splits: Splits[Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trained(splits, folder, epochs=1)
    with pytest.raises(TrainingError, match=r"resume='auto' .* overwrite=True"):
        trained(splits, folder, epochs=1)
    resume = replace(QUIET, resume="auto")
    with pytest.raises(TrainingError, match=r"momentum \(None, now 0.5\)"):
        trained(splits, folder, epochs=1, run=resume, momentum=0.5)
    other = replace(splits, train=splits.train.take(np.arange(100)))
    with pytest.raises(TrainingError, match="another data"):
        trained(other, folder, epochs=1, run=resume)
    with pytest.raises(TrainingError, match="another model"):
        trained(splits, folder, epochs=1, run=resume, network=convnet_bn(1, 10))


def test_overwriting_deletes_what_a_run_wrote_and_nothing_else(
    splits: Splits[Any], tmp_path: Path
) -> None:
    folder, fresh = tmp_path / "run", tmp_path / "fresh"
    trained(splits, folder, epochs=3)
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    (folder / "checkpoints" / "notes.txt").write_text("mine", encoding="utf-8")
    trained(splits, folder, epochs=4, run=replace(QUIET, resume="auto"))
    assert (folder / "checkpoints" / "notes.txt").exists()
    options = {"epochs": 1, "run": replace(QUIET, overwrite=True), "momentum": 0.5}
    trained(splits, folder, **options)
    trained(splits, fresh, **options)
    assert {path.name for path in folder.iterdir()} == {
        "notes.txt",
        *(path.name for path in fresh.iterdir()),
    }
    assert saved_epochs(folder / "checkpoints") == [1]
    for name in ("metrics.csv", "config.yaml", "evaluation.json", "model/model.safetensors"):
        assert (folder / name).read_bytes() == (fresh / name).read_bytes(), name


@pytest.mark.parametrize("names", ["thesis.txt", "config.yaml", "run.json", "config.yaml run.json"])
def test_a_folder_that_is_no_run_is_never_overwritten(
    names: str, splits: Splits[Any], tmp_path: Path
) -> None:
    # Other programs have files of these names too.
    folder = tmp_path / "other"
    (folder / "model").mkdir(parents=True)
    for name in names.split():
        (folder / name).write_text("{}", encoding="utf-8")
    for run in (replace(QUIET, overwrite=True), replace(QUIET, resume="auto")):
        with pytest.raises(TrainingError, match="something else than a run"):
            trained(splits, folder, run=run)
    assert {path.name for path in folder.iterdir()} == {*names.split(), "model"}


def test_an_empty_folder_becomes_a_run(splits: Splits[Any], tmp_path: Path) -> None:
    (tmp_path / "runs" / "empty").mkdir(parents=True)
    _, outcome = trained(splits, tmp_path / "runs" / "empty", epochs=0)
    assert outcome.folder.is_finished()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["empty"]


def test_diverged_results_are_null_in_json(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_metrics([{"epoch": 1, "train_loss": math.nan, "train_accuracy": 0.1}], [0.5])
    text = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8")
    assert text == '{"epoch": 1, "train_loss": null, "train_accuracy": 0.1}\n'
    (row,) = folder.read_metrics()
    assert math.isnan(row["train_loss"])
    assert row["train_accuracy"] == 0.1


def test_a_missing_tracker_is_named(splits: Splits[Any], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="tracker='nonsense' is not installed"):
        trained(splits, tmp_path / "run", run=replace(QUIET, tracker=["tensorboard", "nonsense"]))
    assert not (tmp_path / "run").exists()
