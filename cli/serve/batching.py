"""Dynamic batching: examples of several requests run together, for a while that is bounded.

A request waits until the model is free, and then at most `max_delay` for others of the same shape.
What waits is bounded over all models of a process (`Waiting`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...converters.errors import TorchliftError
from .errors import queue_full
from .model import ServedModel
from .statistics import Statistics

#: The arrays of a request, by the name of the input.
Inputs = Mapping[str, np.ndarray]


class Waiting:
    """How many requests wait, and how many may.

    Args:
        limit: How many may.
        report: Called with the number when it changes.
    """

    def __init__(self, limit: int, report: Callable[[int], None]) -> None:
        self._limit, self._report, self._count = limit, report, 0

    @contextmanager
    def enter(self) -> Iterator[Ticket]:
        """Wait in the queue until the block ends or the ticket's work starts.

        Raises:
            RequestError: If the queue is full.
        """
        if self._count >= self._limit:
            raise queue_full(f"the queue is full: {self._limit:,} requests are waiting")
        self._change(1)
        ticket = Ticket(lambda: self._change(-1))
        try:
            yield ticket
        finally:
            ticket.start()

    def _change(self, by: int) -> None:
        self._count += by
        self._report(self._count)


class Ticket:
    """A request's place in the queue, which it leaves when its work starts."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave: Callable[[], None] | None = leave

    def start(self) -> None:
        """Leave the queue; the second time changes nothing."""
        if self._leave is not None:
            self._leave()
            self._leave = None


@dataclass
class _Item:
    """A request's examples, and the answer that is to come."""

    inputs: Inputs
    count: int
    ticket: Ticket
    answer: asyncio.Future[list[np.ndarray]]
    arrived: float = field(default_factory=time.perf_counter)

    @property
    def key(self) -> tuple[Any, ...]:
        """What examples that run together have in common."""
        return tuple((name, array.dtype, array.shape[1:]) for name, array in self.inputs.items())


class Batcher:
    """Runs a model for requests, one batch at a time.

    Args:
        model: The model.
        max_batch: How many examples run together; 1 runs every request alone, as it came.
        max_delay: How long a free model waits for more examples, in seconds.
        statistics: What has run is counted there.
    """

    def __init__(
        self, model: ServedModel, max_batch: int, max_delay: float, statistics: Statistics
    ) -> None:
        self.model, self._max_batch, self._max_delay = model, max_batch, max_delay
        self._statistics = statistics
        self._together = model.may_batch and max_batch > 1
        self._items: deque[_Item] = deque()
        self._arrived = asyncio.Event()
        self._busy = self._closing = False
        self._thread = ThreadPoolExecutor(1, f"torchlift-run-{model.name}")
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def submit(self, inputs: Inputs, ticket: Ticket) -> list[np.ndarray]:
        """Run examples, with those of other requests where that is possible.

        Args:
            inputs: An array for each input; the first axis is that of the examples where the model
                has one.
            ticket: The request's place in the queue.

        Returns:
            The outputs for these examples, in the order of the file.

        Raises:
            InferenceError: If the model does not run on them.
        """
        count = len(next(iter(inputs.values()))) if self.model.has_batch else 1
        answer = asyncio.get_running_loop().create_future()
        item = _Item(inputs, count, ticket, answer)
        self._items.append(item)
        self._arrived.set()
        try:
            return await item.answer
        finally:
            # A request whose time is over does not run.
            item.answer.cancel()

    async def close(self) -> None:
        """Answer what waits, then end; nothing may be submitted any more."""
        self._closing = True
        self._arrived.set()
        while self._items or self._busy:
            await asyncio.sleep(0.01)
        self._task.cancel()
        self._thread.shutdown(wait=False)

    async def _work(self) -> None:
        while True:
            while not self._items:
                self._busy = False
                self._arrived.clear()
                await self._arrived.wait()
            self._busy = True
            await self._run(await self._next_group())

    async def _next_group(self) -> list[_Item]:
        """Return the next requests that run together; it is the first that decides which."""
        first = self._items.popleft()
        group, count = [first], first.count
        if not self._together or count >= self._max_batch:
            return group
        deadline = first.arrived + self._max_delay
        while True:
            kept: deque[_Item] = deque()
            while self._items:
                item = self._items.popleft()
                if item.answer.done():
                    continue
                if item.key == first.key and count + item.count <= self._max_batch:
                    group.append(item)
                    count += item.count
                else:
                    kept.append(item)
            self._items = kept
            left = deadline - time.perf_counter()
            if count >= self._max_batch or left <= 0 or kept or self._closing:
                return group
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except TimeoutError:
                return group

    async def _run(self, group: list[_Item]) -> None:
        group = [item for item in group if not item.answer.done()]
        if not group:
            return
        for item in group:
            item.ticket.start()
        try:
            outputs = await self._in_thread(group)
        except TorchliftError as error:
            if len(group) == 1:
                _fail(group[0], error)
                return
            # One request must not fail for another's sake.
            for item in group:
                await self._run([item])
            return
        except Exception as error:  # Whatever it is, the requests must be answered.
            for item in group:
                _fail(item, error)
            return
        position = 0
        for item in group:
            if not item.answer.done():
                rows = slice(position, position + item.count)
                alone = len(group) == 1
                item.answer.set_result(outputs if alone else [one[rows] for one in outputs])
            position += item.count

    async def _in_thread(self, group: list[_Item]) -> list[np.ndarray]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._compute, group)

    def _compute(self, group: list[_Item]) -> list[np.ndarray]:
        """Run a group as one batch; a request larger than a batch runs in pieces."""
        began = time.perf_counter()
        queued = [began - item.arrived for item in group]
        if len(group) == 1:
            inputs = {name: _aligned(array) for name, array in group[0].inputs.items()}
        else:
            inputs = {
                name: np.concatenate([item.inputs[name] for item in group])
                for name in group[0].inputs
            }
        ready = time.perf_counter()
        count = sum(item.count for item in group)
        if not self._together or count <= self._max_batch:
            outputs, sizes = self.model.run(inputs), [count]
        else:
            outputs, sizes = self._in_pieces(inputs, count)
        self._statistics.ran(queued, sizes, ready - began, time.perf_counter() - ready)
        return outputs

    def _in_pieces(self, inputs: Inputs, count: int) -> tuple[list[np.ndarray], list[int]]:
        pieces, sizes = [], []
        for start in range(0, count, self._max_batch):
            rows = slice(start, start + self._max_batch)
            piece = {name: array[rows] for name, array in inputs.items()}
            sizes.append(len(next(iter(piece.values()))))
            pieces.append(self.model.run(piece))
        return [np.concatenate(column) for column in zip(*pieces, strict=True)], sizes


def _aligned(array: np.ndarray) -> np.ndarray:
    """Return an array whose numbers stand where a processor expects them.

    Those of a request begin behind its JSON, wherever that ends.
    """
    return np.require(array, requirements=["C", "A"])


def _fail(item: _Item, error: Exception) -> None:
    if not item.answer.done():
        item.answer.set_exception(error)
