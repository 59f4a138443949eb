"""Which image is in which batch: a function of the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..errors import DataError

#: How the images of an epoch are drawn: all of them in a new order for each epoch; all of them in
#: one order for all epochs (as `nn.StochasticGradient` does); or with replacement, so that an
#: image may occur more than once or not at all: each image as often as any other, or (weighted)
#: each class as often as any other.
Sampling = Literal["shuffle", "shuffle-once", "replacement", "weighted"]


@dataclass(frozen=True)
class BatchPlan:
    """The batches of each epoch, and this process's slice of each batch.

    It does what PyTorch's samplers do. A batch belongs to all processes together, and each takes
    a contiguous slice of it: together the slices are the batch, whatever the number of processes.

    Attributes:
        count: The images of an epoch: the length of the dataset.
        batch_size: The images of a batch, of all processes together.
        shuffle_seed: The seed by which images are drawn and augmented; None keeps their order
            (and augments by seed 0).
        drop_last: Leave out a last batch that is smaller.
        rank: The rank of this process. Its slice of a batch with fewer images than there are
            processes may be empty.
        world_size: The number of processes.
        sampling: How images are drawn (see `Sampling`).
        weights: (count,) how often each image is drawn in comparison, for `weighted`.

    Example:
        >>> from torchlift.transfer.data import BatchPlan
        >>> plan = BatchPlan(count=5, batch_size=2, shuffle_seed=0)
        >>> len(plan)
        3
        >>> sorted(plan.order(epoch=1).tolist())
        [0, 1, 2, 3, 4]
        >>> [batch_slice.positions().tolist() for batch_slice in plan.slices()]
        [[0, 1], [2, 3], [4]]
    """

    count: int
    batch_size: int
    shuffle_seed: int | None = None
    drop_last: bool = False
    rank: int = 0
    world_size: int = 1
    sampling: Sampling = "shuffle"
    weights: np.ndarray | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise DataError(f"batch_size={self.batch_size}: expected at least 1")
        if not 0 <= self.rank < self.world_size:
            raise DataError(
                f"rank={self.rank}: expected 0 to {self.world_size - 1} for "
                f"world_size={self.world_size}"
            )

    def __len__(self) -> int:
        whole, rest = divmod(self.count, self.batch_size)
        return whole if self.drop_last or not rest else whole + 1

    def order(self, epoch: int) -> np.ndarray:
        """Return (count,) int64: the index of the image at each position of an epoch."""
        if self.shuffle_seed is None:
            return np.arange(self.count)
        drawn_epoch = 0 if self.sampling == "shuffle-once" else epoch
        random = np.random.default_rng([self.shuffle_seed, drawn_epoch])
        if self.sampling == "replacement":
            return random.integers(self.count, size=self.count)
        if self.sampling == "weighted":
            assert self.weights is not None, "weighted sampling needs weights"
            chances = self.weights / self.weights.sum()
            return random.choice(self.count, size=self.count, p=chances)
        return random.permutation(self.count)

    def slices(self, start: int = 0) -> Iterator[BatchSlice]:
        """Yield this process's slice of each batch, beginning with the batch `start`."""
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
        """Return the positions of this slice."""
        return np.arange(self.start, self.stop)

    def with_neighbor(self) -> np.ndarray:
        """Return the positions of this slice, preceded by the position before it in its batch.

        The first position of a batch is preceded by the last one, so that each image has another
        one as its neighbor.
        """
        if self.start == self.stop:
            return self.positions()
        before = self.start - 1 if self.start > self.batch_start else self.batch_stop - 1
        return np.append(before, self.positions())
