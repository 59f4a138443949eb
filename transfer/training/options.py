"""What can be chosen about a training, in groups; the command line makes an option of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..data.plan import Sampling
from ..errors import TrainingError


@dataclass(frozen=True)
class Optimization:
    """How the weights are learnt.

    Attributes:
        epochs: How often all training images are seen; 0 leaves the network as it begins.
        batch_size: Images in one update, over all processes and parts.
        sampling: What an epoch sees: all images in a new order (shuffle), in the same order each
            time (shuffle-once, as nn.StochasticGradient does), or as many, each drawn from all
            (replacement).
        accumulate: In how many parts each process computes its fraction of an update, to save memory.
        optimizer: sgd, or adamw, which with weight_decay 0 is Adam.
        lr: Learning rate of the head, or "find" to measure one first.
        momentum: Of sgd.
        dampening: Of sgd: the fraction of a new gradient that momentum does not take. Torch7's
            optim.sgd takes its momentum for it unless told otherwise.
        weight_decay: Of weights with two or more dimensions; biases and norms have none.
        schedule: How the learning rate goes on: constant, cosine, step or one-cycle.
        warmup_epochs: Epochs in which the learning rate rises linearly, before the schedule.
        step_epochs: Epochs between the steps of "step".
        step_factor: What "step" multiplies the learning rate by.
        label_smoothing: Fraction of each target that is spread over all classes.
        balanced: Weigh each class by the inverse of its fraction of the training images.
        clip_norm: Largest norm of all gradients together.
        ema: Decay of a moving average of the weights, such as 0.999, which is then used.
        patience: Stop after so many epochs without a better validation score.
    """

    epochs: int = 10
    batch_size: int = 64
    sampling: Sampling = "shuffle"
    accumulate: int = 1
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float | Literal["find"] = 0.01
    momentum: float = 0.9
    dampening: float = 0
    weight_decay: float = 1e-4
    schedule: Literal["constant", "cosine", "step", "one-cycle"] = "cosine"
    warmup_epochs: float = 0
    step_epochs: int = 10
    step_factor: float = 0.1
    label_smoothing: float = 0
    balanced: bool = False
    clip_norm: float | None = None
    ema: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        _require(self.epochs >= 0, "epochs must be at least 0")
        for name in ("batch_size", "accumulate", "step_epochs"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1")
        _require(self.lr == "find" or self.lr > 0, "lr must be positive")
        _require(0 <= self.label_smoothing < 1, "label_smoothing must be from 0 to below 1")
        _require(self.ema is None or 0 < self.ema < 1, "ema must be between 0 and 1")
        _require(self.clip_norm is None or self.clip_norm > 0, "clip_norm must be positive")
        _require(self.patience is None or self.patience >= 1, "patience must be at least 1")
        _require(0 <= self.momentum < 1, "momentum must be from 0 to below 1")
        _require(0 <= self.dampening < 1, "dampening must be from 0 to below 1")
        _require(
            self.warmup_epochs == 0 or 0 < self.warmup_epochs < self.epochs,
            "warmup_epochs must be below epochs",
        )
        _require(
            self.schedule != "one-cycle" or self.warmup_epochs == 0,
            "one-cycle warms up by itself; leave out warmup_epochs",
        )


@dataclass(frozen=True)
class Freezing:
    """Which layers are kept as they are, until when, and how fast the others learn.

    Attributes:
        freeze: What is not trained: none, all-but-head, "until NAME" (the layers before that
            one), or a pattern of layer names such as "features.*".
        unfreeze_at: The epoch, counted from 1, from which on everything is trained.
        body_lr: Learning rate of all layers before the head; by default the head's.
        layer_decay: What the learning rate is multiplied by for each layer, from the head down.
    """

    freeze: str = "none"
    unfreeze_at: int | None = None
    body_lr: float | None = None
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        _require(self.unfreeze_at is None or self.unfreeze_at >= 1, "epochs count from 1")
        _require(self.body_lr is None or self.body_lr > 0, "body_lr must be positive")
        _require(0 < self.layer_decay <= 1, "layer_decay must be above 0 and at most 1")


@dataclass(frozen=True)
class SplitOptions:
    """Which images are learnt from, and which only tell how well.

    Attributes:
        val_fraction: Fraction of the training images that decides about the best epoch.
        test_fraction: Fraction that the result is measured on, where the data has no test part.
        test_data: Data for that, where it stands elsewhere.
    """

    val_fraction: float = 0.1
    test_fraction: float = 0.0
    test_data: str | None = None


@dataclass(frozen=True)
class Run:
    """Where and on what a training runs.

    Attributes:
        output: The run's folder; by default in runs/, named after the network and the data.
        resume: auto goes on where the folder's run was, if there is one.
        overwrite: Start anew in a folder that holds a run.
        deterministic: Refuse operations whose result is not the same each time.
        device: auto, cpu or cuda.
        threads: CPU threads, by default one for each core; 1 is faster for batches of a few small
            images.
        workers: Processes that read the images of a folder too large for memory.
        precision: fp32, bf16 or fp16 (the weights stay fp32).
        tracker: Where accelerate logs to, such as tensorboard, wandb, mlflow, all or none.
    """

    output: str | None = None
    resume: Literal["never", "auto"] = "never"
    overwrite: bool = False
    deterministic: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = None
    workers: int = 2
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    tracker: str = "tensorboard"

    def __post_init__(self) -> None:
        _require(self.threads is None or self.threads >= 1, "threads must be at least 1")
        _require(self.workers >= 0, "workers must be at least 0")


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise TrainingError(problem)
