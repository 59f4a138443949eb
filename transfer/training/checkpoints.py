"""Everything that a training needs to go on as if it had never stopped.

A checkpoint is a folder `epoch-0007`, written under another name and renamed, so that one that
is there is whole. The last and the best are kept.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

#: Results of one epoch, as they stand in `metrics.csv`.
Row = dict[str, float]

WEIGHTS, AVERAGE, STATE = "model.safetensors", "average.safetensors", "state.pt"


@dataclass
class TrainingState:
    """What changes during a training.

    Attributes:
        network: the network, without the wrapping of several processes.
        optimizer: its optimizer.
        average: the moving average of its weights, if one is kept.
        scaler: the gradient scaler of fp16, if there is one.
        history: the results of each epoch.
        seconds: what each epoch took, its validation included.
    """

    network: nn.Module
    optimizer: Any
    average: AveragedModel | None
    scaler: Any
    history: list[Row] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def evaluated(self) -> nn.Module:
        """The network whose results count."""
        return self.network if self.average is None else self.average.module


def save_checkpoint(folder: Path, parts: TrainingState) -> None:
    """Write a checkpoint of the epoch that `history` ends with; only the best other one stays.

    Args:
        folder: of all checkpoints of a run.
        parts: what is saved.
    """
    epoch = len(parts.history)
    temporary = folder / f".{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    _save_tensors(parts.network, temporary / WEIGHTS)
    if parts.average is not None:
        _save_tensors(parts.average, temporary / AVERAGE)
    state = {
        "optimizer": parts.optimizer.state_dict(),
        "scaler": None if parts.scaler is None else parts.scaler.state_dict(),
        "history": parts.history,
        "seconds": parts.seconds,
    }
    torch.save(state, temporary / STATE)
    temporary.replace(checkpoint_path(folder, epoch))
    kept = {checkpoint_path(folder, number) for number in (epoch, best_epoch(parts.history))}
    for path in set(folder.iterdir()) - kept:
        shutil.rmtree(path)


def load_last_checkpoint(folder: Path, parts: TrainingState) -> None:
    """Set everything to what the last checkpoint has; nothing happens where there is none."""
    epochs = saved_epochs(folder)
    if not epochs:
        return
    path = checkpoint_path(folder, epochs[-1])
    parts.network.load_state_dict(load_file(path / WEIGHTS))
    if parts.average is not None:
        parts.average.load_state_dict(load_file(path / AVERAGE))
    state = torch.load(path / STATE, map_location="cpu", weights_only=True)
    parts.optimizer.load_state_dict(state["optimizer"])
    if parts.scaler is not None:
        parts.scaler.load_state_dict(state["scaler"])
    parts.history[:], parts.seconds[:] = state["history"], state["seconds"]


def load_best(folder: Path, parts: TrainingState) -> None:
    """Set the evaluated network to its weights of the best epoch, if there was one."""
    if not parts.history:
        return
    path = checkpoint_path(folder, best_epoch(parts.history))
    if parts.average is not None:
        parts.average.load_state_dict(load_file(path / AVERAGE))
    else:
        parts.network.load_state_dict(load_file(path / WEIGHTS))


def saved_epochs(folder: Path) -> list[int]:
    """The epochs that there are checkpoints of, in order."""
    found = (re.fullmatch(r"epoch-(\d+)", path.name) for path in folder.glob("epoch-*"))
    return sorted(int(match[1]) for match in found if match)


def checkpoint_path(folder: Path, epoch: int) -> Path:
    """The folder of an epoch's checkpoint."""
    return folder / f"epoch-{epoch:04d}"


def best_epoch(history: list[Row]) -> int:
    """The number of the epoch that did best on the validation part, from 1.

    The first with the highest accuracy, and the lowest loss of those; without a validation part
    it is the last. Without epochs it is 0: the network as it began.
    """
    if not history or "val_accuracy" not in history[-1]:
        return len(history)
    scores = [(row["val_accuracy"], -row["val_loss"]) for row in history]
    return scores.index(max(scores)) + 1


def best_row(history: list[Row]) -> Row:
    """The results of the best epoch."""
    return history[best_epoch(history) - 1] if history else {"epoch": 0}


def _save_tensors(module: nn.Module, file: Path) -> None:
    # Tied weights batch_slice their memory, which the format does not allow: each is written.
    save_file(
        {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in module.state_dict().items()
        },
        file,
    )
