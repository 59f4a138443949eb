"""Several processes on one socket, and one that watches over them.

The supervisor runs no model. It starts a process again that has died, hands signals on, and carries
an operation that a client asks one process for (load, unload, statistics) to all of them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from tempfile import mkdtemp
from typing import Any

from ...converters.errors import TorchliftError
from .errors import RequestError, ServeError
from .settings import Settings

_LOG = logging.getLogger("torchlift.serve")

#: How long a process that died is left alone before it is started again, in seconds.
_PAUSE = 1.0

#: How much longer than its requests a process may take to stop, in seconds.
_GRACE = 5.0

#: How long all processes may take for an operation, in seconds.
_OPERATION_TIMEOUT = 60.0


def supervise(
    settings: Settings, listener: socket.socket, workers: int, on_ready: Callable[[], None]
) -> None:
    """Serve in several processes until SIGTERM or SIGINT.

    Args:
        settings: The limits.
        listener: The socket, bound and listening.
        workers: How many processes.
        on_ready: Called when all of them answer requests.

    Raises:
        ServeError: If a model cannot be opened at the start.
    """
    with _metrics_folder(), _signals() as signals:
        _Supervisor(settings, listener, workers, on_ready, signals).run()


@dataclass
class _Process:
    """A process of the server.

    Attributes:
        process: The process.
        pipe: What is said to it and by it.
        is_ready: Whether it answers requests.
    """

    process: SpawnProcess
    pipe: Connection
    is_ready: bool = False


@dataclass
class _Operation:
    """What one process has asked all of them for.

    Attributes:
        asker: The process, and the number by which it knows the operation.
        name: `load`, `unload` or `stats`.
        argument: The model.
        awaited: The processes that have not answered.
        answers: What the others have answered.
    """

    asker: tuple[_Process, int]
    name: str
    argument: str
    awaited: list[_Process]
    answers: list[tuple[str, Any]] = field(default_factory=list)


class _Supervisor:
    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        workers: int,
        on_ready: Callable[[], None],
        signals: socket.socket,
    ) -> None:
        self._settings, self._listener, self._workers = settings, listener, workers
        self._on_ready, self._signals = on_ready, signals
        self._processes: list[_Process] = []
        self._operations: dict[int, _Operation] = {}
        self._numbers = count()
        self._unloaded: set[str] = set()
        self._has_started = self._is_stopping = False
        self._start_again = 0.0

    def run(self) -> None:
        """Watch until every process has ended."""
        for _ in range(self._workers):
            self._start()
        try:
            while self._processes or not self._is_stopping:
                self._watch()
        except BaseException:
            for one in self._processes:
                one.process.kill()
            raise

    def _start(self) -> None:
        ours, theirs = get_context("spawn").Pipe()
        process = get_context("spawn").Process(
            target=_run_worker,
            args=(self._settings, self._listener, theirs, frozenset(self._unloaded)),
            daemon=False,
        )
        process.start()
        theirs.close()
        self._processes.append(_Process(process, ours))

    def _watch(self) -> None:
        """Wait for the next thing that happens, and do what it asks for."""
        missing = self._workers - len(self._processes)
        if missing > 0 and not self._is_stopping and time.monotonic() >= self._start_again:
            self._start()
        pipes = {one.pipe: one for one in self._processes}
        ends = {one.process.sentinel: one for one in self._processes}
        for event in wait([*pipes, *ends, self._signals], timeout=_PAUSE if missing > 0 else None):
            if event is self._signals:
                self._on_signal(self._signals.recv(1)[0])
            elif isinstance(event, Connection):
                self._on_message(pipes[event])
            elif isinstance(event, int) and ends[event] in self._processes:
                self._on_end(ends[event])

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._tell_all(("reload",))
            return
        if self._is_stopping:
            return
        self._is_stopping = True
        self._tell_all(("stop",))
        threading.Thread(target=self._kill_late, daemon=True).start()

    def _kill_late(self) -> None:
        time.sleep(self._settings.timeout + _GRACE)
        for one in list(self._processes):
            one.process.kill()

    def _on_message(self, one: _Process) -> None:
        try:
            kind, *rest = one.pipe.recv()
        except (EOFError, OSError):
            # Its end is told by its sentinel.
            one.process.join(_GRACE)
            self._on_end(one)
            return
        if kind == "ready":
            one.is_ready = True
            if not self._has_started and all(each.is_ready for each in self._processes):
                self._has_started = True
                self._on_ready()
        elif kind == "failed":
            if not self._has_started:
                raise ServeError(rest[0])
            _LOG.error("a process cannot start: %s", rest[0])
        elif kind == "ask":
            self._begin(one, *rest)
        elif kind == "answer":
            number, outcome, value = rest
            if operation := self._operations.get(number):
                operation.awaited.remove(one)
                operation.answers.append((outcome, value))
                self._end_if_complete(number)

    def _on_end(self, one: _Process) -> None:
        if one not in self._processes:
            return
        self._processes.remove(one)
        one.pipe.close()
        one.process.join()
        _forget_metrics(one.process.pid)
        for number, operation in list(self._operations.items()):
            if one in operation.awaited:
                operation.awaited.remove(one)
            self._end_if_complete(number)
        if self._is_stopping:
            return
        if not self._has_started:
            raise ServeError(f"a process ended while it started: code {one.process.exitcode}")
        _LOG.error("process %s has died (code %s)", one.process.pid, one.process.exitcode)
        self._start_again = time.monotonic() + (0 if one.is_ready else _PAUSE)

    def _begin(self, asker: _Process, asked: int, name: str, argument: str) -> None:
        number = next(self._numbers)
        operation = _Operation((asker, asked), name, argument, list(self._processes))
        self._operations[number] = operation
        for one in operation.awaited:
            _send(one.pipe, ("do", number, name, argument))

    def _end_if_complete(self, number: int) -> None:
        operation = self._operations[number]
        if operation.awaited:
            return
        del self._operations[number]
        if any(outcome == "done" for outcome, _ in operation.answers):
            # What holds for a process that starts later.
            if operation.name == "unload":
                self._unloaded.add(operation.argument)
            elif operation.name == "load":
                self._unloaded.discard(operation.argument)
        asker, asked = operation.asker
        _send(asker.pipe, ("result", asked, operation.answers))

    def _tell_all(self, message: tuple[Any, ...]) -> None:
        for one in self._processes:
            _send(one.pipe, message)


def _send(pipe: Connection, message: tuple[Any, ...]) -> None:
    try:
        pipe.send(message)
    except OSError:
        # The other side has died, which is told by its end.
        return


@contextmanager
def _signals() -> Iterator[socket.socket]:
    """Give signals as bytes of a socket, which can be waited for beside pipes."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    before = signal.set_wakeup_fd(theirs.fileno())
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    handlers = {number: signal.signal(number, lambda *_: None) for number in numbers}
    try:
        yield ours
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        ours.close()
        theirs.close()


