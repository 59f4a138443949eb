"""The queue of a model whose inputs have no batch in front, and what a single run is given.

What is protected: such a request is one example whatever its shape, gets its outputs whole, and a
network never works on numbers that stand askew in memory.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")

from serve_app_support import within

from torchlift.cli.serve.batching import Batcher, Ticket, Waiting
from torchlift.cli.serve.statistics import Statistics


class Counts:
    """A model without a batch: it counts to three, and writes down what it was given."""

    has_batch = may_batch = False

    def __init__(self) -> None:
        self.name = "counts"
        self.given: list[np.ndarray] = []

    def run(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.given += inputs.values()
        return [np.arange(3), np.array(7)]


def answered(model: Any, *inputs: np.ndarray, max_batch: int = 2) -> tuple[list[Any], Any]:
    """The answers to requests that come one after another, and the statistics of the model."""
    statistics = Statistics("counts", "1")

    async def ask() -> list[Any]:
        batcher = Batcher(model, max_batch, 0, statistics)
        found = [await batcher.submit({"x": one}, Ticket(lambda: None)) for one in inputs]
        await batcher.close()
        return found

    return within(ask()), statistics.to_json()


def test_a_request_without_a_batch_is_one_example_and_its_outputs_are_whole() -> None:
    model = Counts()
    answers, told = answered(model, np.zeros((7, 2)), np.array(1.0))
    for counted, scalar in answers:
        assert (counted.tolist(), scalar.tolist()) == ([0, 1, 2], 7)
    # Seven rows are no batch that may be cut into pieces of two.
    assert [one.shape for one in model.given] == [(7, 2), ()]
    assert (told["inference_count"], told["execution_count"]) == (2, 2)
    assert [one["batch_size"] for one in told["batch_stats"]] == [1]


@pytest.mark.parametrize("kind", ["behind a byte", "as columns"])
def test_numbers_are_moved_to_where_a_processor_expects_them(kind: str) -> None:
    """Those of a request begin wherever its JSON ends."""
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    if kind == "as columns":
        askew = np.asfortranarray(values)
    else:
        askew = np.frombuffer(b"}" + values.tobytes(), np.float32, offset=1).reshape(2, 3)
    assert not (askew.flags.aligned and askew.flags.c_contiguous)
    model = Counts()
    answered(model, askew)
    (given,) = model.given
    assert given.flags.aligned
    assert given.flags.c_contiguous
    assert given.tolist() == values.tolist()


def test_what_has_just_come_is_answered_before_the_end_and_no_thread_is_left() -> None:
    model: Any = Counts()

    async def close() -> list[np.ndarray]:
        batcher = Batcher(model, 1, 0, Statistics("counts", "1"))
        # The queue waits already.
        await asyncio.sleep(0)
        asked = asyncio.create_task(batcher.submit({"x": np.zeros(1)}, Ticket(lambda: None)))
        while not batcher._items:
            await asyncio.sleep(0)
        assert not batcher._busy
        await batcher.close()
        assert batcher._thread._shutdown
        return await asyncio.wait_for(asked, 2)

    assert within(close())[0].tolist() == [0, 1, 2]


def test_who_runs_has_left_the_queue_and_gives_room_to_the_next() -> None:
    model: Any = Counts()
    begun, may_end = threading.Event(), threading.Event()

    def run(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        begun.set()
        assert may_end.wait(20)
        return [np.arange(3)]

    model.run = run

    async def ask() -> list[int]:
        batcher = Batcher(model, 1, 0, Statistics("counts", "1"))
        counts: list[int] = []
        waiting = Waiting(1, counts.append)

        async def one() -> None:
            with waiting.enter() as ticket:
                await batcher.submit({"x": np.zeros(1)}, ticket)

        first = asyncio.create_task(one())
        try:
            while not begun.is_set():
                await asyncio.sleep(0.001)
            second = asyncio.create_task(one())
            await asyncio.sleep(0.01)
            assert counts == [1, 0, 1]
        finally:
            may_end.set()
        await asyncio.gather(first, second)
        await batcher.close()
        return counts

    assert within(ask()) == [1, 0, 1, 0]


def test_what_cannot_join_a_batch_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """First come, first served, whatever the shapes are."""
    model: Any = Counts()
    monkeypatch.setattr(Counts, "has_batch", True)
    monkeypatch.setattr(Counts, "may_batch", True)

    async def ask() -> None:
        batcher = Batcher(model, 8, 0, Statistics("counts", "1"))
        inputs = [np.zeros((1, size)) for size in (1, 2, 3, 4)]
        tickets = [Ticket(lambda: None) for _ in inputs]
        asked = zip(inputs, tickets, strict=True)
        await asyncio.gather(*(batcher.submit({"x": one}, ticket) for one, ticket in asked))
        await batcher.close()

    within(ask())
    assert [one.shape[1] for one in model.given] == [1, 2, 3, 4]


@pytest.mark.parametrize("kind", [RuntimeError, KeyError, MemoryError])
def test_whatever_a_run_ends_by_is_answered_and_the_next_request_too(kind: type[Exception]) -> None:
    model: Any = Counts()
    run, failed = model.run, []

    def once(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        if not failed:
            failed.append(kind("a fault"))
            raise failed[0]
        found: list[np.ndarray] = run(inputs)
        return found

    model.run = once

    async def ask() -> list[np.ndarray]:
        batcher = Batcher(model, 1, 0, Statistics("counts", "1"))
        with pytest.raises(kind):
            await batcher.submit({"x": np.zeros(1)}, Ticket(lambda: None))
        found = await batcher.submit({"x": np.zeros(1)}, Ticket(lambda: None))
        await batcher.close()
        return found

    assert within(ask(), 5)[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(("second", "runs"), [((1, 2), 1), ((1, 3), 2)])
def test_every_input_must_fit_for_requests_to_run_together(
    second: tuple[int, ...], runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = Counts()
    monkeypatch.setattr(Counts, "has_batch", True)
    monkeypatch.setattr(Counts, "may_batch", True)
    sizes: list[int] = []

    def run(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        sizes.append(len(inputs["x"]))
        return [inputs["y"].sum(axis=1)]

    model.run = run

    async def ask() -> list[list[np.ndarray]]:
        batcher = Batcher(model, 2, 0.05, Statistics("counts", "1"))
        inputs = [{"x": np.zeros((1, 4)), "y": np.ones(shape)} for shape in ((1, 2), second)]
        asked = (batcher.submit(one, Ticket(lambda: None)) for one in inputs)
        found = await asyncio.gather(*asked)
        await batcher.close()
        return found

    first, other = within(ask())
    assert (first[0].tolist(), other[0].tolist()) == ([2], [second[1]])
    assert sizes == [2 // runs] * runs
