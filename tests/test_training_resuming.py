"""A run depends on its seed alone: a resumed one equals an uninterrupted one, bit by bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from training_support import QUIET, difference, digit_splits, trained

from torchlift.converters.saved import SavedModel
from torchlift.transfer.data import Splits
from torchlift.transfer.data.augmentation import Augmentation
from torchlift.transfer.freezing import Freezing
from torchlift.transfer.networks import convnet_bn
from torchlift.transfer.training import checkpoints
from torchlift.transfer.training.experiment import RunResult


@pytest.fixture(scope="module")
def splits() -> Splits[Any]:
    return digit_splits()


#: Every option that adds state to a training.
EVERYTHING = {
    "optimizer": "adamw",
    "lr": 0.003,
    "schedule": "constant",
    "ema": 0.9,
    "augmentation": Augmentation(
        flip=True,
        crop_padding=2,
        mixup=0.2,
        resized_crop=0.5,
        rotation=10,
        auto_augment="trivialaugment",
        erasing=0.3,
    ),
    # One step before the checkpoint from which the run goes on, one at once behind it, one later.
    "freezing": Freezing(freeze="until 7", unfreeze="2:4,3:1", unfreeze_at=4, layer_decay=0.9),
    "accumulate": 2,
    "sampling": "weighted",
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
    def interrupt(content: object, file: BinaryIO) -> None:
        file.write(b"half of it")
        raise KeyboardInterrupt

    _, outcome = trained(splits, tmp_path / "run", epochs=1)
    monkeypatch.setattr(torch, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        trained(splits, tmp_path / "run", epochs=2, run=replace(QUIET, resume="auto"))
    checkpoints = outcome.folder.checkpoints
    assert [path.name for path in checkpoints.iterdir()] == ["epoch-0001"]


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


def test_only_checkpoints_of_epochs_that_are_not_kept_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what a kill left of others, also of the first one."""
    looked: list[Path] = []
    monkeypatch.setattr(checkpoints, "remove_abandoned", looked.append)
    names = ["epoch-0001", "epoch-0002", "epoch-00003", "epoch-1", "epoch-best", "epoch-10000"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.pt").touch()
    # Without an epoch none of them is of this run.
    checkpoints.remove_superseded(tmp_path, [], checkpoints.Kept())
    assert looked == [tmp_path]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    rows: list[dict[str, float]] = [{"val_accuracy": 0.1}, {"val_accuracy": 0.2}]
    checkpoints.remove_superseded(tmp_path, rows, checkpoints.Kept())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "epoch-0002",
        "epoch-1",
        "epoch-best",
    ]


@pytest.mark.parametrize(("monitor", "kept"), [("accuracy", {2, 4}), ("loss", {3, 4})])
def test_the_metric_that_decides_says_which_checkpoint_is_kept(
    monitor: Any, kept: set[int]
) -> None:
    scores = ((0.5, 4.0), (0.9, 3.0), (0.7, 1.0), (0.6, 2.0))
    rows = [{"val_accuracy": accuracy, "val_loss": loss} for accuracy, loss in scores]
    assert checkpoints.Kept(monitor).epochs(rows) == kept
    assert checkpoints.Kept(monitor, best=3).epochs(rows) == {2, 3, 4}
    assert checkpoints.Kept(monitor, every=2).epochs(rows) == kept | {2, 4}


def test_a_checkpoint_is_contiguous_whatever_the_format_of_the_network(tmp_path: Path) -> None:
    network = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    state = checkpoints.TrainingState(network, torch.optim.SGD(network.parameters(), 1), None, None)
    state.history, state.seconds = [{"epoch": 1, "val_accuracy": 0.5}], [1.0]
    checkpoints.save_checkpoint(tmp_path, state)
    stored = load_file(tmp_path / "epoch-0001" / "model.safetensors")
    assert torch.equal(stored["weight"], network.weight)
