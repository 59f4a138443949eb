"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional

from ...converters.modules.finite import first_not_finite_parameter
from ...converters.saved import SavedModel
from ..data import BatchPlan, class_weights
from ..data.batches import Batches
from ..data.selection import labelled
from ..errors import DivergedError, TrainingError
from ..freezing import frozen_at, set_frozen
from .checkpoints import (
    Kept,
    TrainingState,
    load_best,
    load_last_checkpoint,
    remove_superseded,
    save_checkpoint,
)
from .measuring import Count, count, mean_of, measure
from .monitoring import Row, is_over
from .optimizer import build_optimizer, moving_average, schedule_factor, set_learning_rates
from .options import Distillation, Experiment, Optimization
from .processes import seed_everything
from .teacher import distillation_loss

#: Updates on a GPU after which the loss is looked at, for which all work before it must be done.
_STEPS_BETWEEN_CHECKS = 100


@dataclass(frozen=True)
class Step:
    """How far an epoch is.

    Attributes:
        epoch: Its number, from 1.
        phase: `training` or `validation`.
        done: The images that are done, of all processes.
        count: The images of this phase.
        loss: The mean loss of the last batch that was looked at, or None.
    """

    epoch: int
    phase: Literal["training", "validation"]
    done: int
    count: int
    loss: float | None = None


#: Called after each epoch with the state of the training; returns whether it ends with this epoch.
OnEpoch = Callable[[TrainingState], bool | None]

#: Called after each batch.
OnStep = Callable[[Step], None]

#: The sum of the losses of logits (N, classes) for targets (N,) or (N, classes) and, with a
#: teacher, its log-probabilities (N, classes).
Loss = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Trained:
    """The result of a training.

    Attributes:
        network: The network (or the average of its weights) of the best epoch, in evaluation mode.
        state: What the training ended with; its history has the results of each epoch.
    """

    network: nn.Module
    state: TrainingState


