"""What a run does around its epochs: trackers, range test, names of classes, what it leaves."""

from __future__ import annotations

import csv
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from training_support import QUIET, experiment

from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.saved import SavedModel, load
from torchlift.transfer.data import Dataset, Splits
from torchlift.transfer.errors import TrainingError
from torchlift.transfer.runs import read_run
from torchlift.transfer.training import experiment as running
from torchlift.transfer.training import loop
from torchlift.transfer.training.experiment import RunResult, run_experiment
from torchlift.transfer.training.lr_finder import RangeTest
from torchlift.transfer.training.run_folder import RunFolder, open_run, read_facts

_RANDOM = np.random.default_rng(0)
DATA = Dataset(_RANDOM.integers(0, 256, (12, 1, 4, 4), np.uint8), np.arange(12) % 3)


def model(*layers: nn.Module) -> SavedModel:
    torch.manual_seed(0)
    body = nn.Flatten(), nn.Linear(16, 16), nn.ReLU()
    network = nn.Sequential(*body, *layers, nn.Linear(16, 3))
    return SavedModel(network, "logits", (1, 4, 4), None, Preprocessing("gray"))


def run(
    folder: Path, names: tuple[str, ...] | None = None, **options: Any
) -> tuple[SavedModel, RunResult]:
    made = model()
    data = replace(DATA, names=names)
    splits = Splits(data, data, data.take(np.arange(0)))
    return made, run_experiment(made, experiment(splits, epochs=1, **options), folder)


@pytest.mark.parametrize("names", [("ant", "bee", "cow"), None])
def test_the_results_of_classes_have_their_names(
    names: tuple[str, ...] | None, tmp_path: Path
) -> None:
    run(tmp_path / "run", names)
    with (tmp_path / "run" / "classes.csv").open(encoding="utf-8") as stream:
        labels = [row["label"] for row in csv.DictReader(stream)]
    assert labels == [*(names or ("1", "2", "3"))]


def test_trackers_begin_with_the_options_of_the_run_and_end_behind_its_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they still hold would be lost if they did not end."""
    folder, told = tmp_path / "run", list[Any]()
    monkeypatch.setattr(running, "start_trackers", lambda _, config: told.append(config))
    monkeypatch.setattr(
        running, "end_trackers", lambda _: told.append((folder / "evaluation.json").is_file())
    )
    run(folder)
    assert told == [{"epochs": 1, "batch_size": 32, "lr": 0.05, "seed": 0}, True]


def test_a_network_that_was_trained_in_another_precision_computes_in_its_own_again(
    tmp_path: Path,
) -> None:
    made, outcome = run(tmp_path / "run", run=replace(QUIET, precision="bf16"))
    inputs = torch.rand(5, 1, 4, 4)
    with torch.no_grad():
        found = made.module(inputs)
        assert torch.equal(found, load(outcome.folder.model).module(inputs))


@pytest.mark.parametrize("is_main", [True, False])
def test_a_rate_is_recorded_by_the_first_process_when_all_else_of_its_test_is_written(
    is_main: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that has it goes on with it, and would never draw the figure."""
    folder = open_run(tmp_path / "run", {}, {}, resume=False, overwrite=False)
    test = RangeTest([0.25, 0.5, 1.0], [3.0, 1.0, 2.0])
    drawn: list[Any] = []

    def draw(rates: list[float], losses: list[float], found: float) -> str:
        drawn.append((rates, losses, found))
        return "a figure"

    def save(figure: Any, file: Path) -> None:
        drawn.append((figure, file.name, folder.found_rate()))

    monkeypatch.setattr(running, "find_rate", lambda *given: test)
    monkeypatch.setattr("torchlift.transfer.plots.range_test.draw_range_test", draw)
    monkeypatch.setattr("torchlift.transfer.plots.figures.save_figure", save)
    nothing: Any = None
    process: Any = SimpleNamespace(is_main_process=is_main)
    assert running._found_rate(nothing, nothing, folder, process) == 0.05
    assert folder.found_rate() == (0.05 if is_main else None)
    expected = [(test.rates, test.losses, 0.05), ("a figure", "lr_finder.png", None)]
    assert drawn == (expected if is_main else [])
    assert (folder.path / "lr_finder.csv").exists() is is_main


