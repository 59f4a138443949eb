"""A whole run: from a classifier and a dataset to a folder with the trained model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from ...converters.errors import TorchliftError, WriteError
from ...converters.inference import TorchPredictor
from ...converters.inference.classifier import class_name
from ...converters.inference.torch_module import as_inputs
from ...converters.saved import SavedModel, save
from ..data import class_count, fingerprint
from ..evaluation import evaluate
from ..features.extractors import network_digest
from ..freezing import count_parameters, frozen_at
from ..memory_format import to_channels_last
from ..network_description import NetworkDescription, write_description, write_weights
from .checkpoints import TrainingState
from .classifiers import network_arguments
from .loop import OnEpoch, OnStep, run_epochs
from .lr_finder import find_rate
from .measuring import class_results
from .monitoring import Row, best_epoch, is_over
from .options import Experiment
from .processes import determinism, end_trackers, start_processes, start_trackers, torch_threads
from .rehearsal import Rehearsal, rehearse
from .run_folder import RunFolder, open_run
from .status import Failure


@dataclass(frozen=True)
class RunResult:
    """The result of a run.

    Attributes:
        model: The trained model, with the weights of the best epoch.
        folder: Its files.
        history: The results of each epoch.
        seconds: The duration of each epoch, validation included.
        evaluation: The results of the best epoch, as in `evaluation.json`; empty in all processes
            but the first.
        notes: What was decided on the way: the learning rate that was found, a schedule that the
            run did not begin with.
    """

    model: SavedModel
    folder: RunFolder
    history: list[Row]
    seconds: list[float]
    evaluation: dict[str, Any]
    notes: list[str]


def run_experiment(
    model: SavedModel,
    experiment: Experiment,
    path: Path,
    facts: Mapping[str, Any] | None = None,
    announce: Callable[[str], None] = lambda text: None,
    on_epoch: OnEpoch = lambda state: None,
    on_step: OnStep = lambda step: None,
) -> RunResult:
    """Train a classifier, save the network of the best epoch, and evaluate it.

    Args:
        model: A network that returns logits, with what reads its images (see `classifiers`).
        experiment: The images and the options.
        path: The folder of the run.
        facts: What its `run.json` also says.
        announce: Called in the first process, before the first epoch, with what is about to be
            trained and with each note.
        on_epoch: As for `run_epochs`.
        on_step: As for `run_epochs`.

    Raises:
        FreezingError: The rule for freezing matches no layer, or leaves nothing to train.
        TrainingError: The folder is not empty, the run in it differs in options, model or data, or
            the trained network could not be evaluated or saved (see `rehearse`).
        TorchliftError: Model, images and options do not fit together.
    """
    run = experiment.run
    # An invalid rule is an error before anything is written.
    frozen_at(model.module, experiment.freezing, 1)
    accelerator = start_processes(run, experiment.freezing, path)
    folder = RunFolder(path)
    notes = [
        *_schedule_notes(experiment, folder.planned_epochs()),
        *_process_notes(experiment, folder.processes(), accelerator.num_processes),
    ]
    is_new = folder.processes() is None
    rehearsal = Rehearsal([], True)
    if accelerator.is_main_process:
        rehearsal = rehearse(model, experiment)
        inputs = {
            "model": network_digest(model.module),
            "data": fingerprint(experiment.splits.train),
            "val": fingerprint(experiment.splits.val),
        }
        if experiment.teacher is not None:
            inputs["teacher"] = experiment.teacher.digest
        open_run(
            path,
            experiment.config,
            inputs,
            run.resume == "auto",
            run.overwrite,
            accelerator.num_processes,
        )
        if facts:
            folder.add_facts(**facts)
        if not rehearsal.saveable:
            write_description(_description(model, experiment), path)
        model.notes += rehearsal.notes
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        for text in (*experiment.splits.notes, *model.notes, *notes):
            announce(f"note: {text}")
        announce(_announcement(model, experiment))

    labels = _class_labels(experiment)

    def write(state: TrainingState, durable: bool = False) -> None:
        folder.write_metrics(state.history, state.seconds, durable)
        counts = state.class_counts
        classes = {epoch: class_results(counts[epoch], labels) for epoch in counts}
        folder.write_class_metrics(classes, durable)

    def report(state: TrainingState) -> bool | None:
        write(state)
        return on_epoch(state)

    with (
        _kept_if_begun(folder, is_new and accelerator.is_main_process),
        _failure_recorded(folder, accelerator.is_main_process),
        determinism(run.deterministic),
        torch_threads(run.threads),
    ):
        start_trackers(accelerator, experiment.config)
        if experiment.optimization.lr == "find":
            rate = _found_rate(model, experiment, folder, accelerator)
            optimization = replace(experiment.optimization, lr=rate)
            experiment = replace(experiment, optimization=optimization)
            notes.append(f"learning rate {rate:g}, found by a range test")
            if accelerator.is_main_process:
                announce(f"note: {notes[-1]}")
        if model.input_shape is not None:
            example = as_inputs(model.module, torch.zeros(2, *model.input_shape))
            to_channels_last(model.module, example)
        trained = run_epochs(model, experiment, accelerator, folder.checkpoints, report, on_step)
        model.module, state = trained.network, trained.state
        ended = _stop_notes(experiment, state.history)
        notes += ended
        best = best_epoch(state.history, experiment.optimization.monitor)
        evaluation: dict[str, Any] = {}
        if accelerator.is_main_process:
            write(state, durable=True)
            model.module.cpu()
            if rehearsal.saveable:
                _save(model, folder, best, len(state.history))
            else:
                write_weights(model.module, folder.path)
            if ended:
                folder.add_facts(ended_after=len(state.history))
            evaluation = _evaluate(model, experiment, folder, best)
        accelerator.wait_for_everyone()
        end_trackers(accelerator)
    return RunResult(model, folder, state.history, state.seconds, evaluation, notes)


@contextmanager
def _kept_if_begun(folder: RunFolder, is_new: bool) -> Iterator[None]:
    """Remove what a new run wrote if writing fails before its first epoch is done.

    Nothing could go on from it, and the same command would be refused because of it.
    """
    try:
        yield
    except (OSError, WriteError):
        if is_new:
            folder.remove_unstarted()
        raise


@contextmanager
def _failure_recorded(folder: RunFolder, is_main: bool) -> Iterator[None]:
    """Write into `run.json` why a run ended without a result; one that goes on forgets it.

    A run that a signal or a full disk stopped has not failed: it goes on from its checkpoint.
    """
    try:
        yield
    except (OSError, WriteError):
        raise
    except Exception as error:
        if is_main:
            with suppress(OSError, TorchliftError):
                folder.add_facts(failure=asdict(Failure.of(error)))
        raise


def _found_rate(
    model: SavedModel, experiment: Experiment, folder: RunFolder, accelerator: Accelerator
) -> float:
    """Return the learning rate that a range test finds, or found before the run was stopped."""
    if (before := folder.found_rate()) is not None:
        return before
    test = find_rate(model, experiment, accelerator)
    if accelerator.is_main_process:
        from ..plots.figures import save_figure
        from ..plots.range_test import draw_range_test

        drawn = draw_range_test(test.rates, test.losses, test.suggestion)
        save_figure(drawn, folder.path / "lr_finder.png")
        # Last, because a run that has it is resumed with it.
        folder.write_range_test(test.rates, test.losses, test.suggestion)
    return test.suggestion


def _schedule_notes(experiment: Experiment, planned: int | None) -> list[str]:
    """Return a note if a run is resumed whose learning rates followed another number of epochs."""
    options = experiment.optimization
    if experiment.run.resume != "auto" or planned in (None, options.epochs):
        return []
    if options.schedule not in ("cosine", "one-cycle"):
        return []
    return [
        f"the run began with {planned} epochs: from now on the {options.schedule} schedule spans "
        f"{options.epochs}, and the result differs from that of {options.epochs} at once"
    ]


def _process_notes(experiment: Experiment, before: int | None, now: int) -> list[str]:
    """Return a note if a run is resumed that another number of processes began."""
    if experiment.run.resume != "auto" or before in (None, now):
        return []
    return [
        f"the run began with {before} processes and goes on with {now}: BatchNorm and dropout, if "
        "there are any, give another result than with the same number"
    ]


def _stop_notes(experiment: Experiment, history: list[Row]) -> list[str]:
    """Return a note if a callback ended the training."""
    options = experiment.optimization
    done = len(history)
    if done >= options.epochs or is_over(history, options.patience, options.monitor):
        return []
    return [f"a callback ended the training after epoch {done} of {options.epochs}"]


def _announcement(model: SavedModel, experiment: Experiment) -> str:
    """Return how many parameters are trained and how many frozen, and on how many images."""
    frozen_names = frozen_at(model.module, experiment.freezing, 1)
    trained, frozen = count_parameters(model.module, frozen_names)
    splits, changes = experiment.splits, experiment.freezing.changes()
    until = f" until epoch {' and '.join(map(str, changes))}" if frozen and changes else ""
    return (
        f"{trained:,} parameters are trained, {frozen:,} frozen{until}; {len(splits.train):,} "
        f"images for training, {len(splits.val):,} for validation, {len(splits.test):,} for "
        "testing"
    )


def _class_labels(experiment: Experiment) -> list[str]:
    """Return the names of the classes, or their numbers."""
    train = experiment.splits.train
    return [class_name(train.names, index) for index in range(class_count(train))]


def _description(model: SavedModel, experiment: Experiment) -> NetworkDescription:
    """Return what a run has to keep of a network that cannot be saved as a model."""
    train, config = experiment.splits.train, experiment.config
    return NetworkDescription(
        arguments=network_arguments(train) if "network" in config else (),
        head=config.get("head"),
        classes=class_count(train),
        output_kind=model.output_kind,
        labels=model.labels,
        input_shape=model.input_shape,
        preprocessing=model.preprocessing,
    )


def _save(model: SavedModel, folder: RunFolder, best: int, epochs: int) -> None:
    """Save the trained model: that of the best of some epochs."""
    trained = f"trained by torchlift, epoch {best} of {epochs}"
    model.notes.append(trained if epochs else "not trained")
    save(model, folder.model, overwrite=True)


def _evaluate(
    model: SavedModel, experiment: Experiment, folder: RunFolder, best: int
) -> dict[str, Any]:
    """Return the results of the trained model on the test or the validation split."""
    splits = {"test": experiment.splits.test, "val": experiment.splits.val}
    split = next((name for name, images in splits.items() if len(images)), None)
    result: dict[str, Any] = {"epoch": best, "split": split}
    if split is not None:
        size = experiment.optimization.batch_size
        result |= evaluate(TorchPredictor(model, "cpu"), splits[split], size).to_json()
    folder.write_evaluation(result)
    return result
