"""The process that watches over those that serve, without any of them.

What is protected: what a client asks one process for reaches all, also those that start later; a
process that dies is started again, and one that cannot start does not take the machine.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fastapi")


from torchlift.cli.serve import supervisor as file
from torchlift.cli.serve.errors import ServeError
from torchlift.cli.serve.settings import Settings
from torchlift.cli.serve.supervisor import _Member, _Process, _Supervisor
from torchlift.converters.errors import TorchliftError


class Pipe:
    """The supervisor's end of a pipe: what it was sent, and what it says next."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.coming: list[tuple[Any, ...]] = []
        self.is_closed = False

    def send(self, message: tuple[Any, ...]) -> None:
        if self.is_closed:
            raise OSError("closed")
        self.sent.append(message)

    def recv(self) -> tuple[Any, ...]:
        if not self.coming:
            raise EOFError
        return self.coming.pop(0)

    def close(self) -> None:
        self.is_closed = True


class Watched(_Supervisor):
    """A supervisor of processes that are none."""

    def __init__(self, workers: int) -> None:
        self.ready = 0
        nothing: Any = None
        settings = Settings(".", timeout=7)
        super().__init__(settings, nothing, workers, self._count, nothing)
        self.killed: list[int] = []
        for _ in range(workers):
            self._start()

    def _count(self) -> None:
        self.ready += 1

    def _start(self) -> None:
        pid, kill = 100 + len(self._processes), self.killed.append
        process = SimpleNamespace(
            pid=pid, sentinel=pid, exitcode=-9, join=lambda *_: None, kill=lambda: kill(pid)
        )
        self._processes.append(_Process(process, Pipe()))  # type: ignore[arg-type]

    def say(self, place: int, *message: Any) -> None:
        """Let a process say something."""
        one = self._processes[place]
        self.pipe(place).coming.append(message)
        self._on_message(one)

    def pipe(self, place: int) -> Any:
        return self._processes[place].pipe

    def started(self) -> Watched:
        for place in range(len(self._processes)):
            self.say(place, "ready")
        return self


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The processes whose metrics were forgotten."""
    pids: list[int | None] = []
    monkeypatch.setattr(file, "_forget_metrics", pids.append)
    return pids


def test_it_is_ready_once_when_all_processes_are() -> None:
    watched = Watched(2)
    watched.say(0, "ready")
    assert watched.ready == 0
    watched.say(1, "ready")
    assert watched.ready == 1
    watched._start()
    watched.say(2, "ready")
    assert watched.ready == 1


def test_what_fails_at_the_start_ends_the_server_and_later_does_not(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("torchlift.serve"), "propagate", True)
    with pytest.raises(ServeError, match="no such model"):
        Watched(2).say(1, "failed", "no such model")
    watched = Watched(2)
    with pytest.raises(ServeError, match="a process ended while it started: code -9"):
        watched._on_end(watched._processes[0])
    watched = Watched(2).started()
    watched.say(1, "failed", "no such model")
    watched._on_end(watched._processes[0])
    assert [record.getMessage() for record in caplog.records] == [
        "a process cannot start: no such model",
        "process 100 has died (code -9)",
    ]


@pytest.mark.parametrize(("was_ready", "pause"), [(True, 0), (False, 1)])
def test_a_process_that_has_died_is_started_again_and_one_that_cannot_start_not_at_once(
    was_ready: bool, pause: int, monkeypatch: pytest.MonkeyPatch, forgotten: list[int | None]
) -> None:
    watched = Watched(2).started()
    now = time.monotonic()
    monkeypatch.setattr(file.time, "monotonic", lambda: now)
    monkeypatch.setattr(file, "wait", lambda *_, **__: [])
    one = watched._processes[0]
    one.is_ready = was_ready
    watched._on_end(one)
    watched._on_end(one)
    assert len(watched._processes) == 1
    assert one.pipe.is_closed  # type: ignore[attr-defined]
    assert forgotten == [100]
    assert watched._start_again == now + pause
    watched._watch()
    assert len(watched._processes) == (1 if pause else 2)
    now += pause
    watched._watch()
    watched._watch()
    assert len(watched._processes) == 2


def test_nothing_is_started_again_while_the_server_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "wait", lambda *_, **__: [])
    monkeypatch.setattr(_Supervisor, "_kill_late", lambda self: None)
    watched = Watched(2).started()
    watched._on_signal(signal.SIGTERM)
    assert [watched.pipe(place).sent for place in (0, 1)] == [[("stop",)]] * 2
    watched._on_end(watched._processes[0])
    watched._watch()
    assert len(watched._processes) == 1


@pytest.mark.parametrize(
    "outcomes", [("done", "done"), ("done", "refused"), ("refused", "refused")]
)
def test_an_operation_is_answered_when_all_have_answered(outcomes: tuple[str, str]) -> None:
    watched = Watched(2).started()
    for name in ("unload", "load"):
        watched.say(1, "ask", 7, name, "m")
        number = watched.pipe(0).sent[-1][1]
        assert [watched.pipe(place).sent[-1] for place in (0, 1)] == [("do", number, name, "m")] * 2
        watched.say(0, "answer", number, outcomes[0], "a")
        assert number in watched._operations
        watched.say(1, "answer", number, outcomes[1], "b")
        answers = [(outcomes[0], "a"), (outcomes[1], "b")]
        assert watched.pipe(1).sent[-1] == ("result", 7, answers)
        assert watched.pipe(0).sent[-1][0] == "do"
        assert watched._operations == {}
        # A process that starts later must know it.
        assert watched._unloaded == ({"m"} if name == "unload" and "done" in outcomes else set())


def test_an_operation_does_not_wait_for_a_process_that_has_died() -> None:
    watched = Watched(3).started()
    asker = watched.pipe(2)
    watched.say(2, "ask", 0, "stats", "m")
    number = asker.sent[-1][1]
    watched.say(0, "answer", number, "done", [1])
    watched.say(2, "answer", number, "done", [3])
    assert asker.sent[-1][0] == "do"
    # Its pipe has ended.
    watched._on_message(watched._processes[1])
    assert asker.sent[-1] == ("result", 0, [("done", [1]), ("done", [3])])
    # An answer to what is over is nobody's.
    watched.say(0, "answer", number, "done", [1])


def test_each_operation_has_a_number_of_its_own() -> None:
    watched = Watched(1).started()
    watched.say(0, "ask", 0, "stats", "a")
    watched.say(0, "ask", 1, "stats", "b")
    numbers = [message[1] for message in watched.pipe(0).sent]
    for number in numbers[::-1]:
        watched.say(0, "answer", number, "done", number)
    results = watched.pipe(0).sent[2:]
    assert results == [("result", at, [("done", numbers[at])]) for at in (1, 0)]


def test_what_does_not_stop_in_time_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(file.time, "sleep", slept.append)
    watched = Watched(2).started()
    watched._kill_late()
    assert slept == [7 + 5]
    assert watched.killed == [100, 101]


def test_no_process_is_left_when_the_supervisor_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(0)
    watched._workers = 2

    def fail() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watched, "_watch", fail)
    with pytest.raises(KeyboardInterrupt):
        watched.run()
    assert watched.killed == [100, 101]


def test_signals_messages_and_ends_are_waited_for_and_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = Watched(2).started()
    first, second = watched._processes
    asked: list[tuple[list[Any], float | None]] = []
    events: list[Any] = [first.pipe, second.process.sentinel]

    def wait(given: list[Any], timeout: float | None) -> list[Any]:
        asked.append((given, timeout))
        return events

    monkeypatch.setattr(file, "wait", wait)
    monkeypatch.setattr(file, "Connection", Pipe)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        watched._signals = ours
        theirs.send(bytes([signal.SIGHUP]))
        events.insert(0, ours)
        watched.pipe(0).coming.append(("ask", 3, "stats", "m"))
        watched._watch()
        assert asked == [([first.pipe, second.pipe, 100, 101, ours], None)]
    assert [message[0] for message in watched.pipe(0).sent] == ["reload", "do"]
    assert watched._processes == [first]
    # One that has ended is asked for again in a moment; nothing else may happen meanwhile.
    events.clear()
    watched._watch()
    assert asked[1][1] == file._PAUSE
    assert len(watched._processes) == 2


@pytest.mark.parametrize(
    ("left", "counts"),
    [
        # How many processes there are and whether it stops, behind each thing that happens.
        ([(2, True), (1, True), (0, True)], [2, 2, 1]),
        # All have died, and are started again.
        ([(0, False), (2, False), (0, True)], [2, 0, 2]),
    ],
)
def test_it_ends_when_it_is_told_to_and_the_last_process_has_ended(
    left: list[tuple[int, bool]], counts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(0)
    watched._workers = 2
    seen: list[int] = []

    def happen() -> None:
        seen.append(len(watched._processes))
        count, watched._is_stopping = left[len(seen) - 1]
        while len(watched._processes) > count:
            watched._processes.pop()
        while len(watched._processes) < count:
            watched._start()

    monkeypatch.setattr(watched, "_watch", happen)
    watched.run()
    assert seen == counts
    assert watched.killed == []


def test_signals_come_as_bytes_and_are_as_before_in_the_end() -> None:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with file._signals() as told:
        told.settimeout(5)
        for number in numbers:
            os.kill(os.getpid(), number)
            assert told.recv(1)[0] == number
    assert [signal.getsignal(number) for number in numbers] == before
    fileno = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fileno)
    assert fileno == -1


def test_the_folder_of_metrics_is_removed() -> None:
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ
    with file._metrics_folder():
        folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
        (folder / "counter_1.db").write_bytes(b"")
    assert not folder.exists()
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ


def test_a_process_gets_the_socket_and_what_clients_have_unloaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[Any] = []
    theirs = Pipe()

    def process(**given: Any) -> Any:
        started.append(given)
        return SimpleNamespace(start=lambda: started.append("start"))

    context = SimpleNamespace(Pipe=lambda: ("ours", theirs), Process=process)
    monkeypatch.setattr(file, "get_context", {"spawn": context}.__getitem__)
    settings, listener, nothing = Settings("."), object(), None
    watched: Any = _Supervisor(settings, listener, 1, nothing, nothing)  # type: ignore[arg-type]
    watched._unloaded.add("m")
    watched._start()
    given, start = started
    assert given["target"] is file._run_worker
    assert given["args"] == (settings, listener, theirs, frozenset({"m"}))
    assert start == "start"
    # The end of the pipe is told only where nobody else holds it open.
    assert theirs.is_closed
    assert watched._processes[0].pipe == "ours"


def test_a_message_to_a_process_that_has_died_is_lost() -> None:
    """The others hear it all the same, and its end is told by itself."""
    watched = Watched(2)
    pipes: Any = [one.pipe for one in watched._processes]
    pipes[0].is_closed = True
    watched._on_signal(signal.SIGHUP)
    assert [pipe.sent for pipe in pipes] == [[], [("reload",)]]


@pytest.mark.parametrize("error", [None, TorchliftError("no such model"), OSError("no such file")])
def test_a_process_that_cannot_serve_says_why(error: Exception | None) -> None:
    member: Any = object.__new__(_Member)
    member._pipe, member._listen = Pipe(), lambda loop: None

    async def run(*_: Any) -> None:
        if error is not None:
            raise error

    member._worker = SimpleNamespace(run=run)
    asyncio.run(member.run())
    assert member._pipe.sent == ([] if error is None else [("failed", str(error))])


@pytest.mark.parametrize("is_closed", [False, True])
def test_who_listens_ends_with_the_pipe_or_with_the_loop(is_closed: bool) -> None:
    member: Any = object.__new__(_Member)
    member._pipe, member._hear = Pipe(), None
    member._pipe.coming = [("reload",), ("stop",), ("never",)]
    heard: list[tuple[Any, ...]] = []

    def call(_: Any, *message: Any) -> None:
        if is_closed:
            raise RuntimeError("the loop is closed")
        heard.append(message)

    member._listen(SimpleNamespace(call_soon_threadsafe=call))
    assert heard == ([] if is_closed else [("reload",), ("stop",)])
    # The end of the pipe is an order to stop.
    member._pipe.coming = []
    member._listen(SimpleNamespace(call_soon_threadsafe=call))
    assert heard == ([] if is_closed else [("reload",), ("stop",), ("stop",)])
