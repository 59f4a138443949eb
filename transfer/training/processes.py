"""The processes that train together, and what each computes on: accelerate's part."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import ProjectConfiguration

from ..errors import TrainingError
from .options import Freezing, Run


def start_processes(run: Run, freezing: Freezing, folder: Path) -> Accelerator:
    """This process among those that `torchrun` or `accelerate launch` started, if they did.

    Args:
        run: device, precision and tracker.
        freezing: whether parameters are unfrozen later.
        folder: where trackers write.

    Raises:
        TrainingError: when the device, its precision or a tracker is not to be had.
    """
    cuda = torch.cuda.is_available()
    if run.device == "cuda" and not cuda:
        raise TrainingError("cuda does not start: PyTorch finds no GPU; train on the CPU")
    on_cpu = run.device == "cpu" or not cuda
    if on_cpu and run.precision == "fp16":
        raise TrainingError("fp16 needs a GPU; on a CPU take bf16 or fp32")
    trackers = [] if run.tracker == "none" else run.tracker.split(",")
    there = {"all", *map(str, get_available_trackers())}
    if missing := ", ".join(sorted(set(trackers) - there)):
        raise TrainingError(
            f"no tracker {missing} here: {', '.join(sorted(there))} or none can be taken; others "
            "that accelerate knows, such as wandb or mlflow, have to be installed"
        )
    # A second run (of a sweep) may want another precision; accelerate remembers the first one's
    # and has no other way to forget it.
    AcceleratorState._reset_state(reset_partial_state=False)
    accelerator = Accelerator(
        cpu=on_cpu,
        mixed_precision="no" if run.precision == "fp32" else run.precision,
        log_with=trackers or None,
        project_config=ProjectConfiguration(str(folder), logging_dir=str(folder)),
        # Parameters that are unfrozen later must be known from the start.
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=freezing.unfreeze_at is not None)
        ],
    )
    # Processes that have parted cannot join again, so they stay together for the runs to come.
    atexit.register(accelerator.state.destroy_process_group)
    return accelerator


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Within, PyTorch computes with so many CPU threads; None leaves it as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def start_trackers(accelerator: Accelerator, config: dict[str, Any]) -> None:
    """Tell the trackers what is asked for; `accelerator.log` tells them the results."""
    plain = {key: value for key, value in config.items() if value is not None}
    accelerator.init_trackers("tensorboard", config=plain)


def end_trackers(accelerator: Accelerator) -> None:
    """Have the trackers write what they hold."""
    for tracker in accelerator.trackers:
        tracker.finish()
