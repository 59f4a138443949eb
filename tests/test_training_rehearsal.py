"""What can be known before the first epoch is said or refused before it, and not after the last."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support import FIXTURES
from torch import nn
from training_support import classifier, digit_splits, experiment

from torchlift.cli.main import main
from torchlift.converters.errors import TorchliftError
from torchlift.converters.images import Preprocessing
from torchlift.converters.requirements import MissingPackageError
from torchlift.converters.saved import SavedModel, SavedModelError, TorchvisionNetwork
from torchlift.transfer.data import Dataset, Splits, split
from torchlift.transfer.errors import DataError, FreezingError, TrainingError
from torchlift.transfer.freezing import Freezing
from torchlift.transfer.heads import find_head, replace_head
from torchlift.transfer.training import rehearsal
from torchlift.transfer.training.experiment import run_experiment
from torchlift.transfer.training.rehearsal import (
    _class_notes,
    _classify,
    _freezing_notes,
    _sampling_notes,
    rehearse,
)

DIGITS = FIXTURES / "digits"
MODEL = str(DIGITS / "digits-lenet5-bn.t7")
TRAIN, TEST = str(DIGITS / "digits-train.t7"), str(DIGITS / "digits-test.t7")

#: A network of somebody's own classes: no saved model can hold it.
OWN = """
from torch import nn