@contextmanager
def _metrics_folder() -> Iterator[None]:
    """Give the processes a folder in which their metrics are summed."""
    folder = mkdtemp(prefix="torchlift-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    try:
        yield
    finally:
        del os.environ["PROMETHEUS_MULTIPROC_DIR"]
        shutil.rmtree(folder, ignore_errors=True)


def _forget_metrics(process: int | None) -> None:
    """Forget what holds for living processes only, as the length of their queues."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(process)  # type: ignore[no-untyped-call]  # theirs has no types


def _run_worker(
    settings: Settings, listener: socket.socket, pipe: Connection, unloaded: frozenset[str]
) -> None:
    """Serve in a process of its own; the supervisor says when to stop."""
    from .logs import configure_logs

    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    configure_logs(settings.log_format)
    asyncio.run(_Member(settings, listener, pipe, set(unloaded)).run())


class _Member:
    """A process's side of the pipe."""

    def __init__(
        self, settings: Settings, listener: socket.socket, pipe: Connection, unloaded: set[str]
    ) -> None:
        from .worker import Worker

        self._worker = Worker(settings, listener, unloaded)
        self._pipe = pipe
        self._asked: dict[int, asyncio.Future[list[tuple[str, Any]]]] = {}
        self._numbers = count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_ready = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._listen, args=(loop,), daemon=True).start()
        try:
            await self._worker.run(self._ready, self._everywhere)
        except (TorchliftError, OSError) as error:
            _send(self._pipe, ("failed", str(error)))

    def _ready(self) -> None:
        self._is_ready.set()
        _send(self._pipe, ("ready",))

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand what the supervisor says to the event loop; its end is ours."""
        while True:
            try:
                message = self._pipe.recv()
            except (EOFError, OSError):
                message = ("stop",)
            try:
                loop.call_soon_threadsafe(self._hear, *message)
            except RuntimeError:
                return
            if message[0] == "stop":
                return

    def _hear(self, kind: str, *rest: Any) -> None:
        if kind == "stop":
            self._worker.stop()
        elif kind == "reload":
            self._worker.reload()
        elif kind == "result":
            asked, answers = rest
            if not (future := self._asked.pop(asked)).done():
                future.set_result(answers)
        elif kind == "do":
            task = asyncio.get_running_loop().create_task(self._do(*rest))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _do(self, number: int, name: str, argument: str) -> None:
        await self._is_ready.wait()
        outcome: tuple[str, Any]
        try:
            outcome = ("done", await self._worker.service.operate(name, argument))
        except RequestError as error:
            outcome = ("refused", (error.status, error.message))
        except Exception:
            _LOG.exception("%s of %s", name, argument)
            outcome = ("refused", (500, "an error of the server; its log says more"))
        _send(self._pipe, ("answer", number, *outcome))

    async def _everywhere(self, name: str, argument: str) -> list[Any]:
        """Do something in every process, and wait for all of them."""
        asked = next(self._numbers)
        self._asked[asked] = asyncio.get_running_loop().create_future()
        _send(self._pipe, ("ask", asked, name, argument))
        try:
            answers = await asyncio.wait_for(self._asked[asked], _OPERATION_TIMEOUT)
        except TimeoutError:
            raise RequestError(504, "not every process has answered in time") from None
        for outcome, value in answers:
            if outcome == "refused":
                raise RequestError(*value)
        return [value for _, value in answers]
