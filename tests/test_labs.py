"""The labs as a student meets them: one command, and a report that is whole.

Each is done on the digits with as little as it takes to have everything in it; what it learns is
tested elsewhere.
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

import pytest
import torch
from browser import DESKTOP, PHONE, browser, check_page

from torchlift.cli.main import main
from torchlift.transfer.errors import TrainingError
from torchlift.transfer.labs import LABS, LabError, LabOptions, Steps
from torchlift.transfer.labs.data import prepare_data
from torchlift.transfer.training.options import Run
from torchlift.transfer.training.processes import torch_threads

_TINY = ["--limit", "300", "--epochs", "1"]


@pytest.fixture(scope="module", params=list(LABS))
def done(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """A lab that has been done, and the folder where it was started, which is the current one."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["lab", request.param, *_TINY]) == 0
        yield request.param, folder


@pytest.mark.slow
class TestEveryLab:
    def test_it_says_that_the_digits_stand_in(self, done: tuple[str, Path]) -> None:
        name, folder = done
        for file in ("report.html", "report.md"):
            assert "stand in for" in (folder / "labs" / name / file).read_text()

    def test_done_again_it_runs_nothing(
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

    def test_its_commands_work_by_themselves(
        self, done: tuple[str, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What draws a picture or measures something, typed from the report, does so again."""
        name, folder = done
        lines = (folder / "labs" / name / "steps.jsonl").read_text().splitlines()[1:]
        steps = [json.loads(line) for line in lines]
        text = (folder / "labs" / name / "report.md").read_text()
        for step in steps:
            command = f"torchlift {shlex.join(step['words'])}"
            assert f"\n{command}\n" in text
        again = [step for step in steps if step["words"][0] in ("plot", "evaluate", "summary")]
        assert again
        for step in again[:4]:
            assert main([*step["words"], "--json"]) == 0
            assert json.loads(capsys.readouterr().out) == step["result"]

    @pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
    def test_its_page_fits_any_screen(self, done: tuple[str, Path], size: tuple[int, int]) -> None:
        name, folder = done
        with browser() as started:
            check_page(started, folder / "labs" / name / "report.html", size)


def _results(folder: Path) -> list[tuple[list[str], Any]]:
    """What each finished command gave, without how long it took."""
    lines = (folder / "steps.jsonl").read_text().splitlines()[1:]
    steps = [json.loads(line) for line in lines]
    for step in steps:
        step["result"].pop("seconds", None)
    return [(step["words"], step["result"]) for step in steps]


@pytest.mark.slow
def test_a_lab_that_was_killed_gives_the_same_results(tmp_path: Path) -> None:
    """Killed before, in and after its training, and while it draws."""
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


def test_an_unknown_lab_is_told_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "lenet"]) == 1
    said = capsys.readouterr().err
    assert all(name in said for name in LABS)


def test_a_command_of_a_lab_that_fails_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["lab", "lenet-pytorch", "--data", "nowhere.npz"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("torchlift: torchlift split nowhere.npz labs/lenet-pytorch/data.npz ")
    assert "no such file" in said


class TestData:
    """Where a lab's pictures come from."""

    class AskedError(Exception):
        """The words of the first command."""

    def first(self, folder: Path, **options: Any) -> tuple[list[str], list[str]]:
        """The first command of a lab with these options, and what was said before it."""

        def stop(words: list[str]) -> Any:
            raise self.AskedError(*words)

        steps = Steps(folder, stop, {})
        with pytest.raises(self.AskedError) as asked:
            prepare_data(steps, LabOptions(**options), "CIFAR-10", val=0.25, limit=50)
        return [str(word) for word in asked.value.args], steps.notes

    def test_without_any_the_digits_stand_in_and_a_download_is_offered(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise AssertionError("downloaded without being asked")

        monkeypatch.setattr("torchvision.datasets.CIFAR10", refuse)
        words, notes = self.first(tmp_path / "lab")
        assert words[:2] == ["split", "digits"]
        assert words[words.index("--limit") + 1] == "50"
        assert "--download" in notes[0]

    def test_files_come_first_and_are_passed_on(self, tmp_path: Path) -> None:
        chosen = {"data": "digits", "test_data": "b.t7", "class_names": "names.txt", "limit": 7}
        words, notes = self.first(tmp_path / "lab", download=True, **chosen)
        pairs = dict(itertools.pairwise(words))
        assert pairs["split"] == "digits"
        assert pairs["--test-data"] == "b.t7"
        assert pairs["--class-names"] == "names.txt"
        assert pairs["--limit"] == "7"
        assert notes == []

    def test_a_download_that_was_asked_for_is_torchvisions(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        asked = []

        def download(root: str, train: bool, download: bool) -> None:
            asked.append((root, train, download))

        monkeypatch.setattr("torchvision.datasets.CIFAR10", download)
        words, _ = self.first(tmp_path / "lab", download=True, class_names="names.txt")
        assert asked == [("data", True, True), ("data", False, True)]
        assert words[1] == "data/cifar-10-batches-py"

    def test_a_download_that_fails_says_what_else_there_is(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise OSError("no network")

        monkeypatch.setattr("torchvision.datasets.CIFAR10", fail)
        steps = Steps(tmp_path / "lab", lambda words: None, {})
        with pytest.raises(LabError, match=r"no network.*--data"):
            prepare_data(steps, LabOptions(download=True), "CIFAR-10", val=0.25)


def test_threads_of_a_training_are_given_back() -> None:
    before = torch.get_num_threads()
    with torch_threads(1):
        assert torch.get_num_threads() == 1
    with torch_threads(None):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before
    with pytest.raises(TrainingError, match="threads"):
        Run(threads=0)
