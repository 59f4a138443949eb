"""Commands that run other commands: labs, sweeps and the demo."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from cli_support import shown, typed
from support import FIXTURES

from torchlift.cli.demo import DEMO
from torchlift.cli.main import main
from torchlift.cli.result import CommandResult
from torchlift.converters.errors import TorchliftError
from torchlift.converters.overwriting import foreign_entries
from torchlift.transfer.errors import TrainingError


def test_a_lab_names_options_in_its_notes_and_errors(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    import torchlift.cli.lab as lab

    def failing(command: Any, options: dict[str, Any]) -> Any:
        raise TrainingError("val_fraction=3 is too large; overwrite=True does not help")

    monkeypatch.setattr(lab, "run_command", failing)
    code, _, err = typed({}, capsys, "lab", "lenet-pytorch", "-o", str(tmp_path / "lab"))
    assert code == 1
    assert "Name a dataset with `--data`, or use `--download` to download MNIST" in err
    assert "--val-fraction 3 is too large; --overwrite does not help" in err
    words = ("lab", "lenet-pytorch", "-o", str(tmp_path / "lab"), "--seed", "1")
    err = typed({}, capsys, *words)[2]
    assert "another folder with --output, or replace it with --overwrite" in err


def test_the_result_and_the_report_of_a_lab_name_options(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import torchlift.cli.lab as lab
    from torchlift.transfer.labs import run
    from torchlift.transfer.reports import Page, Step

    steps = [Step(("train", "lenet5", "d.npz"), {"a": 1}, 1.5), Step(("plot", "curves"), {}, 0.5)]
    page = Page("Digits", "About.", [], steps, {"seconds": "2"}, ["give data=…, or download=True"])
    monkeypatch.setattr(run, "do_lab", lambda *_: page)
    found = lab.lab("mnist-features", output=str(tmp_path / "lab"))
    assert found.data["notes"] == ["give --data, or --download"]
    assert found.data["lab"] == "mnist-features"
    first, second = found.data["steps"]
    assert (first["command"], second["command"]) == (
        "torchlift train lenet5 d.npz",
        "torchlift plot curves",
    )
    assert (first["words"], first["seconds"]) == (("train", "lenet5", "d.npz"), 1.5)
    lines = shown(found.view)
    assert lines[:2] == ["Digits: 2 commands, 2 seconds", "note: give --data, or --download"]
    for file in found.data["files"]:
        text = Path(file).read_text(encoding="utf-8")
        assert "give --data, or --download" in text
        assert f"wrote {file}" in lines


def test_a_lab_does_not_go_on_behind_a_bad_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchlift.cli.lab as lab

    for passed in (True, False):
        result = CommandResult({"a": 1}, passed=passed)
        monkeypatch.setattr(lab, "run_command", lambda *_, result=result: result)
        if passed:
            assert lab._run_command(["diff", "a", "b"]) == {"a": 1}
        else:
            with pytest.raises(TorchliftError, match="its verdict is bad; run it by itself"):
                lab._run_command(["diff", "a", "b"])

    def leave(*_: Any) -> None:
        raise SystemExit(3)

    monkeypatch.setattr(lab, "run_command", leave)
    with pytest.raises(TorchliftError, match="stopped with exit code 3"):
        lab._run_command(["diff", "a", "b"])
    # A lab is a sequence of commands that work on files: it starts no server and no other lab.
    for name in ("serve", "lab", "demo"):
        with pytest.raises(TorchliftError, match="stopped with exit code 2"):
            lab._run_command([name, "m.onnx"])


@pytest.mark.parametrize(
    ("accuracies", "checked", "passed"),
    [
        ((0.982, 0.982), True, True),
        ((0.982, 0.98), True, False),
        ((0.98, 0.982), True, False),
        ((0.982, 0.984), True, False),
        ((0.982, 0.982), False, False),
    ],
)
def test_a_demo_passes_where_both_accuracies_are_those_of_lua(
    accuracies: tuple[float, float],
    checked: bool,
    passed: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    import torchlift.cli.demo as demo

    left = [*accuracies]
    shown: list[Any] = []

    def run(command: Any, options: dict[str, Any]) -> CommandResult:
        name = command.__name__
        data = {"accuracy": left.pop(0)} if name == "evaluate" else {}
        return CommandResult(data, passed=checked or name != "check")

    monkeypatch.setattr(demo, "run_command", run)
    monkeypatch.setattr(demo, "show", lambda *given, **named: shown.append(given))
    result = demo.demo(str(tmp_path / "demo"))
    assert (result.passed, result.data["passed"]) == (passed, passed)
    assert ("NOT the same here" in str(result.view)) == (accuracies != (0.982, 0.982))
    assert len(shown) == len(result.data["steps"]) == 7
    assert (tmp_path / "demo" / "digit.png").is_file()
    assert result.data["files"] == [str(tmp_path / "demo" / "digit.png")]


def test_a_demo_replaces_its_own_files_alone(tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    for name in ("digits/config.json", "digits.onnx", "digit.png"):
        (tmp_path / name).touch()
    assert foreign_entries(tmp_path, DEMO) == []
    mine = ["digit.png.txt", "digits-of-mine.t7", "digits.onnx.bak", "digits_onnx"]
    for name in mine:
        (tmp_path / name).touch()
    assert foreign_entries(tmp_path, DEMO) == mine


def test_sigterm_ends_a_sweep_and_a_lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both took SIGTERM for the end of one of their commands."""
    import torchlift.cli.lab as lab
    import torchlift.cli.sweep as sweep

    ran = []

    def terminated(command: Any, options: dict[str, Any]) -> Any:
        ran.append(command.__name__)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(sweep, "run_command", terminated)
    monkeypatch.setattr(lab, "run_command", terminated)
    words = ["sweep", "train", "softmax", "sklearn:digits", "lr=0.1,0.2"]
    assert main([*words, "--output", str(tmp_path / "sweep")]) == 143
    assert main(["lab", "lenet-pytorch", "--output", str(tmp_path / "lab")]) == 143
    assert ran == ["train", "split"]


@pytest.mark.slow
def test_the_demo_shows_the_commands_that_it_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import torchlift.cli.demo as demo

    ran = []
    run_command = demo.run_command

    def record(command: Any, options: dict[str, Any]) -> Any:
        ran.append(command.__name__)
        return run_command(command, options)

    monkeypatch.setattr(demo, "run_command", record)
    assert main(["demo", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    lines = [line for line in captured.out.splitlines() if line.startswith("$ torchlift ")]
    assert [line.split()[2] for line in lines] == ran
    assert all(str(FIXTURES / "digits") in line or str(tmp_path) in line for line in lines)
    assert "runs on the CPU" not in captured.out + captured.err
