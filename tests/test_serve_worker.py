"""One process of the server, in this one: it stops without losing a request, and loads anew.

What is protected: what is being sent when the server is told to stop is answered, but nobody can
keep it from stopping, and no client says for itself where it comes from.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from serve_support import digits_model

pytest.importorskip("fastapi")

from serve_app_support import IMAGE, INFER, REQUEST, within

from torchlift.cli.serve import http_protocol
from torchlift.cli.serve import models as models_file
from torchlift.cli.serve import worker as file
from torchlift.cli.serve.settings import Settings
from torchlift.cli.serve.worker import Worker

READY = b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Running:
    """A process that serves."""

    def __init__(self, worker: Worker, address: Any, ended: asyncio.Task[None]) -> None:
        self.worker, self._address, self.ended = worker, address, ended

    async def send(self, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self._address)
        writer.write(request)
        return reader, writer

    async def ask(self, request: bytes) -> bytes:
        reader, writer = await self.send(request)
        try:
            return await reader.read()
        finally:
            writer.close()

    async def begin(
        self, path: str = "/predict", body: bytes = IMAGE
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Send a request but for the last byte of its body."""
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        connection = await self.send(head.encode() + body[:-1])
        while not self.worker.service.bodies._held:
            await asyncio.sleep(0.001)
        return connection


def serve(
    folder: Path,
    work: Callable[[Running], Awaitable[Any]],
    monkeypatch: pytest.MonkeyPatch,
    unloaded: tuple[str, ...] = (),
    everywhere: Any = None,
    **changed: Any,
) -> Any:
    """Let a process serve while `work` runs; uvicorn gives no time of its own to what is open."""
    config = file.uvicorn.Config
    monkeypatch.setattr(
        file.uvicorn, "Config", lambda *a, **k: config(*a, **{**k, "timeout_graceful_shutdown": 0})
    )

    async def run() -> Any:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = listener.getsockname()
            ready = asyncio.Event()
            settings = Settings(str(folder), provider="cpu", max_delay=0, **changed)
            worker = Worker(settings, listener, set(unloaded))
            ended = asyncio.create_task(worker.run(ready.set, everywhere))
            while not ready.is_set() and not ended.done():
                await asyncio.sleep(0.001)
            try:
                return await work(Running(worker, address, ended))
            finally:
                worker.stop()
                await ended

    return within(run())


def test_what_has_begun_is_answered_before_the_process_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits_model(tmp_path)

    async def work(running: Running) -> None:
        assert b" 200 " in await running.ask(READY)
        reader, writer = await running.begin()
        running.worker.stop()
        assert b" 503 " in await running.ask(READY)
        done, _ = await asyncio.wait([running.ended], timeout=0.4)
        assert not done
        writer.write(IMAGE[-1:])
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer.lower()
        await running.ended
        assert running.worker.models.names() == []
        assert running.worker._decoders._shutdown

    serve(tmp_path, work, monkeypatch)


def test_nothing_is_opened_any_more_once_the_process_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits_model(tmp_path)
    steps: list[str] = []
    close = models_file.Models.close

    async def watch(self: models_file.Models) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            steps.append("watching ends")

    async def closed(self: models_file.Models) -> None:
        steps.append("models are closed")
        await close(self)

    monkeypatch.setattr(models_file.Models, "watch", watch)
    monkeypatch.setattr(models_file.Models, "close", closed)

    async def work(running: Running) -> None:
        assert b" 200 " in await running.ask(READY)
        assert steps == []

    serve(tmp_path, work, monkeypatch)
    assert steps == ["watching ends", "models are closed"]


def test_a_head_without_end_is_refused_by_the_process_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits_model(tmp_path)
    monkeypatch.setattr(http_protocol, "_LARGEST_HEAD", 500)
    monkeypatch.setattr(http_protocol, "_LINGER", 0.02)

    async def work(running: Running) -> bytes:
        endless = READY[:-2] + b"X: " + b"x" * 1000
        return await asyncio.wait_for(running.ask(endless), 5)

    assert serve(tmp_path, work, monkeypatch).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(("path", "body"), [("/predict", IMAGE), (INFER, REQUEST)])
