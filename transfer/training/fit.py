"""Training from Python: `fit` does what `torchlift train` and `torchlift finetune` do."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data import Splits
from ..data.augmentation import Augmentation
from ..errors import TrainingError
from ..freezing import Freezing
from ..networks import NETWORKS
from ..sources import opened_data, opened_model
from .checkpoints import TrainingState
from .classifiers import HeadStart, adapted_classifier, new_classifier
from .draw_splits import draw_splits
from .experiment import RunResult, run_experiment
from .monitoring import Row
from .options import (
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
from .processes import seed_everything
from .run_folder import flat_options
from .teacher import open_teacher

if TYPE_CHECKING:
    from ..sources import Images, Model

#: Called after each epoch with its results, a row of `metrics.csv`; returns whether the training
#: ends with this epoch.
Callback = Callable[[Row], bool | None]


def fit(
    model: Model,
    data: Images | Splits[Any],
    output: str | os.PathLike[str],
    *,
    head: HeadStart | None = None,
    optimization: Optimization = OPTIMIZATION,
    freezing: Freezing = FREEZING,
    augmentation: Augmentation = AUGMENTATION,
    distillation: Distillation = DISTILLATION,
    split_options: SplitOptions = SPLIT_OPTIONS,
    run: Run = RUN,
    seed: int = 0,
    callbacks: Sequence[Callback] = (),
) -> RunResult:
    """Train a classifier, as `torchlift train` and `torchlift finetune` do, with the same numbers.

    The name of a network without weights (a key of `NETWORKS`) is trained from scratch. Any other
    model is fine-tuned with a new head for the classes of the data. The folder of the run gets the
    options, the results of each epoch, checkpoints, the model of the best epoch and its evaluation.

    Args:
        model: A network, which is copied, or a name, as `torchlift train` or `finetune` takes it.
        data: Labeled images: the name of a dataset, what `open_data` returns, or splits that were
            drawn already (see `split`).
        output: The folder of the run; its model is in `model/`.
        head: How the last layer begins: `zeros`, the default, `probe` or `keep`.
        optimization: How the weights are optimized.
        freezing: What is trained.
        augmentation: What is done to the training images.
        distillation: Which older network is learned from, too.
        split_options: Which images are for validation and for testing.
        run: On what the training runs, and whether a run that was stopped is resumed.
        seed: Seed of all random numbers.
        callbacks: Called after each epoch with its results, in the first process, when its
            checkpoint is written. If one returns true, the training ends with this epoch: the model
            is that of the best epoch so far. With `Run(resume="auto")` such a run goes on.

    Raises:
        TrainingError: If the options do not fit together, or the folder is not empty.
        DivergedError: If the loss or a weight is no longer a finite number.
        TorchliftError: If model, data and options do not fit together, or cannot be opened.

    Example:
        >>> import numpy as np
        >>> from tempfile import mkdtemp
        >>> from torchlift.transfer.data import Dataset
        >>> images = np.zeros((40, 1, 8, 8), np.uint8)
        >>> images[::2] = 255
        >>> data = Dataset(images, np.arange(40) % 2, ("light", "dark"))
        >>> def enough(row):
        ...     return row["val_accuracy"] == 1
        >>> steps = Optimization(epochs=10, batch_size=8, lr=0.1)
        >>> quiet = Run(device="cpu", tracker=["none"])
        >>> result = fit("softmax", data, mkdtemp(), optimization=steps, run=quiet,
        ...              callbacks=[enough])
        >>> result.model.labels, len(result.history) < 10
        (['light', 'dark'], True)
    """
    if run.output is not None:
        raise TrainingError(
            f"Run(output={run.output!r}) is for the commands: give output={run.output!r}"
        )
    if run.repeats != 1:
        raise TrainingError(
            f"fit trains once: call it {run.repeats} times, with another seed=… each"
        )
    path = Path(output)
    name = os.fspath(model) if isinstance(model, (str, os.PathLike)) else None
    is_new = name in NETWORKS and not Path(str(name)).exists()
    if is_new and head is not None:
        raise TrainingError(f"{name} has no head to keep or to begin with: leave out head={head!r}")
    start = None if is_new else opened_model(model)
    labels = start.labels if start is not None and head == "keep" else None
    if isinstance(data, Splits):
        splits: Splits[Any] = data
    else:
        given = split_options.test_data
        test = None if given is None else opened_data(given)
        splits = draw_splits(opened_data(data), test, split_options, seed, labels=labels)
    seed_everything(seed)
    if start is None:
        trained = new_classifier(str(name), splits.train, seed)
    else:
        trained = adapted_classifier(start, splits.train, head or "zeros")
    config = flat_options(
        **({"network": name} if is_new else {"model": name, "head": head or "zeros"}),
        data=os.fspath(data) if isinstance(data, (str, os.PathLike)) else None,
        optimization=optimization,
        freezing=freezing,
        augmentation=augmentation,
        distillation=distillation,
        split_options=split_options,
        run=run,
        seed=seed,
    )
    experiment = Experiment(
        splits,
        optimization,
        freezing,
        augmentation,
        run,
        seed,
        {**config, "output": str(path)},
        distillation,
        open_teacher(distillation, trained, splits.train),
    )

    def on_epoch(state: TrainingState) -> bool:
        # All are called, also those behind one that ends the training.
        answers = [callback(dict(state.history[-1])) for callback in callbacks]
        return any(answers)

    result = run_experiment(trained, experiment, path, on_epoch=on_epoch)
    return replace(result, notes=[*splits.notes, *trained.notes, *result.notes])
