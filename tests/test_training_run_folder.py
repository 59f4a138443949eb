"""The folder of a run: the epochs that it keeps, its metrics, and what is overwritten."""

from __future__ import annotations

import json
import math
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from training_support import QUIET, difference, digit_splits, trained

from torchlift.cli.main import main
from torchlift.converters.errors import WriteError
from torchlift.converters.saved import open_model
from torchlift.transfer.data import Splits
from torchlift.transfer.errors import TrainingError
from torchlift.transfer.freezing import Freezing
from torchlift.transfer.networks import convnet_bn
from torchlift.transfer.training import loop
from torchlift.transfer.training.checkpoints import (
    Kept,
    TrainingState,
    load_best,
    load_last_checkpoint,
    remove_superseded,
    save_checkpoint,
    saved_epochs,
)
from torchlift.transfer.training.monitoring import best_epoch
from torchlift.transfer.training.run_folder import RunFolder, flat_options, open_run


@pytest.fixture(scope="module")
def splits() -> Splits[Any]:
    return digit_splits()


def test_the_best_epoch_is_kept_and_saved(splits: Splits[Any], tmp_path: Path) -> None:
    # This learning rate ruins the network after some epochs, so that the best is not the last.
    model, outcome = trained(
        splits, tmp_path / "run", epochs=12, lr=0.3, schedule="constant", patience=3
    )
    best = best_epoch(outcome.history)
    assert len(outcome.history) == best + 3 < 12
    assert saved_epochs(outcome.folder.checkpoints) == [best, len(outcome.history)]
    assert outcome.evaluation["split"] == "val"
    assert outcome.evaluation["accuracy"] == outcome.history[best - 1]["val_accuracy"]
    saved = open_model(outcome.folder.model)
    assert difference(saved.module, model.module) == 0


