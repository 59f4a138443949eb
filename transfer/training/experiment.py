"""A whole run: from a classifier and a dataset to a folder with the trained model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from ...converters.inference import TorchPredictor
from ...converters.inference.torch_module import as_inputs
from ...converters.saved import SavedModel, SavedModelError, save
from ..data import Dataset, ImageFiles, Splits, class_weights, fingerprint
from ..data.augmentation import Augmentation
from ..data.batches import Batches
from ..errors import TrainingError
from ..evaluation import evaluate
from ..features.sources import network_digest
from ..freezing import count_parameters, frozen_at
from ..memory_format import to_channels_last
from .checkpoints import Row, best_epoch
from .loop import fit
from .lr_finder import find_rate
from .options import Freezing, Optimization, Run
from .processes import end_trackers, start_processes, start_trackers, torch_threads
from .run_folder import RunFolder, open_run, write_text
from .seeding import determinism, seed_everything

Data = Dataset | ImageFiles


@dataclass(frozen=True)
class Experiment:
    """Everything that a run is decided by.

    Attributes:
        splits: what is learnt from, what decides, what is reported.
        optimization: how the weights are learnt.
        freezing: which.
        augmentation: what is done to the training images.
        run: where and on what.
        seed: of all chance.
        config: every option by its name on the command line; it is written down.
    """

    splits: Splits[Any]
    optimization: Optimization
    freezing: Freezing
    augmentation: Augmentation
    run: Run
    seed: int
    config: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What came out of a run.

    Attributes:
        folder: its files.
        history: the results of each epoch.
        seconds: what each epoch took, its validation included.
        evaluation: the results of the best epoch, as in `evaluation.json`; empty in all processes
            but the first.
    """

    folder: RunFolder
    history: list[Row]
    seconds: list[float]
    evaluation: dict[str, Any]


def carry_out(
    model: SavedModel,
    experiment: Experiment,
    path: Path,
    say: Callable[[str], None] = lambda text: None,
    on_epoch: Callable[[list[Row], list[float]], None] = lambda history, seconds: None,
) -> Outcome:
    """Train a classifier, save the best epoch's network, and evaluate it.

    Args:
        model: gives logits, and has what it needs to read the data (see `classifiers`).
        experiment: everything else.
        path: the run's folder.
        say: is told in the first process what is about to be trained.
        on_epoch: as in `fit`.

    Raises:
        TrainingError: when the folder is taken, or the run in it is another one.
        TorchliftError: when model, data and options do not fit together.
    """
    run, splits = experiment.run, experiment.splits
    accelerator = start_processes(run, experiment.freezing, path)
    folder = RunFolder(path)
    if accelerator.is_main_process:
        inputs = {"model": network_digest(model.module), "data": fingerprint(splits.train)}
        open_run(path, experiment.config, inputs, run.resume == "auto", run.overwrite)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        say(_announcement(model, experiment))

    def report(history: list[Row], seconds: list[float]) -> None:
        folder.write_metrics(history, seconds)
        on_epoch(history, seconds)

    with determinism(run.deterministic), torch_threads(run.threads):
        start_trackers(accelerator, experiment.config)
        experiment = replace(
            experiment, optimization=_with_rate(model, experiment, folder, accelerator)
        )
        weights = None
        if experiment.optimization.balanced:
            weights = torch.from_numpy(class_weights(splits.train)).to(accelerator.device)
        if model.input_shape is not None:
            to_channels_last(
                model.module, as_inputs(model.module, torch.zeros(2, *model.input_shape))
            )
        trained = fit(
            model.module,
            _batches(splits.train, model, experiment, accelerator, training=True),
            _batches(splits.val, model, experiment, accelerator) if len(splits.val) else None,
            experiment.optimization,
            experiment.freezing,
            accelerator,
            folder.checkpoints,
            seed=experiment.seed,
            class_weights=weights,
            on_epoch=report,
        )
        model.module = trained.network
        evaluation: dict[str, Any] = {}
        if accelerator.is_main_process:
            folder.write_metrics(trained.history, trained.seconds)
            evaluation = _finish(model, experiment, folder, trained.history)
        accelerator.wait_for_everyone()
        end_trackers(accelerator)
    return Outcome(folder, trained.history, trained.seconds, evaluation)