def test_a_request_that_is_being_sent_keeps_its_model_but_takes_no_place_in_the_queue(
    path: str, body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is answered though its model is unloaded meanwhile."""
    digits_model(tmp_path)

    async def work(running: Running) -> bytes:
        reader, writer = await running.begin(path, body)
        assert running.worker.service.waiting._count == 0
        await running.worker.models.unload("digits")
        assert running.worker.models.names() == []
        await asyncio.sleep(0.05)
        writer.write(body[-1:])
        answer = await reader.readline()
        writer.close()
        return answer

    assert serve(tmp_path, work, monkeypatch, timeout=2).startswith(b"HTTP/1.1 200")


def test_nobody_keeps_the_process_from_stopping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits_model(tmp_path)

    async def work(running: Running) -> bytes:
        reader, writer = await running.begin()
        running.worker.stop()
        await running.ended
        writer.close()
        return await reader.read()

    assert b" 200 " not in serve(tmp_path, work, monkeypatch, timeout=0.2)


def test_changed_files_are_opened_by_and_by_or_when_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits_model(tmp_path)

    async def loaded(running: Running, names: list[str]) -> bool:
        while running.worker.models.names() != names:
            await asyncio.sleep(0.01)
        return True

    async def when_asked(running: Running) -> bool:
        digits_model(tmp_path, "b.onnx")
        running.worker.reload()
        return await loaded(running, ["b", "digits"])

    monkeypatch.setattr(models_file, "_INTERVAL", 60)
    assert serve(tmp_path, when_asked, monkeypatch)

    async def by_and_by(running: Running) -> bool:
        digits_model(tmp_path, "c.onnx")
        return await loaded(running, ["b", "c", "digits"])

    monkeypatch.setattr(models_file, "_INTERVAL", 0.02)
    assert serve(tmp_path, by_and_by, monkeypatch)


def test_a_client_does_not_say_for_itself_where_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    digits_model(tmp_path)
    monkeypatch.setattr(logging.getLogger("torchlift.serve"), "propagate", True)

    async def work(running: Running) -> bytes:
        forwarded = b"X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: https\r\n\r\n"
        return await running.ask(READY[:-2].replace(b"/health/ready", b"") + forwarded)

    with caplog.at_level(logging.INFO, "torchlift.serve"):
        answer = serve(tmp_path, work, monkeypatch)
    assert b"\r\nserver:" not in answer.lower()
    (entry,) = [vars(record) for record in caplog.records if record.getMessage() == "request"]
    assert (entry["client"], entry["path"]) == ("127.0.0.1", "/v2")


def test_signals_stop_the_process_or_open_what_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(".")
    nothing: Any = None
    for number, expected in (
        (signal.SIGTERM, ["reload", "stop", "end"]),
        (signal.SIGINT, ["reload", "stop", "end"]),
    ):
        steps: list[str] = []

        class Fake:
            def __init__(self, *given: Any, steps: list[str] = steps, last: int = number) -> None:
                assert given == (settings, nothing, set())
                self._steps, self._last = steps, last
                self._stopped = asyncio.Event()

            def stop(self) -> None:
                self._steps.append("stop")
                self._stopped.set()

            def reload(self) -> None:
                self._steps.append("reload")

            async def run(self, on_ready: Callable[[], None]) -> None:
                on_ready()
                signal.raise_signal(signal.SIGHUP)
                await asyncio.sleep(0.01)
                signal.raise_signal(self._last)
                await asyncio.wait_for(self._stopped.wait(), 10)
                self._steps.append("end")

        monkeypatch.setattr(file, "Worker", Fake)
        file.serve_alone(settings, nothing, lambda: None)
        assert steps == expected


def test_a_process_asks_all_of_them_and_keeps_what_was_unloaded_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.onnx", "b.onnx"):
        digits_model(tmp_path, name)
    asked: list[tuple[str, str]] = []

    async def everywhere(operation: str, argument: str) -> list[Any]:
        asked.append((operation, argument))
        return [None, None]

    async def work(running: Running) -> None:
        assert running.worker.models.names() == ["a"]
        head = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        for operation in (b"load", b"unload"):
            answer = await running.ask(b"POST /v2/repository/models/b/" + operation + head)
            assert b" 200 " in answer
        # The others have done it, and so would this one, if it were told.
        assert running.worker.models.names() == ["a"]

    serve(tmp_path, work, monkeypatch, unloaded=("b",), everywhere=everywhere)
    assert asked == [("load", "b"), ("unload", "b")]


def test_one_process_is_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits_model(tmp_path)

    async def work(running: Running) -> bytes:
        return await running.ask(READY.replace(b"health/ready", b"models/stats"))

    answer = serve(tmp_path, work, monkeypatch)
    (entry,) = json.loads(answer.partition(b"\r\n\r\n")[2])["model_stats"]
    assert (entry["name"], entry["version"]) == ("digits", "1")


def test_a_process_that_stops_waits_no_longer_than_a_request_may_take(tmp_path: Path) -> None:
    """Whatever keeps one from being answered."""

    async def drain(timeout: float, running: int) -> None:
        nothing: Any = None
        worker = Worker(Settings(str(tmp_path), timeout=timeout), nothing, set())
        gate: Any = SimpleNamespace(running=running)
        await asyncio.wait_for(worker._drain(gate), 5)

    asyncio.run(drain(0.05, 1))
    asyncio.run(drain(60, 0))


def test_images_are_decoded_on_every_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "available_cpus", lambda: 7)
    nothing: Any = None

    async def made() -> int:
        return Worker(Settings(str(tmp_path)), nothing, set())._decoders._max_workers

    assert asyncio.run(made()) == 7


def test_an_idle_connection_outlives_the_minute_that_proxies_keep_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that asks on one just closed tells its client of an error."""
    digits_model(tmp_path)
    made: list[Any] = []
    server = file._Server

    def kept(config: Any) -> Any:
        made.append(config)
        return server(config)

    monkeypatch.setattr(file, "_Server", kept)

    async def work(running: Running) -> None:
        assert b" 200 " in await running.ask(READY)

    serve(tmp_path, work, monkeypatch)
    (config,) = made
    assert 60 < config.timeout_keep_alive < 120


def test_a_process_that_closes_its_models_waits_for_who_uses_them(tmp_path: Path) -> None:
    digits_model(tmp_path)

    async def work() -> None:
        models = models_file.Models(Settings(str(tmp_path), provider="cpu"), set())
        await models.start()
        loaded = models.find("digits")
        with loaded.used():
            closing = asyncio.create_task(models.close())
            done, _ = await asyncio.wait([closing], timeout=0.05)
            assert not done
        await closing
        await asyncio.sleep(0)
        assert loaded.batcher._task.done()

    within(work())
