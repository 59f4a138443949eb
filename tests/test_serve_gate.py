"""The application around the application: tokens, and bodies that nobody wants.

What is protected: nothing is answered without the token, and whoever is refused sees why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from serve_support import digits_model

pytest.importorskip("fastapi")

from serve_app_support import IMAGE, answers, within
from starlette.types import Message

from torchlift.cli.serve import gate as file
from torchlift.cli.serve.errors import RequestError
from torchlift.cli.serve.gate import Gate
from torchlift.cli.serve.settings import Settings


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (None, 401),
        ("", 401),
        ("Bearer s3cret", 200),
        ("bearer s3cret", 200),
        ("BEARER   s3cret ", 200),
        ("Bearer s3cre", 401),
        ("Bearer s3cret2", 401),
        ("Bearer S3CRET", 401),
        ("Bearer", 401),
        ("Basic s3cret", 401),
        ("s3cret", 401),
        ("Bearer s3cret s3cret", 401),
        ("Bearer é", 401),
    ],
)
def test_a_token_is_the_whole_token_of_a_bearer(
    given: str | None, status: int, tmp_path: Path
) -> None:
    headers = {} if given is None else {"Authorization": given}
    asked, predicted = answers(
        digits_model(tmp_path),
        ("GET", "/v2", b"", headers),
        ("POST", "/predict", IMAGE, headers),
        token="s3cret",
    )
    assert (asked.status, predicted.status) == (status, status)
    assert (asked.headers.get("www-authenticate") == "Bearer") == (status == 401)


@pytest.mark.parametrize(
    ("path", "is_open"),
    [
        ("/", True),
        ("/static/app.js", True),
        ("/v2/health/live", True),
        ("/v2/health/ready", True),
        ("/v2/health/ready/", False),
        ("/v2/health", False),
        ("/static/a/b", False),
        ("/static/", False),
        ("/metrics", False),
        ("/openapi.json", False),
        ("//", False),
        ("/\n", False),
    ],
)
def test_only_health_and_the_page_need_no_token(path: str, is_open: bool, tmp_path: Path) -> None:
    (answer,) = answers(digits_model(tmp_path), ("GET", path), token="s3cret")
    assert (answer.status != 401) == is_open


Step = tuple[str, Any]


def refused(
    steps: list[Step], bodies: list[bytes], monkeypatch: pytest.MonkeyPatch, **headers: str
) -> None:
    """Ask with parts of a body; the application refuses at once. All that happens is noted.

    Args:
        steps: What was sent, and what was read of the body.
        bodies: The parts of the body; the part `never` does not come.
        monkeypatch: Of the test.
        headers: The request's, with an underscore for each hyphen.
    """
    monkeypatch.setattr(file, "_LINGER", 0.05)

    async def app(scope: Any, receive: Callable[[], Awaitable[Message]], send: Any) -> None:
        raise RequestError(413, "too large")

    async def receive() -> Message:
        if bodies == [b"never"]:
            await asyncio.sleep(60)
        steps.append(("read", bodies[0]))
        return {"type": "http.request", "body": bodies.pop(0), "more_body": bool(bodies)}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            named = dict(message["headers"])
            steps.append(("head", (message["status"], named.get(b"connection"))))
        else:
            steps.append(("body", (message["body"], message.get("more_body", False))))

    gate = Gate(app, Settings("."), lambda: False)
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": named}
    within(gate(scope, receive, send))


ERROR = b'{"error": "too large"}'


def test_who_is_refused_sees_why_before_the_connection_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A sender whose bytes are not read gets a reset in place of the answer."""
    steps: list[Step] = []
    refused(steps, [b"one", b"two"], monkeypatch, content_length="6")
    assert steps == [
        ("head", (413, b"close")),
        ("body", (ERROR, True)),
        ("read", b"one"),
        ("read", b"two"),
        ("body", (b"", False)),
    ]


@pytest.mark.parametrize(
    ("headers", "closes"),
    [
        ({}, None),
        ({"content_length": "0"}, None),
        ({"content_length": "00"}, None),
        # It waits to be asked for its body.
        ({"content_length": "6", "expect": "100-Continue"}, b"close"),
    ],
)
def test_where_no_body_comes_none_is_waited_for(
    headers: dict[str, str], closes: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[Step] = []
    refused(steps, [b"one"], monkeypatch, **headers)
    assert steps[0] == ("head", (413, closes))
    assert [name for name, _ in steps if name == "read"] == []
    assert b"".join(body for name, (body, *_) in steps[1:]) == ERROR


@pytest.mark.parametrize("header", ["content_length", "transfer_encoding"])
def test_nobody_sends_for_ever_what_nobody_wants(
    header: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[Step] = []
    monkeypatch.setattr(file, "_LINGER", 0.05)
    value = {"content_length": "99", "transfer_encoding": "chunked"}[header]
    refused(steps, [b"a", b"b", b"never"], monkeypatch, **{header: value})
    assert steps[0] == ("head", (413, b"close"))
    assert steps[-1] == ("body", (b"", False))


@pytest.mark.parametrize("kind", ["http", "lifespan", "websocket"])
def test_nothing_but_requests_is_answered(kind: str) -> None:
    """And what is none is no running request either."""
    sent: list[Message] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    gate = Gate(app, Settings("."), lambda: False)
    scope = {"type": kind, "method": "GET", "path": "/", "headers": [], "query_string": b""}
    asyncio.run(gate(scope, receive, send))
    assert [message.get("status") for message in sent] == ([204, None] if kind == "http" else [])
    assert gate.running == 0


def test_who_has_left_is_waited_for_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where it had more to send."""
    reads: list[Message] = []
    monkeypatch.setattr(file, "_LINGER", 0.05)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RequestError(413, "too large")

    async def receive() -> Message:
        await asyncio.sleep(0)
        reads.append({"type": "http.disconnect"})
        return reads[-1]

    async def send(message: Message) -> None:
        return

    gate = Gate(app, Settings("."), lambda: False)
    headers = [(b"content-length", b"9")]
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers}
    within(gate(scope, receive, send))
    assert len(reads) == 1


def test_a_browser_asks_without_the_token_what_a_page_may_send(tmp_path: Path) -> None:
    """A preflight has none; and what only looks like one is an ordinary request."""
    asks = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    preflight, other, ordinary = answers(
        digits_model(tmp_path),
        ("OPTIONS", "/v2", b"", asks),
        ("OPTIONS", "/v2", b"", {**asks, "Origin": "https://b.example"}),
        ("GET", "/v2", b"", {**asks, "Authorization": "Bearer s3cret"}),
        token="s3cret",
        cors_origins=("https://a.example",),
    )
    assert (preflight.status, other.status) == (204, 401)
    assert (ordinary.status, ordinary.json["name"]) == (200, "torchlift")
    assert "access-control-allow-methods" not in ordinary.headers