def _batches(
    data: Data,
    model: SavedModel,
    experiment: Experiment,
    accelerator: Accelerator,
    *,
    training: bool = False,
    alone: bool = False,
) -> Batches:
    """This process's batch_slice of a part of the data, or all of it."""
    options = experiment.optimization
    processes = 1 if alone else accelerator.num_processes
    size = min(options.batch_size, len(data))
    if training and size < processes * options.accumulate:
        raise TrainingError(
            f"batches of {size} cannot be divided among {processes} processes in "
            f"{options.accumulate} parts each"
        )
    return Batches(
        data,
        model.preprocessing,
        size,
        augmentation=experiment.augmentation if training else None,
        shuffle_seed=experiment.seed if training else None,
        sampling=options.sampling,
        device=accelerator.device,
        # What is left over may be too little to be divided, or for a BatchNorm; the next epoch
        # leaves out others.
        drop_last=training,
        rank=0 if alone else accelerator.process_index,
        world_size=processes,
        workers=experiment.run.workers,
    )


def _with_rate(
    model: SavedModel, experiment: Experiment, folder: RunFolder, accelerator: Accelerator
) -> Optimization:
    """The options with a learning rate: the one asked for, or the one that a range test finds."""
    options = experiment.optimization
    if options.lr != "find":
        return options
    seed_everything(experiment.seed)
    # Each process tries for itself, with the same result.
    train = experiment.splits.train
    batches = _batches(train, model, experiment, accelerator, training=True, alone=True)
    test = find_rate(model.module, batches, options, experiment.freezing, accelerator.device)
    if accelerator.is_main_process:
        rows = [
            f"{rate:.6g},{loss:.6g}\n" for rate, loss in zip(test.rates, test.losses, strict=True)
        ]
        write_text(folder.path / "lr_finder.csv", "".join(["lr,loss\n", *rows]))
    return replace(options, lr=test.suggestion)


def _announcement(model: SavedModel, experiment: Experiment) -> str:
    """What is trained and what is not, and on how much."""
    first = frozen_at(model.module, experiment.freezing, 1)
    trained, frozen = count_parameters(model.module, first)
    splits = experiment.splits
    later = experiment.freezing.unfreeze_at
    until = f" until epoch {later}" if frozen and later else ""
    return (
        f"{trained:,} parameters are trained, {frozen:,} frozen{until}; {len(splits.train):,} "
        f"images for training, {len(splits.val):,} for validation, {len(splits.test):,} for "
        "testing"
    )


def _finish(
    model: SavedModel, experiment: Experiment, folder: RunFolder, history: list[Row]
) -> dict[str, Any]:
    """Save and evaluate the trained model."""
    model.module.cpu()
    best = best_epoch(history)
    said = f"trained by torchlift, epoch {best} of {len(history)}" if history else "not trained"
    model.notes.append(said)
    try:
        save(model, folder.model, overwrite=True)
    except SavedModelError as error:
        # A network of somebody's own classes: its weights are in the checkpoint.
        model.notes.append(f"not saved as a model: {error}")
    splits = {"test": experiment.splits.test, "val": experiment.splits.val}
    split = next((name for name, data in splits.items() if len(data)), None)
    result: dict[str, Any] = {"epoch": best, "split": split}
    if split is not None:
        size = experiment.optimization.batch_size
        result |= evaluate(TorchPredictor(model, "cpu"), splits[split], size).to_json()
    write_text(folder.evaluation, json.dumps(result, indent=1) + "\n")
    return result
