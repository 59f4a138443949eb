"""Which files in the folder of a run are its own: what is replaced, left alone, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from torchlift.converters.errors import WriteError
from torchlift.transfer.training import run_folder
from torchlift.transfer.training.run_folder import RunFolder, open_run

#: What a run writes beside its options and facts, as the documentation lists it.
FILES = (
    *("evaluation.json", "metrics.csv", "metrics.jsonl", "classes.csv", "seconds.csv"),
    *("lr_finder.csv", "lr_finder.png", "network.json", "network.safetensors"),
)
CHECKPOINT = ("model.safetensors", "average.safetensors", "state.pt")


def written(folder: Path) -> RunFolder:
    """Return a run that has written everything that one may write."""
    run = open_run(folder, {"lr": 1}, {}, resume=False, overwrite=False)
    names = [*FILES, *(f"checkpoints/epoch-0001/{name}" for name in CHECKPOINT)]
    names += ["tensorboard/events.out", "model/model.safetensors"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return run


def names_in(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_nothing_that_a_run_wrote_outlives_its_replacement(tmp_path: Path) -> None:
    run = written(tmp_path / "run")
    (run.path / "notes.txt").touch()
    open_run(run.path, {"lr": 2}, {}, resume=False, overwrite=True)
    assert names_in(run.path) == {"config.yaml", "run.json", "notes.txt"}
    assert run.options() == {"lr": 2}


def test_nothing_is_left_of_a_run_that_could_not_begin(tmp_path: Path) -> None:
    run = written(tmp_path / "run")
    for name in CHECKPOINT[::2]:
        (run.checkpoints / "epoch-0001" / name).unlink()
    # A link is removed, and what it leads to stays.
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    (run.path / "tensorboard" / "events.out").unlink()
    (run.path / "tensorboard").rmdir()
    (run.path / "tensorboard").symlink_to(tmp_path / "mine")
    run.remove_unstarted()
    assert not run.path.exists()
    assert names_in(tmp_path / "mine") == {"thesis.txt"}


def test_a_run_that_is_being_replaced_is_not_finished_from_the_first_moment_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill would leave a run that looks finished and has lost its results."""
    run = written(tmp_path / "run")
    unlink = Path.unlink

    def killed(path: Path, **options: Any) -> None:
        unlink(path, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            open_run(run.path, {"lr": 2}, {}, resume=False, overwrite=True)
    assert not run.is_finished()
    open_run(run.path, {"lr": 2}, {}, resume=False, overwrite=True)
    assert names_in(run.path) == {"config.yaml", "run.json"}


@pytest.mark.parametrize("name", ["config.yaml", "run.json", *FILES, "checkpoints", "model"])
def test_a_run_that_goes_on_writes_through_no_link(name: str, tmp_path: Path) -> None:
    run = written(tmp_path / "run")
    (run.path / name).rename(tmp_path / "elsewhere")
    (run.path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WriteError, match=rf"{name} is a symbolic link"):
        open_run(run.path, {"lr": 1}, {}, resume=True, overwrite=False)


@pytest.mark.parametrize("overwrite", [True, False])
def test_the_folder_of_a_run_is_no_link(overwrite: bool, tmp_path: Path) -> None:
    run = written(tmp_path / "elsewhere")
    (tmp_path / "run").symlink_to(run.path)
    with pytest.raises(WriteError, match="run is a symbolic link"):
        open_run(tmp_path / "run", {"lr": 1}, {}, resume=not overwrite, overwrite=overwrite)
    assert run.is_finished()


def test_a_run_has_both_of_its_files_or_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other processes look for it while the first one writes."""
    write, seen = run_folder._write_text, list[bool]()

    def killed(file: Path, *given: Any) -> None:
        write(file, *given)
        seen.append((tmp_path / "run").exists())
        if len(seen) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "_write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            open_run(tmp_path / "run", {}, {}, resume=False, overwrite=False)
    assert (seen, names_in(tmp_path)) == ([False, False], set())


@pytest.mark.parametrize("text", ["lr: [1", "a: &a 1\nb: *a\n", "- 1\n", ""])
def test_damaged_options_are_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    run = RunFolder(tmp_path)
    assert (run.options(), run.planned_epochs(), run.monitor()) == ({}, None, "accuracy")


def test_facts_are_replaced_by_later_ones_and_the_others_stay(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", {}, {"data": "d"}, resume=False, overwrite=False)
    run.add_facts(lr=0.5, failure={"status": "failed"})
    run.add_facts(lr=0.25)
    facts = run_folder.read_facts(run.path)
    assert (facts["lr"], facts["failure"], facts["inputs"]) == (
        *(0.25, {"status": "failed"}),
        {"data": "d"},
    )
    assert run.found_rate() == 0.25
