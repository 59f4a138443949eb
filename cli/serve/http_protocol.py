"""uvicorn's HTTP with limits for the head of a request, and its errors in the server's form."""

from __future__ import annotations

import json
from asyncio import TimerHandle
from asyncio.transports import BaseTransport
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: The largest head of a request, in bytes: beyond it no more is read.
_LARGEST_HEAD = 2**16

#: How long a client may take to send a head, in seconds.
_HEAD_TIMEOUT = 10.0

#: How long a connection that is refused stays open, in seconds.
_LINGER = 1.0


class LimitedHttp(HttpToolsProtocol):
    """One connection."""

    _head_size = 0
    _in_head = True
    #: Whether a head or a body has ended in the data that came last.
    _has_moved = False
    _is_refused = False
    _timer: TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """Begin to wait for a head."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, unless it makes a head too large."""
        if self._is_refused or self.transport.is_closing():
            return
        self._has_moved = False
        super().data_received(data)
        if not self._in_head or self._has_moved or self._is_refused:
            return
        self._head_size += len(data)
        if self._head_size > _LARGEST_HEAD:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is too large")
        elif self._timer is None:
            self._wait_for_head()

    def on_message_begin(self) -> None:
        """Begin with a head."""
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        """End the head."""
        self._stop_waiting()
        self._in_head, self._has_moved, self._head_size = False, True, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End the body."""
        super().on_message_complete()
        self._in_head = self._has_moved = True

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, unless a request before it is still being answered."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._is_refused = True
            self.cycle.keep_alive = False
            return
        self._refuse(HTTPStatus.BAD_REQUEST, "the request is no HTTP/1.1")

    def _wait_for_head(self) -> None:
        self._timer = self.loop.call_later(_HEAD_TIMEOUT, self._end)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        """Close a connection whose head did not come in time."""
        self._timer = None
        is_idle = self.cycle is None or self.cycle.response_complete
        if self._in_head and is_idle and not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, status: HTTPStatus, problem: str) -> None:
        body = json.dumps({"error": problem}).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\n"
            "content-type: application/json\r\n"
            f"content-length: {len(body)}\r\n"
            "x-content-type-options: nosniff\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        # What comes in the next moment is dropped: a client that is cut off sees no answer.
        self._is_refused = True
        self._stop_waiting()
        self.loop.call_later(_LINGER, self.transport.close)
