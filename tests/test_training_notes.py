"""What a resumed run says, and which results of epochs in its files are results."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch import nn

from torchlift.converters.images import Preprocessing
from torchlift.converters.saved import SavedModel
from torchlift.transfer.data import Dataset, Splits
from torchlift.transfer.freezing import Freezing
from torchlift.transfer.training.checkpoints import _row
from torchlift.transfer.training.experiment import (
    _announcement,
    _description,
    _process_notes,
    _schedule_notes,
    _stop_notes,
)
from torchlift.transfer.training.options import Experiment, Optimization, Run


@pytest.mark.parametrize(
    ("resume", "before", "now", "noted"),
    [
        ("auto", 2, 4, True),
        ("auto", 4, 2, True),
        ("auto", 2, 2, False),
        # A new run, or one of a version that did not say it.
        ("auto", None, 2, False),
        ("no", 2, 4, False),
    ],
)
def test_a_run_goes_on_with_as_many_processes_or_says_so(
    resume: str, before: int | None, now: int, noted: bool
) -> None:
    experiment: Any = SimpleNamespace(run=SimpleNamespace(resume=resume))
    notes = _process_notes(experiment, before, now)
    assert len(notes) == noted
    assert all(f"began with {before} processes and goes on with {now}" in note for note in notes)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"epoch": 1, "loss": 0.5}, ""),
        ({"epoch": 1, "loss": math.nan}, ""),
        ({"loss": 0.5}, "history has no epoch"),
        ({"epoch": "1"}, "the results of an epoch was expected"),
        ({1: 2, "epoch": 1}, "the results of an epoch was expected"),
        ({"epoch": 1, "loss": [0.5]}, "the results of an epoch was expected"),
        ([1, 2], "the results of an epoch was expected"),
        ("epoch", "the results of an epoch was expected"),
    ],
)
def test_results_of_an_epoch_are_numbers_by_name(value: Any, problem: str) -> None:
    if problem:
        with pytest.raises(ValueError, match=problem):
            _row(value, "history")
    else:
        assert _row(value, "history") is value


def images(count: int) -> Dataset:
    return Dataset(np.zeros((count, 3, 2, 2), np.uint8), np.arange(count) % 2)


@pytest.mark.parametrize(
    ("freezing", "said"),
    [
        (Freezing(), "1,217 parameters are trained, 0 frozen;"),
        (Freezing("all-but-head"), "164 parameters are trained, 1,053 frozen;"),
        (
            Freezing("all-but-head", unfreeze="2:1", unfreeze_at=5),
            "164 parameters are trained, 1,053 frozen until epoch 2 and 5;",
        ),
        # A step in which nothing is left that could be unfrozen.
        (Freezing("2", unfreeze_at=3), "1,217 parameters are trained, 0 frozen;"),
    ],
)
def test_what_is_trained_on_how_many_images_is_announced(freezing: Freezing, said: str) -> None:
    """12 · 81 + 81 weights of the body, and 81 · 2 + 2 of the head."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 81), nn.Dropout(), nn.Linear(81, 2))
    experiment = Experiment(Splits(images(1234), images(5), images(67)), freezing=freezing)
    text = _announcement(SavedModel(network, "logits", (3, 2, 2)), experiment)
    assert text == f"{said} 1,234 images for training, 5 for validation, 67 for testing"


@pytest.mark.parametrize(
    ("config", "arguments", "head"),
    [({"network": "n"}, (3, 2), None), ({"model": "m", "head": "probe"}, (), "probe")],
)
def test_a_network_of_ones_own_is_described_by_how_it_was_made(
    config: dict[str, str], arguments: Any, head: str | None
) -> None:
    """`finetune` calls its function without arguments, and gives it another head."""
    preprocessing = Preprocessing("RGB", (2, 2))
    model = SavedModel(nn.Flatten(), "logits", (3, 2, 2), ["a", "b"], preprocessing)
    train = images(4)
    found = _description(model, Experiment(Splits(train, train, train), config=config))
    assert (found.arguments, found.head, found.classes) == (arguments, head, 2)
    assert (found.output_kind, found.labels, found.input_shape, found.preprocessing) == (
        *("logits", ["a", "b"], (3, 2, 2), preprocessing),
    )


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle", "step", "constant"])
def test_only_a_schedule_that_spans_all_epochs_changes_with_their_number(schedule: Any) -> None:
    splits: Any = None
    options = Optimization(epochs=8, schedule=schedule)
    notes = _schedule_notes(Experiment(splits, options, run=Run(resume="auto")), 5)
    assert len(notes) == (schedule in ("cosine", "one-cycle"))


@pytest.mark.parametrize(("monitor", "stopped"), [("loss", True), ("accuracy", False)])
def test_patience_ends_a_training_by_the_metric_that_decides(monitor: Any, stopped: bool) -> None:
    """The loss was lowest in the last epoch: it is a callback that ended the training."""
    splits: Any = None
    rows = [{"val_accuracy": 0.9 - epoch / 10, "val_loss": 3.0 - epoch} for epoch in range(3)]
    options = Optimization(epochs=9, patience=2, monitor=monitor)
    notes = _stop_notes(Experiment(splits, options), rows)
    assert notes == ["a callback ended the training after epoch 3 of 9"] * stopped
