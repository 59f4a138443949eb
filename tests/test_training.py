"""Training: the loop against a plain one, resuming to the bit, parts of a batch, run folders."""

from __future__ import annotations

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
from torchlift.transfer.data.batches import Batches
from torchlift.transfer.data.plan import BatchPlan
from torchlift.transfer.errors import TrainingError
from torchlift.transfer.memory_format import to_channels_last
from torchlift.transfer.networks import convnet_bn, lenet5
from torchlift.transfer.training.checkpoints import best_epoch, saved_epochs
from torchlift.transfer.training.experiment import Experiment, Outcome, carry_out
from torchlift.transfer.training.lr_finder import find_rate
from torchlift.transfer.training.options import Freezing, Optimization, Run

DIGITS = FIXTURES / "digits"
PREPROCESSING = Preprocessing(color="gray", size=(32, 32), mean=(0.2,), std=(0.3,))
#: Training without trackers; they have a test of their own.
QUIET = Run(device="cpu", tracker="none")


@pytest.fixture(scope="module")
def parts() -> Splits[Any]:
    """130 of Torch7's training digits for training and 20 for validation."""
    data: Any = open_data(DIGITS / "digits-train.t7", limit=150)
    return split(data, val_fraction=0.134)


def experiment(parts: Splits[Any], **options: Any) -> Experiment:
    freezing = options.pop("freezing", Freezing())
    augmentation = options.pop("augmentation", Augmentation())
    run, seed = options.pop("run", QUIET), options.pop("seed", 0)
    usual = {"epochs": 2, "batch_size": 32, "lr": 0.05}
    config = {**usual, **options, "seed": seed}
    return Experiment(
        parts, Optimization(**(usual | options)), freezing, augmentation, run, seed, config
    )


def classifier(network: nn.Module | None = None) -> SavedModel:
    torch.manual_seed(0)
    return SavedModel(network or lenet5(1, 10), "logits", (1, 32, 32), None, PREPROCESSING)


def trained(parts: Splits[Any], folder: Path, **options: Any) -> tuple[SavedModel, Outcome]:
    model = classifier(options.pop("network", None))
    return model, carry_out(model, experiment(parts, **options), folder)


def difference(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)


