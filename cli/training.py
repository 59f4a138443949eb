"""What `train` and `finetune` have in common: the splits, the run and its result."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType

from ..transfer.training.options import Experiment, SplitOptions
from .data_options import DataOptions
from .dataset import summary_lines
from .evaluate import class_table
from .result import CommandResult, as_number, table
from .signals import said_when_stopped
from .training_progress import COLUMNS, TrainingProgress, metric_text
from .values import as_text

if TYPE_CHECKING:
    from ..converters.saved import SavedModel
    from ..transfer.data import Splits

#: Classes whose results are shown when a training has ended.
_FEW_CLASSES = 20


def open_splits(
    data: str,
    data_options: DataOptions,
    split_options: SplitOptions,
    labels: Sequence[str] | None = None,
) -> Splits[Any]:
    """Open a dataset and split it; the notes say what was assumed.

    Args:
        data: The dataset.
        data_options: Which images are used, also of the test data.
        split_options: The fractions, and the test data.
        labels: The names of a model's outputs, which all classes are matched with.

    Raises:
        TorchliftError: when the data cannot be read, or has no such class or split.
    """
    from ..transfer.training.draw_splits import draw_splits

    given = split_options.test_data
    test = None if given is None else data_options.open(given, as_test_data=True)
    return draw_splits(
        data_options.open(data),
        test,
        split_options,
        data_options.seed,
        data_options.match_classes,
        labels,
    )


def default_run(command: str, network: str, data: str) -> Path:
    """Return the default folder of a run, such as `runs/finetune-digits-lenet5-digits-train`."""
    words = [re.sub(r"[^\w.]+", "-", Path(word).stem or word) for word in (network, data)]
    return Path("runs") / "-".join([command, *words])


def is_first_process() -> bool:
    """Return whether this is the first process of those that torchrun or accelerate started."""
    return os.environ.get("RANK", "0") == "0"


def run_training(model: SavedModel, experiment: Experiment, path: Path) -> CommandResult:
    """Train a classifier and return its results.

    Raises:
        TorchliftError: when model, data and options do not fit together.
    """
    from ..transfer.data.description import describe_data
    from ..transfer.training.experiment import run_experiment

    config = {name: as_text(value) for name, value in experiment.config.items()}
    experiment = replace(experiment, config={**config, "output": str(path)})
    announced: list[str] = []
    epochs = experiment.optimization.epochs
    with (
        said_when_stopped(lambda: _how_to_resume(path, epochs)),
        TrainingProgress(epochs, shown=is_first_process()) as progress,
    ):
        described = describe_data(experiment.splits) if is_first_process() else None
        dataset = None if described is None else described.to_json()

        def announce(text: str) -> None:
            # What is announced is about to be done: before that, it may be refused.
            if described is not None and not announced:
                progress.print("\n".join(summary_lines(described)))
            announced.append(text)
            progress.print(text)

        outcome = run_experiment(
            model,
            experiment,
            path,
            facts={"dataset": dataset},
            announce=announce,
            on_epoch=progress.on_epoch,
            on_step=progress.on_step,
        )
    if not is_first_process():
        sys.exit(0)  # The first process reports for all.
    found, notes = outcome.evaluation, [*experiment.splits.notes, *model.notes, *outcome.notes]
    metadata = {
        "run": str(path),
        "model": experiment.config.get("model") or experiment.config.get("network"),
        "data": experiment.config.get("data"),
        "parameters": sum(parameter.numel() for parameter in model.module.parameters()),
        "history": outcome.history,
        "epoch_seconds": outcome.seconds,
        "evaluation": found,
        "dataset": dataset,
        "found_lr": outcome.folder.found_rate(),
        "notes": notes,
    }
    columns = ("epoch", *COLUMNS.values(), "seconds")
    results = table(*columns, right=columns)
    for row, seconds in zip(outcome.history, outcome.seconds, strict=True):
        mark = " *" if row["epoch"] == found["epoch"] else ""
        numbers = (metric_text(row, name) for name in COLUMNS)
        results.add_row(f"{row['epoch']:.0f}{mark}", *numbers, f"{seconds:.1f}")
    view = Group(
        results,
        "",
        *_of_classes(found),
        f"{path!s}: the model of epoch {found['epoch']}{_verdict(found)}",
        # The others stand above the first epoch.
        *(f"note: {note}" for note in notes if f"note: {note}" not in announced),
    )
    return CommandResult(metadata, view)


def _of_classes(found: dict[str, Any]) -> list[RenderableType]:
    """Return the results of each class, where there are few."""
    from ..transfer.evaluation import Evaluation

    if not 0 < len(found.get("classes", ())) <= _FEW_CLASSES:
        return []
    return [class_table(Evaluation.from_json(found)), ""]


def _how_to_resume(path: Path, epochs: int) -> str:
    from ..transfer.training.checkpoints import saved_epochs
    from ..transfer.training.run_folder import RunFolder

    folder = RunFolder(path)
    if not (path.is_dir() and is_first_process()):
        return ""
    done = max(saved_epochs(folder.checkpoints), default=0)
    text = f"{path}: {done} of {epochs} epochs are done; --resume auto goes on"
    return f"{text}, and with --epochs {done} it gives the model of these" if done else text


def _verdict(found: dict[str, Any]) -> str:
    if found["split"] is None:
        return ""
    names = {"test": "test", "val": "validation"}
    return (
        f"; {names[found['split']]} accuracy {found['accuracy']:.4g} "
        f"({found['correct']:,} of {found['count']:,}), "
        f"loss {as_number(found['loss'], '.4g')}"
    )
