"""Which epochs are the best ones, and when a training has stopped to improve.

Importing this file does not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

#: The results of one epoch, a row of `metrics.csv`.
Row = dict[str, float]

#: The validation metric that decides: of a loss the lowest value is the best, of all others the
#: highest. `recall`, `precision` and `f1` are means over the classes.
Monitor = Literal["accuracy", "loss", "f1", "recall", "precision"]


def validation_score(row: Row, monitor: Monitor = "accuracy") -> tuple[float, float]:
    """Return what orders results, the best last.

    By the metric, and where it is the same by the loss (by the accuracy, if the loss is the
    metric); a loss of NaN is worse than any other.

    Example:
        >>> rows = [{"val_accuracy": 0.9, "val_loss": 0.3}, {"val_accuracy": 0.8, "val_loss": 0.2}]
        >>> [max(rows, key=lambda row: validation_score(row, it)) is rows[0]
        ...  for it in ("accuracy", "loss")]
        [True, False]
    """
    loss = row.get("val_loss", 0.0)
    falling = -math.inf if math.isnan(loss) else -loss
    if monitor == "loss":
        return falling, row.get("val_accuracy", 0.0)
    return row.get(f"val_{monitor}", 0.0), falling


def best_epochs(history: Sequence[Row], monitor: Monitor = "accuracy", count: int = 1) -> list[int]:
    """Return the numbers of the best epochs, from 1, the best first; of equal ones the earlier.

    Without a validation split these are the last ones, the last first.

    Args:
        history: The results of each epoch.
        monitor: The metric that decides.
        count: At most so many.
    """
    if history and "val_accuracy" not in history[-1]:
        return list(range(len(history), 0, -1))[:count]
    scores = [validation_score(row, monitor) for row in history]
    # Python's sort keeps equal ones in their order, also when it is reversed.
    order = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
    return [index + 1 for index in order[:count]]


def best_epoch(history: Sequence[Row], monitor: Monitor = "accuracy") -> int:
    """Return the number of the best epoch, from 1; without epochs 0, the network as it began."""
    return (best_epochs(history, monitor) or [0])[0]


def best_row(history: Sequence[Row], monitor: Monitor = "accuracy") -> Row:
    """Return the results of the best epoch."""
    return history[best_epoch(history, monitor) - 1] if history else {"epoch": 0}


def is_over(history: Sequence[Row], patience: int | None, monitor: Monitor = "accuracy") -> bool:
    """Return whether the last `patience` epochs were no better than the best one before them."""
    if patience is None or not history:
        return False
    return len(history) - best_epoch(history, monitor) >= patience
