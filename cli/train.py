"""`torchlift train`."""

from __future__ import annotations

from pathlib import Path

from ..transfer.data.augmentation import Augmentation
from ..transfer.training.options import Division, Optimization, Run
from .data import ALL_DATA, DataOptions
from .report import Report
from .training import (
    AUGMENTATION,
    DIVISION,
    FREEZING,
    OPTIMIZATION,
    RUN,
    default_run,
    divided,
    run_training,
)


def train(
    network: str,
    data: str,
    *,
    optimization: Optimization = OPTIMIZATION,
    augmentation: Augmentation = AUGMENTATION,
    choice: DataOptions = ALL_DATA,
    division: Division = DIVISION,
    run: Run = RUN,
) -> Report:
    """Train a network from scratch.

    The run's folder gets the options (config.yaml), the results of each epoch (metrics.csv),
    checkpoints, the model of the best epoch and its evaluation. Under torchrun or accelerate
    launch all processes train together.

    Args:
        network: A name such as convnet_bn (docs/networks.md lists them); torchvision:NAME; or
            python:package.module:function, which takes the numbers of channels and of classes.
        data: A dataset: a .t7 or .npz file, a folder, CIFAR's or MNIST's files, or digits.
        optimization: How the weights are learnt.
        augmentation: What is done to the training pictures.
        choice: Which pictures are taken.
        division: Which of them are learnt from.
        run: Where and on what.
    """
    from ..transfer.training.classifiers import new_classifier
    from ..transfer.training.run_folder import flat_options

    config = flat_options(
        network=network,
        data=data,
        optimization=optimization,
        augmentation=augmentation,
        choice=choice,
        division=division,
        run=run,
    )
    splits = divided(data, choice, division)
    model = new_classifier(network, splits.train, choice.seed)
    path = Path(run.output) if run.output else default_run("train", network, data)
    return run_training(
        model, splits, path, config, optimization, FREEZING, augmentation, run, choice.seed
    )
