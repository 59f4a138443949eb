"""Options of a training: augmentation, frozen layers, learning rates, memory format, trackers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from training_support import (
    PREPROCESSING,
    QUIET,
    classifier,
    difference,
    digit_splits,
    experiment,
    trained,
)

from torchlift.transfer.data import Dataset, Splits
from torchlift.transfer.data.augmentation import Augmentation
from torchlift.transfer.errors import TrainingError
from torchlift.transfer.freezing import Freezing
from torchlift.transfer.memory_format import to_channels_last
from torchlift.transfer.networks import convnet_bn
from torchlift.transfer.training import lr_finder
from torchlift.transfer.training.experiment import _schedule_notes
from torchlift.transfer.training.loop import build_batches
from torchlift.transfer.training.lr_finder import RangeTest, find_rate
from torchlift.transfer.training.options import Distillation, Experiment, Optimization, Run
from torchlift.transfer.training.processes import start_processes


@pytest.fixture(scope="module")
def splits() -> Splits[Any]:
    return digit_splits()


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


def test_a_process_alone_may_have_batches_of_one_image(splits: Splits[Any], tmp_path: Path) -> None:
    """The range test of learning rates runs in each process with whole batches."""
    accelerator = start_processes(QUIET, Freezing(), tmp_path)
    options = experiment(splits, batch_size=1)
    batches = build_batches(classifier(), options, "train", accelerator, all_processes=False)
    assert (batches.plan.batch_size, batches.plan.count) == (1, len(splits.train))


def test_each_process_has_its_own_part_of_a_batch(splits: Splits[Any]) -> None:
    options = experiment(splits, batch_size=8)
    for rank in range(2):
        two: Any = SimpleNamespace(num_processes=2, process_index=rank, device="cpu")
        (first, *_) = build_batches(classifier(), options, "train", two).plan.slices()
        assert (first.start, first.stop) == (4 * rank, 4 * rank + 4)
        whole = build_batches(classifier(), options, "train", two, all_processes=False).plan
        assert (whole.rank, whole.world_size) == (0, 1)
    with pytest.raises(TrainingError, match="a batch of 1 images cannot be divided among 2"):
        build_batches(classifier(), experiment(splits, batch_size=1), "train", two)


def test_weighted_drawing_gives_rare_classes_their_share(tmp_path: Path) -> None:
    """Of twelve images nine are of the first class: together they are drawn as often as three."""
    images = np.random.default_rng(0).integers(0, 256, (12, 1, 32, 32), np.uint8)
    data = Dataset(images, np.array([0] * 9 + [1] * 3))
    options = experiment(Splits(data, data, data), sampling="weighted")
    accelerator = start_processes(QUIET, Freezing(), tmp_path)
    plan = build_batches(classifier(), options, "train", accelerator).plan
    assert plan.weights is not None
    assert (plan.sampling, plan.weights.dtype) == ("weighted", np.float64)
    shares = plan.weights / plan.weights.sum()
    np.testing.assert_allclose(shares, [1 / 18] * 9 + [1 / 6] * 3, rtol=1e-6)
    # All images are validated, each once.
    assert build_batches(classifier(), options, "val", accelerator).plan.weights is None


def test_frozen_layers_are_unchanged_by_training(splits: Splits[Any], tmp_path: Path) -> None:
    network = convnet_bn(1, 10)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    model, _ = trained(
        splits, tmp_path / "run", network=network, freezing=Freezing("all-but-head"), epochs=1
    )
    changed = {n for n, tensor in model.module.state_dict().items() if not tensor.equal(before[n])}
    assert changed == {"13.weight", "13.bias"}


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


def test_the_reported_learning_rate_is_that_of_the_head(
    splits: Splits[Any], tmp_path: Path
) -> None:
    freezing = Freezing(body_lr=0.001)
    _, outcome = trained(splits, tmp_path / "run", epochs=1, schedule="constant", freezing=freezing)
    assert outcome.history[0]["lr"] == 0.05


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


def test_a_missing_tracker_is_named(splits: Splits[Any], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="tracker='nonsense' is not installed"):
        trained(splits, tmp_path / "run", run=replace(QUIET, tracker=["tensorboard", "nonsense"]))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("cuda", "device", "precision", "message"),
    [
        (False, "cuda", "fp32", "PyTorch finds no GPU"),
        (False, "auto", "fp16", "needs a GPU"),
        (False, "cpu", "fp16", "needs a GPU"),
        (True, "cpu", "fp16", "needs a GPU"),
    ],
)
def test_what_needs_a_gpu_says_so(
    cuda: bool,
    device: Any,
    precision: Any,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    run = replace(QUIET, device=device, precision=precision)
    with pytest.raises(TrainingError, match=message):
        start_processes(run, Freezing(), tmp_path)


@pytest.mark.parametrize(
    ("resume", "schedule", "planned", "is_noted"),
    [
        ("auto", "cosine", 5, True),
        ("auto", "one-cycle", 5, True),
        ("auto", "constant", 5, False),
        ("auto", "cosine", 8, False),
        ("auto", "cosine", None, False),
        ("never", "cosine", 5, False),
    ],
)
def test_a_schedule_that_changes_when_a_run_goes_on_is_noted(
    resume: Any, schedule: Any, planned: int | None, is_noted: bool
) -> None:
    splits: Any = None
    optimization = Optimization(epochs=8, schedule=schedule)
    experiment = Experiment(splits, optimization, run=Run(resume=resume))
    notes = _schedule_notes(experiment, planned)
    assert [note[:33] for note in notes] == ["the run began with 5 epochs: from"] * is_noted


@pytest.mark.parametrize("options", [{"temperature": 2.0}, {"teacher_weight": 0.5}])
def test_an_option_of_a_teacher_without_one_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(TrainingError, match="it is for teacher="):
        Distillation(**options)
    assert Distillation("model.t7", **options).teacher


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Optimization(epochs=2.5), "epochs=2.5 must be a whole number"),  # type: ignore[arg-type]  # as a person may
        (lambda: Optimization(batch_size="8"), "batch_size='8' must be a whole number"),  # type: ignore[arg-type]
        (lambda: Optimization(momentum="0.9"), "momentum='0.9' must be a number"),  # type: ignore[arg-type]
        (lambda: Run(keep_best=True), "keep_best=True must be a whole number"),
        (lambda: Run(tracker="none"), "tracker='none' must be a list of names"),  # type: ignore[arg-type]
    ],
)
def test_values_of_other_types_are_refused_by_name(make: Any, message: str) -> None:
    with pytest.raises(TrainingError, match=re.escape(message)):
        make()
    assert Optimization(epochs=np.int64(2), lr=np.float32(1)).epochs == 2


def test_a_range_test_ends_where_the_loss_is_four_times_its_smallest(
    splits: Splits[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not four times the first one, which was large."""
    losses = iter([4.0] * 5 + [0.01] * 60 + [1.0] * 100)
    given = torch.ones((), requires_grad=True)
    monkeypatch.setattr(lr_finder.functional, "cross_entropy", lambda *_: given * next(losses))
    accelerator = start_processes(QUIET, Freezing(), tmp_path)
    found = find_rate(classifier(), experiment(splits, batch_size=2), accelerator)
    assert len(found.losses) == 65


@pytest.mark.parametrize(("first", "rates"), [("nan", 0), ("inf", 0), ("1", 1)])
def test_a_rate_is_not_found_where_the_loss_is_no_number_from_the_start(
    first: str, rates: int, splits: Splits[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([float(first), float("nan")])
    given = torch.ones((), requires_grad=True)
    monkeypatch.setattr(lr_finder.functional, "cross_entropy", lambda *_: given * next(losses))
    accelerator = start_processes(QUIET, Freezing(), tmp_path)
    options = experiment(splits, lr="find")
    if rates:
        assert len(find_rate(classifier(), options, accelerator).rates) == rates
        return
    with pytest.raises(TrainingError, match=r"not finite; check the data, or .* such as lr=0\.01"):
        find_rate(classifier(), options, accelerator)
