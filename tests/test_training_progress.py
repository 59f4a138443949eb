"""What a person sees of a training: a bar on a terminal, lines in a log."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from training_support import classifier, digit_splits, experiment

from torchlift.cli import training_progress
from torchlift.cli.progress import phases, progress
from torchlift.cli.training_progress import TrainingProgress
from torchlift.transfer.training.checkpoints import TrainingState
from torchlift.transfer.training.experiment import run_experiment
from torchlift.transfer.training.loop import Step


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Return what stands for stderr now, 100 columns wide."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    return stream


def test_every_image_of_an_epoch_is_counted(tmp_path: Path) -> None:
    """Of 12 images to train with two batches of 5 are whole; all 12 are validated."""
    splits = digit_splits()
    twelve = splits.train.take(np.arange(12))
    steps: list[Step] = []
    outcome = run_experiment(
        classifier(),
        experiment(replace(splits, train=twelve, val=twelve), epochs=1, batch_size=5),
        tmp_path / "run",
        on_step=steps.append,
    )
    assert {step.epoch for step in steps} == {1}
    assert [(step.phase, step.done, step.count) for step in steps] == [
        *(("training", 5, 10), ("training", 10, 10)),
        *(("validation", 5, 12), ("validation", 10, 12), ("validation", 12, 12)),
    ]
    losses = [step.loss for step in steps[:2] if step.loss is not None]
    # What is shown are means of the images of a batch, as the result is one of all of them.
    assert np.mean(losses) == pytest.approx(outcome.history[0]["train_loss"], rel=1e-5)


def state() -> TrainingState:
    row = {"epoch": 1, "lr": 0.1, "train_loss": 2.0, "train_accuracy": 0.5, "val_f1": 0.25}
    network, optimizer = None, None
    return TrainingState(network, optimizer, None, None, [row], [3.0])  # type: ignore[arg-type]


def test_a_terminal_shows_rate_loss_and_remaining_time(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    with TrainingProgress(2) as progress:
        progress.on_step(Step(1, "training", 64, 1280, 1.25))
        progress.on_step(Step(1, "training", 640, 1280, 1.125))
        progress._bar.refresh()
        progress.on_step(Step(1, "validation", 10, 100))
        progress._bar.refresh()
        progress.on_epoch(state())
    shown = stream.getvalue()
    assert "epoch 1 of 2, loss 1.125" in shown
    assert "640/1280" in shown
    assert "/s" in shown
    assert "epoch 1 of 2, validation" in shown
    assert "epoch 1 of 2: learning rate 0.1, loss 2, accuracy 0.5, val. F1 0.25, 3.0 s" in shown


def test_a_log_gets_a_line_for_each_epoch_and_each_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "20")  # no line is broken
    times = iter([100.0, 130.0, 200.0, 210.0])
    monkeypatch.setattr(training_progress.time, "monotonic", lambda: next(times))
    with TrainingProgress(2) as progress:
        for done in (100, 400, 1000, 1100):
            progress.on_step(Step(1, "training", done, 4000, 0.5))
        progress.on_epoch(state())
    lines = stream.getvalue().splitlines()
    assert lines == [
        "epoch 1 of 2: 1,000 of 4,000 images, 10/s, loss 0.5, 5:00 left",
        "epoch 1 of 2: learning rate 0.1, loss 2, accuracy 0.5, val. F1 0.25, 3.0 s",
    ]


def test_the_line_of_an_epoch_has_its_own_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that is resumed has a history before it shows its first line."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    told = state()
    told.history[:0] = [{"epoch": number, "val_loss": 9.0} for number in (1, 2)]
    told.history[-1]["epoch"] = 3
    told.seconds[:0] = [1.0, 2.0]
    with TrainingProgress(4) as progress:
        progress.on_epoch(told)
    (line,) = stream.getvalue().splitlines()
    assert line == "epoch 3 of 4: learning rate 0.1, loss 2, accuracy 0.5, val. F1 0.25, 3.0 s"


@pytest.mark.parametrize("is_terminal", [False, True])
def test_other_processes_are_silent(is_terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch) if is_terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with TrainingProgress(1, shown=False) as progress:
        progress.on_step(Step(1, "training", 64, 1280, 1.25))
        progress.print("a note")
        progress.on_epoch(state())
    assert stream.getvalue() == ""


def test_a_bar_shows_how_much_is_done_of_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    with progress(40) as advance:
        advance(3)
        advance(7)
    assert "10/40" in stream.getvalue()
    # It is erased in the end: the cursor goes up, and the line is cleared.
    assert stream.getvalue().endswith("\x1b[1A\x1b[2K")
    with phases() as show:
        show("measuring", 5, 20)
        show("comparing", 2, 4)
    assert "comparing" in stream.getvalue()
    assert "2/4" in stream.getvalue()
    silent = Terminal()
    monkeypatch.setattr(sys, "stderr", silent)
    with progress(40, shown=False) as advance:
        advance(40)
    assert silent.getvalue() == ""


@pytest.mark.parametrize(
    ("done", "count", "left"),
    # In a minute: what is left takes as long as the rate so far says.
    [
        *((60, 120, "1:00"), (60, 61, "0:01"), (40, 60, "0:30")),
        *((60, 3659, "59:59"), (60, 3660, "1:00:00"), (60, 7260, "2:00:00")),
    ],
)
def test_a_log_says_how_long_an_epoch_will_take(
    done: int, count: int, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    times = iter([0.0, 60.0])
    monkeypatch.setattr(training_progress.time, "monotonic", lambda: next(times))
    with TrainingProgress(1) as progress:
        progress.on_step(Step(1, "validation", 0, count))
        progress.on_step(Step(1, "validation", done, count))
    (line,) = stream.getvalue().splitlines()
    said = f"epoch 1 of 1, validation: {done:,} of {count:,} images, 1/s, {left} left"
    assert line == said


def test_each_part_of_an_epoch_has_a_clock_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    times = iter([0.0, 60.0, 100.0, 159.0, 170.0, 200.0, 230.0])
    monkeypatch.setattr(training_progress.time, "monotonic", lambda: next(times))
    with TrainingProgress(2) as progress:
        for epoch, phase, done in (
            *((1, "training", 0), (1, "training", 7200)),
            *((1, "validation", 0), (1, "validation", 100)),
            *((2, "validation", 10), (2, "validation", 20), (2, "validation", 30)),
        ):
            progress.on_step(Step(epoch, phase, done, 7311))
    assert stream.getvalue().splitlines() == [
        # 111 of 120 a second, which is nearly one.
        "epoch 1 of 2: 7,200 of 7,311 images, 120/s, 0:01 left",
        "epoch 2 of 2, validation: 30 of 7,311 images, 0/s, 4:02:42 left",
    ]
