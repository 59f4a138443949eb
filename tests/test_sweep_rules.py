"""Which results of a sweep are compared by what, and whose problems it knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from torchlift.transfer.sweep import Sweep, Trial, failed_trials

#: Accuracy and loss of two epochs of each run.
ROWS = {"1": ((0.9, 0.9), (0.5, 0.5)), "2": ((0.8, 0.7), (0.6, 0.6)), "3": ((0.7, 0.1), (0.1, 0.8))}


def sweep_of(folder: Path, *rates: str) -> Sweep:
    return Sweep(folder, [{"lr": rate} for rate in rates], {"model": "m", "data": "d", "base": ""})


def run_with(**monitors: str | None) -> Any:
    """Return what writes a finished run, decided by a metric."""

    def run(trial: Trial, folder: Path) -> None:
        folder.mkdir(parents=True)
        rows = [
            {
                "epoch": epoch,
                "val_accuracy": accuracy,
                "val_loss": loss,
                "val_f1": 1 - accuracy,
            }
            for epoch, (accuracy, loss) in enumerate(ROWS[trial["lr"]], 1)
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
        evaluation = {"split": "test", "accuracy": None if trial["lr"] == "2" else 0.25}
        (folder / "evaluation.json").write_text(json.dumps(evaluation), encoding="utf-8")
        monitor = monitors.get(f"of_{trial['lr']}") or "accuracy"
        (folder / "config.yaml").write_text(f"monitor: {monitor}\n", encoding="utf-8")

    return run


@pytest.mark.parametrize(
    ("monitors", "order", "epochs"),
    [
        ({}, ["1", "2", "3"], [1, 1, 1]),
        # The lowest loss is the best of each, and among all of them.
        ({f"of_{rate}": "loss" for rate in ROWS}, ["3", "1", "2"], [1, 2, 2]),
        # Decided by different metrics: compared by the accuracy of the epoch that was kept.
        ({"of_1": "loss"}, ["2", "3", "1"], [1, 1, 2]),
        ({"of_1": "loss", "of_2": "loss"}, ["3", "2", "1"], [1, 2, 2]),
        # Also where no run was decided by it.
        ({"of_1": "loss", "of_2": "f1", "of_3": "f1"}, ["2", "1", "3"], [2, 2, 2]),
    ],
)
def test_runs_are_compared_by_the_metric_that_decided_all_of_them(
    monitors: dict[str, str], order: list[str], epochs: list[int], tmp_path: Path
) -> None:
    sweep = sweep_of(tmp_path, *ROWS)
    sweep.run(run_with(**monitors))
    rows = sweep.rows()
    assert [row["lr"] for row in rows] == order
    assert [row["epoch"] for row in rows] == epochs
    # A test without an accuracy has none, and the table the same columns for all.
    assert [row["lr"] for row in rows if row["test_accuracy"] != ""] == [
        rate for rate in order if rate != "2"
    ]


def without(split: str) -> Any:
    """Return what writes finished runs, the first of which has no such split."""

    def run(trial: Trial, folder: Path) -> None:
        folder.mkdir(parents=True)
        row = {"epoch": 1, "train_accuracy": 0.5, "val_accuracy": 0.25, "val_loss": 0.75}
        evaluation = {"split": "test", "accuracy": 0.125}
        if trial["lr"] == "1" and split == "test":
            row["val_accuracy"] = 0.5
            evaluation = {"split": "val", "accuracy": 0.5}
        elif trial["lr"] == "1":
            row = {"epoch": 1, "train_accuracy": 1.0}
        (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
        (folder / "evaluation.json").write_text(json.dumps(evaluation), encoding="utf-8")

    return run


@pytest.mark.parametrize(
    ("split", "lines"),
    [
        (
            "test",
            [
                "lr,val_accuracy,val_loss,train_accuracy,test_accuracy,epoch,run",
                "1,0.5000,0.7500,0.5000,,1,001",
                "2,0.2500,0.7500,0.5000,0.1250,1,002",
            ],
        ),
        (
            "val",
            [
                "lr,val_accuracy,val_loss,train_accuracy,test_accuracy,epoch,run",
                "2,0.2500,0.7500,0.5000,0.1250,1,002",
                "1,,,1.0000,0.1250,1,001",
            ],
        ),
    ],
)
def test_a_sweep_over_splits_has_one_table(split: str, lines: list[str], tmp_path: Path) -> None:
    """Runs with and without a split to test on, or to validate on: `test-fraction=0,0.2`."""
    sweep_of(tmp_path, "1", "2").run(without(split))
    assert (tmp_path / "results.csv").read_text(encoding="utf-8").splitlines() == lines
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    found = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert [found[0], *found[2:]] == [line.split(",") for line in lines]


def test_problems_are_those_of_the_runs_that_were_asked_for(tmp_path: Path) -> None:
    def fail(trial: Trial, folder: Path) -> None:
        raise RuntimeError(f"no rate {trial['lr']}")

    sweep_of(tmp_path, "1", "2").run(fail)
    assert sorted(sweep_of(tmp_path, "1", "2").problems()) == ["001", "002"]
    assert sorted(sweep_of(tmp_path, "2").problems()) == ["002"]
    (row,) = sweep_of(tmp_path, "2").rows()
    assert (row["run"], row["status"]) == ("002", "failed")
    # A status that nobody knows is one of those that failed.
    file = tmp_path / "problems.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    values["001"]["status"], values["002"]["status"] = "diverged", "odd"
    file.write_text(json.dumps(values), encoding="utf-8")
    first, second = failed_trials(tmp_path)
    assert (first.name, first.status, second.status) == ("001", "diverged", "failed")
    assert first.options == {"model": "m", "data": "d", "lr": 1}
    assert "no rate 1" in first.problem


def test_a_run_that_diverged_is_not_repeated_and_one_that_failed_is(tmp_path: Path) -> None:
    done: list[str] = []

    def fail(trial: Trial, folder: Path) -> None:
        done.append(trial["lr"])
        raise RuntimeError

    sweep = sweep_of(tmp_path, "1", "2")
    sweep.run(fail)
    file = tmp_path / "problems.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    values["001"]["status"] = "diverged"
    file.write_text(json.dumps(values), encoding="utf-8")
    sweep.run(fail)
    assert done == ["1", "2", "2"]
    # One that comes to a result has no problem any more.
    sweep.run(run_with())
    assert sorted(sweep.problems()) == ["001"]
    assert [row["status"] for row in sweep.rows()] == ["finished", "diverged"]
