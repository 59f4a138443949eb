"""What this process trains with: accelerate's devices and trackers, CPU threads, random seeds."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.tracking import TensorBoardTracker, get_available_trackers
from accelerate.utils import ProjectConfiguration, set_seed

from ...converters.requirements import missing_package
from ..errors import TrainingError
from ..freezing import Freezing
from .options import Run


def start_processes(run: Run, freezing: Freezing, folder: Path) -> Accelerator:
    """Return the accelerator of this process, one of those that torchrun started, if it did.

    `accelerate launch` works like torchrun; without either there is one process.

    Args:
        run: Device, precision and tracker.
        freezing: Whether parameters are unfrozen later.
        folder: Where trackers write.

    Raises:
        TrainingError: The device, its precision or a tracker is not available.
        MissingPackageError: TensorBoard is not installed.
    """
    cuda = torch.cuda.is_available()
    if run.device == "cuda" and not cuda:
        raise TrainingError("device='cuda': PyTorch finds no GPU; train on the CPU")
    on_cpu = run.device == "cpu" or not cuda
    if on_cpu and run.precision == "fp16":
        raise TrainingError("precision='fp16' needs a GPU; use bf16 or fp32 on a CPU")
    chosen = ["tensorboard"] if run.tracker is None else run.tracker
    trackers = [name for name in chosen if name != "none"]
    available = {"all", *map(str, get_available_trackers())}
    if "tensorboard" in chosen and "tensorboard" not in available:
        raise missing_package("tracker='tensorboard'", "tensorboard")
    if missing := ", ".join(sorted(set(trackers) - available)):
        raise TrainingError(
            f"tracker={missing!r} is not installed; choose from {', '.join(sorted(available))} and "
            "none, or install another one that accelerate supports, such as wandb or mlflow"
        )
    # A second run (of a sweep) may have another precision; accelerate keeps the first one's, and
    # has no public way to forget it.
    AcceleratorState._reset_state(reset_partial_state=False)
    accelerator = Accelerator(
        cpu=on_cpu,
        mixed_precision="no" if run.precision == "fp32" else run.precision,
        log_with=trackers or None,
        project_config=ProjectConfiguration(str(folder), logging_dir=str(folder)),
        # Parameters that are unfrozen later must be known from the start.
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=bool(freezing.changes()))
        ],
    )
    # A process group cannot be joined again once it is destroyed: later runs use the same one.
    atexit.register(accelerator.state.destroy_process_group)
    return accelerator


def start_trackers(accelerator: Accelerator, config: dict[str, Any]) -> None:
    """Start the trackers with the options of a run; `accelerator.log` sends them the results."""
    options = {
        key: ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
        for key, value in config.items()
        if value is not None
    }
    accelerator.init_trackers("tensorboard")
    for tracker in accelerator.trackers:
        if not isinstance(tracker, TensorBoardTracker):
            tracker.store_init_configuration(options)
        elif accelerator.is_main_process:
            # accelerate would make new folders each time, which TensorBoard shows as other runs.
            tracker.writer.add_hparams(options, {}, run_name=".")


def end_trackers(accelerator: Accelerator) -> None:
    """Let the trackers write what they still hold."""
    for tracker in accelerator.trackers:
        tracker.finish()


def seed_everything(*numbers: int) -> None:
    """Seed the random generators of Python, numpy and torch on every device.

    Args:
        numbers: Together they are the seed, such as the seed of a run, the epoch and the process.
            Each epoch begins with its own generators, so that no state of theirs needs saving.
    """
    set_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


@contextmanager
def determinism(enabled: bool) -> Iterator[None]:
    """Make operations raise if their results differ from run to run, if enabled."""
    before = torch.are_deterministic_algorithms_enabled()
    if enabled:
        # cuBLAS requires it, and reads it at its first product.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Let PyTorch use this number of CPU threads; None leaves the number as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
