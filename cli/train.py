"""`torchlift train`."""

from __future__ import annotations

from pathlib import Path

from ..transfer.data.augmentation import Augmentation
from ..transfer.training.options import (
    AUGMENTATION,
    DISTILLATION,
    FREEZING,
    OPTIMIZATION,
    RUN,
    SPLIT_OPTIONS,
    Distillation,
    Experiment,
    Optimization,
    Run,
    SplitOptions,
)
from .data_options import ALL_DATA, DataOptions
from .model_options import AS_IN_THE_FILE, PreprocessingOptions
from .repeats import repeatable
from .result import CommandResult
from .training import default_run, open_splits, run_training


@repeatable
def train(
    network: str,
    data: str,
    *,
    optimization: Optimization = OPTIMIZATION,
    distillation: Distillation = DISTILLATION,
    augmentation: Augmentation = AUGMENTATION,
    data_options: DataOptions = ALL_DATA,
    split_options: SplitOptions = SPLIT_OPTIONS,
    run: Run = RUN,
    preprocessing_options: PreprocessingOptions = AS_IN_THE_FILE,
) -> CommandResult:
    """Train a network from scratch.

    The run's folder gets the options (config.yaml), the results of each epoch (metrics.csv),
    checkpoints, the model of the best epoch and its evaluation. Under torchrun or accelerate
    launch all processes train together.

    Args:
        network: A name such as convnet_bn (docs/networks.md lists them); torchvision:NAME or
            timm:NAME; or python:package.module:function, which takes the numbers of channels and of
            classes.
        data: A dataset: a .t7 or .npz file, a folder, CIFAR's or MNIST's files, or
            sklearn:digits.
        optimization: How the weights are optimized.
        distillation: Which older network is learned from, too.
        augmentation: What is done to the training images.
        data_options: Which images are used.
        split_options: Which of them are for validation and for testing.
        run: Where and on what the training runs.
        preprocessing_options: What the network's inputs are; by default mean and std are measured
            on the training images, and their range is 1.
    """
    from ..transfer.training.classifiers import new_classifier
    from ..transfer.training.run_folder import flat_options
    from ..transfer.training.teacher import open_teacher

    config = flat_options(
        network=network,
        data=data,
        optimization=optimization,
        distillation=distillation,
        augmentation=augmentation,
        data_options=data_options,
        split_options=split_options,
        run=run,
        preprocessing_options=preprocessing_options,
    )
    splits = open_splits(data, data_options, split_options)
    model = new_classifier(
        network, splits.train, data_options.seed, **preprocessing_options.given()
    )
    path = Path(run.output) if run.output else default_run("train", network, data)
    experiment = Experiment(
        splits,
        optimization,
        FREEZING,
        augmentation,
        run,
        data_options.seed,
        config,
        distillation,
        open_teacher(distillation, model, splits.train),
    )
    return run_training(model, experiment, path)
