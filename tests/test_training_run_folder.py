"""The folder of a run: the epochs that it keeps, its metrics, and what is overwritten."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training_support import QUIET, difference, digit_splits, trained

from torchlift.cli.main import main
from torchlift.converters.saved import open_model
from torchlift.transfer.data import Splits
from torchlift.transfer.errors import TrainingError
from torchlift.transfer.networks import convnet_bn
from torchlift.transfer.training.checkpoints import best_epoch, saved_epochs
from torchlift.transfer.training.run_folder import RunFolder


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
