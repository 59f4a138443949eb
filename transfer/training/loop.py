"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional

from ..data.batches import Batches
from ..freezing import frozen_at, set_frozen
from .averaging import averaged_copy
from .checkpoints import (
    Row,
    TrainingState,
    best_epoch,
    load_best,
    load_last_checkpoint,
    save_checkpoint,
)
from .optimizers import build_optimizer, set_rates
from .options import Freezing, Optimization
from .schedules import rate_factor
from .seeding import seed_everything
from .validation import Count, count, mean_of, measure

#: The sum of the losses of logits (N, classes) for targets (N,) or (N, classes).
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Trained:
    """What a training gave.

    Attributes:
        network: the network (or the average of its weights) of the best epoch, in evaluation mode.
        history: the results of each epoch.
        seconds: what each epoch took, its validation included.
    """

    network: nn.Module
    history: list[Row]
    seconds: list[float]


def fit(
    network: nn.Module,
    train: Batches,
    val: Batches | None,
    options: Optimization,
    freezing: Freezing,
    accelerator: Accelerator,
    checkpoints: Path,
    *,
    seed: int = 0,
    class_weights: torch.Tensor | None = None,
    on_epoch: Callable[[list[Row], list[float]], None] = lambda history, seconds: None,
) -> Trained:
    """Train a classifier, from the last checkpoint on if there is one.

    What happens in an epoch depends on the options, the seed, the epoch's number and the state of
    the checkpoint before it, and on nothing else: a run that was stopped ends as one that was not.

    Args:
        network: gives logits; it is changed.
        train: this process's fraction of the training images.
        val: of the validation images, which decide about the best epoch; None takes the last.
        options: how the weights are learnt; `lr` is a number.
        freezing: which layers are learnt.
        accelerator: the processes that train together.
        checkpoints: where to keep the state of the last and the best epoch.
        seed: of dropout and all other chance but that of the batches.
        class_weights: (classes,) factors of the loss.
        on_epoch: is told results and seconds of all epochs so far, in the first process.
    """
    loss: Loss = partial(
        functional.cross_entropy,
        weight=class_weights,
        label_smoothing=options.label_smoothing,
        reduction="sum",
    )
    optimizer: Any = build_optimizer(network, options, freezing)
    average = averaged_copy(network, options.ema, accelerator.device) if options.ema else None
    # Processes compare the gradients of what is trained now or later, not what is frozen for good.
    set_frozen(network, frozen_at(network, freezing, options.epochs))
    model = accelerator.prepare(network)
    if accelerator.scaler is not None:
        # The gradients of fp16 are scaled; otherwise an optimizer is faster by itself.
        optimizer = accelerator.prepare(optimizer)
    state = TrainingState(network, optimizer, average, accelerator.scaler)
    load_last_checkpoint(checkpoints, state)
    history = state.history

    while len(history) < options.epochs and not is_over(history, options.patience):
        epoch, began = len(history) + 1, time.perf_counter()
        seed_everything(seed, epoch, accelerator.process_index)
        set_frozen(network, frozen_at(network, freezing, epoch))
        model.train()
        counts = []
        batches = zip(train.plan.slices(), train.epoch(epoch), strict=True)
        for step, (batch_slice, (inputs, targets)) in enumerate(batches, (epoch - 1) * len(train)):
            set_rates(optimizer, rate_factor(options, step, len(train)))
            size = batch_slice.batch_stop - batch_slice.batch_start
            counts += update(model, optimizer, loss, inputs, targets, size, options, accelerator)
            if average is not None:
                average.update_parameters(network)
        train_loss, train_accuracy = mean_of(counts, accelerator)
        row: Row = {
            "epoch": epoch,
            "lr": max(group["lr"] for group in optimizer.param_groups),
            "train_loss": train_loss,
            "train_accuracy": train_accuracy,
        }
        if val is not None:
            row["val_loss"], row["val_accuracy"] = measure(state.evaluated, val, accelerator)
        history.append(row)
        state.seconds.append(time.perf_counter() - began)
        accelerator.log(row, step=epoch)
        if accelerator.is_main_process:
            save_checkpoint(checkpoints, state)
            on_epoch(history, state.seconds)
        accelerator.wait_for_everyone()

    load_best(checkpoints, state)
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    set_frozen(network, frozenset())
    result = state.evaluated.to(memory_format=torch.contiguous_format)
    return Trained(result.eval(), history, state.seconds)


def update(
    model: nn.Module,
    optimizer: Any,
    loss: Loss,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    size: int,
    options: Optimization,
    accelerator: Accelerator,
) -> list[Count]:
    """Learn from one batch: its mean loss, whatever the number of processes and parts.

    Args:
        model: the network, prepared by accelerate.
        optimizer: its optimizer.
        loss: what is made smaller.
        inputs: this process's batch_slice, (N, C, H, W).
        targets: (N,) or (N, classes).
        size: images in the whole batch.
        options: parts, and the largest norm of the gradients.
        accelerator: the processes.

    Returns:
        what `count` says of each part.
    """
    counts = []
    parts = options.accumulate
    pieces = zip(inputs.tensor_split(parts), targets.tensor_split(parts), strict=True)
    for number, (part, wanted) in enumerate(pieces, 1):
        with nullcontext() if number == parts else accelerator.no_sync(model):
            logits = model(part)
            total = loss(logits, wanted)
            # Gradients are averaged over processes: each counts for as many as there are.
            accelerator.backward(total * (accelerator.num_processes / size))
        counts.append(count(total, logits, wanted))
    if options.clip_norm is not None:
        accelerator.clip_grad_norm_(model.parameters(), options.clip_norm)
    optimizer.step()
    optimizer.zero_grad()
    return counts


def is_over(history: list[Row], patience: int | None) -> bool:
    """Whether no epoch was better than the best one for as long as patience lasts."""
    if patience is None or not history:
        return False
    return len(history) - best_epoch(history) >= patience
