"""A process of a server with several: what it says to the supervisor, and what it does when told.

What is protected: an operation is done once the models are loaded, what one process refuses is
refused, and nobody is told a path of the server.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fastapi")

from serve_app_support import within
from test_serve_supervisor import Pipe, Watched

from torchlift.cli.serve import supervisor as file
from torchlift.cli.serve.errors import RequestError
from torchlift.cli.serve.settings import Settings
from torchlift.cli.serve.supervisor import _Member


def member(**worker: Any) -> tuple[_Member, Pipe]:
    """A process's side of the pipe."""
    made, pipe = _Member.__new__(_Member), Pipe()
    vars(made).update(
        _worker=SimpleNamespace(**worker),
        _pipe=pipe,
        _asked={},
        _numbers=iter(range(9)),
        _tasks=set(),
        _is_ready=asyncio.Event(),
    )
    return made, pipe


def test_a_process_answers_with_what_it_did_or_why_it_did_not() -> None:
    async def operate(name: str, argument: str) -> str:
        if argument == "refused":
            raise RequestError(404, "no such model")
        if argument == "fault":
            raise ValueError("a path of the server")
        return f"{name} {argument}"

    async def work() -> None:
        made, pipe = member(service=SimpleNamespace(operate=operate))
        made._hear("do", 5, "load", "m")
        await asyncio.sleep(0.01)
        # One that is still loading its models does it when it has them.
        assert pipe.sent == []
        made._ready()
        await asyncio.sleep(0.01)
        assert pipe.sent == [("ready",), ("answer", 5, "done", "load m")]
        await made._do(6, "load", "refused")
        await made._do(7, "load", "fault")
        assert pipe.sent[2:] == [
            ("answer", 6, "refused", (404, "no such model")),
            ("answer", 7, "refused", (500, "an error of the server; its log says more")),
        ]

    within(work())


def test_a_process_waits_for_all_and_passes_on_what_one_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def work() -> None:
        made, pipe = member()
        asked = [asyncio.create_task(made._everywhere("stats", name)) for name in ("a", "b")]
        await asyncio.sleep(0.01)
        assert pipe.sent == [("ask", 0, "stats", "a"), ("ask", 1, "stats", "b")]
        made._hear("result", 1, [("done", 3), ("done", 4)])
        made._hear("result", 0, [("done", 1), ("refused", (404, "no model 'a'"))])
        assert await asked[1] == [3, 4]
        with pytest.raises(RequestError, match="no model 'a'") as refused:
            await asked[0]
        assert refused.value.status == 404
        monkeypatch.setattr(file, "_OPERATION_TIMEOUT", 0.01)
        with pytest.raises(RequestError, match="not every process") as refused:
            await made._everywhere("load", "a")
        assert refused.value.status == 504
        # What comes too late changes nothing.
        made._hear("result", 2, [("done", None)])

    within(work())


def test_a_process_stops_when_it_is_told_to_and_when_the_supervisor_is_gone() -> None:
    for coming in ([("reload",), ("stop",)], [("reload",)]):
        done: list[str] = []

        async def work(messages: list[tuple[str]], done: list[str]) -> None:
            made, pipe = member(
                stop=lambda: done.append("stop"), reload=lambda: done.append("reload")
            )
            pipe.coming = [*messages]
            await asyncio.to_thread(made._listen, asyncio.get_running_loop())
            await asyncio.sleep(0.01)

        within(work(coming, done))
        assert done == ["reload", "stop"]


def test_a_process_leaves_signals_to_the_supervisor_and_logs_as_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from torchlift.cli.serve import logs

    steps: list[Any] = []

    class Fake:
        def __init__(self, *given: Any) -> None:
            steps.append(given[2:])

        async def run(self) -> None:
            steps.append("run")

    monkeypatch.setattr(file, "_Member", Fake)
    monkeypatch.setattr(logs, "configure_logs", steps.append)
    monkeypatch.setattr(
        file.signal, "signal", lambda number, handler: steps.append((number, handler))
    )
    nothing: Any = None
    file._run_worker(Settings(".", log_format="json"), nothing, nothing, frozenset({"m"}))
    numbers = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
    assert steps[:3] == [(number, signal.SIG_IGN) for number in numbers]
    assert steps[3:5] == ["json", (None, {"m"})]
    assert "run" in steps


def test_a_process_serves_with_what_it_was_given_and_asks_the_supervisor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from torchlift.cli.serve import worker

    given: list[Any] = []

    class Fake:
        def __init__(self, *arguments: Any) -> None:
            given.extend(arguments)

        async def run(self, on_ready: Any, everywhere: Any) -> None:
            on_ready()
            asked = asyncio.create_task(everywhere("unload", "m"))
            await asyncio.sleep(0.01)
            made._hear("result", 0, [("done", 1), ("done", 2)])
            assert await asked == [1, 2]

    monkeypatch.setattr(worker, "Worker", Fake)
    monkeypatch.setattr(_Member, "_listen", lambda self, loop: None)
    settings, listener, pipe = Settings("."), SimpleNamespace(), Pipe()
    made = _Member(settings, listener, pipe, {"m"})  # type: ignore[arg-type]
    within(made.run())
    assert given == [settings, listener, {"m"}]
    assert pipe.sent == [("ready",), ("ask", 0, "unload", "m")]


def test_all_is_undone_when_the_supervisor_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is given what it is to watch over."""
    given: list[Any] = []
    inside: list[bool] = []

    class Fake:
        def __init__(self, *arguments: Any) -> None:
            given.extend(arguments)

        def run(self) -> None:
            inside.append("PROMETHEUS_MULTIPROC_DIR" in os.environ)
            given[-1].setblocking(False)
            raise OSError("no such disk")

    monkeypatch.setattr(file, "_Supervisor", Fake)
    before = signal.getsignal(signal.SIGTERM)
    settings, listener = Settings("."), SimpleNamespace()
    with pytest.raises(OSError, match="no such disk"):
        file.supervise(settings, listener, 3, print)  # type: ignore[arg-type]
    assert given[:4] == [settings, listener, 3, print]
    # The socket of the signals.
    assert given[4].fileno() == -1
    assert inside == [True]
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_process_that_has_ended_is_waited_for_and_its_code_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its pipe may end a moment before it does."""
    monkeypatch.setattr(file, "_forget_metrics", lambda pid: None)
    monkeypatch.setattr(logging.getLogger("torchlift.serve"), "propagate", True)
    watched = Watched(2).started()
    one: Any = watched._processes[0]
    one.process.exitcode = None
    joined: list[tuple[float, ...]] = []

    def join(*timeout: float) -> None:
        joined.append(timeout)
        one.process.exitcode = 3 if len(joined) == 2 else None

    one.process.join = join
    watched._on_message(one)
    assert joined == [(5.0,), ()]
    assert caplog.records[-1].getMessage() == "process 100 has died (code 3)"
