"""Processes that share the work: those that `torchrun` or `accelerate launch` started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

#: How long the first process to finish waits for the last.
_TIMEOUT = timedelta(days=7)


@dataclass(frozen=True)
class Process:
    """This process among those that share the work.

    Attributes:
        rank: Its number, from 0.
        world_size: The number of processes.
    """

    rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process creates what all write to, and reports for all."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until every process has called this."""
        if self.world_size > 1:
            from torch import distributed

            distributed.barrier()

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, by rank; every process calls this."""
        if self.world_size == 1:
            return [value]
        from torch import distributed

        values: list[Any] = [None] * self.world_size
        distributed.all_gather_object(values, value)
        return values


#: The only process.
ALONE = Process()


@contextmanager
def joined_process() -> Iterator[Process]:
    """Return this process, connected to the others that its launcher started, if there are any."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield ALONE
        return
    import torch
    from torch import distributed

    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
    distributed.init_process_group("gloo", timeout=_TIMEOUT)
    try:
        yield Process(distributed.get_rank(), world_size)
    finally:
        distributed.destroy_process_group()
