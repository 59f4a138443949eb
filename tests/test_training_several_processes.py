"""What a training does as one of several processes, with a stand-in for accelerate's."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from training_support import QUIET, classifier, experiment

from torchlift.transfer.data import Dataset, Splits, fingerprint
from torchlift.transfer.errors import FreezingError
from torchlift.transfer.features.extractors import network_digest
from torchlift.transfer.freezing import Freezing
from torchlift.transfer.training import experiment as running
from torchlift.transfer.training import loop, measuring, processes
from torchlift.transfer.training.experiment import run_experiment
from torchlift.transfer.training.loop import Step, _on_validation, run_epochs, update
from torchlift.transfer.training.measuring import mean_of, measure
from torchlift.transfer.training.options import Optimization, Run
from torchlift.transfer.training.processes import start_processes

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 1, 32, 32), np.uint8)
DATA = Dataset(IMAGES, np.arange(12) % 3)
SPLITS = Splits(DATA, DATA, DATA.take(np.arange(0)))


class Two:
    """One of two processes that have the same images: sums over both are twice as large."""

    num_processes = 2
    is_main_process = True

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.apart: list[int] = []

    def reduce(self, value: torch.Tensor, how: str) -> torch.Tensor:
        assert how == "sum"
        return value * 2

    def autocast(self) -> Any:
        return torch.autocast("cpu", torch.bfloat16)

    def no_sync(self, network: nn.Module) -> Any:
        self.apart.append(len(self.losses))
        return nullcontext()

    def backward(self, loss: torch.Tensor) -> None:
        self.losses.append(float(loss.detach()))
        loss.backward()


def test_an_update_is_by_the_mean_over_both_processes_and_all_steps() -> None:
    """Accelerate averages the gradients; of three steps only the last one exchanges them."""
    torch.manual_seed(0)
    network, processes = nn.Linear(4, 3), Two()
    inputs, targets = torch.randn(6, 4), torch.arange(6) % 3
    expected = functional.cross_entropy(network(inputs), targets, reduction="none").detach()

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(logits, targets, reduction="sum")

    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    options: Any = Optimization(accumulate=3)
    # Of the twelve images of a batch each process has six.
    counts = update(network, optimizer, loss, (inputs, targets), 12, options, processes)  # type: ignore[arg-type]  # a stand-in
    parts = expected.split(2)
    assert processes.losses == pytest.approx([float(part.sum()) * 2 / 12 for part in parts])
    assert processes.apart == [0, 1]
    assert [images for _, _, images in counts] == [2, 2, 2]


def test_results_are_those_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The running statistics of the first process are measured, in the precision of the run."""
    sent: list[Any] = []
    monkeypatch.setattr(measuring, "broadcast", sent.extend)
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Identity())
    seen: list[torch.dtype] = []
    network[1].register_forward_hook(lambda *given: seen.append((given[1][0] @ torch.eye(3)).dtype))
    logits, targets = torch.eye(3)[[0, 1, 1]] * 9, torch.tensor([0, 1, 2])
    batches: Any = SimpleNamespace(epoch=lambda number: [(logits, targets)] * 2)
    told: list[int] = []
    row, counts = measure(network, batches, Two(), told.append)  # type: ignore[arg-type]  # a stand-in
    assert {id(one) for one in sent} == {id(one) for one in network.buffers()}
    assert seen == [torch.bfloat16] * 2
    assert told == [3, 3]
    assert counts.tolist() == [[4, 4, 4], [4, 4, 0], [4, 8, 0]]
    assert row["val_accuracy"] == pytest.approx(2 / 3)
    losses = functional.cross_entropy(network(logits), targets)
    assert row["val_loss"] == pytest.approx(float(losses), rel=1e-4)


def test_a_loss_is_computed_in_float32_whatever_a_network_gives() -> None:
    """Bfloat16 would round it to three digits, and the best epoch would be one of many."""
    torch.manual_seed(0)
    logits, targets = torch.randn(50, 3).bfloat16(), torch.arange(50) % 3
    batches: Any = SimpleNamespace(epoch=lambda number: [(logits, targets)])
    alone: Any = SimpleNamespace(
        num_processes=1, autocast=nullcontext, reduce=lambda total, how: total
    )
    row, _ = measure(nn.Identity(), batches, alone)
    expected = functional.cross_entropy(logits.double(), targets)
    assert row["val_loss"] == pytest.approx(float(expected), rel=1e-5)