def test_a_folder_with_another_run_is_refused(splits: Splits[Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trained(splits, folder, epochs=1)
    with pytest.raises(TrainingError, match=r"resume='auto' .* overwrite=True"):
        trained(splits, folder, epochs=1)
    resume = replace(QUIET, resume="auto")
    with pytest.raises(TrainingError, match=r"with no momentum=…, now momentum=0\.5"):
        trained(splits, folder, epochs=1, run=resume, momentum=0.5)
    with pytest.raises(TrainingError, match=r"with lr=0\.05, now lr=0\.1"):
        trained(splits, folder, epochs=1, run=resume, lr=0.1)
    other = replace(splits, train=splits.train.take(np.arange(100)))
    with pytest.raises(TrainingError, match="data of the same name, but with other contents"):
        trained(other, folder, epochs=1, run=resume)
    with pytest.raises(TrainingError, match="model of the same name, but with other contents"):
        trained(splits, folder, epochs=1, run=resume, network=convnet_bn(1, 10))


def test_overwriting_deletes_what_a_run_wrote_and_nothing_else(
    splits: Splits[Any], tmp_path: Path
) -> None:
    folder, fresh = tmp_path / "run", tmp_path / "fresh"
    trained(splits, folder, epochs=3)
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    (folder / "checkpoints" / "notes.txt").write_text("mine", encoding="utf-8")
    trained(splits, folder, epochs=4, run=replace(QUIET, resume="auto"))
    assert (folder / "checkpoints" / "notes.txt").exists()
    with pytest.raises(TrainingError, match=r"it also contains checkpoints/notes\.txt"):
        trained(splits, folder, epochs=1, run=replace(QUIET, overwrite=True))
    assert saved_epochs(folder / "checkpoints")[-1] == 4
    (folder / "checkpoints" / "notes.txt").unlink()
    options = {"epochs": 1, "run": replace(QUIET, overwrite=True), "momentum": 0.5}
    trained(splits, folder, **options)
    trained(splits, fresh, **options)
    assert {path.name for path in folder.iterdir()} == {
        "notes.txt",
        *(path.name for path in fresh.iterdir()),
    }
    assert saved_epochs(folder / "checkpoints") == [1]
    for name in ("metrics.csv", "config.yaml", "evaluation.json", "model/model.safetensors"):
        assert (folder / name).read_bytes() == (fresh / name).read_bytes(), name


@pytest.mark.parametrize("names", ["thesis.txt", "config.yaml", "run.json", "config.yaml run.json"])
def test_a_folder_that_is_no_run_is_never_overwritten(
    names: str, splits: Splits[Any], tmp_path: Path
) -> None:
    # Other programs have files of these names too.
    folder = tmp_path / "other"
    (folder / "model").mkdir(parents=True)
    for name in names.split():
        (folder / name).write_text("{}", encoding="utf-8")
    for run in (replace(QUIET, overwrite=True), replace(QUIET, resume="auto")):
        with pytest.raises(TrainingError, match="something else than a run"):
            trained(splits, folder, run=run)
    assert {path.name for path in folder.iterdir()} == {*names.split(), "model"}


def test_a_run_whose_replacement_was_killed_is_resumed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A kill while the old run was deleted left half a checkpoint, which could not be resumed."""
    words = ["train", "softmax", "sklearn:digits", "--epochs", "2", "--limit", "60"]
    words += ["--output", str(tmp_path / "run"), "--tracker", "none"]
    assert main(words) == 0

    def killed(folder: Path, *_: Any, **__: Any) -> None:
        for file in Path(folder).rglob("state.pt"):
            file.unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", killed)
        assert main([*words, "--overwrite"]) == 130
    assert main([*words, "--resume", "auto"]) == 0
    assert (tmp_path / "run" / "evaluation.json").is_file()


def test_an_empty_folder_becomes_a_run(splits: Splits[Any], tmp_path: Path) -> None:
    (tmp_path / "runs" / "empty").mkdir(parents=True)
    _, outcome = trained(splits, tmp_path / "runs" / "empty", epochs=0)
    assert outcome.folder.is_finished()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["empty"]


def test_diverged_results_are_null_in_json(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_metrics([{"epoch": 1, "train_loss": math.nan, "train_accuracy": 0.1}], [0.5])
    text = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8")
    assert text == '{"epoch": 1, "train_loss": null, "train_accuracy": 0.1}\n'
    (row,) = folder.read_metrics()
    assert math.isnan(row["train_loss"])
    assert row["train_accuracy"] == 0.1


def test_what_changes_no_result_may_change_when_a_run_is_resumed(tmp_path: Path) -> None:
    config = {"lr": 0.1, "epochs": 3, "workers": 2, "threads": 1, "device": "cpu", "seed": 0}
    open_run(tmp_path / "run", config, {"model": "a"}, resume=False, overwrite=False)
    now = config | {"epochs": 9, "workers": 0, "threads": 4, "device": "cuda", "patience": 2}
    now |= {"tracker": ["none"], "output": "run"}
    open_run(tmp_path / "run", now, {"model": "a"}, resume=True, overwrite=False)
    stored = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))
    assert stored == now
    fewer = {key: value for key, value in now.items() if key != "seed"}
    with pytest.raises(TrainingError, match=r"with seed=0, now no seed=…"):
        open_run(tmp_path / "run", fewer, {"model": "a"}, resume=True, overwrite=False)


def test_overwriting_follows_no_link_out_of_the_folder(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    open_run(folder, {}, {}, resume=False, overwrite=False)
    elsewhere.mkdir()
    (elsewhere / "thesis.txt").write_text("mine", encoding="utf-8")
    (folder / "checkpoints").symlink_to(elsewhere)
    (folder / "evaluation.json").write_text("{}", encoding="utf-8")
    # The link is deleted, or refused: never what it points to.
    with suppress(WriteError):
        open_run(folder, {}, {}, resume=False, overwrite=True)
    assert (elsewhere / "thesis.txt").read_text(encoding="utf-8") == "mine"


def test_a_diverged_evaluation_is_null_in_json(tmp_path: Path) -> None:
    RunFolder(tmp_path).write_evaluation({"loss": math.nan, "accuracy": 0.5})
    text = (tmp_path / "evaluation.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=pytest.fail) == {"loss": None, "accuracy": 0.5}


def test_metrics_that_only_later_epochs_have_are_columns(tmp_path: Path) -> None:
    """A run of 0.1.0 that goes on did not measure F1 before."""
    folder = RunFolder(tmp_path)
    rows: list[dict[str, float]] = [
        {"epoch": 1, "val_loss": 0.5},
        {"epoch": 2, "val_loss": math.nan, "val_f1": 0.25},
    ]
    folder.write_metrics(rows, [1.25, 2.0])
    table = (tmp_path / "metrics.csv").read_text(encoding="utf-8")
    assert table == "epoch,val_loss,val_f1\n1,0.5,\n2,nan,0.25\n"
    assert (tmp_path / "seconds.csv").read_text() == "epoch,seconds\n1,1.250\n2,2.000\n"
    again = folder.read_metrics()
    assert again[0] == rows[0]
    assert math.isnan(again[1].pop("val_loss"))
    assert again[1] == {"epoch": 2, "val_f1": 0.25}


def test_more_than_9999_epochs_stay_in_order(tmp_path: Path) -> None:
    for name in ("epoch-0009", "epoch-9999", "epoch-10000", "epoch-00011", "epoch-1", "epoch-best"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.pt").touch()
    assert saved_epochs(tmp_path) == [9, 9999, 10000]


def test_only_what_a_training_wrote_is_deleted(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "checkpoints", tmp_path / "elsewhere"
    for name in ("epoch-0001/state.pt", "epoch-0003/notes.txt", "epoch-0006/state.pt"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    (folder / "epoch-0002").mkdir()  # A kill left it.
    (folder / "epoch-0004").touch()
    elsewhere.mkdir()
    (elsewhere / "state.pt").touch()
    (folder / "epoch-0005").symlink_to(elsewhere)
    (folder / "epoch-0006" / "mine.txt").touch()
    assert saved_epochs(folder) == [1, 6]
    remove_superseded(folder, [{"epoch": 1, "val_accuracy": 0.5}], Kept())
    assert sorted(path.name[-1] for path in folder.iterdir()) == ["1", "3", "4", "5", "6"]
    assert [path.name for path in (folder / "epoch-0006").iterdir()] == ["mine.txt"]
    assert (elsewhere / "state.pt").exists()


def test_a_checkpoint_is_data_and_never_code(splits: Splits[Any], tmp_path: Path) -> None:
    _, outcome = trained(splits, tmp_path / "run", epochs=1)
    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
            return Path.touch, (marker,)

    torch.save({"optimizer": Payload()}, outcome.folder.checkpoints / "epoch-0001" / "state.pt")
    with pytest.raises(TrainingError, match="the checkpoint is damaged"):
        trained(splits, tmp_path / "run", epochs=2, run=replace(QUIET, resume="auto"))
    assert not marker.exists()


def test_the_last_checkpoint_is_resumed_and_the_best_is_returned(tmp_path: Path) -> None:
    def state(value: float = 0.0) -> TrainingState:
        network = nn.Linear(1, 1)
        nn.init.constant_(network.weight, value)
        return TrainingState(network, torch.optim.SGD(network.parameters(), 0.1), None, None)

    history: list[dict[str, float]] = []
    for epoch, accuracy in enumerate((0.5, 0.9, 0.7, 0.6), 1):
        history.append({"epoch": epoch, "val_accuracy": accuracy, "val_loss": 1.0})
        current = state(epoch)
        current.history, current.seconds = history, [0.5] * epoch
        save_checkpoint(tmp_path, current)
    assert saved_epochs(tmp_path) == [2, 4]
    resumed = state()
    load_last_checkpoint(tmp_path, resumed)
    assert (resumed.history, resumed.seconds) == (history, [0.5] * 4)
    assert resumed.network.weight.item() == 4
    load_best(tmp_path, resumed)
    assert resumed.network.weight.item() == 2


def test_options_of_groups_stand_beside_the_others_under_their_names() -> None:
    flat = flat_options(
        network="lenet5", freezing=Freezing("none", body_lr=0.1), run=QUIET, kind=int
    )
    assert (flat["network"], flat["kind"]) == ("lenet5", int)
    assert (flat["freeze"], flat["body_lr"], flat["tracker"]) == ("none", 0.1, ["none"])
    # These two are about one call, not about the run.
    assert not {"freezing", "run", "resume", "overwrite"} & flat.keys()


@pytest.mark.parametrize("missing", ["config.yaml", "run.json"])
def test_a_run_has_both_of_its_files(missing: str, tmp_path: Path) -> None:
    open_run(tmp_path / "run", {}, {}, resume=False, overwrite=False)
    open_run(tmp_path / "run", {}, {}, resume=True, overwrite=False)
    (tmp_path / "run" / missing).unlink()
    with pytest.raises(TrainingError, match="something else than a run"):
        open_run(tmp_path / "run", {}, {}, resume=False, overwrite=True)


def test_a_disk_that_is_full_at_once_leaves_no_run(
    splits: Splits[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command works once there is space, without another option."""
    folder = tmp_path / "run"

    def full(*_: Any) -> None:
        raise WriteError("epoch-0001: cannot be written: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", full)
        with pytest.raises(WriteError, match="No space left"):
            trained(splits, folder)
    assert not folder.exists()
    trained(splits, folder, epochs=1)
    # What has an epoch is kept.
    more = replace(QUIET, resume="auto")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", full)
        with pytest.raises(WriteError, match="No space left"):
            trained(splits, folder, run=more)
    assert (folder / "checkpoints" / "epoch-0001").is_dir()


def test_a_run_that_was_killed_before_its_first_epoch_is_not_removed(
    splits: Splits[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what this command began is: a run that was there before may hold notes and figures."""

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    def full(*_: Any) -> None:
        raise WriteError("epoch-0001: cannot be written: No space left on device")

    folder, more = tmp_path / "run", replace(QUIET, resume="auto")
    for stop, error in ((killed, KeyboardInterrupt), (full, WriteError)):
        with monkeypatch.context() as patch:
            patch.setattr(loop, "save_checkpoint", stop)
            with pytest.raises(error):
                trained(splits, folder, run=more, epochs=1)
        assert (folder / "run.json").is_file()
    _, outcome = trained(splits, folder, run=more, epochs=1)
    assert len(outcome.history) == 1


def test_other_numbers_of_processes_are_noted_on_resuming(
    splits: Splits[Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    trained(splits, folder, epochs=1)
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert facts["processes"] == 1
    resumed = replace(QUIET, resume="auto")
    assert not any("processes" in note for note in trained(splits, folder, run=resumed)[1].notes)
    facts["processes"] = 2
    (folder / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    _, result = trained(splits, folder, epochs=3, run=resumed)
    assert any("began with 2 processes and goes on with 1" in note for note in result.notes)


def test_a_run_is_one_folder_in_tensorboard(splits: Splits[Any], tmp_path: Path) -> None:
    """TensorBoard shows each folder with events as a run of its own."""
    pytest.importorskip("tensorboard")
    folder = tmp_path / "run"
    for epochs in (1, 2):
        run = replace(QUIET, tracker=["tensorboard"], resume="auto")
        trained(splits, folder, epochs=epochs, run=run)
    events = {file.parent for file in folder.rglob("*tfevents*")}
    assert events == {folder / "tensorboard"}
    assert [path for path in folder.joinpath("tensorboard").iterdir() if path.is_dir()] == []


def test_a_rate_that_was_found_is_kept_until_the_run_begins_again(tmp_path: Path) -> None:
    path, config = tmp_path / "run", {"lr": "find"}
    folder = open_run(path, config, {}, resume=False, overwrite=False)
    assert folder.found_rate() is None
    folder.write_range_test([1e-3, 1e-2], [2.0, 1.0], 0.05)
    table = (path / "lr_finder.csv").read_text(encoding="utf-8")
    assert table == "lr,loss\n0.001,2\n0.01,1\n"
    assert open_run(path, config, {}, resume=True, overwrite=False).found_rate() == 0.05
    assert open_run(path, config, {}, resume=False, overwrite=True).found_rate() is None
    assert not (path / "lr_finder.csv").exists()


def test_only_a_run_without_an_epoch_is_removed_and_only_its_files(tmp_path: Path) -> None:
    folder = open_run(tmp_path / "run", {}, {}, resume=False, overwrite=False)
    (folder.path / "notes.txt").touch()
    checkpoint = folder.checkpoints / "epoch-0001"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.pt").touch()
    folder.remove_unstarted()
    assert (checkpoint / "state.pt").exists()
    assert (folder.path / "run.json").exists()
    shutil.rmtree(checkpoint)
    folder.remove_unstarted()
    assert [entry.name for entry in folder.path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("text", "planned"),
    [("epochs: 7\n", 7), ("epochs: many\n", None), ("lr: 1\n", None), ("- 7\n", None)],
)
def test_the_planned_epochs_are_those_of_the_configuration(
    text: str, planned: int | None, tmp_path: Path
) -> None:
    """A run that goes on compares them with its own, for the schedule of its learning rate."""
    assert RunFolder(tmp_path).planned_epochs() is None
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    assert RunFolder(tmp_path).planned_epochs() == planned
