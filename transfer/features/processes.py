"""Several processes that share the work: `torchrun`, or `accelerate launch`, which starts it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from ...converters.inference.threads import available_cpus

#: How long the first to finish waits for the last.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Process:
    """This process among those that share the work.

    Attributes:
        rank: its number, from 0.
        count: how many there are.
        neighbours: how many of them run on this machine.
    """

    rank: int = 0
    count: int = 1
    neighbours: int = 1

    @property
    def is_first(self) -> bool:
        """Whether it is the one that speaks for all."""
        return self.rank == 0

    @property
    def cores(self) -> int:
        """The processors that are its share."""
        return max(available_cpus() // self.neighbours, 1)

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.count > 1:
            from torch import distributed

            distributed.barrier()


#: No other process shares the work.
ALONE = Process()


@contextmanager
def joined_process() -> Iterator[Process]:
    """This process, able to wait for the others that its launcher started, if there are any."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    import torch
    from torch import distributed

    local = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available():
        torch.cuda.set_device(local % torch.cuda.device_count())
    distributed.init_process_group("gloo", timeout=_PATIENCE)
    try:
        neighbours = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        yield Process(distributed.get_rank(), count, neighbours)
    finally:
        distributed.destroy_process_group()