def test_a_mean_is_over_the_images_of_every_process() -> None:
    class Other(Two):
        def reduce(self, value: torch.Tensor, how: str) -> torch.Tensor:
            # The other one has a loss of 1, no image right, and a single image.
            return value + torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)

    counts = [(torch.tensor(6.0), torch.tensor(2), 3)]
    assert mean_of(counts, Other()) == (7 / 4, 2 / 4)  # type: ignore[arg-type]  # a stand-in


def test_a_large_loss_of_one_batch_swallows_none_of_the_others() -> None:
    """Between 2³⁰ and 2³⁰ + 128 there is no float32: the sum is one of doubles."""
    alone: Any = SimpleNamespace(reduce=lambda total, how: total)
    counts = [(torch.tensor(2.0**30), torch.tensor(0), 1)]
    counts += [(torch.tensor(1.0), torch.tensor(1), 1)] * 64
    assert mean_of(counts, alone) == ((2**30 + 64) / 65, 64 / 65)


def test_validated_images_are_counted_for_both_and_no_more_than_there_are() -> None:
    steps: list[Step] = []
    batches: Any = SimpleNamespace(plan=SimpleNamespace(count=11))
    on_batch = _on_validation(4, batches, steps.append, Two())  # type: ignore[arg-type]  # a stand-in
    for images in (3, 3):
        on_batch(images)
    assert steps == [Step(4, "validation", 6, 11), Step(4, "validation", 11, 11)]


def test_each_epoch_and_process_is_seeded_by_itself_and_logged_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accelerator = start_processes(QUIET, Freezing(), tmp_path)
    seeds: list[Any] = []
    logged: list[Any] = []
    monkeypatch.setattr(loop, "seed_everything", lambda *numbers: seeds.append(numbers))
    monkeypatch.setattr(type(accelerator), "process_index", property(lambda _: 5))
    monkeypatch.setattr(
        type(accelerator), "log", lambda _, row, **given: logged.append((row["epoch"], given))
    )
    made = loop.build_batches

    def alone(*given: Any) -> Any:
        return made(*given, all_processes=False)

    monkeypatch.setattr(loop, "build_batches", alone)
    options = experiment(SPLITS, seed=3, batch_size=6)
    run_epochs(classifier(), options, accelerator, tmp_path)
    assert seeds == [(3, 1, 5), (3, 2, 5)]
    assert logged == [(1, {"step": 1}), (2, {"step": 2})]


def test_processes_know_all_that_is_trained_later_and_stop_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that stopped at its own loss would leave the others waiting for its gradients."""
    accelerator: Any = start_processes(QUIET, Freezing(), tmp_path)
    prepare, made, fixed = accelerator.prepare, loop.build_batches, list[str]()

    def recorded(network: nn.Module) -> Any:
        fixed.extend(name for name, one in network.named_parameters() if not one.requires_grad)
        return prepare(network)

    monkeypatch.setattr(accelerator, "prepare", recorded)
    monkeypatch.setattr(type(accelerator), "num_processes", property(lambda _: 2))
    monkeypatch.setattr(loop, "build_batches", lambda *given: made(*given, all_processes=False))
    steps: list[Step] = []
    options = experiment(SPLITS, batch_size=6, freezing=Freezing("until 3", unfreeze_at=2))
    run_epochs(classifier(), options, accelerator, tmp_path, on_step=steps.append)
    assert fixed == []
    assert {step.loss for step in steps} == {None}


@pytest.mark.parametrize("is_main", [True, False])
def test_only_the_first_process_touches_checkpoints_and_tells_of_steps(
    is_main: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accelerator = start_processes(QUIET, Freezing(), tmp_path)
    monkeypatch.setattr(type(accelerator), "is_main_process", property(lambda _: is_main))
    told: list[str] = []
    for name in ("remove_superseded", "save_checkpoint", "load_best"):
        monkeypatch.setattr(loop, name, lambda *_, name=name: told.append(name))
    run_epochs(
        classifier(),
        experiment(SPLITS, epochs=1, batch_size=6),
        accelerator,
        tmp_path,
        lambda state: told.append("epoch"),
        lambda step: told.append(step.phase),
    )
    phases = [*["training"] * 2, *["validation"] * 2]
    first = ["remove_superseded", *phases, "save_checkpoint", "epoch"]
    assert told == [*(first if is_main else []), "load_best"]


def test_each_run_of_a_process_has_its_own_precision(tmp_path: Path) -> None:
    """As in a sweep: accelerate itself keeps that of the first one."""
    for precision, name in (("fp32", "no"), ("bf16", "bf16"), ("fp32", "no")):
        run = replace(QUIET, precision=precision)
        assert start_processes(run, Freezing(), tmp_path).mixed_precision == name


def test_a_process_leaves_the_group_when_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered: list[Any] = []
    monkeypatch.setattr(processes.atexit, "register", registered.append)
    accelerator = start_processes(QUIET, Freezing(), tmp_path)
    assert accelerator.state.destroy_process_group in registered


@pytest.mark.parametrize("unfreezes", [True, False])
@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (Run(device="cpu", tracker=["none"]), (True, "no", None)),
        (Run(device="cpu", tracker=["none"], precision="bf16"), (True, "bf16", None)),
        (Run(device="cpu", tracker=["none", "all"]), (True, "no", ["all"])),
        (Run(tracker=["none"], precision="fp16"), (False, "fp16", None)),
    ],
)
def test_accelerate_is_told_where_and_how_a_run_computes(
    run: Run, expected: Any, unfreezes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And, of layers that are unfrozen later, that some have no gradient before."""
    told: list[dict[str, Any]] = []

    def accelerator(**given: Any) -> Any:
        told.append(given)
        return SimpleNamespace(state=SimpleNamespace(destroy_process_group=lambda: None))

    monkeypatch.setattr(processes, "Accelerator", accelerator)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    freezing = Freezing("all-but-head", unfreeze_at=2 if unfreezes else None)
    start_processes(run, freezing, tmp_path)
    (given,) = told
    assert (given["cpu"], given["mixed_precision"], given["log_with"]) == expected
    assert given["project_config"].logging_dir == str(tmp_path)
    (handler,) = given["kwargs_handlers"]
    assert handler.find_unused_parameters is unfreezes