def test_a_rate_that_was_found_is_said_before_the_first_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_found_rate", lambda *given: 0.0625)
    said: list[str] = []
    splits = Splits(DATA, DATA, DATA.take(np.arange(0)))
    outcome = run_experiment(
        model(),
        experiment(splits, epochs=1, lr="find", schedule="constant"),
        tmp_path / "run",
        announce=said.append,
        on_epoch=lambda state: said.append("an epoch"),
    )
    assert said[-2:] == ["note: learning rate 0.0625, found by a range test", "an epoch"]
    assert outcome.notes == ["learning rate 0.0625, found by a range test"]
    assert outcome.history[0]["lr"] == 0.0625


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_run_does_not_go_on_with_other_images(split: str, tmp_path: Path) -> None:
    """Those that it chooses its best epoch by would else differ from epoch to epoch."""
    splits = Splits(DATA, DATA, DATA.take(np.arange(0)))
    again = replace(QUIET, resume="auto")
    run_experiment(model(), experiment(splits, epochs=1), tmp_path / "run")
    images = DATA.images.copy()
    images[3] += 1
    changed = replace(splits, **{split: replace(DATA, images=images)})
    said = {"train": "data of the same name", "val": "validation images of the same name"}[split]
    with pytest.raises(TrainingError, match=said):
        run_experiment(model(), experiment(changed, epochs=2, run=again), tmp_path / "run")
    # A run of torchlift 0.1.0 does not say which images it was validated on.
    folder = RunFolder(tmp_path / "run")
    inputs = read_facts(folder.path)["inputs"]
    folder.add_facts(inputs={name: inputs[name] for name in inputs if name != "val"})
    if split == "val":
        outcome = run_experiment(model(), experiment(changed, epochs=2, run=again), folder.path)
        assert len(outcome.history) == 2


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("is_main", [True, False])
def test_only_the_first_process_tidies_up_and_only_a_run_that_it_began(
    is_new: bool, is_main: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    def recorded(folder: RunFolder, answer: bool) -> Any:
        told.append((folder.path, answer))
        return nullcontext()

    def stop(*given: Any) -> None:
        raise KeyboardInterrupt

    if not is_new:
        run(tmp_path / "run")
    for name in ("_kept_if_begun", "_failure_recorded"):
        monkeypatch.setattr(running, name, recorded)
    monkeypatch.setattr(running, "start_trackers", stop)
    monkeypatch.setattr("accelerate.Accelerator.is_main_process", property(lambda _: is_main))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", run=replace(QUIET, resume="auto"))
    assert told == [(tmp_path / "run", is_new and is_main), (tmp_path / "run", is_main)]


def test_a_run_that_a_callback_ended_is_whole_with_the_epochs_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with those up to its best one, which is the first here."""
    scores = iter([0.9, 0.5])
    monkeypatch.setattr(
        loop,
        "measure",
        lambda *_: ({"val_accuracy": next(scores), "val_loss": 1.0}, torch.zeros(3, 3).long()),
    )
    asked = experiment(Splits(DATA, DATA, DATA.take(np.arange(0))), epochs=9)
    outcome = run_experiment(
        model(), asked, tmp_path / "run", on_epoch=lambda state: len(state.history) == 2
    )
    assert (len(outcome.history), outcome.evaluation["epoch"]) == (2, 1)
    assert read_facts(tmp_path / "run")["ended_after"] == 2
    assert read_run(tmp_path / "run", "run").status == "finished"


@pytest.mark.parametrize("own", [True, False])
def test_only_of_a_network_that_no_model_can_hold_are_the_weights_described(
    own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Own(nn.Module):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return input

    # Whether it can be exported is tried elsewhere.
    monkeypatch.setattr("torchlift.transfer.training.rehearsal._export_notes", lambda *_: [])
    splits = Splits(DATA, DATA, DATA.take(np.arange(0)))
    folder = tmp_path / "run"
    run_experiment(model(*[Own()] * own), experiment(splits, epochs=0), folder)
    found = {
        name
        for name in ("network.json", "network.safetensors", "model")
        if (folder / name).exists()
    }
    assert found == ({"network.json", "network.safetensors"} if own else {"model"})
