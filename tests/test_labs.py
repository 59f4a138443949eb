"""The labs as a student uses them: one command that writes a complete report.

Each lab runs on few of scikit-learn's digits. Other tests check what the networks learn.
"""

from __future__ import annotations

import itertools
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import DESKTOP, PHONE, browser, check_page
from lab_support import finished_steps

from torchlift.cli.main import main
from torchlift.transfer.errors import LabError, TrainingError
from torchlift.transfer.labs.data import prepare_data
from torchlift.transfer.labs.options import LabOptions
from torchlift.transfer.labs.run import LABS
from torchlift.transfer.labs.steps import Steps
from torchlift.transfer.training.options import Run
from torchlift.transfer.training.processes import torch_threads

_TINY = ["--limit", "300", "--epochs", "1"]


@pytest.fixture(scope="module", params=list(LABS))
def done(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """Run a lab in an empty folder, which stays the current one; give its name and the folder."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["lab", request.param, *_TINY]) == 0
        yield request.param, folder


@pytest.mark.slow
class TestEveryLab:
    def test_the_report_names_the_dataset_that_the_digits_replace(
        self, done: tuple[str, Path]
    ) -> None:
        name, folder = done
        for file in ("report.html", "report.md"):
            assert "digits instead of" in (folder / "labs" / name / file).read_text(
                encoding="utf-8"
            )

    def test_a_second_run_repeats_no_command(
        self, done: tuple[str, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        name, folder = done
        report = folder / "labs" / name / "report.html"
        before = report.read_bytes()
        assert main(["lab", name, *_TINY]) == 0
        assert "$ torchlift" not in capsys.readouterr().err
        assert report.read_bytes() == before

    def test_other_settings_are_refused(
        self, done: tuple[str, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        name, _ = done
        assert main(["lab", name, *_TINY, "--seed", "1"]) == 1
        assert "seed (0, now 1)" in capsys.readouterr().err

    def test_commands_of_the_report_give_the_same_results(
        self, done: tuple[str, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        name, folder = done
        steps = finished_steps(folder / "labs" / name)
        text = (folder / "labs" / name / "report.md").read_text(encoding="utf-8")
        for step in steps:
            command = f"torchlift {shlex.join(step['words'])}"
            assert f"\n{command}\n" in text
        repeatable = [step for step in steps if step["words"][0] in ("plot", "evaluate", "summary")]
        assert repeatable
        for step in repeatable[:4]:
            words = {*step["words"]}
            again = ["--overwrite"] if "--output" in words and "--overwrite" not in words else []
            assert main([*step["words"], *again, "--json"]) == 0
            assert json.loads(capsys.readouterr().out) == step["result"]

    @pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
    def test_the_report_fits_any_screen(
        self, done: tuple[str, Path], size: tuple[int, int]
    ) -> None:
        name, folder = done
        with browser() as chromium:
            check_page(chromium, folder / "labs" / name / "report.html", size)


def _results(folder: Path) -> list[tuple[list[str], Any]]:
    """Return the words and the result of each finished command, without times."""
    steps = finished_steps(folder)
    for step in steps:
        for name in ("seconds", "epoch_seconds"):
            step["result"].pop(name, None)
    return [(step["words"], step["result"]) for step in steps]


@pytest.mark.slow
def test_a_lab_that_was_killed_gives_the_same_results(tmp_path: Path) -> None:
    """The lab is killed before, during and after its training, and while it draws a figure."""
    words = [sys.executable, "-m", "torchlift.cli", "lab", "lenet-pytorch", *_TINY, "--epochs=3"]
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    subprocess.run(words, cwd=tmp_path / "whole", check=True, capture_output=True)
    folder = tmp_path / "killed" / "labs" / "lenet-pytorch"
    for awaited in ("steps.jsonl", "data.npz", "run/metrics.csv", "samples.png", "test"):
        process = subprocess.Popen(
            words, cwd=tmp_path / "killed", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and not (folder / awaited).exists():
            time.sleep(0.01)
        process.kill()
        process.wait()
    subprocess.run(words, cwd=tmp_path / "killed", check=True, capture_output=True)
    assert _results(folder) == _results(tmp_path / "whole" / "labs" / "lenet-pytorch")
    assert (folder / "report.html").is_file()


def test_the_error_for_an_unknown_lab_lists_all_labs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "lenet"]) == 2
    message = capsys.readouterr().err
    assert all(name in message for name in LABS)


def test_the_error_of_a_lab_names_the_command_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["lab", "lenet-pytorch", "--data", "nowhere.npz"]) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("torchlift: torchlift split nowhere.npz labs/lenet-pytorch/data.npz ")
    assert "no such file" in message


class TestData:
    """The source of a lab's dataset."""

    class FirstCommand(Exception):  # noqa: N818
        """Raised in place of the first command, with its words."""

    def first(self, folder: Path, **options: Any) -> tuple[list[str], list[str]]:
        """Return the first command of a lab with these options, and the notes before it."""

        def stop(words: list[str]) -> Any:
            raise self.FirstCommand(*words)

        steps = Steps(folder, stop, {})
        with pytest.raises(self.FirstCommand) as command:
            prepare_data(steps, LabOptions(**options), "CIFAR-10", val_fraction=0.25, limit=50)
        return [str(word) for word in command.value.args], steps.notes

    def test_the_default_is_the_digits_with_a_hint_at_the_download(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise AssertionError("downloaded without --download")

        monkeypatch.setattr("torchvision.datasets.CIFAR10", refuse)
        words, notes = self.first(tmp_path / "lab")
        assert words[:2] == ["split", "sklearn:digits"]
        assert words[words.index("--limit") + 1] == "50"
        assert "download=True" in notes[0]

    def test_options_about_files_take_precedence(self, tmp_path: Path) -> None:
        options = {"data": "a.t7", "test_data": "b.t7", "class_names": "names.txt", "limit": 7}
        words, notes = self.first(tmp_path / "lab", download=True, **options)
        pairs = dict(itertools.pairwise(words))
        assert pairs["split"] == "a.t7"
        assert pairs["--test-data"] == "b.t7"
        assert pairs["--class-names"] == "names.txt"
        assert pairs["--limit"] == "7"
        assert notes == []

    @pytest.mark.parametrize(("classes", "named"), [(9, False), (10, True), (11, False)])
    def test_ten_classes_without_names_are_those_of_cifar(
        self, classes: int, named: bool, tmp_path: Path
    ) -> None:
        labels = np.arange(2 * classes) % classes
        np.savez(tmp_path / "d.npz", x=np.zeros((len(labels), 3, 4, 4), np.uint8), y=labels)
        words, notes = self.first(tmp_path / "lab", data=str(tmp_path / "d.npz"))
        assert ("--class-names" in words) is named
        assert len(notes) == named
        if named:
            file = Path(words[words.index("--class-names") + 1])
            names = file.read_text(encoding="utf-8").splitlines()
            assert (len(names), names[0], names[9]) == (10, "airplane", "truck")

    def test_a_download_is_asked_of_torchvision(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        calls = []

        def download(root: str, train: bool, download: bool) -> None:
            calls.append((root, train, download))

        monkeypatch.setattr("torchvision.datasets.CIFAR10", download)
        words, _ = self.first(tmp_path / "lab", download=True, class_names="names.txt")
        assert calls == [("data", True, True), ("data", False, True)]
        assert words[1] == "data/cifar-10-batches-py"

    def test_the_error_of_a_failed_download_names_the_alternative(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise OSError("no network")

        monkeypatch.setattr("torchvision.datasets.CIFAR10", fail)
        steps = Steps(tmp_path / "lab", lambda words: None, {})
        with pytest.raises(LabError, match=r"no network.*data=…"):
            prepare_data(steps, LabOptions(download=True), "CIFAR-10", val_fraction=0.25)


def test_a_training_restores_the_number_of_threads() -> None:
    before = torch.get_num_threads()
    with torch_threads(1):
        assert torch.get_num_threads() == 1
    with torch_threads(None):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before
    with pytest.raises(TrainingError, match="threads"):
        Run(threads=0)