def test_what_a_run_leaves_is_on_the_disk_when_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each epoch that would slow small runs, whose checkpoints hold the results too."""
    written: list[Any] = []
    for name in ("write_metrics", "write_class_metrics"):
        monkeypatch.setattr(
            running.RunFolder,
            name,
            lambda self, *given, name=name: written.append((name, given[-1])),
        )
    run_experiment(classifier(), experiment(SPLITS), tmp_path / "run", facts={"dataset": "d"})
    names = ("write_metrics", "write_class_metrics")
    assert written == [(name, last) for last in (False, False, True) for name in names]
    assert running.RunFolder(tmp_path / "run").evaluation.is_file()
    facts = (tmp_path / "run" / "run.json").read_text(encoding="utf-8")
    assert '"dataset": "d"' in facts


def test_what_is_about_to_be_done_is_announced_before_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The notes of the images, of the model and of the run itself; the memory is in order."""
    said: list[str] = []
    monkeypatch.setattr(
        running, "to_channels_last", lambda network, example: said.append(str([*example.shape]))
    )
    monkeypatch.setattr(running, "_schedule_notes", lambda *given: ["of the schedule"])
    model = classifier()
    model.notes.append("of the model")
    run_experiment(
        model,
        experiment(replace(SPLITS, notes=("of the images",)), epochs=1, batch_size=6),
        tmp_path / "run",
        announce=said.append,
        on_epoch=lambda state: said.append(f"epoch {len(state.history)}"),
    )
    assert said[:3] == [f"note: of the {what}" for what in ("images", "model", "schedule")]
    assert "images for training" in said[3]
    assert said[4:] == [str([2, *model.input_shape]), "epoch 1"]  # type: ignore[misc]


def test_a_rule_that_matches_no_layer_is_refused_before_anything_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun(*given: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(running, "start_processes", begun)
    wrong = replace(experiment(SPLITS, epochs=1), freezing=Freezing("no-such-layer"))
    with pytest.raises(FreezingError, match="no-such-layer"):
        run_experiment(classifier(), wrong, tmp_path / "run")


@pytest.mark.parametrize("count", [1, 3])
def test_a_run_is_opened_with_what_it_must_be_resumed_with(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []

    def stop(*given: Any) -> None:
        opened.extend(given)
        raise KeyboardInterrupt

    started = SimpleNamespace(num_processes=count, is_main_process=True)
    monkeypatch.setattr(running, "start_processes", lambda *given: started)
    monkeypatch.setattr(running, "open_run", stop)
    asked = experiment(SPLITS, epochs=1)
    asked = replace(asked, run=replace(asked.run, resume="auto", overwrite=count == 3))
    model = classifier()
    with pytest.raises(KeyboardInterrupt):
        run_experiment(model, asked, tmp_path / "run")
    digest = fingerprint(DATA)
    inputs = {"model": network_digest(model.module), "data": digest, "val": digest}
    assert opened == [tmp_path / "run", asked.config, inputs, True, count == 3, count]
