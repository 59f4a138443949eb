"""Which folders are runs, what they are called, and which of them are of one configuration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from test_runs import write_run

from torchlift.transfer.runs import RunSummary, find_runs, group_seeds, read_run


def names_in(folder: Path | str) -> list[str]:
    return [run.name for run in find_runs(folder)]


def test_what_is_in_a_run_is_a_part_of_it(tmp_path: Path) -> None:
    """Such as a copy of another run that somebody put there; beside runs there may be folders."""
    write_run(tmp_path / "a", [0.5])
    write_run(tmp_path / "a" / "inner", [0.5])
    write_run(tmp_path / "b" / "c" / "d", [0.5])
    write_run(tmp_path / "b" / ".hidden", [0.5])
    assert names_in(tmp_path) == ["a", "b/c/d"]
    assert names_in(tmp_path / "a") == ["a"]


def test_a_run_has_the_name_of_its_folder_from_wherever_it_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path / "mine", [0.5])
    monkeypatch.chdir(tmp_path / "mine")
    assert names_in(".") == ["mine"]
    assert names_in("..") == ["mine"]


def test_a_name_that_is_no_text_can_be_written_all_the_same(tmp_path: Path) -> None:
    write_run(Path(os.fsdecode(os.fsencode(tmp_path) + b"/run-\xff")), [0.5])
    assert names_in(tmp_path) == ["run-?"]


def test_the_network_of_a_training_from_scratch_is_its_model(tmp_path: Path) -> None:
    """So that it is compared with the model of a run that was fine-tuned."""
    write_run(tmp_path / "r", [0.5], network="lenet5")
    assert read_run(tmp_path / "r", "r").options["model"] == "lenet5"


def test_the_order_of_options_makes_no_other_configuration() -> None:
    """Another version may have written them in another one."""
    runs = [
        RunSummary("a", "finished", {"lr": 0.1, "model": "m", "seed": 0}),
        RunSummary("b", "finished", {"seed": 1, "model": "m", "lr": 0.1}),
        RunSummary("c", "finished", {"model": "m", "lr": "0.1", "seed": 2}),
    ]
    assert [[run.name for run in each.runs] for each in group_seeds(runs)] == [["a", "b"], ["c"]]
