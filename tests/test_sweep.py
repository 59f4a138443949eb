"""Sweeps: the planned runs, resuming, and the table of results."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import FIXTURES

from torchlift.cli.errors import UsageError
from torchlift.cli.main import main
from torchlift.cli.sweep import read_choice
from torchlift.converters.errors import WriteError
from torchlift.transfer.errors import DivergedError, SweepError, TrainingError
from torchlift.transfer.sweep import Choice, Sweep, Trial, plan_trials

DIGITS = FIXTURES / "digits"


def test_a_grid_is_every_combination() -> None:
    choices = [read_choice(text) for text in ("lr=0.1,0.01", "--batch-size=16,32,64", "epochs=3")]
    trials = plan_trials(choices, None, 0)
    assert len(trials) == 6
    assert len({tuple(trial.items()) for trial in trials}) == 6
    assert trials[0] == {"lr": "0.1", "batch_size": "16", "epochs": "3"}


def test_ranges_are_sampled_uniformly_on_a_logarithmic_scale() -> None:
    choices = [read_choice("lr=1e-4..1e-1"), read_choice("batch_size=8..128")]
    trials = plan_trials(choices, 600, 0)
    rates = [float(trial["lr"]) for trial in trials]
    assert 1e-4 <= min(rates) < max(rates) <= 1e-1
    # A third of them in each decade: 200 ± 4 standard deviations.
    counts = [
        sum(math.floor(math.log10(rate)) == decade for rate in rates) for decade in (-4, -3, -2)
    ]
    assert all(abs(count - 200) < 47 for count in counts)
    assert all(8 <= int(trial["batch_size"]) <= 128 for trial in trials)


def test_more_draws_begin_with_the_same_runs() -> None:
    choices = [read_choice("lr=1e-4..1e-1"), read_choice("freeze=none,all-but-head")]
    assert plan_trials(choices, 8, 1)[:4] == plan_trials(choices, 4, 1)
    assert plan_trials(choices, 4, 2) != plan_trials(choices, 4, 1)


@pytest.mark.parametrize(
    ("choice", "drawn", "expected"),
    [
        (Choice("batch_size", bounds=(1, 9), whole=True), 2.6, "3"),
        (Choice("batch_size", bounds=(1, 9), whole=True), 2.4, "2"),
        (Choice("lr", bounds=(1e-4, 1.0)), 0.00123456, "0.001235"),
    ],
)
def test_a_number_that_was_drawn_is_rounded(choice: Choice, drawn: float, expected: str) -> None:
    def uniform(low: float, high: float) -> float:
        assert choice.bounds is not None
        assert (low, high) == tuple(map(math.log, choice.bounds))
        return math.log(drawn)

    assert choice.draw(SimpleNamespace(uniform=uniform)) == expected  # type: ignore[arg-type]  # the method that is called


@pytest.mark.parametrize("text", ["lr", "=3", "lr=", "lr=1,,2", "lr=a..b", "lr=0..1", "lr=2..1"])
def test_invalid_choices_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected"):
        read_choice(text)


def test_ranges_need_a_number_of_random_runs() -> None:
    with pytest.raises(SweepError, match="random=…"):
        plan_trials([read_choice("lr=1e-4..1e-1")], None, 0)
    with pytest.raises(SweepError, match="random=…"):
        plan_trials([read_choice("lr=1e-4..1e-1"), read_choice("epochs=1,2")], None, 0)
    with pytest.raises(SweepError, match="once"):
        plan_trials([read_choice("lr=1"), read_choice("lr=2")], None, 0)
    with pytest.raises(SweepError, match=r"lr has a value twice: 0\.1, 0\.2, 0\.1"):
        plan_trials([read_choice("lr=0.1,0.2,0.1")], None, 0)


#: Validation accuracy and loss of each run, by its learning rate.
SCORES = {"1": (0.5, 1.0), "2": (0.9, 0.5), "3": (0.9, 0.4), "4": (0.7, 0.1)}


def finished(trial: Trial, folder: Path) -> None:
    """Write the files of a finished run, with known results."""
    accuracy, loss = SCORES[trial["lr"]]
    folder.mkdir(parents=True)
    worse = {"epoch": 2, "val_accuracy": 0.1, "val_loss": 3.0}
    rows = [{"epoch": 1, "val_accuracy": accuracy, "val_loss": loss}, worse]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
    evaluation = json.dumps({"split": "test", "accuracy": 0.25})
    (folder / "evaluation.json").write_text(evaluation, encoding="utf-8")


def sweep_of(folder: Path, count: int = 4, **fixed: str) -> Sweep:
    trials = [{"lr": rate, "epochs": "2"} for rate in list(SCORES)[:count]]
    return Sweep(folder, trials, fixed)


def test_a_stopped_sweep_is_resumed_and_sorted_by_validation(tmp_path: Path) -> None:
    done: list[str] = []

    def stop_after_two(trial: Trial, folder: Path) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(trial["lr"])
        finished(trial, folder)

    with pytest.raises(KeyboardInterrupt):
        sweep_of(tmp_path).run(stop_after_two)
    with (tmp_path / "results.csv").open(encoding="utf-8") as file:
        assert [row["lr"] for row in csv.DictReader(file)] == ["2", "1"]
    sweep_of(tmp_path).run(finished)
    with (tmp_path / "results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # By accuracy, then by loss; options that all runs have in common are left out.
    assert [row["lr"] for row in rows] == ["3", "2", "4", "1"]
    assert rows[0] == {
        "lr": "3",
        "val_accuracy": "0.9000",
        "val_loss": "0.4000",
        "test_accuracy": "0.2500",
        "epoch": "1",
        "run": "003",
    }
    lines = (tmp_path / "results.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "| lr | val_accuracy | val_loss | test_accuracy | epoch | run |"
    assert lines[2] == "| 3 | 0.9000 | 0.4000 | 0.2500 | 1 | 003 |"


def test_runs_that_were_drawn_twice_are_runs_of_their_own(tmp_path: Path) -> None:
    """Also when the sweep is resumed with more of them; those that are done keep their folders."""
    done: list[str] = []

    def run(trial: Trial, folder: Path) -> None:
        done.append(folder.name)
        finished(trial, folder)

    twice = [{"lr": rate, "epochs": "2"} for rate in ("1", "2", "1")]
    for trials, names in (
        (twice, ["001", "002", "003"]),
        ([*twice, twice[0], twice[1]], ["004", "005"]),
        ([twice[1], *twice], []),
    ):
        done.clear()
        Sweep(tmp_path, trials, {}).run(run)
        assert done == names
    folders = Sweep(tmp_path, [twice[1], *twice], {}).folders()
    assert [folder.path.name for folder in folders] == ["002", "001", "005", "003"]


def test_tables_that_are_missing_or_old_are_written_though_no_run_is_left(tmp_path: Path) -> None:
    """Such as those of a disk that was full when the last run had ended."""
    sweep_of(tmp_path).run(finished)
    tables = {name: (tmp_path / name).read_bytes() for name in ("results.csv", "results.md")}
    (tmp_path / "results.csv").write_text("lr\n", encoding="utf-8")
    (tmp_path / "results.md").unlink()
    sweep_of(tmp_path).run(finished)
    assert {name: (tmp_path / name).read_bytes() for name in tables} == tables


def test_only_the_accuracy_of_a_test_split_is_called_that(tmp_path: Path) -> None:
    def validated(trial: Trial, folder: Path) -> None:
        finished(trial, folder)
        evaluation = json.dumps({"split": "val", "accuracy": 0.9})
        (folder / "evaluation.json").write_text(evaluation, encoding="utf-8")

    sweep_of(tmp_path).run(validated)
    assert "test_accuracy" not in (tmp_path / "results.csv").read_text(encoding="utf-8")


def test_a_folder_of_another_sweep_is_refused(tmp_path: Path) -> None:
    sweep_of(tmp_path, 2, model="a").run(finished)
    sweep_of(tmp_path, 3, model="a").run(finished)
    with pytest.raises(SweepError, match="another sweep"):
        sweep_of(tmp_path, 3, model="b").run(finished)
    with pytest.raises(SweepError, match="another sweep"):
        Sweep(tmp_path, [{"lr": "7", "epochs": "2"}], {"model": "a"}).run(finished)


@pytest.mark.slow
def test_the_command_runs_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", "finetune", str(DIGITS / "digits-lenet5-bn.t7")]
    words += [str(DIGITS / "digits-train.t7"), "freeze=none,all-but-head", "flip=true,false"]
    words += ["lr=0.05", "epochs=1", "limit=120", "tracker=none"]
    words += [f"--output={tmp_path / 'sweep'}", "--json"]

    def run() -> Any:
        assert main(words) == 0
        captured = capsys.readouterr()
        return json.loads(captured.out)["runs"], captured.err

    rows, messages = run()
    assert messages.count("are trained") == 4
    scores = [float(row["val_accuracy"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    settings = [{one["option"]: one["setting"] for one in row["options"]} for row in rows]
    assert {(row["freeze"], row["flip"]) for row in settings} == {
        (freeze, flip) for freeze in ("none", "all-but-head") for flip in (True, False)
    }
    (tmp_path / "sweep" / "002" / "evaluation.json").unlink()
    repeated, messages = run()
    assert messages.count("are trained") == 1
    assert repeated == rows


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TrainingError("no such head"), "no such head"),
        # Whatever the code of a network raises.
        (RuntimeError("shapes differ\nat …"), "RuntimeError: shapes differ"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_runs_without_a_result_are_rows_and_the_others_go_on(
    error: Exception, said: str, tmp_path: Path
) -> None:
    """One that diverged is not repeated; one that failed, however, is tried again."""
    tried: list[str] = []

    def run(trial: Trial, folder: Path) -> None:
        tried.append(trial["lr"])
        if trial["lr"] == "1":
            raise DivergedError("the training diverged in epoch 2", 2)
        if trial["lr"] == "2":
            raise error
        finished(trial, folder)

    sweep_of(tmp_path).run(run)
    assert [(row["lr"], row["status"]) for row in sweep_of(tmp_path).rows()] == [
        *(("3", "finished"), ("4", "finished")),
        *(("1", "diverged"), ("2", "failed")),
    ]
    with (tmp_path / "results.csv").open(encoding="utf-8") as file:
        last = list(csv.DictReader(file))[-1]
    assert (last["val_accuracy"], last["run"], last["status"]) == ("", "002", "failed")
    problems = sweep_of(tmp_path).problems()
    assert problems["001"]["problem"] == "the training diverged in epoch 2"
    assert problems["002"]["problem"] == said
    sweep_of(tmp_path).run(run)
    assert tried == ["1", "2", "3", "4", "2"]


@pytest.mark.parametrize("error", [WriteError("no space left"), OSError(28, "full"), ImportError()])
def test_a_full_disk_or_a_missing_package_ends_a_sweep(error: Exception, tmp_path: Path) -> None:
    def run(trial: Trial, folder: Path) -> None:
        raise error

    with pytest.raises(type(error)):
        sweep_of(tmp_path).run(run)


def test_a_diverging_run_of_a_sweep_is_a_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sweep", "train", "lenet5", "digits", "lr=1e10,0.01", "epochs=2", "limit=60"]
    words += ["tracker=none", "val_fraction=0.2", f"--output={tmp_path / 's'}", "--json"]
    assert main(words) == 0
    best, worst = json.loads(capsys.readouterr().out)["runs"]
    assert (best["status"], best["options"]) == ("finished", [{"option": "lr", "setting": 0.01}])
    assert isinstance(best["val_accuracy"], float)
    assert (best["epoch"], type(best["epoch"])) in ((1, int), (2, int))
    assert (worst["status"], worst["options"][0]["setting"]) == ("diverged", 1e10)
    assert "the training diverged in epoch " in worst["problem"]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("freeze=none,nope,all-but-head", "freeze='nope' matches no layer"),
        ("lr=0.1,-1", "lr=-1.0 must be positive"),
        ("schedule=one-cycle,zigzag", "schedule"),
    ],
)
def test_a_refused_option_ends_a_sweep_before_its_first_run(
    choice: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sweep", "finetune", str(DIGITS / "digits-lenet5-bn.t7"), "digits", choice]
    words += ["epochs=1", f"--output={tmp_path / 's'}"]
    try:
        status: Any = main(words)
    except SystemExit as stopped:
        status = stopped.code
    assert status in (1, 2)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_an_invalid_option_ends_a_sweep_before_its_first_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sweep", "train", "lenet5", "digits", "epochs=1,many", f"--output={tmp_path / 's'}"]
    with pytest.raises(SystemExit):
        main(words)
    assert "epochs" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_a_grid_grows_in_any_option(tmp_path: Path) -> None:
    """A run keeps its number, and only the new ones are done, wherever they stand in the grid."""
    done: list[tuple[str, str]] = []

    def run(trial: Trial, folder: Path) -> None:
        done.append((trial["momentum"], folder.name))
        finished(trial, folder)

    def sweep(*momenta: str) -> Sweep:
        choices = [read_choice("lr=1,2"), read_choice(f"momentum={','.join(momenta)}")]
        return Sweep(tmp_path, plan_trials(choices, None, 0), {"model": "a"})

    sweep("0.9").run(run)
    sweep("0.9", "0.5").run(run)
    assert done == [("0.9", "001"), ("0.9", "002"), ("0.5", "003"), ("0.5", "004")]
    # Fewer values lose nothing: the runs keep their numbers for a later, larger grid.
    sweep("0.5").run(run)
    assert {row["run"] for row in sweep("0.5").rows()} == {"003", "004"}
    larger = sweep("0.1", "0.9", "0.5")
    larger.run(run)
    assert done[4:] == [("0.1", "005"), ("0.1", "006")]
    assert {(row["lr"], row["momentum"], row["run"]) for row in larger.rows()} == {
        *(("1", "0.9", "001"), ("2", "0.9", "002"), ("1", "0.5", "003")),
        *(("2", "0.5", "004"), ("1", "0.1", "005"), ("2", "0.1", "006")),
    }


def test_equal_random_runs_have_folders_of_their_own(tmp_path: Path) -> None:
    trials = [{"lr": "1"}, {"lr": "1"}, {"lr": "2"}]
    names = [folder.path.name for folder in Sweep(tmp_path, trials, {}).folders()]
    assert names == ["001", "002", "003"]


def test_runs_of_equal_results_stay_in_their_order(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, [{"lr": "2", "seed": str(seed)} for seed in range(3)], {})
    sweep.run(finished)
    assert [row["run"] for row in sweep.rows()] == ["001", "002", "003"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"trials": [{"lr": "1", "epochs": "2"}]}', '{"trials": 3, "fixed": {}}'],
)
def test_a_folder_without_the_plan_of_a_sweep_is_left_alone(text: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(text, encoding="utf-8")
    with pytest.raises(SweepError, match="something else than a sweep"):
        sweep_of(tmp_path).run(finished)
    assert [file.name for file in tmp_path.iterdir()] == ["sweep.json"]


def test_a_damaged_file_of_a_sweep_is_named(tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path)
    sweep.run(finished)
    (tmp_path / "problems.json").write_text('{"001": 3}', encoding="utf-8")
    with pytest.raises(SweepError, match=r"problems\.json: damaged"):
        sweep.rows()


def test_repeats_are_seeds_in_a_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", "train", "lenet5", "digits", "repeats=1,2", f"--output={tmp_path / 's'}"]
    assert main(words) == 2
    assert "vary the option seed" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("vary", "name"),
    [
        ("output=foo", "output"),
        ("resume=never,auto", "resume"),
        ("overwrite=true", "overwrite"),
        ("overwrite=false,true", "overwrite"),
    ],
)
def test_the_folder_of_a_run_and_what_becomes_of_it_cannot_be_varied(
    vary: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sweep", "train", "softmax", "sklearn:digits", vary, "-o", str(tmp_path / "s")]
    assert main(words) == 2
    assert f"{name} cannot be varied" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_sweep_without_a_result_has_no_table(tmp_path: Path) -> None:
    """As in all processes but the first; the first writes it."""
    sweep_of(tmp_path, 2).run(lambda *_: None)
    assert [file.name for file in tmp_path.iterdir() if file.suffix != ".json"] == []
    sweep_of(tmp_path, 2).run(finished)
    assert {file.name for file in tmp_path.glob("results.*")} == {"results.csv", "results.md"}
