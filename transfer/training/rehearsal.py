"""What can be known before the first epoch: the untrained network goes the way of the trained one.

It classifies an image of each split, is saved, opened again and exported. What fails then would
otherwise fail after hours of training.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ...converters.errors import TorchliftError
from ...converters.inference import TorchPredictor
from ...converters.inference.classifier import class_name
from ...converters.saved import NamedNetwork, SavedModel, SavedModelError, load, save
from ..data import Splits, class_count
from ..data.selection import labelled
from ..errors import TrainingError
from ..evaluation import evaluate
from ..freezing import Freezing, check_head_learns
from .options import Experiment

#: Packages whose layers are known to be exported; those of others are tried.
_KNOWN_PACKAGES = ("torch", __name__.partition(".")[0])

#: The number of classes that a note names.
_NAMED = 5


@dataclass(frozen=True)
class Rehearsal:
    """What is known of a training before it begins.

    Attributes:
        notes: What the network or its training will lack, in sentences.
        saveable: Whether the trained network can be saved as a model.
    """

    notes: list[str]
    saveable: bool


def rehearse(model: SavedModel, experiment: Experiment) -> Rehearsal:
    """Take the untrained network all the way that the trained one will go.

    Args:
        model: The network; it is not changed.
        experiment: The images and the options.

    Raises:
        FreezingError: The new head is frozen, so that nothing can be learned.
        TrainingError: There is only one class, the network has no output for a class, it could
            not be saved, or nothing measures the metric that decides.
        TorchliftError: An image does not fit the network.
    """
    check_head_learns(model.module, experiment.freezing)
    notes = [
        *_class_notes(experiment.splits),
        *_freezing_notes(experiment.freezing, experiment.optimization.epochs),
        *_sampling_notes(experiment),
        *_validation_notes(experiment),
    ]
    with torch.random.fork_rng(), tempfile.TemporaryDirectory() as folder:
        _classify(model, experiment.splits)
        problem = _saving_problem(model, Path(folder) / "model")
        if problem:
            notes.append(f"only the weights are saved, not a model: {problem}")
        if not _is_known(model.module):
            notes += _export_notes(model, Path(folder) / "model.onnx")
    return Rehearsal(notes, not problem)


def _class_notes(splits: Splits[Any]) -> list[str]:
    """Return a note on the classes that have no training images, if there are any.

    Raises:
        TrainingError: The training images are of one class.
    """
    train = splits.train
    count = class_count(train)
    present = np.unique(labelled(train))
    if len(present) < 2:
        only = class_name(train.names, int(present[0])) if len(present) else "none"
        raise TrainingError(
            f"all training images are of one class ({only}): a classifier needs at least two"
        )
    absent = np.flatnonzero(np.bincount(labelled(train), minlength=count) == 0)
    if not len(absent):
        return []
    names = ", ".join(class_name(train.names, index) for index in absent[:_NAMED].tolist())
    more = ", …" if len(absent) > _NAMED else ""
    return [f"{len(absent)} of {count} classes have no training images: {names}{more}"]


def _freezing_notes(freezing: Freezing, epochs: int) -> list[str]:
    late = [start for start in freezing.changes() if 0 < epochs < start]
    return [
        f"the frozen layers are to be trained from epoch {start} on, but the training has only "
        f"{epochs} epochs: they stay as they are"
        for start in late[:1]
    ]


def _sampling_notes(experiment: Experiment) -> list[str]:
    """Return a note if a last batch that is not full leaves out the same images in each epoch."""
    options, count = experiment.optimization, len(experiment.splits.train)
    left_out = count % min(options.batch_size, count)
    if options.sampling != "shuffle-once" or not left_out:
        return []
    return [
        f"{left_out:,} of {count:,} images are never trained on: a last batch that is not full is "
        "left out, and in one order for all epochs it has the same images in each"
    ]


def _validation_notes(experiment: Experiment) -> list[str]:
    """Return a note if the training is to stop early and nothing can tell when.

    Raises:
        TrainingError: The best epoch is to be chosen by a metric that nothing measures.
    """
    options = experiment.optimization
    if len(experiment.splits.val):
        return []
    if options.monitor != "accuracy":
        raise TrainingError(
            f"monitor={options.monitor!r} needs validation images, of which there are none: "
            "val_fraction=0.1 takes some of the training images"
        )
    if options.patience is None:
        return []
    return [f"without validation images, patience={options.patience} never stops the training"]


def _classify(model: SavedModel, splits: Splits[Any]) -> None:
    """Classify the first image of each split."""
    predictor = TorchPredictor(model, "cpu")
    count = class_count(splits.train)
    for images in (splits.train, splits.val, splits.test):
        if not len(images):
            continue
        outputs = len(evaluate(predictor, images.take(np.arange(1))).classes)
        if outputs < count:
            raise TrainingError(
                f"the network has {outputs} outputs, but the data has {count} classes"
            )


def _saving_problem(model: SavedModel, folder: Path) -> str:
    """Save and open a network; return why a network of somebody's own classes is not saved.

    Raises:
        TrainingError: A network that a library builds by its name cannot be saved.
    """
    try:
        load(save(model, folder))
    except SavedModelError as error:
        if isinstance(model.module, NamedNetwork):
            raise TrainingError(f"the trained network could not be saved: {error}") from error
        return str(error)
    return ""


def _is_known(network: nn.Module) -> bool:
    """Return whether all layers are of torch or of torchlift."""
    packages = {type(layer).__module__.partition(".")[0] for layer in network.modules()}
    return packages <= set(_KNOWN_PACKAGES)


def _export_notes(model: SavedModel, file: str | os.PathLike[str]) -> list[str]:
    """Export a network; return a note if it cannot be exported or the exporter is missing."""
    try:
        from ...converters.onnx import export

        export(model, file)
    except (TorchliftError, ImportError) as error:
        return [f"the network cannot be exported to ONNX: {' '.join(str(error).split())}"]
    return []
