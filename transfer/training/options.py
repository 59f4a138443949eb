"""The options of a training, in groups; the command line turns each field into an option.

Importing this file does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ..data.augmentation import Augmentation
from ..data.plan import Sampling
from ..errors import TrainingError, check_choices, check_numbers, check_option
from ..freezing import Freezing
from .monitoring import Monitor

if TYPE_CHECKING:
    from ..data import Splits
    from .teacher import Teacher


#: Options that had another name in 0.1.0: its runs can be resumed, and their config.yaml read.
RENAMED_OPTIONS = {
    "part": "split",
    "picture_size": "image_size",
    "val": "val_fraction",
    "test": "test_fraction",
}

#: Options that 0.1.0 did not have, with what it did.
ADDED_OPTIONS = {
    "match_classes": "name",
    "unfreeze": None,
    "teacher": None,
    "temperature": 4.0,
    "teacher_weight": 0.9,
    "monitor": "accuracy",
    "keep_best": 1,
    "save_every": None,
    "resized_crop": None,
    "rotation": 0,
    "auto_augment": None,
    "magnitude": 9,
    "erasing": 0,
}


@dataclass(frozen=True)
class Optimization:
    """How the weights are optimized.

    Attributes:
        epochs: Passes over the training images; 0 leaves the network as it is.
        batch_size: Images in one update, over all processes and accumulation steps.
        sampling: The images of an epoch: all of them in a new order (shuffle), in the same order
            in each epoch (shuffle-once, as nn.StochasticGradient does), or as many, each drawn
            from all of them (replacement), every class as often as any other (weighted).
        accumulate: Accumulation steps of an update: each process splits its images into so many
            smaller batches to save memory.
        optimizer: sgd, or adamw, which is Adam if the weight decay is 0.
        lr: Learning rate of the head: a number, or "find" to measure one first.
        momentum: Momentum of sgd.
        dampening: Dampening of the momentum of sgd. Torch7's optim.sgd takes the momentum itself
            by default.
        weight_decay: Decay of weights with two or more dimensions; biases and norms have none.
        schedule: Learning rate schedule: constant, cosine, step or one-cycle.
        warmup_epochs: Epochs in which the learning rate rises linearly, before the schedule.
        step_epochs: Epochs between the steps of "step".
        step_factor: Factor on the learning rate at each step of "step".
        label_smoothing: Fraction of each target that is spread over all classes.
        balanced: Weight each class by the inverse of its fraction of the training images.
        clip_norm: Largest norm of all gradients together.
        ema: Decay of a moving average of the weights, such as 0.999, which replaces them.
        patience: Stop after this many epochs without a better validation score.
        monitor: The metric on the validation images that decides which epoch is the best, and when
            patience ends: accuracy, loss (the lowest), or the mean over the classes of f1, recall
            or precision.
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
    monitor: Monitor = "accuracy"

    def __post_init__(self) -> None:
        check_choices(self)
        check_numbers(self)
        check_option(self, "epochs", self.epochs >= 0, "at least 0")
        for name in ("batch_size", "accumulate", "step_epochs"):
            check_option(self, name, getattr(self, name) >= 1, "at least 1")
        check_option(self, "lr", self.lr == "find" or self.lr > 0, "positive")
        for name in ("label_smoothing", "momentum", "dampening"):
            check_option(self, name, 0 <= getattr(self, name) < 1, "at least 0 and below 1")
        check_option(self, "ema", self.ema is None or 0 < self.ema < 1, "between 0 and 1")
        check_option(self, "clip_norm", self.clip_norm is None or self.clip_norm > 0, "positive")
        check_option(self, "patience", self.patience is None or self.patience >= 1, "at least 1")
        warmup = self.warmup_epochs
        below = f"below epochs={self.epochs}"
        check_option(self, "warmup_epochs", warmup == 0 or 0 < warmup < self.epochs, below)
        if self.balanced and self.sampling == "weighted":
            raise TrainingError(
                "sampling='weighted' gives each class the same influence already: leave out "
                "balanced=True"
            )
        if self.schedule == "one-cycle" and warmup:
            raise TrainingError(
                "schedule='one-cycle' has its own warm-up; leave out warmup_epochs=…"
            )


