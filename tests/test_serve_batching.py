"""The queue of one model: which requests run together, and what becomes of those given up.

What is protected: each request gets its own rows, a bad one fails alone, nothing given up runs, and
a server that stops waits for no more examples.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")

from torchlift.cli.serve.batching import Batcher, Ticket, Waiting, _Item
from torchlift.cli.serve.errors import RequestError
from torchlift.cli.serve.statistics import Statistics
from torchlift.converters.errors import TorchliftError

#: Longer than any of these tests may take.
LONG = 60.0


class Doubles:
    """A model that doubles its input, and writes down what it ran on."""

    has_batch = may_batch = True

    def __init__(self) -> None:
        self.name = "doubles"
        self.ran: list[np.ndarray] = []

    def run(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.ran.append(inputs["x"])
        if (inputs["x"] < 0).any():
            raise TorchliftError("it is negative")
        return [inputs["x"] * 2, inputs["x"][:, :1]]


def row(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


def served(
    inputs: list[np.ndarray], model: Doubles, max_batch: int, max_delay: float = LONG
) -> list[Any]:
    """What a model answers to requests that arrive at once: outputs or errors."""

    async def ask() -> list[Any]:
        batcher = Batcher(model, max_batch, max_delay, Statistics("doubles", "1"))  # type: ignore[arg-type]
        waiting = Waiting(100, lambda count: None)

        async def one(array: np.ndarray) -> list[np.ndarray]:
            with waiting.enter() as ticket:
                return await batcher.submit({"x": array}, ticket)

        answers = await asyncio.gather(*map(one, inputs), return_exceptions=True)
        await batcher.close()
        return answers

    return within(ask())


def within(work: Coroutine[Any, Any, Any], seconds: float = 20) -> Any:
    return asyncio.run(asyncio.wait_for(work, seconds))


def test_requests_run_together_and_each_gets_its_own_rows() -> None:
    model = Doubles()
    inputs = [row(1, 2), np.array([[3, 4], [5, 6]], np.float32), row(7, 8)]
    answers = served(inputs, model, max_batch=4)
    assert [len(array) for array in model.ran] == [4]
    for array, (doubled, first) in zip(inputs, answers, strict=True):
        np.testing.assert_array_equal(doubled, array * 2)
        np.testing.assert_array_equal(first, array[:, :1])


def test_no_batch_is_larger_than_it_may_be() -> None:
    model = Doubles()
    served([row(number) for number in range(7)], model, max_batch=3, max_delay=0.01)
    assert [len(array) for array in model.ran] == [3, 3, 1]
    model = Doubles()
    values = np.arange(14, dtype=np.float32).reshape(7, 2)
    [[doubled, _]] = served([values], model, max_batch=3)
    assert [len(array) for array in model.ran] == [3, 3, 1]
    np.testing.assert_array_equal(doubled, values * 2)


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(3, [3]), (4, [3, 1]), (5, [3, 2]), (6, [3, 3]), (7, [3, 3, 1])],
)
def test_a_request_runs_in_pieces_where_it_is_larger_than_a_batch(
    count: int, sizes: list[int]
) -> None:
    model = Doubles()
    values = np.arange(count * 2, dtype=np.float32).reshape(count, 2)
    [[doubled, first]] = served([values], model, max_batch=3)
    assert [len(array) for array in model.ran] == sizes
    np.testing.assert_array_equal(doubled, values * 2)
    np.testing.assert_array_equal(first, values[:, :1])


@pytest.mark.parametrize(
    "others",
    [
        pytest.param(np.array([[3], [4]], np.float32), id="of another shape"),
        pytest.param(np.array([[3, 4], [5, 6]], np.float64), id="of another type"),
        pytest.param(np.array([[3, 4], [5, 6]], np.float32), id="too many for this batch"),
    ],
)
def test_a_batch_that_another_waits_for_is_not_held_back(others: np.ndarray) -> None:
    """The delay is for examples that may still join; here none of them can."""
    model = Doubles()
    answers = served([row(1, 2), others], model, max_batch=2, max_delay=LONG)
    assert [len(array) for array in model.ran] == [1, 2]
    for array, (doubled, _) in zip([row(1, 2), others], answers, strict=True):
        np.testing.assert_array_equal(doubled, array * 2)


def test_other_shapes_and_types_do_not_run_together() -> None:
    model = Doubles()
    inputs = [row(1, 2), row(3), row(4, 5).astype(np.float64), row(6, 7)]
    answers = served(inputs, model, max_batch=4, max_delay=0.01)
    for array, (doubled, _) in zip(inputs, answers, strict=True):
        np.testing.assert_array_equal(doubled, array * 2)
        assert doubled.dtype == array.dtype
    assert sorted(array.shape for array in model.ran) == [(1, 1), (1, 2), (2, 2)]


def test_a_request_that_fails_fails_alone() -> None:
    model = Doubles()
    good, bad = served([row(1), row(-1)], model, max_batch=2)
    np.testing.assert_array_equal(good[0], row(2))
    assert isinstance(bad, TorchliftError)
    # Together first, then each alone.
    assert [len(array) for array in model.ran] == [2, 1, 1]


def test_a_request_given_up_does_not_run_and_nobody_waits_for_it_at_the_end() -> None:
    model = Doubles()

    async def give_up() -> int:
        batcher = Batcher(model, 8, LONG, Statistics("doubles", "1"))  # type: ignore[arg-type]
        counts: list[int] = []
        waiting = Waiting(1, counts.append)
        with waiting.enter() as ticket:
            with pytest.raises(RequestError, match="the queue is full: 1 requests"):
                waiting.enter().__enter__()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(batcher.submit({"x": row(1)}, ticket), 0.01)
        await batcher.close()
        return counts[-1]

    began = time.monotonic()
    assert within(give_up()) == 0
    assert time.monotonic() - began < LONG / 4
    assert model.ran == []


def test_a_request_given_up_takes_no_place_in_a_batch() -> None:
    model = Doubles()

    async def ask() -> list[np.ndarray]:
        batcher = Batcher(model, 2, LONG, Statistics("doubles", "1"))  # type: ignore[arg-type]
        waiting = Waiting(3, lambda count: None)

        async def one(value: float) -> list[np.ndarray]:
            with waiting.enter() as ticket:
                return await batcher.submit({"x": row(value)}, ticket)

        first, second, third = (asyncio.create_task(one(value)) for value in (1, 2, 3))
        await asyncio.sleep(0)
        second.cancel()
        answers = await asyncio.gather(first, third)
        await batcher.close()
        return [answer[0] for answer in answers]

    assert [array.tolist() for array in within(ask())] == [[[2]], [[6]]]
    assert [array.tolist() for array in model.ran] == [[[1], [3]]]


def test_what_has_waited_for_a_busy_model_waits_for_no_others() -> None:
    """The delay counts from the moment when a request came."""

    async def take() -> int:
        batcher = Batcher(Doubles(), 8, LONG, Statistics("doubles", "1"))  # type: ignore[arg-type]
        answer = asyncio.get_running_loop().create_future()
        ticket = Ticket(lambda: None)
        came = time.perf_counter() - LONG
        batcher._items = deque([_Item({"x": row(1)}, 1, ticket, answer, came)])
        group = await batcher._next_group()
        answer.cancel()
        await batcher.close()
        return len(group)

    assert within(take()) == 1


def test_what_runs_when_a_model_is_closed_is_answered() -> None:
    model, begun, may_end = Doubles(), threading.Event(), threading.Event()
    run = model.run

    def slowly(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        begun.set()
        assert may_end.wait(20)
        return run(inputs)

    model.run = slowly  # type: ignore[method-assign]

    async def close() -> list[np.ndarray]:
        batcher = Batcher(model, 1, 0, Statistics("doubles", "1"))  # type: ignore[arg-type]
        answer = asyncio.create_task(batcher.submit({"x": row(1)}, Ticket(lambda: None)))
        try:
            while not begun.is_set():
                await asyncio.sleep(0.001)
            closed = asyncio.create_task(batcher.close())
            done, _ = await asyncio.wait([closed], timeout=0.05)
            assert not done
        finally:
            may_end.set()
        await closed
        return await answer

    assert within(close())[0].tolist() == [[2]]


def test_a_request_leaves_the_queue_when_its_work_starts_and_only_once() -> None:
    counts: list[int] = []
    waiting = Waiting(2, counts.append)
    with waiting.enter() as first, waiting.enter():
        with pytest.raises(RequestError, match="the queue is full: 2 requests") as refused:
            waiting.enter().__enter__()
        first.start()
        first.start()
        with waiting.enter():
            pass
    assert counts == [1, 2, 1, 2, 1, 0]
    assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})


def test_examples_run_alone_as_they_came_where_batches_hold_one_or_would_mix() -> None:
    together = [np.array([[1, 2], [3, 4], [5, 6]], np.float32), row(7, 8)]
    for max_batch, may_batch in ((1, True), (8, False)):
        model = Doubles()
        model.may_batch = may_batch
        served(together, model, max_batch=max_batch)
        assert [len(array) for array in model.ran] == [3, 1]


def test_statistics_tell_of_what_ran_together() -> None:
    statistics = Statistics("doubles", "1")

    async def ask() -> None:
        batcher = Batcher(Doubles(), 4, LONG, statistics)  # type: ignore[arg-type]
        inputs = [row(1), np.array([[2], [3], [4]], np.float32)]
        tickets = [Ticket(lambda: None) for _ in inputs]
        asked = zip(inputs, tickets, strict=True)
        await asyncio.gather(*(batcher.submit({"x": one}, ticket) for one, ticket in asked))
        nine = np.zeros((9, 1), np.float32)
        await batcher.submit({"x": nine}, tickets[0])
        await batcher.close()

    within(ask())
    told = statistics.to_json()
    assert (told["inference_count"], told["execution_count"]) == (13, 4)
    assert [(one["batch_size"], one["compute_infer"]["count"]) for one in told["batch_stats"]] == [
        (1, 1),
        (4, 3),
    ]
    assert {told["inference_stats"][name]["count"] for name in ("queue", "compute_infer")} == {3}


def test_the_times_of_a_batch_are_those_of_waiting_copying_and_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    statistics = Statistics("doubles", "1")
    clock = iter([10.0, 10.5, 12.5])

    async def compute() -> None:
        batcher = Batcher(Doubles(), 4, 0, statistics)  # type: ignore[arg-type]
        answer = asyncio.get_running_loop().create_future()
        ticket = Ticket(lambda: None)
        group = [_Item({"x": row(1)}, 1, ticket, answer, came) for came in (1.0, 3.0)]
        with monkeypatch.context() as patch:
            patch.setattr(time, "perf_counter", lambda: next(clock))
            batcher._compute(group)
        answer.cancel()
        await batcher.close()

    within(compute())
    told = {
        name: (one["count"], one["ns"] / 1e9)
        for name, one in statistics.to_json()["inference_stats"].items()
    }
    assert told["queue"] == (2, 9.0 + 7.0)
    assert told["compute_input"] == (2, 2 * 0.5)
    assert told["compute_infer"] == (2, 2 * 2.0)


@pytest.mark.parametrize("fails", [False, True])
def test_a_request_given_up_while_it_runs_changes_no_other_answer(fails: bool) -> None:
    """The others keep their rows, or get their error, and the next request is answered."""
    model, begun, may_end = Doubles(), threading.Event(), threading.Event()
    run = model.run

    def slowly(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        begun.set()
        assert may_end.wait(20)
        if fails and len(model.ran) == 0:
            model.ran.append(inputs["x"])
            raise ValueError("a fault")
        return run(inputs)

    model.run = slowly  # type: ignore[method-assign]

    async def ask() -> list[Any]:
        batcher = Batcher(model, 3, LONG, Statistics("doubles", "1"))  # type: ignore[arg-type]

        async def one(value: float) -> np.ndarray:
            found = await batcher.submit({"x": row(value)}, Ticket(lambda: None))
            return found[0]

        first, second, third = (asyncio.create_task(one(value)) for value in (1, 2, 3))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        first.cancel()
        await asyncio.sleep(0)
        may_end.set()
        answers = await asyncio.gather(second, third, return_exceptions=True)
        three = np.full((3, 1), 7, np.float32)
        after = await batcher.submit({"x": three}, Ticket(lambda: None))
        await batcher.close()
        return [*answers, after[0]]

    second, third, after = within(ask())
    if fails:
        assert [str(second), str(third)] == ["a fault"] * 2
    else:
        assert [second.tolist(), third.tolist()] == [[[4]], [[6]]]
    assert after.tolist() == [[14]] * 3


@pytest.mark.parametrize("given_up", [0, 1, 2])
def test_of_a_batch_only_those_run_that_are_still_waited_for(given_up: int) -> None:
    model = Doubles()

    async def run() -> list[list[np.ndarray]]:
        batcher = Batcher(model, 8, LONG, Statistics("doubles", "1"))  # type: ignore[arg-type]
        loop = asyncio.get_running_loop()
        items = [
            _Item({"x": row(value)}, 1, Ticket(lambda: None), loop.create_future())
            for value in (1, 2)
        ]
        for item in items[:given_up]:
            item.answer.cancel()
        await batcher._run(items)
        await batcher.close()
        return [item.answer.result() for item in items[given_up:]]

    found = within(run())
    assert [answer[0].tolist() for answer in found] == [[[2]], [[4]]][given_up:]
    assert [len(array) for array in model.ran] == ([2 - given_up] if given_up < 2 else [])
