"""What holds for every request, whatever it asks for: who may ask, what is logged and counted.

A plain ASGI application around another one. It answers errors as `{"error": text}`, asks for the
token, adds the headers of security and CORS, counts and logs.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import re
import secrets
import time
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import RequestError
from .metrics import DURATION, REQUESTS
from .settings import Settings

_LOG = logging.getLogger("torchlift.serve")

#: Paths that need no token: whether the server is well, and the page, which asks for it.
_OPEN = re.compile(r"/|/static/[^/]+|/v2/health/(live|ready)")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

#: How long a body that nobody wants is read, so that its sender sees the answer, in seconds.
_LINGER = 2.0

#: The headers of every answer. The page has a policy of its own.
_SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class Gate:
    """The application around the application.

    Args:
        app: Answers the requests that are let through.
        settings: Says who may ask.
        is_draining: Whether the server is about to stop.
    """

    def __init__(self, app: ASGIApp, settings: Settings, is_draining: Callable[[], bool]) -> None:
        self._app, self._settings, self._is_draining = app, settings, is_draining
        self.running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        exchange = _Exchange(scope, receive, send, self._settings, self._is_draining)
        self.running += 1
        try:
            await self._answer(exchange)
        finally:
            self.running -= 1
            exchange.log()

    async def _answer(self, exchange: _Exchange) -> None:
        try:
            if exchange.is_preflight:
                await exchange.answer(204, b"")
                return
            self._check_token(exchange)
            await self._app(exchange.scope, exchange.receive, exchange.send)
        except RequestError as error:
            await exchange.fail(error)
        except Exception:  # The application has answered with an error already.
            _LOG.exception("a request could not be answered", extra=exchange.facts())

    def _check_token(self, exchange: _Exchange) -> None:
        token = self._settings.token
        if token is None or _OPEN.fullmatch(exchange.scope["path"]):
            return
        kind, _, given = exchange.headers.get("authorization", "").partition(" ")
        matches = hmac.compare_digest(given.strip().encode("latin-1"), token.encode())
        if kind.lower() != "bearer" or not matches:
            raise RequestError(401, "a token is needed", {"WWW-Authenticate": "Bearer"})


class _Exchange:
    """One request and its answer."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        settings: Settings,
        is_draining: Callable[[], bool],
    ) -> None:
        self.scope = scope
        self.headers = Headers(scope=scope)
        self._receive, self._send = receive, send
        self._settings, self._is_draining = settings, is_draining
        self._began = time.perf_counter()
        self._status = 0
        length = self.headers.get("content-length", "0")
        self._unread = length.strip("0") != "" or "transfer-encoding" in self.headers
        given = self.headers.get("x-request-id", "")
        self.id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)

    @property
    def _origin(self) -> str:
        """The origin of a page that may read the answer; empty for any other client."""
        origin, allowed = self.headers.get("origin", ""), self._settings.cors_origins
        return origin if origin and (origin in allowed or "*" in allowed) else ""

    @property
    def is_preflight(self) -> bool:
        """Whether a browser asks what an allowed page may send."""
        asks = "access-control-request-method" in self.headers
        return self.scope["method"] == "OPTIONS" and asks and bool(self._origin)

    async def receive(self) -> Message:
        """Return the next part of the body."""
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            self._unread = False
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._add_headers(MutableHeaders(scope=message))
        elif not message.get("more_body") and self._unread:
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Send a whole answer."""
        every = {"content-length": str(len(body)), **(headers or {})}
        if status == 204:
            del every["content-length"]
        raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in every.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": raw})
        await self.send({"type": "http.response.body", "body": body})

    async def fail(self, error: RequestError) -> None:
        """Answer with an error."""
        body = json.dumps({"error": error.message}).encode()
        headers = {"content-type": "application/json", **error.headers}
        await self.answer(error.status, body, headers)

    def facts(self) -> dict[str, Any]:
        """Return what the log says of the request."""
        client = self.scope.get("client")
        return {
            "request_id": self.id,
            "client": client[0] if client else None,
            "method": self.scope["method"],
            "path": self.scope["path"][:200],
            "status": self._status or None,
            "model": self.scope.get("torchlift.model"),
            "seconds": round(time.perf_counter() - self._began, 6),
        }

    def log(self) -> None:
        """Count the request and write its line."""
        model = self.scope.get("torchlift.model", "")
        endpoint = getattr(self.scope.get("route"), "name", None) or "none"
        REQUESTS.labels(model, endpoint, str(self._status or 499)).inc()
        DURATION.labels(model, endpoint).observe(time.perf_counter() - self._began)
        level = logging.DEBUG if endpoint in ("live", "ready", "metrics") else logging.INFO
        _LOG.log(level, "request", extra=self.facts())

    def _add_headers(self, headers: MutableHeaders) -> None:
        for name, value in _SECURITY.items():
            headers.setdefault(name, value)
        headers["X-Request-Id"] = self.id
        headers.setdefault("Cache-Control", "no-store")
        if self._unread or self._is_draining():
            headers["Connection"] = "close"
        if self._settings.cors_origins:
            headers.add_vary_header("Origin")
        if origin := self._origin:
            headers["Access-Control-Allow-Origin"] = origin
            headers["Cross-Origin-Resource-Policy"] = "cross-origin"
            headers["Access-Control-Expose-Headers"] = (
                "Inference-Header-Content-Length, X-Request-Id, Retry-After"
            )
            if self.is_preflight:
                headers["Access-Control-Allow-Methods"] = "GET, POST"
                headers["Access-Control-Allow-Headers"] = (
                    "Authorization, Content-Type, Content-Encoding, X-Request-Id, "
                    "Inference-Header-Content-Length"
                )
                headers["Access-Control-Max-Age"] = "600"

    async def _linger(self) -> None:
        """Read on for a moment: a sender who is cut off would not see the answer."""
        if self.headers.get("expect", "").lower() == "100-continue":
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER):
                while self._unread:
                    await self.receive()