def run_epochs(
    model: SavedModel,
    experiment: Experiment,
    accelerator: Accelerator,
    checkpoints: Path,
    on_epoch: OnEpoch = lambda state: None,
    on_step: OnStep = lambda step: None,
) -> Trained:
    """Train a classifier, from the last checkpoint if there is one.

    An epoch depends on the experiment, its own number and the state of the checkpoint before it,
    and on nothing else: a run that was stopped and resumed ends like one that was not.

    Args:
        model: A network that returns logits, changed in place; its preprocessing reads the images.
        experiment: The images and the options; `lr` is a number. The validation split selects the
            best epoch; if it is empty, the last epoch counts as the best.
        accelerator: The processes that train together.
        checkpoints: The folder that keeps the state of the last and of the best epoch.
        on_epoch: Called in the first process after each epoch, which is the last one if it returns
            true.
        on_step: Called in the first process after each batch.

    Raises:
        DivergedError: The loss or a weight is no longer a finite number; the checkpoints of the
            epochs before are kept.
        TorchliftError: Model, images and options do not fit together.
    """
    network, options, freezing = model.module, experiment.optimization, experiment.freezing
    train = build_batches(model, experiment, "train", accelerator)
    val = None
    if len(experiment.splits.val):
        val = build_batches(model, experiment, "val", accelerator)
    weights = None
    if options.balanced:
        weights = torch.from_numpy(class_weights(experiment.splits.train)).to(accelerator.device)
    loss: Loss = partial(
        functional.cross_entropy,
        weight=weights,
        label_smoothing=options.label_smoothing,
        reduction="sum",
    )
    teacher = experiment.teacher
    if teacher is not None:
        teacher.to(accelerator.device)
        loss = partial(_taught, loss, experiment.distillation)
    optimizer: Any = build_optimizer(network, options, freezing)
    average = moving_average(network, options.ema, accelerator.device) if options.ema else None
    # Processes synchronize the gradients of all that is trained now or later.
    set_frozen(network, frozen_at(network, freezing, options.epochs))
    prepared = accelerator.prepare(network)
    if accelerator.scaler is not None:
        # The gradients of fp16 are scaled; otherwise the optimizer is faster without the wrapper.
        optimizer = accelerator.prepare(optimizer)
    state = TrainingState(network, optimizer, average, accelerator.scaler)
    load_last_checkpoint(checkpoints, state)
    history = state.history
    kept = Kept(options.monitor, experiment.run.keep_best, experiment.run.save_every)
    if accelerator.is_main_process:
        remove_superseded(checkpoints, history, kept)

    # Processes have to stop together, and the scaler of fp16 skips batches that overflow: only the
    # mean over all batches and processes tells then.
    can_stop_at_once = accelerator.num_processes == 1 and accelerator.scaler is None
    check_every = 1 if accelerator.device.type == "cpu" else _STEPS_BETWEEN_CHECKS
    while len(history) < options.epochs and not is_over(history, options.patience, options.monitor):
        epoch, began = len(history) + 1, time.perf_counter()
        seed_everything(experiment.seed, epoch, accelerator.process_index)
        set_frozen(network, frozen_at(network, freezing, epoch))
        prepared.train()
        counts = []
        done, loss_of_batch = 0, None
        in_batches = min(train.plan.count, len(train) * train.plan.batch_size)
        batches = zip(train.plan.slices(), train.epoch(epoch), strict=True)
        for step, (batch_slice, batch) in enumerate(batches, (epoch - 1) * len(train)):
            set_learning_rates(optimizer, schedule_factor(options, step, len(train)))
            size = batch_slice.batch_stop - batch_slice.batch_start
            taught = batch if teacher is None else (*batch, teacher(batch[0]))
            counts += update(prepared, optimizer, loss, taught, size, options, accelerator)
            if can_stop_at_once and step % check_every == 0:
                last, _, images = counts[-1]
                loss_of_batch = float(last) / images
                require_finite_loss(loss_of_batch, "training", epoch, options)
            if average is not None:
                average.update_parameters(network)
            done += size
            if accelerator.is_main_process:
                on_step(Step(epoch, "training", done, in_batches, loss_of_batch))
        train_loss, train_accuracy = mean_of(counts, accelerator)
        require_finite_loss(train_loss, "training", epoch, options)
        row: Row = {
            "epoch": epoch,
            "lr": max(group["lr"] for group in optimizer.param_groups),
            "train_loss": train_loss,
            "train_accuracy": train_accuracy,
        }
        if val is not None:
            on_batch = _on_validation(epoch, val, on_step, accelerator)
            results, class_counts = measure(state.evaluated, val, accelerator, on_batch)
            row |= results
            state.class_counts[epoch] = class_counts
            require_finite_loss(row["val_loss"], "validation", epoch, options)
        # The last update may have spoiled the weights without any loss that shows it.
        if place := first_not_finite_parameter(network):
            raise diverged(place, epoch, options)
        history.append(row)
        state.seconds.append(time.perf_counter() - began)
        accelerator.log(row, step=epoch)
        if accelerator.is_main_process:
            save_checkpoint(checkpoints, state, kept)
            if on_epoch(state):
                accelerator.set_trigger()
        # All processes wait for the first one here, and end together.
        if accelerator.check_trigger():
            break

    load_best(checkpoints, state, options.monitor)
    accelerator.unwrap_model(prepared, keep_fp32_wrapper=False)
    set_frozen(network, frozenset())
    result = state.evaluated.to(memory_format=torch.contiguous_format)
    return Trained(result.eval(), state)


def _on_validation(
    epoch: int, batches: Batches, on_step: OnStep, accelerator: Accelerator
) -> Callable[[int], None]:
    """Return what counts the validated images and reports them, in the first process."""
    done = 0

    def on_batch(images: int) -> None:
        nonlocal done
        done = min(done + images * accelerator.num_processes, batches.plan.count)
        if accelerator.is_main_process:
            on_step(Step(epoch, "validation", done, batches.plan.count))

    return on_batch


