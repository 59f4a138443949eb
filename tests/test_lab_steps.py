"""A lab's chain of commands: run once, recorded, gone on with after a kill, guarded by settings."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from torchlift.converters.errors import TorchliftError
from torchlift.transfer.labs import LABS, LabError, LabOptions, Steps, do_lab, settings_of


class Commands:
    """Stands for the command line: remembers what was run and answers with the words."""

    def __init__(self) -> None:
        self.run: list[list[str]] = []

    def __call__(self, words: list[str]) -> Any:
        if "fail" in words:
            raise TorchliftError("no such dataset")
        self.run.append(words)
        return {"words": tuple(words), 1: "one"}


def begin(folder: Path, commands: Commands, *, overwrite: bool = False, **settings: Any) -> Steps:
    return Steps(folder, commands, settings, overwrite=overwrite)


def test_a_command_is_what_a_shell_takes(tmp_path: Path) -> None:
    commands = Commands()
    step = begin(tmp_path / "lab", commands).run(
        "train",
        "lenet5",
        Path("my data.t7"),
        batch_size=32,
        lr=0.001,
        flip=True,
        clip=None,
        ema=False,
    )
    words = ["train", "lenet5", "my data.t7", "--batch-size", "32", "--lr", "0.001", "--flip"]
    assert commands.run == [words]
    assert shlex.split(step.command) == ["torchlift", *words]


def test_a_finished_step_is_not_run_again_and_gives_the_same(tmp_path: Path) -> None:
    commands = Commands()
    first = begin(tmp_path / "lab", commands, seed=0)
    before = [first.run("inspect", "a"), first.run("inspect", "b"), first.run("inspect", "a")]
    assert len(commands.run) == 2
    again = begin(tmp_path / "lab", commands, seed=0)
    after = [again.run("inspect", "a"), again.run("inspect", "b"), again.run("inspect", "a")]
    assert len(commands.run) == 2
    # JSON has no tuples and no numbers for keys: the first run must show what the second does.
    assert before == after
    assert after[0].result == {"words": ["inspect", "a"], "1": "one"}
    assert first.done == again.done == before[:2]


def test_a_record_that_a_kill_cut_short_is_mended(tmp_path: Path) -> None:
    commands = Commands()
    steps = begin(tmp_path / "lab", commands)
    for word in "abc":
        steps.run("inspect", word)
    record = tmp_path / "lab" / "steps.jsonl"
    whole = record.read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(ends[0], len(whole)):
        record.write_bytes(whole[:length])
        commands.run.clear()
        steps = begin(tmp_path / "lab", commands)
        for word in "abc":
            steps.run("inspect", word)
        kept = sum(end <= length for end in ends) - 1
        assert len(commands.run) == 3 - kept
        lines = [json.loads(line) for line in record.read_text().splitlines()]
        assert [line["words"][1] for line in lines[1:]] == ["a", "b", "c"]


def test_a_failing_command_is_named_and_tried_again(tmp_path: Path) -> None:
    steps = begin(tmp_path / "lab", Commands())
    steps.run("inspect", "a")
    with pytest.raises(LabError, match=r"torchlift train fail 'x y': no such dataset"):
        steps.run("train", "fail", "x y")
    assert [step.words for step in steps.done] == [("inspect", "a")]
    with pytest.raises(LabError):
        begin(tmp_path / "lab", Commands()).run("train", "fail", "x y")


def test_other_settings_are_refused_and_overwrite_begins_anew(tmp_path: Path) -> None:
    folder, commands = tmp_path / "lab", Commands()
    begin(folder, commands, seed=0, data="a").run("inspect", "a")
    with pytest.raises(LabError, match=r"seed \(0, now 1\).*--overwrite"):
        begin(folder, commands, seed=1, data="a")
    (folder / "picture.png").write_bytes(b"old")
    begin(folder, commands, overwrite=True, seed=1, data="a").run("inspect", "a")
    assert len(commands.run) == 2
    assert [path.name for path in folder.iterdir()] == ["steps.jsonl"]


def test_a_folder_of_something_else_is_never_deleted(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(LabError, match="something else"):
            begin(tmp_path, Commands(), overwrite=overwrite)
    assert (tmp_path / "letter.txt").read_text() == "mine"


def test_the_record_of_another_version_is_refused() -> None:
    lab = next(iter(LABS.values()))
    settings = settings_of(lab, LabOptions(seed=3))
    assert settings["lab"] == lab.name
    assert settings["seed"] == 3
    assert "torchlift" in settings
    assert json.loads(json.dumps(settings)) == settings


@pytest.mark.parametrize("name", LABS)
def test_every_lab_begins_with_its_name(name: str) -> None:
    lab = LABS[name]
    assert lab.name == name
    assert lab.title
    assert lab.about.endswith(".")
    assert callable(do_lab)
