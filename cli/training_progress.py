"""What a person sees of a training while it runs: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.progress import TextColumn

from .progress import Rate, progress_bar

if TYPE_CHECKING:
    from ..transfer.training.checkpoints import TrainingState
    from ..transfer.training.loop import Step
    from ..transfer.training.monitoring import Row

#: What the table of results shows, and what it is called.
COLUMNS = {
    "lr": "learning rate",
    "train_loss": "loss",
    "train_accuracy": "accuracy",
    "val_loss": "val. loss",
    "val_accuracy": "val. accuracy",
    "val_f1": "val. F1",
}

#: Seconds between the lines of a log within an epoch.
_SECONDS_BETWEEN_LINES = 60.0


def metric_text(row: Row, name: str) -> str:
    """Return a metric of an epoch as text; a dash where there is none.

    Example:
        >>> metric_text({"val_loss": 0.123456}, "val_loss"), metric_text({}, "val_loss")
        ('0.1235', '–')
    """
    return f"{row[name]:.4g}" if name in row else "–"


class TrainingProgress:
    """Shows a training on stderr: within an epoch a bar, and a line for each epoch.

    Where stderr is no terminal there is no bar, but a line each minute.

    Args:
        epochs: How many epochs there will be.
        shown: Whether this process shows anything.
    """

    def __init__(self, epochs: int, shown: bool = True) -> None:
        self._epochs, self._shown = epochs, shown
        self._bar = progress_bar(
            TextColumn("{task.description}", markup=False), Rate(), shown=shown
        )
        self._task = self._bar.add_task("", total=None, visible=False)
        self._phase = (0, "")
        self._began = self._said = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def print(self, text: str) -> None:
        """Print a line above the bar."""
        if self._shown:
            self._bar.console.print(text)

    def on_step(self, step: Step) -> None:
        """Show how far an epoch is."""
        now = time.monotonic()
        name = f"epoch {step.epoch} of {self._epochs}"
        if step.phase != "training":
            name += ", validation"
        if (step.epoch, step.phase) != self._phase:
            self._phase = step.epoch, step.phase
            # Of the first batch only the end is known.
            self._began = self._said = now
            self._bar.reset(self._task, total=step.count, visible=True, description=name)
        loss = "" if step.loss is None else f", loss {step.loss:.4g}"
        self._bar.update(self._task, completed=step.done, description=name + loss)
        if self._bar.disable and now - self._said >= _SECONDS_BETWEEN_LINES:
            self._said = now
            rate = step.done / (now - self._began)
            left = _duration((step.count - step.done) / rate)
            done = f"{step.done:,} of {step.count:,} images, {rate:,.0f}/s{loss}, {left} left"
            self.print(f"{name}: {done}")

    def on_epoch(self, state: TrainingState) -> None:
        """Print the results of an epoch."""
        self._bar.update(self._task, visible=False)
        row = state.history[-1]
        results = [
            f"{text} {metric_text(row, name)}" for name, text in COLUMNS.items() if name in row
        ]
        took = f"{state.seconds[-1]:.1f} s"
        self.print(f"epoch {row['epoch']:.0f} of {self._epochs}: {', '.join([*results, took])}")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
