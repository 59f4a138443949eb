"""Rules of runs, their tables and sweeps: which way a metric is sorted, what each column holds."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from test_runs import write_run
from test_sweep import finished, sweep_of

from torchlift.transfer.errors import DivergedError, RunsError
from torchlift.transfer.evaluation.results import SCORES
from torchlift.transfer.runs import (
    RunSummary,
    best_first,
    check_metric,
    differing_options,
    find_runs,
    group_seeds,
    read_run,
)
from torchlift.transfer.runs_table import (
    configurations_table,
    metrics_table,
    option_text,
    runs_csv,
    runs_table,
)
from torchlift.transfer.spread import Spread, fixed
from torchlift.transfer.sweep import FailedTrial, Sweep, Trial, failed_trials


def of(metric: str, **values: float) -> list[RunSummary]:
    return [RunSummary(name, "finished", {}, {metric: value}) for name, value in values.items()]


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("score", SCORES)
def test_a_loss_and_a_calibration_error_are_best_where_they_are_lowest(
    split: str, score: str
) -> None:
    """Of all others the highest is; what has no number is last either way."""
    metric = f"{split}_{score}"
    runs = [
        RunSummary("none", "failed"),
        *of(metric, nan=math.nan, low=0.25, high=0.75, equal=0.25),
    ]
    names = [run.name for run in best_first(runs, metric)]
    lowest_first = (
        ["low", "equal", "high"] if score in ("loss", "ece") else ["high", "low", "equal"]
    )
    assert names == [*lowest_first, "none", "nan"]


def test_times_and_epochs_are_sorted_like_metrics() -> None:
    runs = [RunSummary("slow", "finished", epochs=3, seconds=9.0)]
    runs += [RunSummary("quick", "finished", epochs=1, seconds=2.0)]
    assert [run.name for run in best_first(runs, "seconds")] == ["quick", "slow"]
    assert [run.name for run in best_first(runs, "epochs")] == ["slow", "quick"]


def test_a_run_has_the_metrics_of_its_best_epoch_and_of_the_test_split(tmp_path: Path) -> None:
    """And no others: the rate is an option, the epoch stands by itself."""
    write_run(tmp_path / "r", [0.5, 0.7, 0.6], test=0.4, epochs=3)
    (run,) = find_runs(tmp_path)
    assert run.epoch == 2
    known = {name: value for name, value in run.metrics.items() if not math.isnan(value)}
    assert known == {
        "train_loss": 0.5, "val_accuracy": 0.7, "val_loss": 0.5,
        "test_accuracy": 0.4, "test_f1": 0.25,
    }  # fmt: skip
    # What was measured on the validation images is no result of the test.
    evaluation = {"epoch": 2, "split": "val", "accuracy": 0.7}
    (tmp_path / "r" / "evaluation.json").write_text(json.dumps(evaluation), encoding="utf-8")
    (run,) = find_runs(tmp_path)
    assert not any(name.startswith("test_") for name in run.metrics)


def test_what_changes_no_result_makes_no_configuration() -> None:
    common = {"lr": 0.1, "network": "softmax", "model": "softmax"}
    other = {
        "output": "o", "tracker": ["none"], "device": "cuda", "threads": 3, "workers": 0,
        "save_every": 2, "keep_best": 5,
    }  # fmt: skip
    runs = [RunSummary("a", "finished", {**common, "seed": 0})]
    runs += [
        RunSummary(name, "finished", {**common, "seed": 1, name: value})
        for name, value in other.items()
    ]
    assert len(group_seeds(runs)) == 1
    assert group_seeds(runs)[0].options == {"lr": 0.1, "model": "softmax"}
    for name in ("epochs", "batch_size", "precision"):
        assert len(group_seeds([*runs, RunSummary("b", "finished", {**common, name: 7})])) == 2


def three_seeds() -> list[RunSummary]:
    return [
        RunSummary(
            f"s{seed}",
            "finished" if seed < 2 else "failed",
            {"model": "m", "lr": 0.1, "seed": seed, "epochs": 4},
            {"val_accuracy": value, "test_loss": 2 * value},
            epoch=seed + 1,
            epochs=3,
            seconds=10.0 * seed,
            problem="why" if seed == 2 else None,
        )
        for seed, value in enumerate((0.5, 1.0, 0.25))
    ]


def test_every_metric_has_its_mean_deviation_lowest_and_highest_value() -> None:
    (configuration,) = group_seeds(three_seeds())
    table = metrics_table(configuration)
    assert table.header == ["metric", "mean", "deviation", "lowest", "highest"]
    assert table.rows == [
        ["val_accuracy", "0.7500", "0.3536", "0.5000", "1.0000"],
        ["test_loss", "1.5000", "0.7071", "1.0000", "2.0000"],
        ["seconds", "5.0000", "7.0711", "0.0000", "10.0000"],
    ]
    assert table.numeric == [False, True, True, True, True]


def test_the_table_of_runs_has_what_differs_and_what_was_asked_for() -> None:
    runs = [*three_seeds(), RunSummary("other", "interrupted", {"model": "m", "lr": 0.2})]
    table = runs_table(runs, "test_loss")
    assert table.header == [
        *("run", "lr", "seed", "status", "epochs", "val_accuracy", "test_loss"),
        *("best epoch", "seconds"),
    ]
    assert table.rows[0] == [
        *("s0", "0.1", "0", "finished", "3 of 4", "0.5000", "1.0000", "1", "0.0")
    ]
    assert table.rows[3] == ["other", "0.2", "", "interrupted", "0", "", "", "", ""]
    # Only the usual metrics, unless another one is named.
    assert "test_loss" not in runs_table(runs).header
    # With one seed alone, it is no column.
    assert "seed" not in runs_table(runs[:1]).header


def test_the_table_of_configurations_is_of_those_with_several_seeds() -> None:
    runs = [*three_seeds(), RunSummary("other", "finished", {"model": "m", "lr": 0.2})]
    table = configurations_table(group_seeds(runs))
    assert table is not None
    assert table.header == ["configuration", "seeds", "finished", "val_accuracy", "seconds"]
    assert table.rows == [["1", "0, 1, 2", "2 of 3", "0.7500 ± 0.3536", "5.0 ± 7.1"]]
    assert configurations_table(group_seeds(runs[3:])) is None


def test_each_line_of_the_csv_has_its_run_and_its_configuration() -> None:
    runs = three_seeds()
    rows = list(csv.DictReader(io.StringIO(runs_csv(group_seeds(runs), runs))))
    deviation = str(Spread.of([0.5, 1.0]).deviation)
    assert rows[2] == {
        "run": "s2", "configuration": "1", "seed": "2", "status": "failed", "epochs": "3",
        "epoch": "3", "seconds": "20.0", "val_accuracy": "0.25", "test_loss": "0.5", "seeds": "2",
        "val_accuracy_mean": "0.75", "val_accuracy_deviation": deviation,
        "test_loss_mean": "1.5", "test_loss_deviation": str(Spread.of([1.0, 2.0]).deviation),
        "problem": "why", "model": "m", "lr": "0.1", "planned_epochs": "4",
    }  # fmt: skip
    assert (rows[0]["problem"], rows[0]["seconds"]) == ("", "0.0")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (99_999.0, "99999.00"),
        (-99_999.0, "-99999.00"),
        (100_000.0, "1e+05"),
        (-123_456.0, "-1.235e+05"),
        (math.nan, "nan"),
        (math.inf, "inf"),
    ],
)
def test_a_large_number_is_short_whatever_its_sign(value: float, text: str) -> None:
    assert fixed(value, 2) == text


def test_a_run_that_failed_once_has_no_problem_when_it_is_finished(tmp_path: Path) -> None:
    def fail(trial: Trial, folder: Path) -> None:
        raise (DivergedError("nan", 1) if trial["lr"] == "1" else RuntimeError("odd"))

    sweep = sweep_of(tmp_path, 2, model="m", data="d")
    sweep.run(fail)
    assert failed_trials(tmp_path) == [
        FailedTrial("001", {"model": "m", "data": "d", "lr": 1, "epochs": 2}, "diverged", "nan"),
        FailedTrial(
            "002",
            {"model": "m", "data": "d", "lr": 2, "epochs": 2},
            "failed",
            "RuntimeError: odd",
        ),
    ]
    sweep.run(finished)
    assert list(sweep.problems()) == ["001"]
    assert [(row["run"], row["status"]) for row in sweep.rows()] == [
        ("002", "finished"), ("001", "diverged"),
    ]  # fmt: skip


def test_what_a_kill_left_in_a_run_that_had_ended_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep_of(tmp_path, 2).run(finished)
    looked_at: list[Path] = []
    monkeypatch.setattr("torchlift.transfer.sweep.remove_abandoned", looked_at.append)
    sweep_of(tmp_path, 2).run(finished)
    assert looked_at == [tmp_path / "001", tmp_path / "002"]


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[]", b'{"split": 5}', b'{"split": "test"}'])
def test_a_damaged_result_of_a_test_is_named(content: bytes, tmp_path: Path) -> None:
    write_run(tmp_path / "r", [0.5], test=0.4, epochs=1)
    (tmp_path / "r" / "evaluation.json").write_bytes(content)
    (run,) = find_runs(tmp_path)
    if content == b'{"split": "test"}':
        assert run.status == "finished"
    else:
        assert run.status == "damaged"
        assert "evaluation.json: damaged: " in str(run.problem)


def test_the_options_of_a_failed_run_are_numbers_and_texts(tmp_path: Path) -> None:
    """As in the configuration of a run, so that they are compared with those."""

    def fails(trial: Trial, folder: Path) -> None:
        raise DivergedError("loss is nan")

    options = {"lr": "0.1", "epochs": "2", "freeze": "all-but-head", "flip": "true", "note": "1e"}
    Sweep(tmp_path, [options], {"model": "lenet5", "data": "d.npz"}).run(fails)
    (failed,) = failed_trials(tmp_path)
    assert failed.options == {
        "model": "lenet5", "data": "d.npz",
        "lr": 0.1, "epochs": 2, "freeze": "all-but-head", "flip": True, "note": "1e",
    }  # fmt: skip
    assert failed.status == "diverged"


def monitored(path: Path, monitor: str | None, *rows: tuple[float, float], **options: Any) -> None:
    """Write a finished run with these accuracies and losses."""
    given = {} if monitor is None else {"monitor": monitor}
    write_run(path, [0.0] * len(rows), test=0.5, **given, **options)
    lines = [
        json.dumps({"epoch": epoch, "val_accuracy": accuracy, "val_loss": loss}) + "\n"
        for epoch, (accuracy, loss) in enumerate(rows, 1)
    ]
    (path / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")


def test_the_best_epoch_of_a_run_is_the_one_that_its_metric_chose(tmp_path: Path) -> None:
    """And so is the epoch from which its patience counts."""
    rows = ((0.9, 3.0), (0.1, 1.0), (0.2, 2.0))
    for monitor, epoch, status in ((None, 1, "finished"), ("loss", 2, "interrupted")):
        monitored(tmp_path / str(monitor), monitor, *rows, epochs=9, patience=2)
        run = read_run(tmp_path / str(monitor), "r")
        assert (run.epoch, run.status) == (epoch, status)
        assert run.metrics["val_accuracy"] == rows[epoch - 1][0]


def test_a_failure_without_a_known_status_is_one_that_failed(tmp_path: Path) -> None:
    for name, status in (("a", "diverged"), ("b", "exploded"), ("c", "failed")):
        write_run(tmp_path / name, [], failure={"status": status, "problem": "p"})
    statuses = [run.status for run in find_runs(tmp_path)]
    assert statuses == ["diverged", "failed", "failed"]


def test_a_folder_that_is_a_sweep_itself_names_its_runs_by_their_numbers(tmp_path: Path) -> None:
    def fails(trial: Trial, folder: Path) -> None:
        raise RuntimeError("odd")

    sweep_of(tmp_path / "s", 1, model="m", data="d").run(fails)
    assert [run.name for run in find_runs(tmp_path / "s")] == ["001"]
    assert [run.name for run in find_runs(tmp_path)] == ["s/001"]


def test_runs_are_in_the_order_of_their_names(tmp_path: Path) -> None:
    """Not in that in which their folders are walked: a folder comes before what is beside it."""
    for name in ("b/x", "b-1", "a"):
        write_run(tmp_path / name, [0.5])
    assert [run.name for run in find_runs(tmp_path)] == ["a", "b-1", "b/x"]
    # A run by itself has the name of its folder.
    assert [run.name for run in find_runs(tmp_path / "a")] == ["a"]


@pytest.mark.parametrize("missing", ["config.yaml", "run.json"])
def test_a_folder_with_half_of_a_run_is_none(missing: str, tmp_path: Path) -> None:
    write_run(tmp_path / "half", [0.5])
    write_run(tmp_path / "half" / "whole", [0.5])
    (tmp_path / "half" / missing).unlink()
    assert [run.name for run in find_runs(tmp_path)] == ["half/whole"]


def test_runs_are_sorted_by_a_metric_that_one_of_them_has(tmp_path: Path) -> None:
    runs = [RunSummary("none", "failed"), *of("val_f1", some=0.5)]
    check_metric(runs, "val_f1")
    for metric in ("seconds", "beauty"):
        with pytest.raises(
            RunsError, match=rf"sort='{metric}': no run has it; there are val_f1, s"
        ):
            check_metric(runs, metric)


def test_options_that_only_some_runs_have_are_no_difference() -> None:
    """Such as those that an older version did not have; those of a damaged run are not known."""
    runs = [
        RunSummary("a", "finished", {"lr": 0.1}),
        RunSummary("b", "finished", {"lr": 0.1, "x": 1}),
    ]
    assert differing_options(runs) == []
    runs.append(RunSummary("c", "damaged", {"lr": 7}))
    assert differing_options(runs) == []
    runs.append(RunSummary("d", "failed", {"lr": 7, "x": 2}))
    assert differing_options(runs) == ["lr", "x"]


def test_a_metric_that_decided_is_shown_and_one_seed_has_no_deviation() -> None:
    runs = of("val_recall", a=0.5) + of("val_recall", b=0.75)
    assert "val_recall" not in runs_table(runs).header
    runs[1].options["monitor"] = "recall"
    assert "val_recall" in runs_table(runs).header
    assert runs_table(runs).rows[0][-1] == ""
    # Of two seeds one may have failed: the configuration is shown all the same.
    seeds = [RunSummary(str(n), "finished" if n else "failed", {"seed": n}) for n in (0, 1)]
    seeds[1].metrics["val_accuracy"] = 0.5
    table = configurations_table(group_seeds(seeds))
    assert table is not None
    assert table.rows == [["1", "0, 1", "1 of 2", "0.5000", ""]]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([math.inf], (True, None)),
        ([math.nan], (True, None)),
        ([1.0, math.inf], (True, math.nan)),
        ([1.0, -math.inf, math.inf], (True, math.nan)),
        ([1.0], (False, None)),
    ],
)
def test_what_is_not_finite_has_no_mean(numbers: list[float], expected: tuple[bool, Any]) -> None:
    found = Spread.of(numbers)
    assert math.isnan(found.average) is expected[0]
    assert str(found.deviation) == str(expected[1])
    assert found.count == len(numbers)


@pytest.mark.parametrize(
    "rows", [b"seconds\n1,\xff\n", b"seconds\n1\n", b"time\n1,2\n", b"seconds\n1,x\n"]
)
def test_what_a_run_took_is_known_by_the_sentence_of_its_damage(
    rows: bytes, tmp_path: Path
) -> None:
    write_run(tmp_path / "r", [0.5])
    (tmp_path / "r" / "seconds.csv").write_bytes(b"epoch," + rows)
    (run,) = find_runs(tmp_path)
    assert run.status == "damaged"
    assert "seconds.csv: damaged: " in str(run.problem)
    assert ("'utf-8' codec" in str(run.problem)) == (b"\xff" in rows)
    assert "\n" not in str(run.problem)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (None, ""),
        (0, "0"),
        ([], ""),
        (["cat", True, 0.5], "cat,true,0.5"),
    ],
)
def test_options_are_shown_as_they_are_typed(value: Any, text: str) -> None:
    assert option_text(value) == text
    runs = [RunSummary("r", "failed", {"o": value})]
    (row,) = csv.DictReader(io.StringIO(runs_csv(group_seeds(runs), runs)))
    assert row["o"] == text
