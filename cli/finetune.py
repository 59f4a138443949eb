"""`torchlift finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ..transfer.data.augmentation import Augmentation
from ..transfer.training.options import Division, Freezing, Optimization, Run
from .data import ALL_DATA, DataOptions
from .opening import AS_FOUND, Opening
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


def finetune(
    model: str,
    data: str,
    *,
    head: Literal["zeros", "probe", "keep"] = "zeros",
    freezing: Freezing = FREEZING,
    optimization: Optimization = OPTIMIZATION,
    augmentation: Augmentation = AUGMENTATION,
    choice: DataOptions = ALL_DATA,
    division: Division = DIVISION,
    run: Run = RUN,
    opening: Opening = AS_FOUND,
) -> Report:
    """Train a trained classifier on other data, with a new head.

    The last Linear and its softmax are replaced by a head for the classes of the data; --freeze
    says what else may change. With --head probe it begins as a linear probe: probing, then
    fine-tuning. A run's folder is as in train; a run that was stopped goes on with --resume auto.

    Args:
        model: A .t7 file, a saved model's folder, torchvision:NAME, or
            python:package.module:function.
        data: A dataset: a .t7 or .npz file, a folder, CIFAR's or MNIST's files, or digits.
        head: How the last layer begins: zeros, probe (logistic regression on its features), or
            keep, which leaves it as it is.
        freezing: What is trained.
        optimization: How the weights are learnt.
        augmentation: What is done to the training pictures.
        choice: Which pictures are taken.
        division: Which of them are learnt from.
        run: Where and on what.
        opening: How to open the model.
    """
    from ..transfer.training.classifiers import adapted_classifier
    from ..transfer.training.run_folder import flat_options
    from ..transfer.training.seeding import seed_everything

    config = flat_options(
        model=model,
        data=data,
        head=head,
        freezing=freezing,
        optimization=optimization,
        augmentation=augmentation,
        choice=choice,
        division=division,
        run=run,
        opening=opening,
    )
    splits = divided(data, choice, division)
    seed_everything(choice.seed)
    adapted = adapted_classifier(opening.model(model), splits.train, head)
    path = Path(run.output) if run.output else default_run("finetune", model, data)
    return run_training(
        adapted, splits, path, config, optimization, freezing, augmentation, run, choice.seed
    )
