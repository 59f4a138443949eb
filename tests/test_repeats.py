"""`--repeats`: seeds in folders of their own, what diverges or fails, and going on."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli_support import shown, typed
from test_runs import write_run

from torchlift.cli.data_options import DataOptions
from torchlift.cli.repeats import _check_folder, repeatable
from torchlift.cli.result import CommandResult
from torchlift.converters.errors import WriteError
from torchlift.transfer.errors import DivergedError, TrainingError
from torchlift.transfer.training.options import RUN, Run


def trained(
    folder: Path, problems: dict[int, Exception], **options: Any
) -> tuple[CommandResult, list[tuple[int, Path]]]:
    """Repeat a training that writes runs at once; some seeds end in an error."""
    began = []

    def train(network: str, data: str, *, data_options: DataOptions, run: Run) -> CommandResult:
        assert run.repeats == 1
        seed, path = data_options.seed, Path(str(run.output))
        began.append((seed, path))
        if seed in problems:
            raise problems[seed]
        write_run(path, [0.5, 0.6], test=seed / 10, seed=seed)
        return CommandResult({})

    settings = Run(**{"output": str(folder), "repeats": 3, **options})
    words = {"network": "softmax", "data": "d"}
    return repeatable(train)(**words, data_options=DataOptions(seed=4), run=settings), began


def test_each_seed_has_a_folder_and_every_metric_a_deviation(tmp_path: Path) -> None:
    result, began = trained(tmp_path / "r", {})
    assert began == [(seed, tmp_path / "r" / f"seed-{seed}") for seed in (4, 5, 6)]
    (configuration,) = result.data["configurations"]
    metrics = {each["metric"]: each for each in configuration["metrics"]}
    assert {"val_accuracy", "val_loss", "test_accuracy", "test_f1", "seconds"} <= set(metrics)
    assert metrics["test_accuracy"]["average"] == pytest.approx(0.5)
    expected = statistics.stdev([0.4, 0.5, 0.6])
    assert metrics["test_accuracy"]["deviation"] == pytest.approx(expected)
    assert (configuration["seeds"], result.passed) == ([4, 5, 6], True)


@pytest.mark.parametrize(
    ("problems", "finished", "passed"),
    [
        ({}, 3, True),
        ({4: DivergedError("nan", 1), 5: DivergedError("nan", 1)}, 1, True),
        # None has a result.
        ({seed: DivergedError("nan", 1) for seed in (4, 5, 6)}, 0, False),
        ({5: RuntimeError("odd")}, 2, False),
    ],
)
def test_repeats_pass_where_a_run_has_a_result_and_none_has_failed(
    problems: dict[int, Exception], finished: int, passed: bool, tmp_path: Path
) -> None:
    result, began = trained(tmp_path / "r", problems)
    assert len(began) == 3
    assert result.passed == passed
    assert result.data["configurations"][0]["finished"] == finished
    assert shown(result.view)[-1] == f"{tmp_path / 'r'}: {finished} of 3 runs are finished"
    assert (result.data["run"], result.data["model"]) == (str(tmp_path / "r"), "softmax")
    assert result.data["data"] == "d"


def test_a_seed_that_diverges_or_fails_is_a_row(tmp_path: Path) -> None:
    result, began = trained(tmp_path / "r", {4: DivergedError("nan", 1), 6: RuntimeError("odd")})
    assert [seed for seed, _ in began] == [4, 5, 6]
    rows = [(row["seed"], row["status"]) for row in result.data["runs"]]
    assert rows == [(4, "diverged"), (5, "finished"), (6, "failed")]
    assert result.data["configurations"][0]["finished"] == 1
    assert not result.passed
    assert trained(tmp_path / "q", {5: DivergedError("nan", 1)})[0].passed


def test_what_fails_at_once_is_an_error(tmp_path: Path) -> None:
    """The options are wrong: the other seeds would fail like the first."""
    with pytest.raises(TrainingError, match="no such head"):
        trained(tmp_path / "r", {4: TrainingError("no such head")})
    # So does what no other seed would change: a full disk, a missing package.
    for name, error in (
        ("disk", OSError(28, "full")),
        ("write", WriteError("full")),
        ("package", ImportError("no such package")),
    ):
        with pytest.raises(type(error)):
            trained(tmp_path / name, {5: error})
        assert not (tmp_path / name / "seed-6").exists()


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "single", [0.5])
    with pytest.raises(TrainingError, match="holds a single run"):
        trained(tmp_path / "single", {})
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").touch()
    with pytest.raises(TrainingError, match="something else than runs"):
        trained(tmp_path / "photos", {})
    write_run(tmp_path / "begun" / "seed-6", [0.5])
    with pytest.raises(TrainingError, match="resume='auto'"):
        trained(tmp_path / "begun", {})
    assert not (tmp_path / "begun" / "seed-4").exists()
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="is a file; the runs need a folder"):
        trained(tmp_path / "file", {})


@pytest.mark.parametrize("how", [{"resume": "auto"}, {"overwrite": True}])
def test_runs_that_are_there_are_resumed_or_replaced_where_that_is_asked_for(
    how: dict[str, Any], tmp_path: Path
) -> None:
    write_run(tmp_path / "r" / "seed-5", [0.5])
    (tmp_path / "r" / ".hidden").touch()
    _check_folder(tmp_path / "r", ["seed-4", "seed-5"], replace(RUN, **how))
    with pytest.raises(TrainingError, match="seed-5 holds a run: resume='auto' resumes it"):
        _check_folder(tmp_path / "r", ["seed-4", "seed-5"], RUN)
    # Runs of other seeds are in nobody's way, nor is what a person has put beside them.
    (tmp_path / "r" / "notes.txt").touch()
    _check_folder(tmp_path / "r", ["seed-4", "seed-5"], replace(RUN, **how))
    _check_folder(tmp_path / "r", ["seed-4", "seed-6"], RUN)


WORDS = ["train", "softmax", "sklearn:digits", "--limit=100", "--epochs=2", "--tracker=none"]


@pytest.mark.slow
def test_repeats_are_the_runs_of_their_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Byte for byte, also those that are added later; what is there stays as it is."""
    folder = tmp_path / "r"
    words = [*WORDS, "--test-fraction=0.2", "--json"]
    for repeats in ("2", "3"):
        code, out, err = typed(
            {}, capsys, *words, f"--repeats={repeats}", "--resume=auto", f"-o={folder}"
        )
        assert code == 0, err
    report = json.loads(out)
    assert [row["run"] for row in report["runs"]] == ["seed-0", "seed-1", "seed-2"]
    code, out, err = typed({}, capsys, *words, "--seed=2", f"-o={tmp_path / 'one'}")
    assert code == 0, err
    evaluation = json.loads(out)["evaluation"]
    assert report["runs"][2]["test_accuracy"] == evaluation["accuracy"]
    assert report["runs"][2]["test_ece"] == evaluation["ece"]
    for name in ("metrics.csv", "model/model.safetensors", "evaluation.json"):
        assert (folder / "seed-2" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    # As the table of the folder has it.
    code, out, err = typed({}, capsys, "runs", str(folder), "--json")
    assert json.loads(out)["configurations"] == report["configurations"]
    code, out, err = typed({}, capsys, *words, "--repeats=2", f"-o={folder}")
    assert (code, out) == (1, "")
    assert "--resume auto" in err


@pytest.mark.slow
def test_a_run_says_why_it_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And forgets it when it goes on."""
    folder = tmp_path / "r"
    words = ["train", "lenet5", "sklearn:digits", "--limit=60", "--tracker=none", f"-o={folder}"]
    code, _, err = typed({}, capsys, *words, "--lr=1e10", "--epochs=2")
    assert code == 1
    (row,) = json.loads(typed({}, capsys, "runs", str(tmp_path), "--json")[1])["runs"]
    assert row["status"] == "diverged"
    assert f"torchlift: {row['problem']}" in err
    assert typed({}, capsys, *words, "--lr=0.01", "--epochs=2", "--overwrite")[0] == 0
    (row,) = json.loads(typed({}, capsys, "runs", str(tmp_path), "--json")[1])["runs"]
    assert (row["status"], "problem" in row) == ("finished", False)


@pytest.mark.parametrize(
    ("code", "first", "ends"),
    [(0, True, True), (3, True, True), (3, False, True), (0, False, False), (None, False, False)],
)
def test_only_a_process_that_has_no_report_goes_on_behind_an_end(
    code: int | None, first: bool, ends: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several processes all but the first exit with 0 when a run is done: not their end."""
    monkeypatch.setattr("torchlift.cli.repeats.is_first_process", lambda: first)
    seeds: list[int] = []

    def train(network: str, data: str, *, data_options: DataOptions, run: Run) -> CommandResult:
        seeds.append(data_options.seed)
        raise SystemExit(code)

    settings = Run(output=str(tmp_path / "r"), repeats=3)
    with pytest.raises(SystemExit) as stopped:
        repeatable(train)(network="softmax", data="d", data_options=DataOptions(), run=settings)
    assert seeds == ([0] if ends else [0, 1, 2])
    assert stopped.value.code == (code if ends else 0)


def test_a_single_run_is_no_repeat(tmp_path: Path) -> None:
    """It is in the folder itself, with the options as they are."""
    result, began = trained(tmp_path / "r", {}, repeats=1)
    assert began == [(4, tmp_path / "r")]
    assert result.data == {}


def test_what_is_hidden_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").touch()
    _check_folder(tmp_path, ["seed-0"], RUN)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(TrainingError, match="something else than runs"):
        _check_folder(tmp_path, ["seed-0"], RUN)