@dataclass(frozen=True)
class Distillation:
    """Which older network is learned from, beside the labels.

    Attributes:
        teacher: A .t7 file, a saved model's folder, torchvision:NAME, timm:NAME, hf:FOLDER or
            python:package.module:function: its probabilities are targets too.
        temperature: What the logits of both networks are divided by: above 1 the teacher's smaller
            probabilities count more.
        teacher_weight: Weight of the teacher's probabilities in the loss; the labels have the rest.

    Raises:
        TrainingError: If a number is out of its range.

    Example:
        >>> Distillation("alexnet.t7", teacher_weight=0.5).temperature
        4.0
    """

    teacher: str | None = None
    temperature: float = 4.0
    teacher_weight: float = 0.9

    def __post_init__(self) -> None:
        check_numbers(self)
        check_option(self, "temperature", self.temperature > 0, "positive")
        weight = self.teacher_weight
        check_option(self, "teacher_weight", 0 < weight <= 1, "above 0 and at most 1")
        if self.teacher is None:
            for name in ("temperature", "teacher_weight"):
                if (value := getattr(self, name)) != getattr(Distillation, name):
                    raise TrainingError(f"{name}={value}: it is for teacher=…")


@dataclass(frozen=True)
class SplitOptions:
    """Which images are used for validation and for testing.

    Attributes:
        val_fraction: Fraction of the training images for validation: where a training chooses its
            best epoch.
        test_fraction: Fraction that the trained model is evaluated on, if the data has no test
            split.
        test_data: Another dataset as the test split. Options for the data, such as classes, limit
            and split, apply to it too.

    Example:
        >>> SplitOptions(val_fraction=0.2).test_fraction
        0.0
    """

    val_fraction: float = 0.1
    test_fraction: float = 0.0
    test_data: str | None = None


@dataclass(frozen=True)
class Run:
    """Where and on what a training runs.

    Attributes:
        output: Folder of the run; by default in runs/, named after the network and the data.
        resume: auto resumes the run in the folder, if there is one.
        overwrite: Start again in a folder that holds a run.
        deterministic: Refuse operations whose results differ from run to run.
        device: auto, cpu or cuda.
        threads: CPU threads, by default one for each core; 1 is faster for batches of a few small
            images.
        workers: Processes that read the images of a folder too large for memory.
        precision: fp32, bf16 or fp16 (the weights stay fp32).
        tracker: Where accelerate logs to, such as wandb,mlflow, all or none; by default
            tensorboard.
        keep_best: Keep the checkpoints of so many of the best epochs.
        save_every: Keep the checkpoints of every so many epochs, too.
        repeats: How many seeds are used, one after the other, for means and deviations; each run
            has a folder in the output, such as seed-0.
    """

    output: str | None = None
    resume: Literal["never", "auto"] = "never"
    overwrite: bool = False
    deterministic: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = None
    workers: int = 2
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    tracker: list[str] | None = None
    keep_best: int = 1
    save_every: int | None = None
    repeats: int = 1

    def __post_init__(self) -> None:
        check_choices(self)
        check_numbers(self)
        names = self.tracker
        check_option(self, "tracker", not isinstance(names, str), "a list of names")
        check_option(self, "repeats", self.repeats >= 1, "at least 1")
        check_option(self, "keep_best", self.keep_best >= 1, "at least 1")
        every = self.save_every
        check_option(self, "save_every", every is None or every >= 1, "at least 1")
        check_option(self, "threads", self.threads is None or self.threads >= 1, "at least 1")
        check_option(self, "workers", self.workers >= 0, "at least 0")


@dataclass(frozen=True)
class Experiment:
    """Everything that determines a training, beside the network that it begins with.

    Attributes:
        splits: The images.
        optimization: How the weights are optimized.
        freezing: Which layers are frozen.
        distillation: How much is learned from the teacher.
        teacher: The network that is learned from, if any.
        augmentation: How the training images are changed at random.
        run: Where and on what the training runs.
        seed: Seed of all random numbers.
        config: Every option by its name on the command line; stored in the run's folder.
    """

    splits: Splits[Any]
    optimization: Optimization = field(default_factory=Optimization)
    freezing: Freezing = field(default_factory=Freezing)
    augmentation: Augmentation = field(default_factory=Augmentation)
    run: Run = field(default_factory=Run)
    seed: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    distillation: Distillation = field(default_factory=Distillation)
    teacher: Teacher | None = None


#: Everything as usual.
OPTIMIZATION, FREEZING, AUGMENTATION = Optimization(), Freezing(), Augmentation()
DISTILLATION, SPLIT_OPTIONS, RUN = Distillation(), SplitOptions(), Run()
