"""The command `sweep` without a training: the words of each run, and what the result says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_runs import write_run

from torchlift.cli import sweep as file
from torchlift.cli.errors import UsageError
from torchlift.cli.main import main
from torchlift.cli.sweep import read_choice, sweep
from torchlift.transfer.errors import DivergedError, TrainingError
from torchlift.transfer.freezing import Freezing

Problems = dict[float, Exception]


def swept(
    folder: Path,
    problems: Problems,
    monkeypatch: pytest.MonkeyPatch,
    *vary: str,
    base: str | None = None,
) -> tuple[Any, list[dict[str, Any]]]:
    """The result of a sweep whose runs are there at once, and the options that each run got."""
    asked: list[dict[str, Any]] = []

    def run(command: Any, options: dict[str, Any]) -> None:
        asked.append(options)
        if options["lr"] in problems:
            raise problems[options["lr"]]
        write_run(Path(options["output"]), [options["lr"]], test=0.5, lr=options["lr"])

    monkeypatch.setattr(file, "run_command", run)
    choices = list(vary or ("lr=0.1,0.2",))
    return sweep("train", "softmax", "d.npz", choices, output=str(folder / "s"), base=base), asked


def test_flags_are_there_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("lr=0.1", "flip=true,false", "batch-size=7")
    result, asked = swept(tmp_path, {}, monkeypatch, *words)
    assert [options["flip"] for options in asked] == [True, False]
    assert {options["batch_size"] for options in asked} == {7}
    assert {options["resume"] for options in asked} == {"auto"}
    assert [Path(options["output"]).name for options in asked] == ["001", "002"]
    settings = [
        {one["option"]: one["setting"] for one in row["options"]} for row in result.data["runs"]
    ]
    assert [one["flip"] for one in settings] == [True, False]


def test_a_flag_that_the_file_for_all_runs_sets_is_varied_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base.yaml"
    base.write_text("flip: true\n", encoding="utf-8")
    _, asked = swept(tmp_path, {}, monkeypatch, "lr=0.1", "flip=true,false", base=str(base))
    assert [options["flip"] for options in asked] == [True, False]


def test_only_a_flag_is_left_out_where_it_is_false(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Any other option would have its default, and the table would say something else."""
    with pytest.raises(SystemExit):
        swept(tmp_path, {}, monkeypatch, "lr=0.1", "schedule=cosine,false")
    assert "--schedule: one of constant, cosine, step, one-cycle" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    swept(tmp_path, {}, monkeypatch, "lr=0.1", "skip-bad=true")


