"""The steps of a lab: each runs once and is recorded; a lab resumes only with equal settings."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from torchlift import __version__
from torchlift.converters.errors import TorchliftError, WriteError
from torchlift.transfer.errors import LabError
from torchlift.transfer.labs.options import LabOptions
from torchlift.transfer.labs.run import LABS, _device, do_lab, settings_of
from torchlift.transfer.labs.steps import Steps
from torchlift.transfer.labs.tables import epoch_table
from torchlift.transfer.reports import Step


class Commands:
    """A fake command line that records its calls and returns their words."""

    def __init__(self) -> None:
        self.run: list[list[str]] = []

    def __call__(self, words: list[str]) -> Any:
        if "fail" in words:
            raise TorchliftError("no such dataset")
        self.run.append(words)
        return {"words": tuple(words), 1: "one"}


def start(folder: Path, commands: Commands, *, overwrite: bool = False, **settings: Any) -> Steps:
    return Steps(folder, commands, settings, overwrite=overwrite)


def test_arguments_become_a_command_line(tmp_path: Path) -> None:
    commands = Commands()
    step = start(tmp_path / "lab", commands).run(
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


def test_a_recorded_step_does_not_run_again(tmp_path: Path) -> None:
    commands = Commands()
    first = start(tmp_path / "lab", commands, seed=0)
    before = [first.run("inspect", "a"), first.run("inspect", "b"), first.run("inspect", "a")]
    assert len(commands.run) == 2
    again = start(tmp_path / "lab", commands, seed=0)
    after = [again.run("inspect", "a"), again.run("inspect", "b"), again.run("inspect", "a")]
    assert len(commands.run) == 2
    # JSON has no tuples and no numeric keys; a new result must equal the same result read back.
    assert before == after
    assert after[0].result == {"words": ["inspect", "a"], "1": "one"}
    assert first.done == again.done == before[:2]


def test_a_record_that_a_kill_left_incomplete_is_repaired(tmp_path: Path) -> None:
    commands = Commands()
    steps = start(tmp_path / "lab", commands)
    for word in "abc":
        steps.run("inspect", word)
    record = tmp_path / "lab" / "steps.jsonl"
    complete = record.read_bytes()
    ends = [index + 1 for index, byte in enumerate(complete) if byte == ord("\n")]
    for length in range(ends[0], len(complete)):
        record.write_bytes(complete[:length])
        commands.run.clear()
        steps = start(tmp_path / "lab", commands)
        for word in "abc":
            steps.run("inspect", word)
        kept = sum(end <= length for end in ends) - 1
        assert len(commands.run) == 3 - kept
        lines = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
        assert [line["words"][1] for line in lines[1:]] == ["a", "b", "c"]


def test_a_command_that_was_killed_behind_its_file_replaces_it(tmp_path: Path) -> None:
    """The command line refuses to, and the lab could not go on."""
    lab, commands = tmp_path / "lab", Commands()
    steps = start(lab, commands)
    for name in ("figure.png", "run", "other.png"):
        (lab / name).write_text("written by the command, which is killed before it is recorded")
        if name != "other.png":
            steps.path(name)
    steps.run("before", output=steps.path("done.png"))
    again = start(lab, commands)
    step = again.run("plot", "samples", output=again.path("figure.png"))
    words = ["plot", "samples", "--output", str(lab / "figure.png")]
    assert commands.run.pop() == [*words, "--overwrite"]
    # The record and the report show the command as a reader would type it.
    assert step.words == tuple(words)
    again.run("train", output=again.path("run"), resume="auto")
    again.run("plot", output=again.path("other.png"))  # Not the lab's: it was not asked for before.
    again.run("plot", output=again.path("new.png"))
    again.run("predict", output=tmp_path / "figure.png")
    assert not any("--overwrite" in words for words in commands.run)
    again.run("plot", "curves", output=again.path("run"), overwrite=True)
    assert commands.run.pop().count("--overwrite") == 1


def test_a_failed_command_is_named_and_runs_again(tmp_path: Path) -> None:
    steps = start(tmp_path / "lab", Commands())
    steps.run("inspect", "a")
    with pytest.raises(LabError, match=r"torchlift train fail 'x y': no such dataset"):
        steps.run("train", "fail", "x y")
    assert [step.words for step in steps.done] == [("inspect", "a")]
    with pytest.raises(LabError):
        start(tmp_path / "lab", Commands()).run("train", "fail", "x y")


def test_other_settings_are_refused_and_overwrite_starts_again(tmp_path: Path) -> None:
    folder, commands = tmp_path / "lab", Commands()
    steps = start(folder, commands, seed=0, data="a")
    steps.run("inspect", "a", output=steps.path("run/model"))
    with pytest.raises(LabError, match=r"seed \(0, now 1\).*overwrite=True"):
        start(folder, commands, seed=1, data="a")
    (folder / "run" / "model").mkdir(parents=True)
    # A command that was killed is not recorded, but its file is the lab's all the same.
    (start(folder, commands, seed=0, data="a").path("figure.png")).write_bytes(b"old")
    (folder / "report.md").write_bytes(b"old")
    start(folder, commands, overwrite=True, seed=1, data="a").run("inspect", "a")
    assert len(commands.run) == 2
    assert [path.name for path in folder.iterdir()] == ["steps.jsonl"]


def test_a_setting_that_is_new_or_gone_makes_another_lab(tmp_path: Path) -> None:
    """Such as an option that the version before did not have."""
    start(tmp_path / "lab", Commands(), seed=0)
    with pytest.raises(LabError, match=r"another value of photo \(None, now me\.jpg\)"):
        start(tmp_path / "lab", Commands(), seed=0, photo="me.jpg")
    with pytest.raises(LabError, match=r"another value of seed \(0, now None\)"):
        start(tmp_path / "lab", Commands())
    start(tmp_path / "lab", Commands(), seed=0, photo=None)


def test_files_of_other_people_are_never_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    start(folder, Commands(), seed=0).path("figure.png").write_bytes(b"old")
    (folder / "letter.txt").write_text("mine")
    with pytest.raises(LabError, match=r"more than the files of a lab: letter\.txt\. Move"):
        start(folder, Commands(), overwrite=True, seed=1)
    assert sorted(path.name for path in folder.iterdir()) == [
        *("figure.png", "letter.txt", "steps.jsonl")
    ]
    start(folder, Commands(), seed=0)


def test_features_that_are_being_written_belong_to_their_file(tmp_path: Path) -> None:
    """While `extract` writes a file, the features are in a folder beside it; a kill leaves it."""
    folder = tmp_path / "lab"
    start(folder, Commands(), seed=0).path("features.t7")
    (folder / ".other.t7.zarr").mkdir()
    with pytest.raises(LabError, match=r"more than the files of a lab: \.other\.t7\.zarr"):
        start(folder, Commands(), overwrite=True, seed=1)
    (folder / ".other.t7.zarr").rename(folder / ".features.t7.zarr")
    start(folder, Commands(), overwrite=True, seed=1)
    assert [path.name for path in folder.iterdir()] == ["steps.jsonl"]


def test_the_epoch_that_was_kept_is_marked() -> None:
    rows = [{"epoch": epoch, "train_loss": 1 / epoch, "val_accuracy": 0.5} for epoch in (1, 2, 3)]
    trained = Step(("train", "lenet"), {"history": rows, "evaluation": {"epoch": 2}}, 1.0)
    table = epoch_table("Each epoch.", trained)
    assert table.header == ["epoch", "loss", "validation accuracy"]
    assert [row[0] for row in table.rows] == ["1", "2 (kept)", "3"]
    assert [row[1] for row in table.rows] == [1, 1 / 2, 1 / 3]


def test_a_folder_without_a_lab_is_never_deleted(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(LabError, match="holds no lab"):
            start(tmp_path, Commands(), overwrite=overwrite)
    assert (tmp_path / "letter.txt").read_text(encoding="utf-8") == "mine"


def test_the_settings_include_options_and_version() -> None:
    lab = next(iter(LABS.values()))
    settings = settings_of(lab, LabOptions(seed=3))
    assert settings["lab"] == lab.name
    assert settings["seed"] == 3
    # A lab that another version began is not continued: its numbers may differ.
    assert settings["torchlift"] == __version__
    assert json.loads(json.dumps(settings)) == settings


@pytest.mark.parametrize("name", LABS)
def test_every_lab_is_described(name: str) -> None:
    lab = LABS[name]
    assert lab.name == name
    assert lab.title
    assert lab.about.endswith(".")
    assert callable(do_lab)


def test_alexnets_images_are_resized_by_image_scale_where_its_mean_and_std_are_given() -> None:
    """Its file does not say that Torch7's `image.scale` resized them; slow tests run the labs."""
    options = LabOptions(
        model="alexnet.t7", mean_std="mean-std.t7", labels="names.txt"
    ).model_options
    assert options == {
        "labels": "names.txt",
        "mean_std": "mean-std.t7",
        "resize": "image.scale-bilinear",
        "plugin": None,
    }
    # Without them there is no preprocessing whose resizing could be chosen.
    assert set(LabOptions(model="alexnet.t7").model_options.values()) == {None}


