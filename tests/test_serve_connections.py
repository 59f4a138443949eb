"""Connections of the server in this process: the limits of a request's head, the client's address.

What is protected: a client that sends a head slowly or without end keeps no connection, and nobody
else's is cut for it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("fastapi")

import uvicorn
from serve_app_support import within
from starlette.types import Receive, Scope, Send

from torchlift.cli.serve import http_protocol
from torchlift.cli.serve.http_protocol import LimitedHttp
from torchlift.cli.serve.worker import _Server

GET = b"GET /quick HTTP/1.1\r\nHost: x\r\n\r\n"


class App:
    """Answers with the bytes of the body that came; `/slow` waits until it may go on."""

    def __init__(self) -> None:
        self.may_go_on = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message.get("body", b"")), message.get("more_body", False)
        if scope["path"] == "/slow":
            await self.may_go_on.wait()
        body = f"[{size}]".encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Client:
    """A connection, which reads to what is expected, or to the end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    async def ask(self, request: bytes, until: bytes = b"]") -> bytes:
        self.writer.write(request)
        return await self._reader.readuntil(until)

    async def rest(self) -> bytes:
        return await self._reader.read()


Work = Callable[[Client, App], Awaitable[Any]]


def connected(work: Work, monkeypatch: pytest.MonkeyPatch, **limits: float) -> Any:
    """Let a client talk to a server; `limits` are constants of `http_protocol`."""
    for name, value in {"_LINGER": 0.02, **limits}.items():
        monkeypatch.setattr(http_protocol, name, value)

    async def run() -> Any:
        app = App()
        config = uvicorn.Config(
            app, http=LimitedHttp, ws="none", lifespan="off", log_config=None, access_log=False
        )
        server = _Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(server.serve([listener]))
            while not server.started:
                await asyncio.sleep(0.001)
            client = Client(*await asyncio.open_connection(*listener.getsockname()))
            try:
                return await work(client, app)
            finally:
                app.may_go_on.set()
                client.writer.close()
                server.should_exit = True
                await serving

    return within(run())


