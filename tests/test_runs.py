"""`torchlift runs`: what became of each run, seeds of one configuration, and every format."""

from __future__ import annotations

import csv
import io
import json
import re
import statistics
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from cli_support import typed
from support import FIXTURES

from torchlift.cli.runs_view import setting_of, with_typed_options
from torchlift.transfer.errors import RunsError
from torchlift.transfer.runs import RunSummary, best_first, find_runs, group_seeds
from torchlift.transfer.spread import Spread


def write_run(
    path: Path,
    accuracies: list[float],
    *,
    test: float | None = None,
    failure: dict[str, str] | None = None,
    **options: Any,
) -> None:
    """Write the files of a run; without an accuracy on the test split it is not finished."""
    path.mkdir(parents=True)
    config = {"network": "softmax", "data": "d", "epochs": 2, "lr": 0.1, "seed": 0, **options}
    (path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    facts = {"torchlift": "0", "inputs": {}} | ({} if failure is None else {"failure": failure})
    (path / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    rows = [
        {"epoch": epoch, "lr": 0.1, "train_loss": 1 / epoch, "val_accuracy": value, "val_loss": 0.5}
        for epoch, value in enumerate(accuracies, 1)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (path / "metrics.jsonl").write_text(lines, encoding="utf-8")
    seconds = "".join(f"{epoch},1.5\n" for epoch in range(1, len(rows) + 1))
    (path / "seconds.csv").write_text("epoch,seconds\n" + seconds, encoding="utf-8")
    if test is not None:
        evaluation = {"epoch": 1, "split": "test", "accuracy": test, "loss": None, "f1": 0.25}
        (path / "evaluation.json").write_text(json.dumps(evaluation), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three seeds of one configuration, of which one was stopped, and runs that came to nothing."""
    root = tmp_path / "runs"
    write_run(root / "a" / "seed-0", [0.5, 0.7], test=0.6, seed=0, output="x")
    write_run(root / "a" / "seed-1", [0.9, 0.8], test=0.7, seed=1, device="cuda", threads=4)
    write_run(root / "a" / "seed-2", [0.4], seed=2)
    problem = {"status": "diverged", "problem": "the loss is nan; try lr=0.01"}
    write_run(root / "b", [], failure=problem, lr=1.0)
    write_run(root / "c", [0.3], failure={"status": "failed", "problem": "RuntimeError"}, lr=2.0)
    return root


def test_what_became_of_each_run(folder: Path) -> None:
    write_run(folder / "d", [0.1, 0.2, 0.3], test=0.3, epochs=5)
    write_run(folder / "e", [0.3, 0.2], test=0.3, epochs=5, patience=1)
    write_run(folder / "f", [0.1], test=0.3, epochs=1)
    (folder / "f" / "metrics.jsonl").write_text("{", encoding="utf-8")
    found = {run.name: run for run in find_runs(folder)}
    assert {name: run.status for name, run in found.items()} == {
        "a/seed-0": "finished",
        "a/seed-1": "finished",
        "a/seed-2": "interrupted",
        "b": "diverged",
        "c": "failed",
        # Lengthened: its evaluation is of before. Ended by its patience. Damaged.
        "d": "interrupted",
        "e": "finished",
        "f": "damaged",
    }
    best = found["a/seed-1"]
    assert (best.epoch, best.epochs, best.planned_epochs, best.seconds) == (1, 2, 2, 3.0)
    assert best.metrics["val_accuracy"] == 0.9
    assert best.metrics["test_accuracy"] == 0.7
    assert str(best.metrics["test_loss"]) == "nan"
    assert found["b"].epoch is None
    # Without an epoch it took no time; without its file nobody knows.
    assert found["b"].seconds == 0
    (folder / "c" / "seconds.csv").unlink()
    assert {run.name: run for run in find_runs(folder)}["c"].seconds is None
    assert "metrics.jsonl: damaged" in str(found["f"].problem)


@pytest.mark.parametrize(("ended_after", "status"), [(2, "finished"), (1, "interrupted")])
def test_a_run_that_a_callback_ended_is_finished(
    ended_after: int, status: str, tmp_path: Path
) -> None:
    """Unless it went on after that, and has the evaluation of before."""
    write_run(tmp_path / "run", [0.1, 0.2], test=0.3, epochs=5)
    facts = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    facts["ended_after"] = ended_after
    (tmp_path / "run" / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    (run,) = find_runs(tmp_path)
    assert (run.status, run.epochs, run.planned_epochs) == (status, 2, 5)


def test_a_run_of_0_1_0_is_read() -> None:
    (run,) = find_runs(FIXTURES / "0.1.0")
    assert (run.status, run.epochs, run.options["val_fraction"]) == ("finished", 2, 0.1)


def test_seeds_of_a_configuration_have_mean_and_sample_deviation(folder: Path) -> None:
    """Device, threads, folder and seed make no other configuration; a learning rate does."""
    groups = group_seeds(find_runs(folder))
    assert [[run.name for run in group.runs] for group in groups] == [
        ["a/seed-0", "a/seed-1", "a/seed-2"],
        *(["b"], ["c"]),
    ]
    spread = groups[0].spread("val_accuracy")
    assert spread is not None
    # Of the finished ones only.
    assert spread.average == pytest.approx(statistics.mean([0.7, 0.9]))
    assert spread.deviation == pytest.approx(statistics.stdev([0.7, 0.9]))
    assert spread.count == 2
    assert groups[1].spread("val_accuracy") is None
    assert Spread.of([0.5]).deviation is None


def test_a_seed_that_was_used_again_counts_once() -> None:
    """It gives the same numbers again, so that the deviation would be too small."""
    options = {"lr": 0.1}
    # On another device the last digits may differ: the first run counts.
    scores = {"a": (0, 0.5), "b": (0, 0.625), "c": (1, 1.0)}
    found = [
        RunSummary(name, "finished", {**options, "seed": seed}, {"val_accuracy": score})
        for name, (seed, score) in scores.items()
    ]
    (configuration,) = group_seeds(found)
    assert configuration.spread("val_accuracy") == Spread(0.75, statistics.stdev([0.5, 1.0]), 2)


def test_the_best_is_first(folder: Path) -> None:
    found = find_runs(folder)
    assert [run.name for run in best_first(found, "val_accuracy")][:4] == [
        *("a/seed-1", "a/seed-0", "a/seed-2", "c"),
    ]
    losses = [run.value("train_loss") for run in best_first(found, "train_loss")]
    known = [loss for loss in losses if loss is not None]
    assert losses[: len(known)] == sorted(known)


def test_runs_of_a_sweep_without_a_folder_are_listed(folder: Path) -> None:
    write_run(folder / "s" / "001", [0.5, 0.6], test=0.5)
    plan = {
        "fixed": {"command": "train", "model": "softmax", "data": "d", "base": ""},
        "trials": [{"lr": "0.1"}, {"lr": "7"}],
    }
    (folder / "s" / "sweep.json").write_text(json.dumps(plan), encoding="utf-8")
    problems = {"002": {"status": "failed", "problem": "no such class"}}
    (folder / "s" / "problems.json").write_text(json.dumps(problems), encoding="utf-8")
    found = {run.name: run for run in find_runs(folder)}
    assert found["s/001"].status == "finished"
    assert (found["s/002"].status, found["s/002"].options["lr"]) == ("failed", 7)


def test_hidden_folders_and_what_is_in_a_run_are_no_runs(folder: Path) -> None:
    write_run(folder / ".trash" / "z", [0.5])
    write_run(folder / "b" / "inner", [0.5])
    assert {run.name[0] for run in find_runs(folder)} == set("abc")
    with pytest.raises(RunsError, match="no such folder"):
        find_runs(folder / "nowhere")
    (folder / "empty").mkdir()
    with pytest.raises(RunsError, match="holds no run"):
        find_runs(folder / "empty")


@pytest.mark.parametrize(
    "damage",
    [
        {"config.yaml": "a: &a [1]\nb: *a"},
        {"config.yaml": "- 1"},
        {"config.yaml": "1: 2"},
        {"run.json": "{"},
        {"run.json": '{"torchlift": "1", "inputs": {}, "failure": 5}'},
        {"metrics.jsonl": '{"epoch": "x"}'},
        {"seconds.csv": "epoch,seconds\n1,soon\n"},
        {"seconds.csv": "epoch\n1\n"},
        {"evaluation.json": '{"split": 5}'},
    ],
)
def test_a_damaged_run_is_named_beside_the_others(damage: dict[str, str], folder: Path) -> None:
    for name, text in damage.items():
        (folder / "a" / "seed-0" / name).write_text(text, encoding="utf-8")
    found = {run.name: run for run in find_runs(folder)}
    assert found["a/seed-0"].status == "damaged"
    assert f"{next(iter(damage))}: damaged" in str(found["a/seed-0"].problem)
    assert found["a/seed-1"].status == "finished"


def test_odd_texts_and_numbers_of_others(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A half of a surrogate pair, a date, numbers that are none, a metric that is called run."""
    odd = folder / "odd"
    write_run(odd, [0.5], test=0.5)
    config = (
        'network: "\\ud800"\nepochs: 1\nlr: 2020-01-01\nseed: {1: 2, a: [3]}\nx: {1: a, b: 2}\n'
    )
    (odd / "config.yaml").write_text(config, encoding="utf-8")
    row = {"epoch": None, "train_loss": 1e300, "val_accuracy": None, "run": 5, "status": 5}
    (odd / "metrics.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    for suffix in ("md", "csv", "json", "html"):
        run(capsys, folder, "-o", tmp_path / f"t.{suffix}")
    document = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    assert [each["run"] for each in document["runs"]][-1] == "odd"
    run(capsys, folder, "--sort", "val_accuracy")


def run(capsys: pytest.CaptureFixture[str], *words: str | Path, code: int = 0) -> str:
    status, out, err = typed({}, capsys, "runs", *map(str, words))
    assert status == code, err
    return out if code == 0 else err


def test_the_table_shows_what_differs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, folder, "--sort", "val_accuracy").splitlines()
    assert re.split(r"  +", lines[0].strip())[:5] == ["run", "lr", "seed", "status", "epochs"]
    assert lines[1].split()[:4] == ["a/seed-1", "0.1", "1", "finished"]
    seeds = next(line for line in lines if "0, 1, 2" in line)
    assert "2 of 3" in seeds
    assert "0.8000 ± 0.1414" in seeds
    assert "note: run b: the loss is nan; try --lr 0.01" in lines


def test_both_tables_are_sorted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The configurations too, and a loss the other way round."""
    for seed in (0, 1):
        write_run(folder / "d" / f"seed-{seed}", [0.95, 0.99], test=0.99, lr=0.7, seed=seed)

    def order(*words: str) -> list[int]:
        document = json.loads(run(capsys, folder, "--json", *words))
        several = [one for one in document["configurations"] if len(one["runs"]) > 1]
        return [one["configuration"] for one in several]

    names = order()
    assert names == sorted(names)
    assert order("--sort", "val_accuracy") == names[::-1]
    lines = run(capsys, folder, "--sort", "val_accuracy").splitlines()
    rows = [line for line in lines if "±" in line]
    assert ["0.99" in row for row in rows] == [True, False]


def test_csv_has_a_line_for_each_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(run(capsys, folder, "--format", "csv"))))
    assert [row["run"] for row in rows] == ["a/seed-0", "a/seed-1", "a/seed-2", "b", "c"]
    assert [row["configuration"] for row in rows] == ["1", "1", "1", "2", "3"]
    assert float(rows[2]["val_accuracy_mean"]) == pytest.approx(0.8)
    assert float(rows[0]["val_accuracy_deviation"]) == pytest.approx(statistics.stdev([0.7, 0.9]))
    assert (rows[0]["seeds"], rows[0]["lr"], rows[3]["problem"]) == (
        *("2", "0.1"),
        "the loss is nan; try --lr 0.01",
    )


def test_a_page_loads_nothing_and_runs_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "<script>alert(1)</script>|&"
    for number in range(9):
        write_run(folder / f"run {number}", [0.5, 0.6], test=0.5, data=evil, lr=number)
    file = tmp_path / "runs.html"
    assert "wrote" in run(capsys, folder, "-o", file)
    page = file.read_text(encoding="utf-8")
    assert "<script" not in page
    # Names of parts are unique, though there are two figures; links stay within the page.
    assert page.count("<svg") == 2
    assert "<?xml" not in page
    assert page.count("<!DOCTYPE") <= 1
    names = re.findall(r'\bid="([^"]*)"', page)
    assert len(names) == len(set(names)) > 10
    links = re.findall(r'(?:href|src)="([^"]*)"', page) + re.findall(r"url\(([^)]*)\)", page)
    assert {link[0] for link in links if link != "data:,"} == {"#"}
    assert {link[1:] for link in links if link.startswith("#")} <= set(names)
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(svg)  # written by this test
    assert "&lt;script&gt;" in page


def test_markdown_and_json(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_run(folder / "x|y", [0.5])
    text = run(capsys, folder, "--format=markdown")
    assert "| x\\|y | 0.1 | 0 | interrupted | 1 of 2 |" in text
    # Numbers stand on the right, names on the left.
    header, alignments = (line.strip("| ").split(" | ") for line in text.splitlines()[2:4])
    right = {name for name, kind in zip(header, alignments, strict=True) if kind == "---:"}
    assert {"run", "status"}.isdisjoint(right)
    assert "val_accuracy" in right
    # The folder has its name, wherever a person stands.
    assert text.startswith("# Runs in runs\n\n")
    monkeypatch.chdir(folder)
    assert run(capsys, ".", "--format=markdown") == text
    file = tmp_path / "t.json"
    run(capsys, folder, "-o", file)
    run(capsys, folder, "-o", file, "--overwrite")
    assert json.loads(file.read_text(encoding="utf-8"))["files"] == [str(file)]
    printed = run(capsys, folder, "--format=json")
    assert json.loads(printed) == json.loads(run(capsys, folder, "--json"))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["-o", "t.txt"], 2, ".md or .csv or .json or .html is written"),
        (["-o", "t.csv", "--format", "html"], 2, "leave out one"),
        (["--format", "xml"], 2, "--format"),
        (["--sort", "beauty"], 1, "--sort beauty: no run has it; there are"),
        (["-o", "there.csv"], 1, "--overwrite"),
        (["-o", "nowhere/t.csv"], 1, "no such folder"),
    ],
)
def test_wrong_words_write_nothing(
    words: list[str],
    code: int,
    said: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.csv").write_text("mine", encoding="utf-8")
    assert said in run(capsys, "runs", *words, code=code)
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "there.csv"}
    assert (tmp_path / "there.csv").read_text(encoding="utf-8") == "mine"


def test_a_problem_names_the_options_of_the_command_that_was_run() -> None:
    problem = "give head=keep or lr=0.01; data='d' stays"
    for options, text in (
        ({"model": "m", "data": "d"}, "give --head keep or --lr 0.01; data d stays"),
        ({"network": "n", "data": "d"}, "give head=keep or --lr 0.01; data d stays"),
    ):
        (run,) = with_typed_options([RunSummary("r", "failed", options, problem=problem)])
        assert run.problem == text
    whole = RunSummary("r", "finished", {"network": "n"})
    assert with_typed_options([whole]) == [whole]


def test_a_setting_is_as_it_is_typed_or_a_number_or_a_text() -> None:
    for value, setting in (
        (["a", "b"], "a,b"),
        ((224, 224), "224"),
        ((240, 320), "240x320"),
        (True, True),
        (0.5, 0.5),
        (7, 7),
        (None, None),
        ({"a": 1}, "{'a': 1}"),
    ):
        found = setting_of(value)
        assert (found, type(found)) == (setting, type(setting))


def test_the_metric_that_sorts_is_a_column_of_every_table(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of both: of the runs, and of the means over their seeds."""
    for words in (("--format=markdown",), ("--format=html",), ()):
        plain = run(capsys, folder, *words)
        assert "train_loss" not in plain
        assert run(capsys, folder, *words, "--sort=train_loss").count("train_loss") == 2
    text = run(capsys, folder, "--format=markdown")
    assert text.endswith("\n\n- run b: the loss is nan; try --lr 0.01\n\n- run c: RuntimeError\n")
    document = json.loads(run(capsys, folder, "--json"))
    # A run without an epoch has no best one.
    assert ["epoch" in one for one in document["runs"]] == [True, True, True, False, True]