@pytest.mark.parametrize(
    ("choice", "there", "name"),
    [
        ("auto", True, "a GPU"),
        ("cuda", True, "a GPU"),
        ("cpu", True, "CPU"),
        ("auto", False, "CPU"),
    ],
)
def test_a_lab_names_what_its_networks_ran_on(
    choice: str, there: bool, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: there)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "a GPU")
    assert _device(choice) == name


def test_an_error_of_the_disk_names_the_command_too(tmp_path: Path) -> None:
    def full(words: list[str]) -> Any:
        raise OSError(28, "No space left on device")

    with pytest.raises(LabError, match=r"torchlift train m --lr 1: .*No space left on device"):
        Steps(tmp_path / "lab", full, {}).run("train", "m", lr=1)


def test_commands_and_notes_are_said_when_they_come_up(tmp_path: Path) -> None:
    """A command that is only read from the record is not."""
    said: list[str] = []

    def run(words: list[str]) -> Any:
        said.append("it runs")
        return {}

    for _ in range(2):
        steps = Steps(tmp_path / "lab", run, {}, said.append)
        steps.note("look here")
        steps.run("inspect", "my file")
        steps.run("inspect", "my file")
    assert said == [
        "note: look here",
        "$ torchlift inspect 'my file'",
        "it runs",
        "note: look here",
    ]
    assert steps.notes == ["look here"]