def error_of(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert f"content-length: {len(body)}" in lines
    assert "connection: close" in lines
    assert "content-type: application/json" in lines
    assert "x-content-type-options: nosniff" in lines
    return int(lines[0].split()[1]), json.loads(body)["error"]


def padded(size: int) -> bytes:
    """A request whose head has so many bytes."""
    head = GET[:-2] + b"X: "
    return head + b"x" * (size - len(head) - 4) + b"\r\n\r\n"


@pytest.mark.parametrize("parts", [1, 7])
def test_a_head_without_end_is_refused_at_the_limit(
    parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(client: Client, app: App) -> bytes:
        endless = padded(2000)[:-4]
        for start in range(0, 1001, 1001 // parts):
            client.writer.write(endless[start : min(start + 1001 // parts, 1001)])
            await asyncio.sleep(0.001)
        return await client.rest()

    status, problem = error_of(connected(work, monkeypatch, _LARGEST_HEAD=1000))
    assert (status, problem) == (431, "the head is too large")


def test_heads_are_measured_one_by_one_and_bodies_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On one connection: many heads in parts, and a body larger than any head may be."""

    async def work(client: Client, app: App) -> None:
        for _ in range(3):
            request = padded(900)
            client.writer.write(request[:600])
            await asyncio.sleep(0.01)
            assert (await client.ask(request[600:])).endswith(b"[0]")
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n"
        client.writer.write(head)
        await asyncio.sleep(0.01)
        assert (await client.ask(bytes(5000))).endswith(b"[5000]")
        assert (await client.ask(GET)).endswith(b"[0]")

    connected(work, monkeypatch, _LARGEST_HEAD=1000)


@pytest.mark.parametrize("first", [b"", GET[:-2]], ids=["nothing", "half a head"])
@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
def test_a_connection_whose_head_does_not_come_is_closed(
    used: bool, first: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(client: Client, app: App) -> bytes:
        if used:
            assert (await client.ask(GET)).endswith(b"[0]")
        if used and not first:
            # That one is idle, as browsers keep connections; uvicorn closes it later.
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.rest(), 0.4)
            return b""
        client.writer.write(first)
        return await client.rest()

    assert connected(work, monkeypatch, _HEAD_TIMEOUT=0.2) == b""


def test_a_slow_body_and_a_slow_answer_are_no_slow_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where half of the next head has come while the answer is being made."""

    async def work(client: Client, app: App) -> None:
        client.writer.write(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbo")
        await asyncio.sleep(0.4)
        client.writer.write(b"dy" + GET[:10])
        await asyncio.sleep(0.01)
        client.writer.write(GET[10:20])
        await asyncio.sleep(0.4)
        app.may_go_on.set()
        assert (await client.ask(b"")).endswith(b"[4]")
        assert (await client.ask(GET[20:])).endswith(b"[0]")

    connected(work, monkeypatch, _HEAD_TIMEOUT=0.2)


def test_what_is_no_http_is_said_and_what_came_before_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def bad(client: Client, app: App) -> bytes:
        client.writer.write(b"no HTTP\r\n\r\n")
        return await client.rest()

    assert error_of(connected(bad, monkeypatch)) == (400, "the request is no HTTP/1.1")

    async def behind(client: Client, app: App) -> bytes:
        client.writer.write(GET.replace(b"/quick", b"/slow") + b"no HTTP\r\n\r\n")
        await asyncio.sleep(0.05)
        client.writer.write(GET)
        await asyncio.sleep(0.05)
        app.may_go_on.set()
        return await client.rest()

    began = time.monotonic()
    answer = connected(behind, monkeypatch)
    # The connection ends with the answer, not when it has been idle for long.
    assert time.monotonic() - began < 3
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b"HTTP/1.1") == 1
    assert answer.endswith(b"[0]")


def test_a_head_may_be_as_large_as_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(client: Client, app: App) -> None:
        request = padded(1004)
        client.writer.write(request[:1000])
        await asyncio.sleep(0.01)
        assert (await client.ask(request[1000:])).endswith(b"[0]")

    connected(work, monkeypatch, _LARGEST_HEAD=1000)


def test_the_parts_of_a_body_are_no_head(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(client: Client, app: App) -> None:
        client.writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n")
        for _ in range(4):
            await asyncio.sleep(0.01)
            client.writer.write(bytes(1000))
        assert (await client.ask(bytes(1000))).endswith(b"[5000]")

    connected(work, monkeypatch, _LARGEST_HEAD=1000)


def test_a_head_in_parts_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the waiting is left that would close the connection afterwards."""

    async def work(client: Client, app: App) -> None:
        for place in range(0, 20, 5):
            client.writer.write(GET[place : place + 5])
            await asyncio.sleep(0.01)
        assert (await client.ask(GET[20:])).endswith(b"[0]")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.rest(), 0.4)

    connected(work, monkeypatch, _HEAD_TIMEOUT=0.2)


@pytest.mark.parametrize("first", [b"no HTTP\r\n\r\n", padded(2000)[:-4]], ids=["no HTTP", "431"])
def test_who_is_refused_is_told_so_once(first: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes behind it is dropped, as long as the connection lasts."""

    async def work(client: Client, app: App) -> bytes:
        assert (await client.ask(first, b"}")).count(b"HTTP/1.1 ") == 1
        # It stays open meanwhile: whoever is cut off while sending sees no answer.
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.ask(GET, b"}"), 0.05)
        client.writer.write(GET)
        return await client.rest()

    assert connected(work, monkeypatch, _LARGEST_HEAD=1000, _LINGER=0.3) == b""


def test_a_connection_that_has_ended_is_waited_for_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[LimitedHttp] = []
    lost = LimitedHttp.connection_lost

    def connection_lost(self: LimitedHttp, error: Exception | None) -> None:
        assert self._timer is not None
        lost(self, error)
        ended.append(self)

    monkeypatch.setattr(LimitedHttp, "connection_lost", connection_lost)

    async def work(client: Client, app: App) -> None:
        client.writer.write(GET[:10])
        await asyncio.sleep(0.01)
        client.writer.close()
        while not ended:
            await asyncio.sleep(0.001)

    connected(work, monkeypatch)
    assert [one._timer for one in ended] == [None]


def test_garbage_behind_an_answer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(client: Client, app: App) -> bytes:
        assert (await client.ask(GET)).endswith(b"[0]")
        client.writer.write(b"no HTTP\r\n\r\n")
        return await client.rest()

    assert error_of(connected(work, monkeypatch))[0] == 400


def test_half_a_head_behind_a_slow_answer_is_waited_for_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The time is over while the answer is made, which closes nothing; but it counts again."""

    async def work(client: Client, app: App) -> bytes:
        client.writer.write(GET.replace(b"/quick", b"/slow"))
        await asyncio.sleep(0.01)
        client.writer.write(GET[:10])
        await asyncio.sleep(0.3)
        app.may_go_on.set()
        assert (await client.ask(b"")).endswith(b"[0]")
        client.writer.write(GET[10:15])
        return await asyncio.wait_for(client.rest(), 2)

    assert connected(work, monkeypatch, _HEAD_TIMEOUT=0.2) == b""
