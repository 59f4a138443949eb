"""Checkpoints: everything that a training needs to be resumed as if it had never stopped.

A checkpoint is a folder `epoch-0007`, written atomically. Those of the last and of the best epoch
are kept.
"""

from __future__ import annotations

import math
import re
import shutil
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ...converters.files import atomic_path
from ...converters.saved.tensor_files import write_buffered, write_tensors

#: The results of one epoch, a row of `metrics.csv`.
Row = dict[str, float]

_WEIGHTS, _AVERAGE, _STATE = "model.safetensors", "average.safetensors", "state.pt"


@dataclass
class TrainingState:
    """What changes during a training.

    Attributes:
        network: The network, without the wrapper for several processes.
        optimizer: Its optimizer.
        average: The moving average of its weights, or None.
        scaler: The gradient scaler of fp16, or None.
        history: The results of each epoch.
        seconds: The duration of each epoch, validation included.
    """

    network: nn.Module
    optimizer: Any
    average: AveragedModel | None
    scaler: Any
    history: list[Row] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated and saved: the moving average, if there is one."""
        return self.network if self.average is None else self.average.module


def save_checkpoint(folder: Path, state: TrainingState) -> None:
    """Write the checkpoint of the last epoch; delete all others but the best epoch's.

    Args:
        folder: The folder of a run's checkpoints.
        state: The state after the last epoch in its history.
    """
    epoch = len(state.history)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(checkpoint_path(folder, epoch)) as path:
        path.mkdir()
        _save_tensors(state.network, path / _WEIGHTS)
        if state.average is not None:
            _save_tensors(state.average, path / _AVERAGE)
        content = {
            "optimizer": state.optimizer.state_dict(),
            "scaler": None if state.scaler is None else state.scaler.state_dict(),
            "history": state.history,
            "seconds": state.seconds,
        }
        write_buffered(partial(torch.save, content), path / _STATE)
    for other in set(saved_epochs(folder)) - {epoch, best_epoch(state.history)}:
        shutil.rmtree(checkpoint_path(folder, other))


def load_last_checkpoint(folder: Path, state: TrainingState) -> None:
    """Restore the state of the last checkpoint, if there is one."""
    epochs = saved_epochs(folder)
    if not epochs:
        return
    path = checkpoint_path(folder, epochs[-1])
    state.network.load_state_dict(load_file(path / _WEIGHTS))
    if state.average is not None:
        state.average.load_state_dict(load_file(path / _AVERAGE))
    content = torch.load(path / _STATE, map_location="cpu", weights_only=True)
    state.optimizer.load_state_dict(content["optimizer"])
    if state.scaler is not None:
        state.scaler.load_state_dict(content["scaler"])
    state.history[:], state.seconds[:] = content["history"], content["seconds"]


def load_best(folder: Path, state: TrainingState) -> None:
    """Restore the weights of the best epoch in the evaluated network, if there was an epoch."""
    if not state.history:
        return
    path = checkpoint_path(folder, best_epoch(state.history))
    if state.average is not None:
        state.average.load_state_dict(load_file(path / _AVERAGE))
    else:
        state.network.load_state_dict(load_file(path / _WEIGHTS))


def saved_epochs(folder: Path) -> list[int]:
    """Return the epochs that have a checkpoint, in order."""
    names = (path.name for path in folder.glob("epoch-*"))
    matches = (re.fullmatch(r"epoch-(\d{4}|[1-9]\d{4,})", name) for name in names)
    return sorted(int(match[1]) for match in matches if match)


def checkpoint_path(folder: Path, epoch: int) -> Path:
    """Return the folder of an epoch's checkpoint."""
    return folder / f"epoch-{epoch:04d}"


def best_epoch(history: list[Row]) -> int:
    """Return the number of the epoch with the best validation results, from 1.

    It is the first one with the highest accuracy, and of those the one with the lowest loss, which
    NaN never is; without a validation split it is the last. Without epochs it is 0, the network as
    it began.
    """
    if not history or "val_accuracy" not in history[-1]:
        return len(history)
    scores = [validation_score(row) for row in history]
    return scores.index(max(scores)) + 1


def validation_score(row: Row) -> tuple[float, float]:
    """Return what orders results, the best last: by accuracy, then by loss."""
    loss = row.get("val_loss", 0.0)
    return row.get("val_accuracy", 0.0), -math.inf if math.isnan(loss) else -loss


def best_row(history: list[Row]) -> Row:
    """Return the results of the best epoch."""
    return history[best_epoch(history) - 1] if history else {"epoch": 0}


def _save_tensors(module: nn.Module, file: Path) -> None:
    # Tied weights share their memory, which safetensors refuses: each is written by itself.
    write_tensors(
        {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in module.state_dict().items()
        },
        file,
    )
