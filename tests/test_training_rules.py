"""Rules of trainings that a whole training hides: what is kept, noted, refused or left as it is."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sklearn.linear_model import LogisticRegression
from torch import nn
from training_support import QUIET, classifier, difference, digit_splits, experiment, trained

from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.requirements import MissingPackageError
from torchlift.converters.saved import SavedModel
from torchlift.transfer import Optimization, fit
from torchlift.transfer.data import Dataset, Splits
from torchlift.transfer.errors import TrainingError
from torchlift.transfer.freezing import Freezing
from torchlift.transfer.training import draw_splits as drawing
from torchlift.transfer.training import experiment as running
from torchlift.transfer.training import processes
from torchlift.transfer.training.checkpoints import (
    TrainingState,
    load_last_checkpoint,
    save_checkpoint,
)
from torchlift.transfer.training.classifiers import adapted_classifier
from torchlift.transfer.training.draw_splits import draw_splits
from torchlift.transfer.training.experiment import run_experiment
from torchlift.transfer.training.loop import build_batches
from torchlift.transfer.training.monitoring import best_epoch, validation_score
from torchlift.transfer.training.options import Run, SplitOptions
from torchlift.transfer.training.processes import determinism, start_processes
from torchlift.transfer.training.resuming import check_resumable
from torchlift.transfer.training.run_folder import RunFolder, open_run
from torchlift.transfer.training.teacher import Teacher


@pytest.fixture(scope="module")
def splits() -> Splits[Any]:
    return digit_splits()


class Scaler:
    """What a training keeps of the scaler of fp16: how large its factor is."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def state_dict(self) -> dict[str, float]:
        return {"scale": self.factor}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.factor = state["scale"]


def test_the_scaler_of_fp16_goes_on_where_it_was(tmp_path: Path) -> None:
    network = nn.Linear(2, 2)
    sgd = torch.optim.SGD(network.parameters(), 0.1)
    state = TrainingState(network, sgd, None, Scaler(512.0))
    state.history, state.seconds = [{"epoch": 1, "val_accuracy": 0.5}], [1.0]
    save_checkpoint(tmp_path, state)
    resumed = TrainingState(network, sgd, None, Scaler(65536.0))
    load_last_checkpoint(tmp_path, resumed)
    assert resumed.scaler.factor == 512.0


def test_of_equal_losses_the_higher_accuracy_is_better() -> None:
    rows: list[dict[str, float]] = [
        {"val_accuracy": accuracy, "val_loss": 0.5} for accuracy in (0.7, 0.9, 0.8)
    ]
    assert best_epoch(rows, "loss") == 2
    assert validation_score(rows[0], "loss") == (-0.5, 0.7)
    assert validation_score({"val_f1": 0.25, "val_loss": 2.0}, "f1") == (0.25, -2.0)


def test_the_head_begins_with_zeros_unless_another_beginning_is_named(
    splits: Splits[Any], tmp_path: Path
) -> None:
    """All classes are equally probable before the first update."""
    model = SavedModel(
        nn.Sequential(nn.Flatten(), nn.Linear(1024, 10)), "logits", (1, 32, 32), None,
        Preprocessing("gray"),
    )  # fmt: skip
    none = Optimization(epochs=0)
    result = fit(model, splits, tmp_path / "zeros", optimization=none, run=QUIET)
    assert not result.model.module[1].weight.any()
    assert RunFolder(tmp_path / "zeros").options()["head"] == "zeros"
    kept = fit(model, splits, tmp_path / "keep", head="keep", optimization=none, run=QUIET)
    assert difference(kept.model.module, model.module) == 0
    assert RunFolder(tmp_path / "keep").options()["head"] == "keep"


