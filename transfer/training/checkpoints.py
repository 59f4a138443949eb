"""Checkpoints: everything that a training needs to be resumed as if it had never stopped.

A checkpoint is a folder `epoch-0007`, written atomically. Those of the last and of the best epochs
are kept, and those of every few epochs if that is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ...converters.errors import first_line
from ...converters.files import atomic_path, remove_abandoned
from ...converters.saved.tensor_files import write_buffered, write_tensors
from ...converters.validation import check_entries, list_of, number, refusal
from ..errors import TrainingError
from .monitoring import Monitor, Row, best_epoch, best_epochs

_WEIGHTS, _AVERAGE, _STATE = "model.safetensors", "average.safetensors", "state.pt"


@dataclass(frozen=True)
class Kept:
    """Which checkpoints are kept, beside that of the last epoch.

    Attributes:
        monitor: The metric that decides which epochs are the best.
        best: How many of the best epochs.
        every: Also those of every so many epochs.
    """

    monitor: Monitor = "accuracy"
    best: int = 1
    every: int | None = None

    def epochs(self, history: list[Row]) -> set[int]:
        """Return the epochs whose checkpoints are kept.

        Args:
            history: The results of the epochs so far.

        Example:
            >>> rows = [{"val_accuracy": accuracy} for accuracy in (0.5, 0.9, 0.7, 0.6)]
            >>> sorted(Kept().epochs(rows)), sorted(Kept(best=2, every=1).epochs(rows))
            ([2, 4], [1, 2, 3, 4])
        """
        last = len(history)
        regular = range(self.every, last + 1, self.every) if self.every else ()
        return {last, *best_epochs(history, self.monitor, self.best), *regular}


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
        class_counts: For each epoch that was validated, (3, classes) int64: of the images of a
            class, how many there are, how many were predicted correctly, and how many images were
            predicted to be of it.
    """

    network: nn.Module
    optimizer: Any
    average: AveragedModel | None
    scaler: Any
    history: list[Row] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    class_counts: dict[int, torch.Tensor] = field(default_factory=dict)

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated and saved: the moving average, if there is one."""
        return self.network if self.average is None else self.average.module


def save_checkpoint(folder: Path, state: TrainingState, kept: Kept | None = None) -> None:
    """Write the checkpoint of the last epoch; delete all others that are not kept.

    Args:
        folder: The folder of a run's checkpoints.
        state: The state after the last epoch in its history.
        kept: Which are kept; by default that of the best epoch.
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
            "class_counts": state.class_counts,
        }
        write_buffered(partial(torch.save, content), path / _STATE)
    remove_superseded(folder, state.history, kept or Kept())


def remove_superseded(folder: Path, history: list[Row], kept: Kept) -> None:
    """Delete all checkpoints that are not kept, and what a kill left of others.

    Args:
        folder: The folder of a run's checkpoints.
        history: The results of the epochs up to the last checkpoint.
        kept: Which are kept.
    """
    remove_abandoned(folder)
    if not history:
        return
    paths = {checkpoint_path(folder, epoch) for epoch in kept.epochs(history)}
    for path in folder.glob("epoch-*"):
        is_ours = _is_checkpoint(path) or (path.is_dir() and not any(path.iterdir()))
        if re.fullmatch(r"epoch-\d{4,}", path.name) and path not in paths and is_ours:
            _remove_checkpoint(path)


def load_last_checkpoint(folder: Path, state: TrainingState) -> None:
    """Restore the state of the last checkpoint, if there is one.

    Raises:
        TrainingError: If it is damaged; no code in it is run.
    """
    epochs = saved_epochs(folder)
    if not epochs:
        return
    path = checkpoint_path(folder, epochs[-1])
    _load_tensors(state.network, path / _WEIGHTS)
    if state.average is not None:
        _load_tensors(state.average, path / _AVERAGE)
    with _naming_damage(path / _STATE):
        content = torch.load(path / _STATE, map_location="cpu", weights_only=True)
        check_entries(content, {"history": list_of(_row), "seconds": list_of(number)})
        if not len(content["history"]) == len(content["seconds"]) == epochs[-1]:
            raise ValueError(f"it is of epoch {len(content['history'])}")
        # torchlift 0.1.0 did not count classes.
        counts = content.get("class_counts", {})
        if not all(torch.is_tensor(each) and each.shape[:1] == (3,) for each in counts.values()):
            raise ValueError("its class_counts are no counts")
        state.optimizer.load_state_dict(content["optimizer"])
        if state.scaler is not None:
            state.scaler.load_state_dict(content["scaler"])
    state.history[:], state.seconds[:] = content["history"], content["seconds"]
    state.class_counts = counts


def load_best(folder: Path, state: TrainingState, monitor: Monitor = "accuracy") -> None:
    """Restore the weights of the best epoch in the evaluated network, if there was an epoch."""
    if not state.history:
        return
    path = checkpoint_path(folder, best_epoch(state.history, monitor))
    if state.average is not None:
        _load_tensors(state.average, path / _AVERAGE)
    else:
        _load_tensors(state.network, path / _WEIGHTS)


def saved_epochs(folder: Path) -> list[int]:
    """Return the epochs that have a checkpoint, in order."""
    names = [path.name for path in folder.glob("epoch-*") if _is_checkpoint(path)]
    matches = (re.fullmatch(r"epoch-(\d{4}|[1-9]\d{4,})", name) for name in names)
    return sorted(int(match[1]) for match in matches if match)


def _is_checkpoint(path: Path) -> bool:
    """Return whether a folder is a checkpoint: what else has such a name is left alone."""
    is_folder = path.is_dir() and not path.is_symlink()
    return is_folder and any((path / name).is_file() for name in (_STATE, _WEIGHTS))


def checkpoint_path(folder: Path, epoch: int) -> Path:
    """Return the folder of an epoch's checkpoint."""
    return folder / f"epoch-{epoch:04d}"


@contextmanager
def _naming_damage(file: Path) -> Iterator[None]:
    """Turn the error of a file that is damaged or does not fit into one that names it."""
    try:
        yield
    except UnpicklingError as error:
        raise TrainingError(
            f"{file}: the checkpoint is damaged, or holds more than numbers; start again with "
            "overwrite=True"
        ) from error
    except Exception as error:  # torch and safetensors have no class in common.
        raise TrainingError(
            f"{file}: the checkpoint is damaged or of another training: {first_line(error)}; start "
            "again with overwrite=True"
        ) from error


def _load_tensors(module: nn.Module, file: Path) -> None:
    with _naming_damage(file):
        module.load_state_dict(load_file(file))


def _row(value: Any, where: str) -> Row:
    """Check the results of an epoch: numbers by name, which may be NaN."""
    if not isinstance(value, dict) or not all(
        isinstance(name, str) and isinstance(number, (int, float)) for name, number in value.items()
    ):
        raise refusal(where, value, "the results of an epoch")
    if "epoch" not in value:
        raise ValueError(f"{where} has no epoch")
    return value


def _remove_checkpoint(path: Path) -> None:
    """Delete the files of a checkpoint, and its folder if nothing else is in it."""
    for name in (_AVERAGE, _STATE, _WEIGHTS):
        (path / name).unlink(missing_ok=True)
    with suppress(OSError):
        path.rmdir()


def _save_tensors(module: nn.Module, file: Path) -> None:
    # Tied weights share their memory, which safetensors refuses: each is written by itself.
    write_tensors(
        {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in module.state_dict().items()
        },
        file,
    )
