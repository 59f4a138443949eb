"""What `train` and `finetune` give the training: seeds, splits, labels and the name of the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from torchlift.cli import finetune as finetune_file
from torchlift.cli import train as train_file
from torchlift.cli.data_options import ALL_DATA
from torchlift.cli.finetune import finetune
from torchlift.cli.model_options import ModelOptions, PreprocessingOptions
from torchlift.cli.train import train
from torchlift.cli.training import default_run
from torchlift.transfer.freezing import Freezing
from torchlift.transfer.training import classifiers, processes, teacher
from torchlift.transfer.training.options import (
    AUGMENTATION,
    FREEZING,
    OPTIMIZATION,
    RUN,
    SPLIT_OPTIONS,
    Distillation,
    Experiment,
)

DATA = replace(ALL_DATA, seed=7)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The steps of a training, in their order; nothing is computed."""
    found: list[Any] = []
    splits = SimpleNamespace(train="train split")

    def note(name: str, result: Any = None) -> Any:
        def step(*given: Any, **named: Any) -> Any:
            found.append((name, *given, *named.items()))
            return result

        return step

    opened = SimpleNamespace(labels=["a", "b"])
    monkeypatch.setattr(ModelOptions, "model", lambda self, path: opened)
    for module in (finetune_file, train_file):
        monkeypatch.setattr(module, "open_splits", note("splits", splits))
        monkeypatch.setattr(module, "run_training", note("run"))
    monkeypatch.setattr(processes, "seed_everything", note("seed"))
    monkeypatch.setattr(classifiers, "adapted_classifier", note("adapt", "adapted"))
    monkeypatch.setattr(classifiers, "new_classifier", note("new", "network"))
    monkeypatch.setattr(teacher, "open_teacher", note("teacher", "the teacher"))
    return found


def other_groups() -> dict[str, Any]:
    """Groups of options that are not the usual ones, by the name of the argument."""
    return {
        "optimization": replace(OPTIMIZATION, epochs=3),
        "augmentation": replace(AUGMENTATION, flip=True),
        "distillation": Distillation(teacher="t"),
        "run": replace(RUN, threads=3),
    }


@pytest.mark.parametrize("head", ["zeros", "probe", "keep"])
def test_a_head_that_is_kept_keeps_its_classes_and_others_get_those_of_the_data(
    head: Any, steps: list[Any]
) -> None:
    groups = other_groups()
    freezing, distillation = Freezing(freeze="none"), groups["distillation"]
    groups["run"] = replace(groups["run"], output="there")
    options: dict[str, Any] = {"freezing": freezing, **groups}
    finetune(model="m.t7", data="d.t7", head=head, data_options=DATA, **options)
    names = [name for name, *_ in steps]
    # The head is drawn or fitted by the seed of the run.
    assert names == ["splits", "seed", "adapt", "teacher", "run"]
    by_name = {name: given for name, *given in steps}
    assert by_name["splits"][0] == "d.t7"
    assert by_name["splits"][3] == (["a", "b"] if head == "keep" else None)
    assert by_name["seed"] == [7]
    assert by_name["adapt"][1:] == ["train split", head]
    assert by_name["teacher"] == [distillation, "adapted", "train split"]
    model, experiment, path = by_name["run"]
    assert isinstance(experiment, Experiment)
    assert (model, path) == ("adapted", Path("there"))
    assert (experiment.freezing, experiment.seed) == (freezing, 7)
    assert experiment.teacher == "the teacher"
    for name, group in groups.items():
        assert getattr(experiment, name) == group
    config = experiment.config
    assert (config["model"], config["data"], config["head"]) == ("m.t7", "d.t7", head)
    assert (config["seed"], config["freeze"], config["teacher"]) == (7, "none", "t")


def test_a_new_network_is_drawn_by_the_seed_and_nothing_of_it_is_frozen(steps: list[Any]) -> None:
    options = PreprocessingOptions(mean=[0.5], std=[0.25], color="gray")
    groups = other_groups()
    train(
        network="nets/a b.t7",
        data="x/d.t7",
        data_options=DATA,
        preprocessing_options=options,
        **groups,
    )
    assert [name for name, *_ in steps] == ["splits", "new", "teacher", "run"]
    by_name = {name: given for name, *given in steps}
    assert by_name["splits"] == ["x/d.t7", DATA, SPLIT_OPTIONS]
    assert by_name["teacher"] == [groups["distillation"], "network", "train split"]
    assert by_name["run"][1].teacher == "the teacher"
    for name, group in groups.items():
        assert getattr(by_name["run"][1], name) == group
    network, split, seed, *said = by_name["new"]
    assert (network, split, seed) == ("nets/a b.t7", "train split", 7)
    assert dict(said) == {"mean": [0.5], "std": [0.25], "color": "gray"}
    model, experiment, path = by_name["run"]
    assert (model, path) == ("network", Path("runs/train-a-b-d"))
    assert (experiment.freezing, experiment.seed) == (FREEZING, 7)
    assert experiment.config["network"] == "nets/a b.t7"
    assert experiment.config["color"] == "gray"


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        (("train", "lenet5", "sklearn:digits"), "runs/train-lenet5-sklearn-digits"),
        (("finetune", "a/m.t7", "b/d.npz"), "runs/finetune-m-d"),
        (("train", "timm:x_y.a1", "photos/"), "runs/train-timm-x_y-photos"),
        (("train", "hf:org/net", "s3://b/d e.npz"), "runs/train-net-d-e"),
    ],
)
def test_the_folder_of_a_run_says_what_was_trained_on_what(
    words: tuple[str, str, str], folder: str
) -> None:
    assert default_run(*words) == Path(folder)