def test_a_lab_writes_through_no_link_and_replaces_no_folder_that_one_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "lab"
    start(folder, Commands(), seed=0)
    monkeypatch.chdir(folder)
    with pytest.raises(WriteError, match="the folder that you are in"):
        start(folder, Commands(), overwrite=True, seed=1)
    monkeypatch.chdir(tmp_path)
    (folder / "steps.jsonl").rename(tmp_path / "mine.jsonl")
    (folder / "steps.jsonl").symlink_to(tmp_path / "mine.jsonl")
    for overwrite in (False, True):
        with pytest.raises(WriteError, match=r"steps\.jsonl is a symbolic link"):
            start(folder, Commands(), overwrite=overwrite, seed=0)
    (tmp_path / "link").symlink_to(folder)
    (folder / "steps.jsonl").unlink()
    (tmp_path / "mine.jsonl").rename(folder / "steps.jsonl")
    with pytest.raises(WriteError, match="link is a symbolic link"):
        start(tmp_path / "link", Commands(), overwrite=True, seed=1)


def test_a_lab_that_goes_on_knows_its_files_and_removes_what_a_kill_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[Path] = []
    monkeypatch.setattr("torchlift.transfer.labs.steps.remove_abandoned", looked_at.append)
    for _ in range(2):
        steps = start(tmp_path / "lab", Commands())
        for name in ("figure.png", "run/model", "run/metrics.csv"):
            assert steps.path(name) == tmp_path / "lab" / name
    assert looked_at == [tmp_path / "lab"] * 2
    lines = (tmp_path / "lab" / "steps.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["file"] for line in lines[1:]] == ["figure.png", "run"]
