"""Trainings of a small network on few digits, for the tests of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from support import FIXTURES
from torch import nn

from torchlift.converters.images.preprocessing import Preprocessing
from torchlift.converters.saved import SavedModel
from torchlift.transfer.data import Splits, open_data, split
from torchlift.transfer.data.augmentation import Augmentation
from torchlift.transfer.freezing import Freezing
from torchlift.transfer.networks import lenet5
from torchlift.transfer.training.experiment import RunResult, run_experiment
from torchlift.transfer.training.options import Experiment, Optimization, Run

PREPROCESSING = Preprocessing(color="gray", size=(32, 32), mean=(0.2,), std=(0.3,))
#: Training without trackers, which have their own test.
QUIET = Run(device="cpu", tracker=["none"])


def digit_splits() -> Splits[Any]:
    """Return 130 of Torch7's training digits for training and 20 for validation."""
    data: Any = open_data(FIXTURES / "digits" / "digits-train.t7", limit=150)
    return split(data, val_fraction=0.134)


def experiment(splits: Splits[Any], **options: Any) -> Experiment:
    freezing = options.pop("freezing", Freezing())
    augmentation = options.pop("augmentation", Augmentation())
    run, seed = options.pop("run", QUIET), options.pop("seed", 0)
    options = {"epochs": 2, "batch_size": 32, "lr": 0.05, **options}
    config = {**options, "seed": seed}
    return Experiment(splits, Optimization(**options), freezing, augmentation, run, seed, config)


def classifier(network: nn.Module | None = None) -> SavedModel:
    torch.manual_seed(0)
    return SavedModel(network or lenet5(1, 10), "logits", (1, 32, 32), None, PREPROCESSING)


def trained(splits: Splits[Any], folder: Path, **options: Any) -> tuple[SavedModel, RunResult]:
    model = classifier(options.pop("network", None))
    return model, run_experiment(model, experiment(splits, **options), folder)


def difference(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)
