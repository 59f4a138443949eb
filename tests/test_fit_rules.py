"""What `fit` gives the training, as the commands do: nothing that is said to it gets lost."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from torchlift.transfer import Augmentation, Freezing, SplitOptions, fit
from torchlift.transfer.data import Dataset, Splits
from torchlift.transfer.training.experiment import RunResult
from torchlift.transfer.training.options import (
    OPTIMIZATION,
    RUN,
    SPLIT_OPTIONS,
    Distillation,
    Experiment,
)

DATA = Dataset(np.zeros((4, 1, 2, 2), np.uint8), np.arange(4) % 2)
GROUPS: dict[str, Any] = {
    "optimization": replace(OPTIMIZATION, epochs=3),
    "freezing": Freezing("0"),
    "augmentation": Augmentation(flip=True),
    "distillation": Distillation("t.t7", temperature=2.0),
    "run": replace(RUN, threads=3),
}


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The steps of a training, in their order; nothing is computed."""
    file = import_module("torchlift.transfer.training.fit")
    found: list[Any] = []
    splits = Splits(DATA, DATA, DATA, ("of the data",))
    opened = SimpleNamespace(labels=["b", "a"])
    results = {
        "opened_model": opened,
        "opened_data": "opened",
        "draw_splits": splits,
        "new_classifier": SimpleNamespace(notes=["new"]),
        "adapted_classifier": SimpleNamespace(notes=["adapted"]),
        "open_teacher": "teacher",
        "seed_everything": None,
    }

    def note(name: str, result: Any) -> Any:
        def step(*given: Any, **named: Any) -> Any:
            found.append((name, *given, *named.items()))
            return result

        return step

    for name, result in results.items():
        monkeypatch.setattr(file, name, note(name, result))
    ended = RunResult(*(None,) * 5, notes=["of the run"])  # type: ignore[arg-type]  # none is looked at
    monkeypatch.setattr(file, "run_experiment", note("run", ended))
    return found


@pytest.mark.parametrize("head", [None, "zeros", "probe", "keep"])
def test_a_network_is_fine_tuned_as_it_is_said(head: Any, steps: list[Any]) -> None:
    """Without a word with a new head; only a head that is kept has its classes matched."""
    shares = SplitOptions(0.3, test_data="t.npz")
    result = fit("m.t7", "d.npz", "out", head=head, split_options=shares, seed=7, **GROUPS)
    names = [name for name, *_ in steps]
    order = ["opened_model", "opened_data", "opened_data", "draw_splits", "seed_everything"]
    assert names == [*order, "adapted_classifier", "open_teacher", "run"]
    by_name = {name: given for name, *given in steps}
    assert [given[0] for name, *given in steps if name == "opened_data"] == ["t.npz", "d.npz"]
    labels = ["b", "a"] if head == "keep" else None
    assert by_name["draw_splits"] == ["opened", "opened", shares, 7, ("labels", labels)]
    assert by_name["seed_everything"] == [7]
    assert by_name["adapted_classifier"][1:] == [DATA, head or "zeros"]
    trained, experiment, path, (name, _) = by_name["run"]
    assert (trained.notes, path, name) == (["adapted"], Path("out"), "on_epoch")
    assert by_name["open_teacher"] == [GROUPS["distillation"], trained, DATA]
    config = experiment.config
    assert (config["model"], config["head"], config["data"]) == ("m.t7", head or "zeros", "d.npz")
    assert (config["freeze"], config["flip"], config["temperature"]) == ("0", True, 2.0)
    assert (config["epochs"], config["threads"], config["seed"]) == (3, 3, 7)
    assert (config["val_fraction"], config["output"]) == (0.3, "out")
    assert "network" not in config
    assert isinstance(experiment, Experiment)
    assert (experiment.seed, experiment.teacher) == (7, "teacher")
    for group, value in GROUPS.items():
        assert getattr(experiment, group) == value
    assert result.notes == ["of the data", "adapted", "of the run"]


def test_a_new_network_is_drawn_by_the_seed(steps: list[Any]) -> None:
    fit("softmax", DATA, "out", seed=7)
    by_name = {name: given for name, *given in steps}
    assert by_name["draw_splits"] == ["opened", None, SPLIT_OPTIONS, 7, ("labels", None)]
    assert by_name["new_classifier"] == ["softmax", DATA, 7]
    config = by_name["run"][1].config
    assert (config["network"], config["data"]) == ("softmax", None)
    assert not {"model", "head"} & config.keys()


def test_a_folder_before_a_network_of_its_name(
    steps: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "softmax").mkdir()
    fit("softmax", Splits(DATA, DATA, DATA), "out", head="keep")
    # Splits that were drawn already stay as they are.
    assert [name for name, *_ in steps][:3] == [
        "opened_model",
        "seed_everything",
        "adapted_classifier",
    ]