class Own(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.first = nn.Linear(channels * 32 * 32, 12)
        self.last = nn.Linear(12, classes)

    def forward(self, input):
        return self.last(self.first(input.flatten(1)).relu())

def make(channels, classes):
    return Own(channels, classes)

def trained():
    return Own(1, 7)
"""


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[Any, str]:
    capsys.readouterr()
    code = main([*words, "--json"])
    out, err = capsys.readouterr()
    assert code == 0, err
    return json.loads(out), err


def error(capsys: pytest.CaptureFixture[str], line: str, folder: Path) -> str:
    """Return the message of a training that must end before its folder is made."""
    capsys.readouterr()
    assert main([*line.split(), "--output", str(folder / "run")]) == 1
    assert not (folder / "run").exists()
    err = capsys.readouterr().err
    assert "epoch 1 of" not in err
    return err


@pytest.mark.parametrize("rule", ["13", "1*"])
def test_a_frozen_head_of_zeros_is_refused(rule: str) -> None:
    """Layer 13 is the head: no gradient passes through its zeros."""
    model = classifier()
    head = find_head(model.module)
    rule = rule.replace("13", head).replace("1*", f"{head[:1]}*")
    replace_head(model.module, 10)
    with pytest.raises(FreezingError, match="whose weights are zero"):
        rehearse(model, experiment(digit_splits(), freezing=Freezing(freeze=rule)))
    other = experiment(digit_splits(), freezing=Freezing(freeze="all-but-head"))
    assert rehearse(model, other).saveable


@pytest.mark.parametrize(
    ("sampling", "size", "left_out"),
    [
        ("shuffle-once", 4, 2),
        ("shuffle-once", 5, 0),
        ("shuffle-once", 1, 0),
        ("shuffle-once", 64, 0),
        ("shuffle", 4, 0),
        ("replacement", 4, 0),
    ],
)
def test_images_that_no_epoch_trains_on_are_noted(sampling: str, size: int, left_out: int) -> None:
    data = Dataset(np.zeros((10, 1, 2, 2), np.uint8), np.arange(10) % 2)
    asked = experiment(Splits(data, data, data), sampling=sampling, batch_size=size)
    notes = _sampling_notes(asked)
    assert len(notes) == bool(left_out)
    assert all(note.startswith(f"{left_out} of 10 images are never trained on") for note in notes)


def test_layers_that_are_unfrozen_too_late_are_noted() -> None:
    late = Freezing(freeze="all-but-head", unfreeze_at=5)
    notes = rehearse(classifier(), experiment(digit_splits(), freezing=late, epochs=2)).notes
    assert "trained from epoch 5 on, but the training has only 2 epochs" in notes[0]
    assert not rehearse(classifier(), experiment(digit_splits(), freezing=late, epochs=5)).notes
    # Of several steps the first one tells of those behind it.
    steps = Freezing(unfreeze="2:4,4:1,6:0")
    for epochs, said in ((1, "epoch 2 on, but the training has only 1 "), (3, "epoch 4 on")):
        (note,) = _freezing_notes(steps, epochs)
        assert said in note
    # Without an epoch nothing is trained.
    assert [bool(_freezing_notes(late, epochs)) for epochs in range(6)] == [
        False,
        *[True] * 4,
        False,
    ]


def test_classes_without_training_images_are_noted_or_refused(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 1, 32, 32), np.uint8)
    few = split(Dataset(images, np.array([0, 2, 3] * 4)), 0)
    notes = rehearse(classifier(), experiment(few)).notes
    assert notes == ["1 of 4 classes have no training images: 2"]
    many = split(Dataset(images, np.array([5, 7, 900] * 4)), 0)
    with pytest.raises(TrainingError, match="10 outputs, but the data has 901 classes"):
        rehearse(classifier(), experiment(many))
    alone = split(Dataset(images, np.zeros(12, np.int64), ("cat",)), 0)
    with pytest.raises(TrainingError, match=r"all training images are of one class \(cat\)"):
        run_experiment(classifier(), experiment(alone), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("absent", "named"), [(1, "2"), (5, "2, 3, 4, 5, 6"), (6, "2, 3, 4, 5, 6, …")]
)
def test_five_classes_without_training_images_are_named(absent: int, named: str) -> None:
    data = Dataset(np.zeros((4, 1, 2, 2), np.uint8), np.array([0, absent + 1] * 2))
    (note,) = _class_notes(Splits(data, data, data))
    assert note == f"{absent} of {absent + 2} classes have no training images: {named}"
    empty = replace(data.take(np.arange(0)), names=("ant", "bee"))
    with pytest.raises(TrainingError, match=r"of one class \(none\): a classifier needs at least"):
        _class_notes(Splits(empty, data, data))


@pytest.mark.parametrize("classes", [9, 10, 11])
def test_a_network_has_an_output_for_every_class(classes: int) -> None:
    images = np.zeros((2, 1, 32, 32), np.uint8)
    data = Dataset(images, np.array([0, classes - 1]))
    if classes <= 10:
        _classify(classifier(), Splits(data, data, data))
    else:
        with pytest.raises(TrainingError, match="has 10 outputs, but the data has 11 classes"):
            _classify(classifier(), Splits(data, data, data))


@pytest.mark.parametrize("part", ["save", "load"])
def test_what_can_be_saved_and_not_opened_again_is_no_model(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: Any) -> None:
        raise SavedModelError("it is odd")

    monkeypatch.setattr(rehearsal, part, fails)
    found = rehearse(classifier(), experiment(digit_splits()))
    assert not found.saveable
    assert found.notes == ["only the weights are saved, not a model: it is odd"]


def test_test_data_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    train, other = digit_splits().train, np.zeros((4, 1, 5, 5), np.float32)
    with pytest.raises(DataError, match="the test data has 12 classes, the training data has 10"):
        split(train, 0.1, test_data=Dataset(train.images[:4], np.array([0, 3, 11, 2])))
    mixed = split(train, 0.1, test_data=Dataset(other, np.array([0, 1, 2, 3])))
    with pytest.raises(Exception, match="inputs of shape 1×5×5, the network takes 1×32×32"):
        run_experiment(classifier(), experiment(mixed), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_notes_stand_before_the_first_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["finetune", MODEL, TRAIN, "--limit", "60", "--epochs", "1", "--tracker", "none"]
    words += ["--mean-std", str(DIGITS / "digits_meanStd.t7"), "--output", str(tmp_path / "run")]
    found, err = run(capsys, *words, "--test-data", TEST)
    first = err.index("epoch 1 of 1")
    for note in ("labels 1 to 10, counted from 1", "resized to 32×32", "matched by position"):
        assert 0 <= err.index(note) < first
        assert any(note in one for one in found["notes"])
    assert main([*words, "--overwrite"]) == 0
    # After the training only what was not known before.
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")] == [
        "note: trained by torchlift, epoch 1 of 1"
    ]


def test_a_network_of_ones_own_can_be_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_network.py").write_text(OWN, encoding="utf-8")
    monkeypatch.delitem(sys.modules, "own_network", raising=False)
    names = ["--class-names", str(DIGITS / "digits_classes.t7")]
    options = [*names, "--limit", "400", "--epochs", "2", "--tracker", "none"]
    found, err = run(
        capsys, "train", "python:own_network:make", TRAIN, "--test-data", TEST, "-o", "r", *options
    )
    assert err.index("only the weights are saved") < err.index("epoch 1 of 2")
    kept = json.loads((tmp_path / "r" / "network.json").read_text(encoding="utf-8"))
    assert (kept["arguments"], kept["input_shape"]) == ([1, 10], [1, 32, 32])
    assert kept["labels"][8] == "eight"
    expected = found["evaluation"]["accuracy"]
    weights = next((tmp_path / "r" / "checkpoints").glob(f"*{found['evaluation']['epoch']}"))
    for source in ("r", "r/network.safetensors", str(weights / "model.safetensors")):
        words = ["evaluate", "python:own_network:make", TEST, "--weights", source, "--limit", "400"]
        tested, _ = run(capsys, *words)
        assert tested["accuracy"] == expected
        assert tested["classes"][8]["label"] == "eight"

    # A function without arguments, and a head that the run replaced.
    found, _ = run(
        capsys, "finetune", "python:own_network:trained", TRAIN, "--test-data", TEST,
        "-o", "f", "--freeze", "none", *options,
    )  # fmt: skip
    words = ["evaluate", "python:own_network:trained", TEST, "--weights", "f", "--limit", "400"]
    assert run(capsys, *words)[0]["accuracy"] == found["evaluation"]["accuracy"]
    assert load_file(tmp_path / "f" / "network.safetensors")["last.weight"].shape == (10, 12)


def test_a_damaged_or_newer_description_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_network.py").write_text(OWN, encoding="utf-8")
    monkeypatch.delitem(sys.modules, "own_network", raising=False)
    words = ["evaluate", "python:own_network:make", TEST, "--weights", "."]
    for text, problem in (
        (
            '{"format": "torchlift network", "format_version": 99, "torchlift_version": "9"}',
            "version 99",
        ),
        ('{"format": "torchlift network", "format_version": 1}', "no entry 'torchlift_version'"),
        ("[]", "damaged"),
    ):
        (tmp_path / "network.json").write_text(text, encoding="utf-8")
        assert main(words) == 1
        assert problem in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("--freeze 13", "freezes the head 13, whose weights are zero"),
        ("--freeze 1*", "freezes the head 13, whose weights are zero"),
        ("--classes 3", "all training images are of one class (3)"),
    ],
)
def test_mistakes_on_the_command_line(
    options: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert problem in error(capsys, f"finetune {MODEL} {TRAIN} {options} --limit 60", tmp_path)


class Drawing(nn.Module):
    """Draws a number in each pass, as some layers of other people do."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input + 0 * torch.rand(())


@pytest.mark.parametrize("layers", [(), (Drawing(),)], ids=["plain", "drawing"])
def test_a_rehearsal_draws_no_number_of_the_training(layers: tuple[nn.Module, ...]) -> None:
    network = nn.Sequential(nn.Flatten(), *layers, nn.Linear(32 * 32, 10))
    model = classifier(network)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    rehearse(model, experiment(digit_splits()))
    assert torch.equal(torch.rand(3), expected)


def test_a_network_by_name_that_was_changed_is_refused_before_it_is_trained(
    tmp_path: Path,
) -> None:
    """Its name alone is saved: what was changed in it would be lost with the training."""
    images = np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), np.uint8)
    few = split(Dataset(images, np.arange(12) % 2), 0)
    for change in (False, True):
        named = TorchvisionNetwork("shufflenet_v2_x0_5", 2)
        model = SavedModel(named, "logits", (3, 32, 32), None, Preprocessing("RGB", (32, 32)))
        if not change:
            assert rehearse(model, experiment(few)).saveable
            continue
        named.network.maxpool = nn.Conv2d(24, 24, 3, 2, 1)
        said = "the trained network could not be saved: .*maxpool"
        with pytest.raises(TrainingError, match=said) as refused:
            run_experiment(model, experiment(few), tmp_path / "run")
        assert isinstance(refused.value.__cause__, SavedModelError)
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("problem", ["", "converter", "package"])
def test_a_network_that_cannot_be_exported_is_said_before_it_is_trained(
    problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a network of somebody's own classes only; in one line, and the training goes on."""

    class Own(nn.Sequential):
        pass

    exported: list[Path] = []

    def export(model: SavedModel, file: Path) -> None:
        exported.append(file)
        if problem == "converter":
            raise TorchliftError("no ONNX\n  for it")
        if problem == "package":
            raise MissingPackageError("exporting needs onnxscript")

    monkeypatch.setattr("torchlift.converters.onnx.export", export)
    expected = {"": [], "converter": ["no ONNX for it"], "package": ["exporting needs onnxscript"]}
    for network in (Own, nn.Sequential):
        model = classifier(network(nn.Flatten(), nn.Linear(1024, 10)))
        notes = rehearse(model, experiment(digit_splits())).notes
        found = [note for note in notes if "ONNX" in note]
        said = expected[problem] if network is Own else []
        assert found == [f"the network cannot be exported to ONNX: {one}" for one in said]
    assert len(exported) == 1