def test_a_head_that_begins_as_a_probe_is_scikit_learns() -> None:
    """On features as the network has them: the standardization of the probe is in its weights."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (60, 1, 4, 4), np.uint8)
    data = Dataset(pixels, (pixels.mean((1, 2, 3)) * 3).astype(int) % 3)
    torch.manual_seed(0)
    body = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.ReLU())
    model = SavedModel(
        nn.Sequential(*body, nn.Linear(5, 7)).eval(), "logits", (1, 4, 4), None,
        Preprocessing("gray", mean=(0.25,), std=(0.5,)),
    )  # fmt: skip
    inputs = torch.from_numpy((pixels / 255 - 0.25).astype(np.float32) / np.float32(0.5))
    with torch.no_grad():
        features = body(inputs).numpy().astype(np.float64)
    scale = features.std(0)
    scaled = (features - features.mean(0)) / np.where(scale > 0, scale, 1)
    expected = LogisticRegression(C=1.0, tol=1e-8, max_iter=5000).fit(scaled, data.classes)
    adapted = adapted_classifier(model, data, "probe")
    with torch.no_grad():
        found = adapted.module(inputs).softmax(1).numpy()
    # The probe of a training stops when the accuracy no longer changes.
    np.testing.assert_allclose(found, expected.predict_proba(scaled), atol=0.02)


def test_a_run_that_its_patience_ended_was_not_ended_by_a_callback(
    splits: Splits[Any], tmp_path: Path
) -> None:
    _, outcome = trained(splits, tmp_path / "run", lr=1e-9, epochs=6, patience=2)
    assert len(outcome.history) == 3
    assert not any("callback" in note for note in outcome.notes)
    facts = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert "ended_after" not in facts


def test_validation_images_stand_in_their_order_and_none_is_left_out(
    splits: Splits[Any], tmp_path: Path
) -> None:
    accelerator = start_processes(QUIET, Freezing(), tmp_path)
    options = experiment(splits, batch_size=8, seed=3)
    val = build_batches(classifier(), options, "val", accelerator).plan
    assert (val.shuffle_seed, val.drop_last, val.batch_size) == (None, False, 8)
    train = build_batches(classifier(), options, "train", accelerator).plan
    assert (train.shuffle_seed, train.drop_last) == (3, True)


def test_another_teacher_of_the_same_name_is_refused(splits: Splits[Any], tmp_path: Path) -> None:
    def train(bias: float) -> None:
        taught = classifier()
        model = classifier()
        nn.init.constant_(model.module[-1].bias, bias)
        teacher = Teacher(model, taught, list(range(10)))
        run = replace(QUIET, resume="auto")
        options = replace(experiment(splits, epochs=1, run=run), teacher=teacher)
        run_experiment(taught, options, tmp_path / "run")

    train(0.0)
    train(0.0)
    with pytest.raises(TrainingError, match="teacher of the same name, but with other contents"):
        train(1.0)


def test_what_was_assumed_about_both_datasets_is_noted() -> None:
    images = np.zeros((20, 1, 4, 4), np.uint8)
    data = Dataset(images, np.arange(20) % 2, ("dog", "cat"), ("a note",))
    test = Dataset(images[:4], np.arange(4) % 2)
    found = draw_splits(data, test, SplitOptions(0.2), labels=["cat", "dog"])
    assert found.notes[:3] == (
        "a note",
        "the data's classes were matched with the model's by name",
        "classes were matched by position, because the test data does not name them",
    )
    assert found.train.names == found.test.names == ("cat", "dog")
    assert (len(found.train), len(found.val), len(found.test)) == (16, 4, 4)


@pytest.mark.parametrize("by", ["name", "position"])
def test_classes_are_matched_everywhere_as_it_is_said(
    by: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Dataset(np.zeros((20, 1, 4, 4), np.uint8), np.arange(20) % 2, ("dog", "cat"))
    names = ["dog", "cat"] if by == "name" else ["woof", "meow"]
    told: list[Any] = []
    match, divide = drawing.match_classes, drawing.split

    def matched(*given: Any) -> Any:
        told.append(given[2])
        return match(*given)

    def divided(*given: Any, **named: Any) -> Any:
        told.append((given[1:4], named["match_classes"], len(named["test_data"])))
        return divide(*given, **named)

    monkeypatch.setattr(drawing, "match_classes", matched)
    monkeypatch.setattr(drawing, "split", divided)
    draw_splits(data, data.take(np.arange(6)), SplitOptions(0.2, 0.3), 7, by, names)
    assert told == [by, by, ((0.2, 0.3, 7), by, 6)]


@pytest.mark.parametrize("typed", ["cat,dog", "cat, dog", " cat ,dog"])
def test_a_list_of_0_1_0_is_the_same_as_it_was_typed(typed: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"classes": typed}), encoding="utf-8")
    facts = {"torchlift": "0.1.0", "inputs": {}}
    check_resumable(tmp_path, facts, {"classes": ["cat", "dog"]}, {})
    with pytest.raises(TrainingError, match="is a run with classes"):
        check_resumable(tmp_path, facts, {"classes": ["dog", "cat"]}, {})


def test_folders_of_others_beside_a_run_stay_where_they_are(tmp_path: Path) -> None:
    open_run(tmp_path / "run", {"lr": 1}, {}, resume=False, overwrite=False)
    mine = tmp_path / "run" / "figures" / "mine.png"
    mine.parent.mkdir()
    mine.touch()
    (tmp_path / "run" / "evaluation.json").write_text("{}", encoding="utf-8")
    folder = open_run(tmp_path / "run", {"lr": 2}, {}, resume=False, overwrite=True)
    assert mine.exists()
    assert not folder.is_finished()
    assert folder.options() == {"lr": 2}


@pytest.mark.parametrize(
    ("line", "problem"),
    [('{"val_loss": 1}', "a line has no epoch"), ("[]", "line 2"), ('{"epoch": "1"}', "line 2")],
)
def test_results_that_are_of_no_epoch_are_damaged(line: str, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(f'{{"epoch": 1, "val_loss": null}}\n{line}\n', encoding="utf-8")
    with pytest.raises(TrainingError, match=rf"metrics\.jsonl: damaged: .*{problem}"):
        RunFolder(tmp_path).read_metrics()


def test_cublas_is_told_to_be_deterministic_where_nobody_told_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with determinism(False):
        assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    with determinism(True):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with determinism(True):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_tracker_gets_the_options_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchlift.transfer.training.processes import start_trackers

    stored: list[dict[str, Any]] = []
    tracker = SimpleNamespace(store_init_configuration=stored.append)
    accelerator: Any = SimpleNamespace(init_trackers=lambda name: None, trackers=[tracker])
    start_trackers(accelerator, {"lr": 0.1, "classes": ["a", "b"], "shape": (1, 2), "ema": None})
    assert stored == [{"lr": 0.1, "classes": "a, b", "shape": "1, 2"}]


@pytest.mark.parametrize("sampling", ["shuffle", "weighted"])
@pytest.mark.parametrize("balanced", [True, False])
def test_classes_are_given_the_same_influence_once(sampling: Any, balanced: bool) -> None:
    if balanced and sampling == "weighted":
        with pytest.raises(TrainingError, match=r"leave out balanced=True"):
            Optimization(sampling=sampling, balanced=balanced)
    else:
        assert Optimization(sampling=sampling, balanced=balanced).balanced == balanced


@pytest.mark.parametrize(("version", "fits"), [(1, True), (2, True), (3, False)])
def test_a_run_of_a_later_version_is_not_resumed(version: int, fits: bool, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("lr: 1\n", encoding="utf-8")
    facts = {"torchlift": "9.8.7", "inputs": {}, "format_version": version}
    if fits:
        check_resumable(tmp_path, facts, {"lr": 1}, {})
    else:
        with pytest.raises(TrainingError, match=r"format version 3.*that wrote it, 9\.8\.7$"):
            check_resumable(tmp_path, facts, {"lr": 1}, {})


def test_a_folder_without_results_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"metrics\.jsonl: no such file: .* is no run$"):
        RunFolder(tmp_path).read_metrics()
    (tmp_path / "metrics.jsonl").touch()
    assert RunFolder(tmp_path).read_metrics() == []


@pytest.mark.parametrize("before", [0.03125, None])
def test_a_learning_rate_that_was_found_is_not_looked_for_again(
    before: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a run goes on, the test has long been made; another would be of another network."""

    class SearchedError(Exception):
        pass

    def find(*_: Any) -> Any:
        raise SearchedError

    monkeypatch.setattr(running, "find_rate", find)
    folder: Any = SimpleNamespace(found_rate=lambda: before)
    nothing: Any = None
    if before is None:
        with pytest.raises(SearchedError):
            running._found_rate(nothing, nothing, folder, nothing)
    else:
        assert running._found_rate(nothing, nothing, folder, nothing) == before


@pytest.mark.parametrize(
    ("tracker", "needs_it"), [(None, True), (["tensorboard"], True), (["none"], False)]
)
def test_tensorboard_is_asked_for_where_it_is_missing(
    tracker: list[str] | None, needs_it: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "get_available_trackers", list)
    run = Run(device="cpu", tracker=tracker)
    if needs_it:
        with pytest.raises(MissingPackageError, match=r"tracker='tensorboard' needs tensorboard"):
            start_processes(run, Freezing(), tmp_path)
    else:
        start_processes(run, Freezing(), tmp_path)
    assert list(tmp_path.iterdir()) == []