@pytest.mark.parametrize("value", ["0", "1", "0.0"])
def test_a_number_is_given_as_it_is_whether_or_not_a_flag_could_be_called_so(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, asked = swept(tmp_path, {}, monkeypatch, "lr=0.1", f"weight_decay={value},0.25")
    assert [options["weight_decay"] for options in asked] == [float(value), 0.25]


@pytest.mark.parametrize(
    ("problems", "passed"),
    [
        ({}, True),
        ({0.1: DivergedError("nan", 1)}, True),
        # No run has a result.
        ({0.1: DivergedError("nan", 1), 0.2: DivergedError("nan", 1)}, False),
        ({0.2: TrainingError("give head=keep")}, False),
    ],
)
def test_a_sweep_passes_where_a_run_has_a_result_and_none_has_failed(
    problems: Problems, passed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, asked = swept(tmp_path, problems, monkeypatch)
    assert len(asked) == 2
    assert result.passed == passed
    statuses = {row["run"]: row["status"] for row in result.data["runs"]}
    expected = {
        name: "finished" if rate not in problems else type(problems[rate]).__name__
        for name, rate in (("001", 0.1), ("002", 0.2))
    }
    names = {"DivergedError": "diverged", "TrainingError": "failed"}
    assert statuses == {run: names.get(name, name) for run, name in expected.items()}


@pytest.mark.parametrize("repeats", ["1,2", "2,1", "2"])
def test_repeats_of_any_run_are_refused_before_the_first(
    repeats: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="vary the option seed"):
        swept(tmp_path, {}, monkeypatch, "lr=0.1", f"repeats={repeats}")
    assert not list(tmp_path.iterdir())


def test_options_for_all_runs_are_read_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base.yaml"
    base.write_text("epochs: 3\nlr: 0.7\n", encoding="utf-8")
    _, asked = swept(tmp_path, {}, monkeypatch, "lr=0.1", base=str(base))
    assert [(options["epochs"], options["lr"]) for options in asked] == [(3, 0.1)]


@pytest.mark.parametrize(
    ("text", "bounds", "whole"),
    [
        ("epochs=1..100", (1.0, 100.0), True),
        ("lr=1e-4..1e-1", (1e-4, 1e-1), False),
        # A range with one whole end holds what is not whole.
        ("lr=0.5..2", (0.5, 2.0), False),
        ("lr=1..2.5", (1.0, 2.5), False),
    ],
)
def test_a_range_is_of_whole_numbers_where_both_ends_are(
    text: str, bounds: tuple[float, float], whole: bool
) -> None:
    choice = read_choice(text)
    assert (choice.bounds, choice.whole, choice.values) == (bounds, whole, ())


@pytest.mark.parametrize(
    "text", ["lr", "lr=", "=1", "lr=1..1", "lr=2..1", "lr=0..1", "lr=-1..1", "lr=1..inf", "lr=a..b"]
)
def test_what_is_neither_values_nor_a_range_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        read_choice(text)


@pytest.mark.parametrize(
    ("varied", "problem"),
    [
        (["lr=1e-4..1e-1"], "set the number of runs with --random"),
        (["lr=0.1,0.1"], "lr has a value twice"),
        (["lr=0.1", "lr=0.2"], "each option can be varied once"),
    ],
)
def test_options_that_no_sweep_can_be_made_of_are_wrong_words(
    varied: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sweep", "train", "softmax", "sklearn:digits", *varied, "-o", str(tmp_path / "s")]
    assert main(words) == 2
    assert problem in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_each_run_is_announced_with_its_place_among_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also among those of an earlier sweep into this folder."""
    swept(tmp_path, {}, monkeypatch, "lr=0.1,0.2", "flip=false")
    assert capsys.readouterr().err.splitlines() == [
        "run 001 of 002: lr=0.1 flip=false",
        "run 002 of 002: lr=0.2 flip=false",
    ]
    result, asked = swept(tmp_path, {}, monkeypatch, "lr=0.2,0.3", "flip=false")
    assert capsys.readouterr().err.splitlines() == ["run 003 of 003: lr=0.3 flip=false"]
    assert [options["lr"] for options in asked] == [0.3]
    # The best is first.
    assert [row["run"] for row in result.data["runs"]] == ["003", "002"]


def test_a_run_without_results_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, _ = swept(tmp_path, {0.2: DivergedError("nan", 1)}, monkeypatch)
    first, second = result.data["runs"]
    assert first["test_accuracy"] == 0.5
    assert {"run", "options", "status"} <= set(second)
    assert not {"val_accuracy", "test_accuracy", "epoch"} & set(second)
    assert second["problem"].startswith("nan")


@pytest.mark.parametrize(
    ("rules", "asked"),
    [
        (["none", "none"], []),
        (["none", "0"], ["none", "0"]),
        (["0", "0"], ["0", "0"]),
    ],
)
def test_every_rule_of_a_sweep_is_tried_on_the_network_if_there_is_one(
    rules: list[str], asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    class Options:
        def model(self, source: str) -> Any:
            opened.append(source)
            return SimpleNamespace(module="the network")

    tried: list[tuple[Any, ...]] = []
    monkeypatch.setattr("torchlift.transfer.freezing.frozen_at", lambda *given: tried.append(given))
    frozen = {"none": file.FREEZING, "0": Freezing("0")}
    runs = [{"freezing": frozen[rule], "model_options": Options()} for rule in rules]
    file.check_freezing("m.t7", runs)
    assert tried == [("the network", frozen[rule], 1) for rule in asked]
    # A network is opened once, and where no rule is given not at all.
    assert opened == ["m.t7"] * bool(asked)


@pytest.mark.parametrize(
    ("is_first", "code", "runs"),
    # Of several processes all but the first end each run with code 0, and go on to the next.
    [(True, 0, 1), (True, 1, 1), (False, 1, 1), (False, 0, 2)],
)
def test_a_run_that_ends_the_process_ends_the_sweep(
    is_first: bool, code: int, runs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[float] = []

    def run(command: Any, options: dict[str, Any]) -> None:
        begun.append(options["lr"])
        write_run(Path(options["output"]), [options["lr"]], test=0.5, lr=options["lr"])
        raise SystemExit(code)

    monkeypatch.setattr(file, "run_command", run)
    monkeypatch.setattr(file, "is_first_process", lambda: is_first)
    with pytest.raises(SystemExit) as ended:
        sweep("train", "softmax", "d.npz", ["lr=0.1,0.2"], output=str(tmp_path / "s"))
    assert (ended.value.code, len(begun)) == (code, runs)


def test_a_result_of_zero_is_a_result() -> None:
    row = {"run": "001", "lr": "0.1", "val_accuracy": 0.0, "test_accuracy": "", "epoch": 3}
    assert file._as_json(row, {"lr": 0.1}) == {
        "run": "001",
        "options": [{"option": "lr", "setting": 0.1}],
        "status": "finished",
        "val_accuracy": 0.0,
        "epoch": 3,
    }