def plain_batches(
    parts: Splits[Any], epochs: int, size: int, sampling: str = "shuffle"
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """What the network is given, in the order of `BatchPlan`."""
    inputs = torch.from_numpy(PREPROCESSING(parts.train.images))
    classes = torch.from_numpy(parts.train.classes)
    plan = BatchPlan(len(inputs), size, 0, sampling=sampling)  # type: ignore[arg-type]  # a name of the list
    for epoch in range(1, epochs + 1):
        for chosen in torch.from_numpy(plan.order(epoch)).split(size)[: len(inputs) // size]:
            yield inputs[chosen], classes[chosen]


def test_the_loop_learns_what_a_plain_loop_learns(parts: Splits[Any], tmp_path: Path) -> None:
    # Written with torch alone, but for the order of the images.
    plain = classifier().module
    decay = [p for p in plain.parameters() if p.dim() > 1]
    rest = [p for p in plain.parameters() if p.dim() == 1]
    groups = [{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9)
    schedule = lr_scheduler.CosineAnnealingLR(optimizer, 2 * (len(parts.train) // 32))
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    plain.train()
    for inputs, classes in plain_batches(parts, 2, 32):
        optimizer.zero_grad()
        loss(plain(inputs), classes).backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model, outcome = trained(
        parts, tmp_path / "run", weight_decay=0.01, label_smoothing=0.1, clip_norm=1.0
    )
    # A mean is taken as a sum over a constant here, which rounds differently.
    assert difference(model.module, plain) < 1e-6

    with torch.no_grad():
        logits = plain.eval()(torch.from_numpy(PREPROCESSING(parts.val.images)))
    target = torch.from_numpy(parts.val.classes)
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
    """The formulas of `optim/sgd.lua`: the first gradient is taken whole, later ones dampened."""
    moved: list[torch.Tensor] | None = None
    for inputs, classes in batches:
        loss = functional.cross_entropy(network(inputs), classes)
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        if moved is None:
            moved = [gradient.clone() for gradient in gradients]
        else:
            for kept, gradient in zip(moved, gradients, strict=True):
                kept.mul_(momentum).add_(gradient, alpha=1 - dampening)
        with torch.no_grad():
            for parameter, step in zip(network.parameters(), moved, strict=True):
                parameter.sub_(lr * step)


def test_with_its_dampening_sgd_is_torch7s(parts: Splits[Any], tmp_path: Path) -> None:
    lua = classifier().module
    torch7_sgd(lua, plain_batches(parts, 2, 32, "replacement"), 0.1, 0.9, 0.9)
    recipe = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0, "schedule": "constant"}
    model, _ = trained(parts, tmp_path / "run", **recipe, dampening=0.9, sampling="replacement")
    assert difference(model.module, lua) < 1e-6
    # Without it each step is up to ten times as long.
    other, _ = trained(parts, tmp_path / "other", **recipe, sampling="replacement")
    assert difference(other.module, lua) > 1e-2


def test_the_recipe_of_stochastic_gradient(parts: Splits[Any], tmp_path: Path) -> None:
    # nn.StochasticGradient: one image at a time, in one order that is drawn once.
    lua = classifier().module
    first = list(plain_batches(parts, 1, 1, "shuffle-once"))
    torch7_sgd(lua, first + first, 0.001, 0, 0)
    options = {"lr": 0.001, "momentum": 0, "weight_decay": 0, "schedule": "constant"}
    few = {"batch_size": 1, "sampling": "shuffle-once"}
    model, _ = trained(parts, tmp_path / "run", **options, **few)
    # 260 updates, each rounded.
    assert difference(model.module, lua) < 1e-6


def test_adamw_without_decay_is_adam(parts: Splits[Any], tmp_path: Path) -> None:
    plain = classifier().module
    adam = torch.optim.Adam(plain.parameters(), lr=0.002)
    for inputs, classes in plain_batches(parts, 2, 32):
        adam.zero_grad()
        functional.cross_entropy(plain(inputs), classes).backward()
        adam.step()
    options = {"optimizer": "adamw", "lr": 0.002, "weight_decay": 0, "schedule": "constant"}
    model, _ = trained(parts, tmp_path / "run", **options)
    # Gradients that round differently count in full where they are tiny: Adam divides by them.
    assert difference(model.module, plain) < 1e-5


def test_no_epoch_leaves_the_network_that_the_seed_gives(
    parts: Splits[Any], tmp_path: Path
) -> None:
    expected = classifier().module
    _, outcome = trained(parts, tmp_path / "run", epochs=0)
    saved = open_model(outcome.folder.model)
    assert difference(saved.module, expected) == 0
    assert (outcome.history, outcome.evaluation["epoch"]) == ([], 0)
    logits = expected(torch.from_numpy(PREPROCESSING(parts.val.images)))
    right = (logits.argmax(1).numpy() == parts.val.classes).sum()
    assert outcome.evaluation["correct"] == right
    assert outcome.folder.read_metrics() == []


def test_each_epochs_time_is_told_apart_from_what_repeats(
    parts: Splits[Any], tmp_path: Path
) -> None:
    _, outcome = trained(parts, tmp_path / "run", epochs=1)
    _, resumed = trained(parts, tmp_path / "run", epochs=2, run=replace(QUIET, resume="auto"))
    assert resumed.seconds[0] == outcome.seconds[0] > 0
    lines = (tmp_path / "run" / "seconds.csv").read_text().splitlines()
    assert lines[0] == "epoch,seconds"
    assert [float(line.split(",")[1]) for line in lines[1:]] == pytest.approx(
        resumed.seconds, abs=1e-3
    )
    assert "seconds" not in (tmp_path / "run" / "metrics.csv").read_text()


#: Everything that has a state of its own.
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


def test_two_and_two_epochs_are_four_to_the_bit(parts: Splits[Any], tmp_path: Path) -> None:
    def run(folder: str, epochs: int) -> tuple[SavedModel, Outcome]:
        again = replace(QUIET, resume="auto")
        return trained(
            parts,
            tmp_path / folder,
            **EVERYTHING,
            epochs=epochs,
            run=again,
            network=with_dropout(),
        )

    whole, expected = run("whole", 4)
    run("halves", 2)
    torch.rand(7)  # resuming depends on nothing that happened between
    resumed, found = run("halves", 4)
    assert difference(resumed.module, whole.module) == 0
    assert found.history == expected.history
    for name in ("metrics.csv", "metrics.jsonl", "evaluation.json", "model/model.safetensors"):
        assert (found.folder.path / name).read_bytes() == (
            expected.folder.path / name
        ).read_bytes(), name


def test_the_seed_decides_and_nothing_else(parts: Splits[Any], tmp_path: Path) -> None:
    options = {**EVERYTHING, "epochs": 1}
    results = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.rand(len(folder))
        model, _ = trained(parts, tmp_path / folder, **options, seed=seed, network=with_dropout())
        results.append(model.module)
    assert difference(results[0], results[1]) == 0
    assert difference(results[0], results[2]) > 0


def test_parts_of_a_batch_give_the_gradient_of_the_batch(
    parts: Splits[Any], tmp_path: Path
) -> None:
    one, first = trained(parts, tmp_path / "one")
    four, second = trained(parts, tmp_path / "four", accumulate=4)
    # Sums in another order; SGD adds up ten updates.
    assert difference(one.module, four.module) < 1e-6
    assert first.history[-1]["train_loss"] == pytest.approx(second.history[-1]["train_loss"], 1e-6)


def test_frozen_layers_come_out_of_training_bit_equal(parts: Splits[Any], tmp_path: Path) -> None:
    network = convnet_bn(1, 10)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    model, _ = trained(
        parts, tmp_path / "run", network=network, freezing=Freezing("all-but-head"), epochs=1
    )
    changed = {n for n, tensor in model.module.state_dict().items() if not tensor.equal(before[n])}
    assert changed == {"13.weight", "13.bias"}


class Viewing(nn.Module):
    """A network in the style of PyTorch's tutorials: it takes a feature map for flat memory."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 3, 5, stride=3), nn.Conv2d(3, 4, 1))
        self.linear = nn.Linear(4 * 10 * 10, 10)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.linear(self.features(input).view(-1, 4 * 10 * 10))


def test_the_faster_layout_is_taken_where_the_network_bears_it(
    parts: Splits[Any], tmp_path: Path
) -> None:
    fast, viewing = nn.Sequential(nn.Conv2d(3, 4, 5), nn.Flatten()), Viewing()
    weights = fast[0].weight.detach().clone()
    to_channels_last(fast, torch.zeros(2, 3, 8, 8))
    assert fast[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not fast[0].weight.is_contiguous()
    assert torch.equal(fast[0].weight, weights)
    with pytest.raises(RuntimeError, match="view size"):
        Viewing().to(memory_format=torch.channels_last)(torch.zeros(2, 1, 32, 32))
    _, outcome = trained(parts, tmp_path / "run", network=viewing, epochs=1)
    assert len(outcome.history) == 1


def test_the_schedule_of_freezing_reaches_the_loop(parts: Splits[Any], tmp_path: Path) -> None:
    network = convnet_bn(1, 10)
    before = network[0].weight.detach().clone()
    _, outcome = trained(
        parts, tmp_path / "run", network=network, freezing=Freezing("all-but-head", 2), epochs=2
    )
    from safetensors.torch import load_file

    first = outcome.folder.checkpoints / "epoch-0001" / "model.safetensors"
    if first.exists():  # kept if it was the best
        assert torch.equal(load_file(first)["0.weight"], before)
    last = load_file(outcome.folder.checkpoints / "epoch-0002" / "model.safetensors")
    assert not torch.equal(last["0.weight"], before)


def test_the_best_epoch_is_kept_and_saved(parts: Splits[Any], tmp_path: Path) -> None:
    # A rate that ruins the network after some epochs: the best is not the last.
    model, outcome = trained(
        parts, tmp_path / "run", epochs=12, lr=0.3, schedule="constant", patience=3
    )
    best = best_epoch(outcome.history)
    assert len(outcome.history) == best + 3 < 12
    assert saved_epochs(outcome.folder.checkpoints) == [best, len(outcome.history)]
    assert outcome.evaluation["split"] == "val"
    assert outcome.evaluation["accuracy"] == outcome.history[best - 1]["val_accuracy"]
    saved = open_model(outcome.folder.model)
    assert difference(saved.module, model.module) == 0


def test_the_range_test_finds_a_rate_that_learns_and_changes_nothing(parts: Splits[Any]) -> None:
    model = classifier()
    before = classifier().module
    batches = Batches(parts.train, PREPROCESSING, 32, shuffle_seed=0)
    test = find_rate(model.module, batches, Optimization(), Freezing(), torch.device("cpu"))
    assert 1e-3 < test.suggestion < 1
    assert test.rates == sorted(test.rates)
    assert min(test.losses) < test.losses[0]
    assert difference(model.module, before) == 0


def test_balancing_weighs_classes_by_their_share(parts: Splits[Any], tmp_path: Path) -> None:
    # Nine of one class and one of another: both pull alike, so that the bias stays where it is.
    images = np.zeros((100, 1, 8, 8), np.uint8)
    classes = np.array([0] * 90 + [1] * 10)
    data = Dataset(images, classes)
    splits = Splits(data, data.take(np.arange(0)), data.take(np.arange(0)))
    biases = {}
    for balanced in (False, True):
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        nn.init.zeros_(network[1].bias)
        model = SavedModel(network, "logits", (1, 8, 8), None, Preprocessing("gray"))
        options = {"balanced": balanced, "batch_size": 100, "epochs": 1, "lr": 1.0}
        folder = tmp_path / str(balanced)
        carry_out(model, experiment(splits, **options), folder)
        biases[balanced] = network[1].bias.detach()
    assert biases[False][0] > 0.3
    torch.testing.assert_close(biases[True], torch.zeros(2), atol=1e-6, rtol=0)


def test_a_folder_that_is_taken_is_refused(parts: Splits[Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trained(parts, folder, epochs=1)
    with pytest.raises(TrainingError, match="--resume auto"):
        trained(parts, folder, epochs=1)
    again = replace(QUIET, resume="auto")
    with pytest.raises(TrainingError, match=r"momentum \(None, now 0.5\)"):
        trained(parts, folder, epochs=1, run=again, momentum=0.5)
    other = replace(parts, train=parts.train.take(np.arange(100)))
    with pytest.raises(TrainingError, match="another data"):
        trained(other, folder, epochs=1, run=again)
    with pytest.raises(TrainingError, match="another model"):
        trained(parts, folder, epochs=1, run=again, network=convnet_bn(1, 10))
    trained(parts, folder, epochs=1, run=replace(QUIET, overwrite=True), momentum=0.5)

    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    with pytest.raises(TrainingError, match="something else"):
        trained(parts, tmp_path / "other", run=replace(QUIET, overwrite=True))


def test_a_tracker_that_is_not_there_is_named(parts: Splits[Any], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no tracker nonsense here"):
        trained(parts, tmp_path / "run", run=replace(QUIET, tracker="tensorboard,nonsense"))
    assert not (tmp_path / "run").exists()
