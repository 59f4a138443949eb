"""What a resumed run says, and which results of epochs in its files are results."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from torchlift.transfer.training.checkpoints import _row
from torchlift.transfer.training.experiment import _process_notes


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
