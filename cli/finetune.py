"""`torchlift finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ..transfer.data.augmentation import Augmentation
from ..transfer.freezing import Freezing
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
from .model_options import FILE_DEFAULTS, ModelOptions
from .repeats import repeatable
from .result import CommandResult
from .training import default_run, open_splits, run_training


@repeatable
def finetune(
    model: str,
    data: str,
    *,
    head: Literal["zeros", "probe", "keep"] = "zeros",
    freezing: Freezing = FREEZING,
    optimization: Optimization = OPTIMIZATION,
    distillation: Distillation = DISTILLATION,
    augmentation: Augmentation = AUGMENTATION,
    data_options: DataOptions = ALL_DATA,
    split_options: SplitOptions = SPLIT_OPTIONS,
    run: Run = RUN,
    model_options: ModelOptions = FILE_DEFAULTS,
) -> CommandResult:
    """Train a trained classifier on other data, with a new head.

    The last Linear and its softmax are replaced by a head for the classes of the data; --freeze
    says what else may change. With --head probe it begins as a linear probe: probing, then
    fine-tuning. A run's folder is as in train; --resume auto resumes a run that was stopped.

    Args:
        model: A .t7 file, a saved model's folder, hf:FOLDER or hf:ORG/NAME, torchvision:NAME or
            timm:NAME, or python:package.module:function.
        data: A dataset: a .t7 or .npz file, a folder, CIFAR's or MNIST's files, or
            sklearn:digits.
        head: How the last layer begins: zeros, probe (logistic regression on its features), or
            keep, which leaves it and its classes as they are.
        freezing: What is trained.
        optimization: How the weights are optimized.
        distillation: Which older network is learned from, too.
        augmentation: What is done to the training images.
        data_options: Which images are used.
        split_options: Which of them are for validation and for testing.
        run: Where and on what the training runs.
        model_options: How to open the model.
    """
    from ..transfer.training.classifiers import adapted_classifier
    from ..transfer.training.processes import seed_everything
    from ..transfer.training.run_folder import flat_options
    from ..transfer.training.teacher import open_teacher

    config = flat_options(
        model=model,
        data=data,
        head=head,
        freezing=freezing,
        optimization=optimization,
        distillation=distillation,
        augmentation=augmentation,
        data_options=data_options,
        split_options=split_options,
        run=run,
        model_options=model_options,
    )
    opened = model_options.model(model)
    labels = opened.labels if head == "keep" else None
    splits = open_splits(data, data_options, split_options, labels)
    seed_everything(data_options.seed)
    adapted = adapted_classifier(opened, splits.train, head)
    path = Path(run.output) if run.output else default_run("finetune", model, data)
    experiment = Experiment(
        splits,
        optimization,
        freezing,
        augmentation,
        run,
        data_options.seed,
        config,
        distillation,
        open_teacher(distillation, adapted, splits.train),
    )
    return run_training(adapted, experiment, path)
