"""Reading the body of a request within its limits, and packing the body of an answer."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from .errors import RequestError, queue_full

#: How many bodies of the largest size may be in memory.
_LARGEST_BODIES = 16

#: Bodies up to this size are unpacked and parsed at once, larger ones in a thread.
SMALL = 2**16

#: gzip or zlib, told by its head, and deflate without a head.
_WITH_HEAD, _BARE = zlib.MAX_WBITS | 32, -zlib.MAX_WBITS


class Bodies:
    """Reads bodies; what all of them hold at a time is bounded.

    Args:
        max_body: The largest body in bytes, before and after it is unpacked.
        timeout: How long a client may take to send one, in seconds.
    """

    def __init__(self, max_body: int, timeout: float) -> None:
        self._max_body, self._timeout = max_body, timeout
        self._held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """Read and unpack a body, which counts as held until the block ends.

        Raises:
            RequestError: If it is too large, is packed in an unknown way or damaged, comes too
                slowly, or too many bodies are held.
        """
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "", "gzip", "x-gzip", "deflate"):
            raise RequestError(
                415, "the body is packed in an unknown way", {"Accept-Encoding": "gzip, deflate"}
            )
        length = request.headers.get("content-length", "")
        if length.isdecimal() and (len(length) > 18 or int(length) > self._max_body):
            raise self._too_large()
        held = 0
        try:
            chunks: list[bytes] = []
            try:
                async with asyncio.timeout(self._timeout):
                    async for chunk in request.stream():
                        held += len(chunk)
                        self._held += len(chunk)
                        self._check(held)
                        chunks.append(chunk)
            except TimeoutError:
                raise RequestError(408, "the body came too slowly") from None
            except ClientDisconnect:
                raise RequestError(400, "the connection was closed within the body") from None
            body = b"".join(chunks)
            chunks.clear()
            if encoding in ("gzip", "x-gzip", "deflate"):
                small = len(body) <= SMALL
                body = self._unpack(body) if small else await asyncio.to_thread(self._unpack, body)
                held += len(body)
                self._held += len(body)
            yield body
        finally:
            self._held -= held

    def _check(self, held: int) -> None:
        if held > self._max_body:
            raise self._too_large()
        if self._held > _LARGEST_BODIES * self._max_body:
            raise queue_full("too many large bodies are being read")

    def _too_large(self) -> RequestError:
        return RequestError(413, f"the body is larger than {self._max_body:,} bytes")

    def _unpack(self, data: bytes) -> bytes:
        """Return what gzip, zlib or deflate have packed, several parts in a row too."""
        parts: list[bytes] = []
        size = 0
        wbits = _WITH_HEAD if _has_head(data) else _BARE
        while data:
            unpacker = zlib.decompressobj(wbits)
            try:
                part = unpacker.decompress(data, self._max_body - size + 1)
            except zlib.error:
                raise RequestError(400, "the packed body is damaged") from None
            size += len(part)
            if size > self._max_body:
                raise self._too_large()
            if not unpacker.eof:
                raise RequestError(400, "the packed body is cut")
            parts.append(part)
            data = unpacker.unused_data
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _has_head(data: bytes) -> bool:
    is_zlib = len(data) > 1 and data[0] & 15 == 8 and (data[0] << 8 | data[1]) % 31 == 0
    return data.startswith(b"\x1f\x8b") or is_zlib


def packing_of(accepted: str) -> str:
    """Return how an answer is packed for a client that accepts this: `gzip`, `deflate` or ``.

    Example:
        >>> packing_of("gzip;q=0, deflate"), packing_of("br")
        ('deflate', '')
    """
    for part in accepted.lower().split(","):
        name, _, quality = part.strip().partition(";")
        refused = quality.replace(" ", "") in ("q=0", "q=0.0", "q=0.00", "q=0.000")
        if name.strip() in ("gzip", "deflate") and not refused:
            return name.strip()
    return ""


def packed(body: bytes, packing: str) -> bytes:
    """Pack an answer; the fastest level, because networks are fast and processors busy."""
    return gzip.compress(body, 1, mtime=0) if packing == "gzip" else zlib.compress(body, 1)
