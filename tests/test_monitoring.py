"""`--monitor`, `--keep-best`, `--save-every`: which epoch counts, and which checkpoints are kept.

The metrics of the classes are compared with scikit-learn's.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import precision_recall_fscore_support
from torch import nn
from training_support import QUIET, digit_splits, trained

from torchlift.cli.main import main
from torchlift.transfer.data import Splits
from torchlift.transfer.errors import TrainingError
from torchlift.transfer.training import loop
from torchlift.transfer.training.checkpoints import saved_epochs
from torchlift.transfer.training.measuring import class_results, count_classes
from torchlift.transfer.training.monitoring import Monitor, best_epoch, best_epochs, is_over


@pytest.fixture(scope="module")
def splits() -> Splits[Any]:
    return digit_splits()


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(32 * 32, 10))


@pytest.mark.parametrize(
    ("monitor", "best"), [("accuracy", 2), ("loss", 3), ("f1", 1), ("recall", 4), ("precision", 3)]
)
def test_the_direction_follows_the_metric(monitor: Monitor, best: int) -> None:
    columns = ("accuracy", "loss", "f1", "recall", "precision")
    rows = [(0.1, 4.0, 0.9, 0.1, 0.1), (0.9, 3.0, 0.1, 0.2, 0.2), (0.5, 1.0, 0.2, 0.3, 0.9)]
    rows.append((0.6, 2.0, 0.3, 0.9, 0.3))
    history = [
        {f"val_{name}": value for name, value in zip(columns, row, strict=True)} for row in rows
    ]
    assert best_epoch(history, monitor) == best
    assert is_over(history, 4 - best or 1, monitor) is (best < 4)
    assert is_over(history, 5 - best, monitor) is False


def test_the_best_epochs_are_the_first_of_equal_ones() -> None:
    scores = ((0.5, 1.0), (0.9, 0.2), (0.9, 0.1), (0.9, 0.1), (0.1, float("nan")))
    history = [{"val_accuracy": accuracy, "val_loss": loss} for accuracy, loss in scores]
    assert best_epochs(history, "accuracy", 4) == [3, 4, 2, 1]
    assert best_epochs(history, "loss", 9) == [3, 4, 2, 1, 5]
    # Wherever it stands, also among epochs of the same accuracy.
    history = [{"val_accuracy": 0.5, "val_loss": loss} for loss in (float("nan"), 3.0, 1.0, 2.0)]
    assert best_epochs(history, "accuracy", 4) == best_epochs(history, "loss", 4) == [3, 4, 2, 1]
    # Nothing tells which is the best: the last ones are.
    assert best_epochs([{"train_loss": 1.0}] * 3, "accuracy", 2) == [3, 2]
    assert best_epochs([]) == []


def test_counts_of_classes_give_the_metrics_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    logits, classes = random.normal(size=(60, 5)), random.integers(0, 4, 60)
    halves = [
        count_classes(torch.from_numpy(logits[half]), torch.from_numpy(classes[half]))
        for half in (slice(0, 31), slice(31, 60))
    ]
    found = class_results(halves[0] + halves[1], ["a", "b"])
    expected = precision_recall_fscore_support(
        classes, logits.argmax(1), labels=range(5), zero_division=0
    )
    for index, each in enumerate(found):
        scores = (each.precision, each.accuracy, each.f1, each.count)
        assert scores == pytest.approx([column[index] for column in expected])
    assert [each.label for each in found] == ["a", "b", "3", "4", "5"]


def test_a_run_says_how_each_class_does_in_each_epoch(splits: Splits[Any], tmp_path: Path) -> None:
    _, outcome = trained(splits, tmp_path / "run", network=linear(), epochs=2, monitor="f1")
    with (tmp_path / "run" / "classes.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["epoch"]) for row in rows] == [1] * 10 + [2] * 10
    best = outcome.evaluation["epoch"]
    assert best == best_epoch(outcome.history, "f1")
    of_best = [row for row in rows if int(row["epoch"]) == best]
    # The evaluation of the best epoch's model, by another way, is of the same images.
    for row, expected in zip(of_best, outcome.evaluation["classes"], strict=True):
        assert {name: float(row[name]) for name in row if name not in ("epoch", "label")} == (
            pytest.approx({name: expected[name] for name in expected if name != "label"})
        )
    assert outcome.history[best - 1]["val_f1"] == pytest.approx(outcome.evaluation["f1"])
    assert outcome.history[best - 1]["val_recall"] == pytest.approx(outcome.evaluation["recall"])


def test_the_best_and_every_third_checkpoint_are_kept_also_by_a_resumed_run(
    splits: Splits[Any], tmp_path: Path
) -> None:
    run = replace(QUIET, resume="auto", keep_best=2, save_every=3)
    options: dict[str, Any] = {"run": run, "schedule": "constant", "monitor": "loss"}
    _, whole = trained(splits, tmp_path / "whole", network=linear(), epochs=8, **options)
    order = sorted(range(8), key=lambda index: whole.history[index]["val_loss"])
    kept = {3, 6, 8, *(index + 1 for index in order[:2])}
    assert saved_epochs(whole.folder.checkpoints) == sorted(kept)
    assert whole.evaluation["epoch"] == order[0] + 1
    for epochs in (4, 8):
        _, halves = trained(splits, tmp_path / "halves", network=linear(), epochs=epochs, **options)
    assert saved_epochs(halves.folder.checkpoints) == sorted(kept)
    for name in ("metrics.csv", "classes.csv", "evaluation.json", "model/model.safetensors"):
        files = (tmp_path / folder / name for folder in ("whole", "halves"))
        assert len({file.read_bytes() for file in files}) == 1, name


@pytest.mark.parametrize(("monitor", "best"), [("accuracy", 1), ("loss", 2), ("f1", 3)])
def test_the_weights_are_those_of_the_epoch_that_the_metric_names(
    monitor: Monitor,
    best: int,
    splits: Splits[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured = iter([(0.9, 3.0, 0.1), (0.5, 1.0, 0.2), (0.1, 2.0, 0.9)])

    def measure(*_: Any) -> tuple[dict[str, float], torch.Tensor]:
        row = dict(zip(("val_accuracy", "val_loss", "val_f1"), next(measured), strict=True))
        return row, torch.zeros(3, 10, dtype=torch.int64)

    monkeypatch.setattr(loop, "measure", measure)
    options: dict[str, Any] = {"run": replace(QUIET, save_every=1), "monitor": monitor}
    model, outcome = trained(splits, tmp_path / "run", network=linear(), epochs=3, **options)
    weights = load_file(outcome.folder.checkpoints / f"epoch-000{best}" / "model.safetensors")
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, weights[name])
    assert outcome.evaluation["epoch"] == best


def test_a_changed_option_is_refused_by_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["train", "softmax", "sklearn:digits", "--limit=60", "--epochs=1", "--tracker=none"]
    line += ["-o", str(tmp_path / "run")]
    assert main(line) == 0
    capsys.readouterr()
    for words, named in (
        ("--monitor f1", "with --monitor accuracy, now --monitor f1;"),
        ("--keep-best 3", "with --keep-best 1, now --keep-best 3;"),
        ("--save-every 2", "with no --save-every, now --save-every 2;"),
    ):
        assert main([*line, *words.split(), "--resume", "auto"]) == 1
        error = capsys.readouterr().err
        assert named in error
        assert error.count("\n") == 1


def test_a_metric_that_nothing_measures_is_refused(splits: Splits[Any], tmp_path: Path) -> None:
    untested = replace(splits, val=splits.val.take(np.arange(0)))
    with pytest.raises(TrainingError, match="monitor='f1' needs validation images"):
        trained(untested, tmp_path / "run", network=linear(), monitor="f1")
    assert not (tmp_path / "run").exists()
    model, _ = trained(untested, tmp_path / "run", network=linear(), epochs=1, patience=2)
    assert any("patience=2 never stops" in note for note in model.notes)