def update(
    network: nn.Module,
    optimizer: Any,
    loss: Loss,
    batch: tuple[torch.Tensor, ...],
    size: int,
    options: Optimization,
    accelerator: Accelerator,
) -> list[Count]:
    """Update the weights from one batch, by its mean loss over all processes and steps.

    Args:
        network: The network, prepared by accelerate.
        optimizer: Its optimizer.
        loss: The loss to minimize.
        batch: This process's inputs (N, C, H, W), targets (N,) or (N, classes), and, with a
            teacher, its log-probabilities (N, classes).
        size: Number of images in the batch of all processes.
        options: Accumulation steps, and the largest norm of the gradients.
        accelerator: The processes.

    Returns:
        The count of each accumulation step.
    """
    counts = []
    steps = options.accumulate
    pieces = zip(*(tensor.tensor_split(steps) for tensor in batch), strict=True)
    for step, (inputs, targets, *soft) in enumerate(pieces, 1):
        with nullcontext() if step == steps else accelerator.no_sync(network):
            logits = network(inputs)
            total = loss(logits, targets, *soft)
            # Gradients are averaged over the processes, but the loss is a sum over all of them.
            accelerator.backward(total * (accelerator.num_processes / size))
        counts.append(count(total, logits, targets))
    if options.clip_norm is not None:
        accelerator.clip_grad_norm_(network.parameters(), options.clip_norm)
    optimizer.step()
    optimizer.zero_grad()
    return counts


def _taught(
    loss: Loss,
    options: Distillation,
    logits: torch.Tensor,
    targets: torch.Tensor,
    soft: torch.Tensor,
) -> torch.Tensor:
    """Return the loss of labels and of a teacher's log-probabilities, each with its weight."""
    weight = options.teacher_weight
    learned = distillation_loss(logits, soft, options.temperature)
    return (1 - weight) * loss(logits, targets) + weight * learned


def require_finite_loss(loss: float, name: str, epoch: int, options: Optimization) -> None:
    """Check that a training has not diverged.

    Args:
        loss: The loss of a batch, or the mean of several.
        name: `training` or `validation`.
        epoch: The epoch, counted from 1.
        options: The options of the training.

    Raises:
        DivergedError: If the loss is NaN or infinite.
    """
    if not math.isfinite(loss):
        raise diverged(f"the {name} loss is {loss}", epoch, options)


def diverged(reason: str, epoch: int, options: Optimization) -> DivergedError:
    """Return the error for a training that diverged, with what to try."""
    lower = f"{options.lr / 10:g}" if isinstance(options.lr, float | int) else "…"
    clipping = "" if options.clip_norm else " or clip_norm=1"
    kept = f"; the checkpoint of epoch {epoch - 1} is kept" if epoch > 1 else ""
    return DivergedError(
        f"the training diverged in epoch {epoch}: {reason}{kept}; try a lower rate such as "
        f"lr={lower}{clipping}",
        epoch,
    )


def build_batches(
    model: SavedModel,
    experiment: Experiment,
    split: Literal["train", "val"],
    accelerator: Accelerator,
    *,
    all_processes: bool = True,
) -> Batches:
    """Return the batches of a split, as a network takes them.

    Args:
        model: Its preprocessing reads the images.
        experiment: The images and the options.
        split: Training images are shuffled and augmented.
        accelerator: The processes.
        all_processes: Divide each batch among the processes; otherwise this process has all of it.

    Raises:
        TrainingError: A batch is too small to be divided.
    """
    options, images = experiment.optimization, getattr(experiment.splits, split)
    training = split == "train"
    processes = accelerator.num_processes if all_processes else 1
    size = min(options.batch_size, len(images))
    if training and size < processes * options.accumulate:
        raise TrainingError(
            f"a batch of {size} images cannot be divided among {processes} processes with "
            f"accumulate={options.accumulate}"
        )
    plan = BatchPlan(
        len(images),
        size,
        shuffle_seed=experiment.seed if training else None,
        # A smaller last batch may not be divisible, or too small for a BatchNorm; which images
        # are left out changes from epoch to epoch.
        drop_last=training,
        rank=accelerator.process_index if all_processes else 0,
        world_size=processes,
        sampling=options.sampling,
        weights=class_weights(images)[labelled(images)].astype(np.float64)
        if training and options.sampling == "weighted"
        else None,
    )
    return Batches(
        images,
        model.preprocessing,
        plan,
        augmentation=experiment.augmentation if training else None,
        device=accelerator.device,
        workers=experiment.run.workers,
    )
