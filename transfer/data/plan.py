"""Which image is in which batch: a pure function of seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import DataError

#: How the images of an epoch are drawn: all of them in a new order each time, in one order that
#: stays (`nn.StochasticGradient` draws its own once), or each anew, so that one may come twice and
#: another not at all.
Sampling = Literal["shuffle", "shuffle-once", "replacement"]


@dataclass(frozen=True)
class BatchPlan:
    """The batches of each epoch, and this process's batch_slice of them.

    A batch is of all processes together; each takes a contiguous batch_slice, so that the slices of all
    are the batch, whatever their number. Nothing is lost or taken twice by them.

    Attributes:
        count: images of an epoch.
        batch_size: of all processes together.
        shuffle_seed: the images of an epoch are drawn by this; None keeps their order.
        drop_last: leave out a last batch that is smaller.
        rank: of this process.
        world_size: the number of processes.
        sampling: how they are drawn.
    """

    count: int
    batch_size: int
    shuffle_seed: int | None = None
    drop_last: bool = False
    rank: int = 0
    world_size: int = 1
    sampling: Sampling = "shuffle"

    def __post_init__(self) -> None:
        if self.batch_size < 1 or not 0 <= self.rank < self.world_size:
            raise DataError(
                f"batches of {self.batch_size} for process {self.rank} of {self.world_size}"
            )

    def __len__(self) -> int:
        whole, rest = divmod(self.count, self.batch_size)
        return whole if self.drop_last or not rest else whole + 1

    def order(self, epoch: int) -> np.ndarray:
        """(count,) int64: the index of the image at each position of an epoch."""
        if self.shuffle_seed is None:
            return np.arange(self.count)
        drawn = 0 if self.sampling == "shuffle-once" else epoch
        random = np.random.default_rng([self.shuffle_seed, drawn])
        if self.sampling == "replacement":
            return random.integers(self.count, size=self.count)
        return random.permutation(self.count)

    def slices(self, start: int = 0) -> Iterator[BatchSlice]:
        """This process's batch_slice of each batch, from the batch `start` on."""
        for first in range(start * self.batch_size, self.count, self.batch_size):
            stop = min(first + self.batch_size, self.count)
            if self.drop_last and stop - first < self.batch_size:
                return
            size = stop - first
            yield BatchSlice(
                first,
                first + size * self.rank // self.world_size,
                first + size * (self.rank + 1) // self.world_size,
                stop,
            )


@dataclass(frozen=True)
class BatchSlice:
    """The positions [start, stop) of the batch [batch_start, batch_stop)."""

    batch_start: int
    start: int
    stop: int
    batch_stop: int

    def positions(self) -> np.ndarray:
        """The positions of this batch_slice."""
        return np.arange(self.start, self.stop)

    def with_neighbour(self) -> np.ndarray:
        """The positions of this batch_slice, behind that of the image before it in its batch.

        Before a batch's first stands its last, so that each image has another one as neighbour.
        """
        if self.start == self.stop:
            return self.positions()
        before = self.start - 1 if self.start > self.batch_start else self.batch_stop - 1
        return np.append(before, self.positions())
