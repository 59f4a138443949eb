"""What `train` and `finetune` show when a training has ended, or was stopped, without one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cli_support import shown
from torch import nn

from torchlift.cli.data_options import DataOptions
from torchlift.cli.result import CommandResult
from torchlift.cli.training import (
    _how_to_resume,
    _of_classes,
    _verdict,
    open_splits,
    run_training,
)
from torchlift.transfer.data import Dataset, Splits
from torchlift.transfer.evaluation import Evaluation
from torchlift.transfer.training import draw_splits as draw_splits_file
from torchlift.transfer.training import experiment as experiment_file
from torchlift.transfer.training.loop import Step
from torchlift.transfer.training.options import OPTIMIZATION, Experiment, SplitOptions

FOUND = {"epoch": 2, "split": "test", "accuracy": 0.75, "correct": 3, "count": 4, "loss": 0.5}


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (FOUND, "; test accuracy 0.75 (3 of 4), loss 0.5"),
        ({**FOUND, "split": "val"}, "; validation accuracy 0.75 (3 of 4), loss 0.5"),
        (
            {**FOUND, "count": 4000, "correct": 3000, "loss": None},
            "; test accuracy 0.75 (3,000 of 4,000), loss nan",
        ),
        ({"epoch": 2, "split": None}, ""),
    ],
)
def test_the_verdict_names_the_split_that_was_measured(found: dict[str, Any], text: str) -> None:
    assert _verdict(found) == text


@pytest.mark.parametrize(("count", "lines"), [(0, 0), (1, 2), (20, 21), (21, 0)])
def test_few_classes_are_shown_and_many_are_not(
    count: int, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = {"label": "c", "count": 1}
    one = SimpleNamespace(
        label="c",
        count=1,
        correct=1,
        predicted=1,
        accuracy=1.0,
        precision=1.0,
        f1=1.0,
    )
    evaluation = SimpleNamespace(classes=[one] * count, count=count)
    monkeypatch.setattr(Evaluation, "from_json", lambda found: evaluation)
    view = _of_classes({"classes": [part] * count})
    assert len([line for line in shown(*view) if line]) == lines
    assert _of_classes({}) == []


def test_a_stopped_run_says_how_many_epochs_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    assert _how_to_resume(run, 9) == ""
    checkpoints = run / "checkpoints"
    checkpoints.mkdir(parents=True)
    assert _how_to_resume(run, 9) == f"{run}: 0 of 9 epochs are done; --resume auto goes on"
    monkeypatch.setattr(
        "torchlift.transfer.training.checkpoints.saved_epochs", lambda folder: [2, 10, 3]
    )
    assert _how_to_resume(run, 12) == (
        f"{run}: 10 of 12 epochs are done; --resume auto goes on, and with --epochs 10 it gives "
        "the model of these"
    )
    monkeypatch.setenv("RANK", "1")
    assert _how_to_resume(run, 12) == ""


@pytest.fixture
def ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[CommandResult, list[str]]:
    """A training of three epochs, the second of which was the best: the result, and stderr."""
    part = Dataset(np.zeros((2, 1, 2, 2), np.uint8), np.array([0, 1]), ("a", "b"))
    splits = Splits(part, part, part, notes=("a note of the data",))
    model: Any = SimpleNamespace(module=nn.Linear(3, 2), notes=["a note of the model"])
    history = [{"epoch": float(epoch), "lr": 0.1, "val_loss": epoch / 4} for epoch in (1, 2, 3)]

    def run(model: Any, experiment: Experiment, path: Path, **given: Any) -> Any:
        assert experiment.config == {"network": "n", "data": "d", "size": "2x3", "output": "run"}
        given["announce"]("note: a note of the data")
        given["announce"]("on the moon")
        assert given["facts"]["dataset"]["count"] == 6
        return SimpleNamespace(
            evaluation=FOUND,
            notes=["a note of the run"],
            history=history,
            seconds=[1.0, 2.0, 3.25],
            folder=SimpleNamespace(found_rate=lambda: 0.125),
        )

    monkeypatch.setattr(experiment_file, "run_experiment", run)
    optimization = replace(OPTIMIZATION, epochs=3)
    config = {"network": "n", "data": "d", "size": (2, 3)}
    experiment = Experiment(splits, optimization, config=config)
    found = run_training(model, experiment, Path("run"))
    return found, capsys.readouterr().err.splitlines()


def test_the_epoch_that_was_kept_is_marked(ended: tuple[CommandResult, list[str]]) -> None:
    lines = shown(ended[0].view)
    assert lines[0].startswith("epoch learning rate loss")
    assert [line.split()[:2] for line in lines[1:4]] == [["1", "0.1"], ["2", "*"], ["3", "0.1"]]
    assert [line.split()[-1] for line in lines[1:4]] == ["1.0", "2.0", "3.2"]
    assert "run: the model of epoch 2; test accuracy 0.75 (3 of 4), loss 0.5" in lines


def test_each_note_is_shown_once(ended: tuple[CommandResult, list[str]]) -> None:
    """Some stand above the first epoch already, below what is known of the data."""
    result, said = ended
    assert said[0].startswith("data: 6 images 1×2×2; 2 classes, training images of each: a 1, b 1")
    assert said[-2:] == ["note: a note of the data", "on the moon"]
    assert sum(line.startswith("data:") for line in said) == 1
    assert shown(result.view)[-2:] == ["note: a note of the model", "note: a note of the run"]
    notes = ["a note of the data", "a note of the model", "a note of the run"]
    assert result.data["notes"] == notes


def test_a_result_says_what_was_trained_on_what(ended: tuple[CommandResult, list[str]]) -> None:
    facts = ended[0].data
    assert (facts["run"], facts["model"], facts["data"]) == ("run", "n", "d")
    assert (facts["parameters"], facts["found_lr"]) == (8, 0.125)
    assert facts["evaluation"] == FOUND
    assert facts["epoch_seconds"] == [1.0, 2.0, 3.25]
    assert [row["epoch"] for row in facts["history"]] == [1, 2, 3]
    assert facts["dataset"]["count"] == 6


@pytest.mark.parametrize("test_data", [None, "t.npz"])
def test_splits_are_drawn_by_the_seed_and_the_test_data_is_opened_as_such(
    test_data: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        DataOptions,
        "open",
        lambda self, source, as_test_data=False: (source, as_test_data),
    )
    monkeypatch.setattr(draw_splits_file, "draw_splits", lambda *given: asked.append(given))
    options = DataOptions(seed=7, match_classes="position")
    fractions = SplitOptions(test_data=test_data)
    open_splits("d.npz", options, fractions, ["a", "b"])
    test = None if test_data is None else ("t.npz", True)
    assert asked == [(("d.npz", False), test, fractions, 7, "position", ["a", "b"])]


def test_a_training_shows_what_it_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Steps and epochs reach what prints them."""
    part = Dataset(np.zeros((2, 1, 2, 2), np.uint8), np.array([0, 1]), ("a", "b"))

    def run(model: Any, experiment: Experiment, path: Path, **options: Any) -> Any:
        options["on_step"](Step(1, "training", 1, 4))
        options["on_step"](Step(1, "training", 4, 4))
        options["on_epoch"](SimpleNamespace(history=[{"epoch": 1, "lr": 0.5}], seconds=[2.0]))
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment_file, "run_experiment", run)
    monkeypatch.setattr("torchlift.cli.training_progress._SECONDS_BETWEEN_LINES", 1e-9)
    model: Any = SimpleNamespace(module=nn.Linear(3, 2), notes=[])
    with pytest.raises(KeyboardInterrupt):
        run_training(model, Experiment(Splits(part, part, part), OPTIMIZATION), Path("run"))
    lines = capsys.readouterr().err.splitlines()
    epochs = OPTIMIZATION.epochs
    assert [line for line in lines if line.startswith(f"epoch 1 of {epochs}: 4 of 4 images")]
    assert f"epoch 1 of {epochs}: learning rate 0.5, 2.0 s" in lines
