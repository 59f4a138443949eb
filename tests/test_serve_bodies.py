"""The body of a request, without a server: packed in any way, within the limits, forgotten after.

What is protected: a small packed body takes no memory, and what was read once is not held for ever.
"""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator

import pytest

pytest.importorskip("fastapi")

from starlette.requests import Request
from starlette.types import Message

from torchlift.cli.serve.body import Bodies, packing_of
from torchlift.cli.serve.body import packed as pack
from torchlift.cli.serve.errors import RequestError

LIMIT = 1000
DATA = bytes(range(256)) * 2


def request(body: bytes, encoding: str) -> Request:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-encoding", encoding.encode())] if encoding else []
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def read(body: bytes, encoding: str, bodies: Bodies | None = None) -> bytes:
    async def once() -> bytes:
        async with (bodies or Bodies(LIMIT, 5)).read(request(body, encoding)) as found:
            return found

    return asyncio.run(once())


def packed(data: bytes) -> bytes:
    """Return data as gzip, the same whenever it is packed: it is a part of tests' names."""
    return gzip.compress(data, mtime=0)


def bare(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def small_window(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=12)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (DATA, ""),
        (DATA, "identity"),
        (packed(DATA), "gzip"),
        (packed(DATA), "X-GZIP"),
        (packed(DATA[:100]) + packed(DATA[100:]), "gzip"),
        (zlib.compress(DATA), "deflate"),
        (bare(DATA), "deflate"),
        # A smaller window is told by another first byte.
        (small_window(DATA), "deflate"),
    ],
)
def test_a_body_is_what_was_packed(body: bytes, encoding: str) -> None:
    assert read(body, encoding) == DATA


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (bytes(LIMIT + 1), "", 413),
        (packed(bytes(LIMIT + 1)), "gzip", 413),
        (packed(bytes(LIMIT)) + packed(b"x"), "gzip", 413),
        (packed(DATA)[:-1], "gzip", 400),
        (b"nothing packed", "gzip", 400),
        (packed(DATA) + b"behind", "gzip", 400),
        (b"\x78", "deflate", 400),
        (DATA, "br", 415),
    ],
)
def test_what_is_larger_damaged_or_unknown_is_refused(
    body: bytes, encoding: str, status: int
) -> None:
    with pytest.raises(RequestError) as refused:
        read(body, encoding)
    assert refused.value.status == status


def test_no_more_of_a_body_is_unpacked_than_may_be() -> None:
    """Ten kilobytes that unpack to ten megabytes take the memory of the limit alone."""
    packed = zlib.compress(bytes(10_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(RequestError, match="larger than 1,000 bytes"):
            Bodies(1000, 1.0)._unpack(packed)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_exactly_the_largest_body_is_taken() -> None:
    assert len(read(bytes(LIMIT), "")) == len(read(packed(bytes(LIMIT)), "gzip")) == LIMIT


@pytest.mark.parametrize(
    ("length", "taken"),
    [
        (str(LIMIT), True),
        (str(LIMIT + 1), False),
        ("9" * 30, False),
        # Other servers refuse what is no length; here the bytes are counted.
        ("-1", True),
    ],
)
def test_a_body_that_says_that_it_is_too_large_is_not_read(length: str, taken: bool) -> None:
    one = request(bytes(LIMIT), "")
    one.scope["headers"].append((b"content-length", length.encode()))
    bodies = Bodies(LIMIT, 5)

    async def once() -> int:
        async with bodies.read(one) as found:
            return len(found)

    if taken:
        assert asyncio.run(once()) == LIMIT
        return

    async def never() -> Message:
        raise AssertionError("it is read")

    one._receive = never
    with pytest.raises(RequestError, match="larger than 1,000 bytes") as refused:
        asyncio.run(once())
    assert refused.value.status == 413


@pytest.mark.parametrize(
    ("comes", "status", "problem"),
    [
        ("nothing", 408, "the body came too slowly"),
        ("a part", 408, "the body came too slowly"),
        ("an end", 400, "the connection was closed within the body"),
    ],
)
def test_a_body_that_does_not_come_is_waited_for_no_longer_than_a_request_may_take(
    comes: str, status: int, problem: str
) -> None:
    one, bodies = request(b"", ""), Bodies(LIMIT, 0.05)
    sent: list[bytes] = []

    async def receive() -> Message:
        if comes == "an end" and sent:
            return {"type": "http.disconnect"}
        if comes == "nothing" or sent:
            await asyncio.sleep(60)
        sent.append(b"part")
        return {"type": "http.request", "body": b"part", "more_body": True}

    async def once() -> None:
        async with bodies.read(one):
            raise AssertionError("it is whole")

    one._receive = receive
    with pytest.raises(RequestError, match=problem) as refused:
        asyncio.run(asyncio.wait_for(once(), 5))
    assert refused.value.status == status
    assert bodies._held == 0


def test_a_body_is_held_until_its_block_ends() -> None:
    bodies = Bodies(LIMIT, 5)

    async def many_at_once() -> None:
        async with bodies.read(request(bytes(LIMIT), "")):
            before = bodies._held
            if before < 16 * LIMIT:
                await many_at_once()
                # What has ended is forgotten, and nothing else.
                assert bodies._held == before
            else:
                await other()

    async def other() -> None:
        with pytest.raises(RequestError, match="too many large bodies"):
            await anext(aiter(entered(bodies)))

    asyncio.run(many_at_once())
    for _ in range(40):
        read(packed(DATA), "gzip", bodies)
    assert bodies._held == 0


async def entered(bodies: Bodies) -> AsyncIterator[bytes]:
    async with bodies.read(request(b"x", "")) as body:
        yield body


@pytest.mark.parametrize(
    ("accepted", "packing"),
    [
        ("gzip, deflate", "gzip"),
        ("deflate, gzip", "deflate"),
        ("GZIP", "gzip"),
        ("gzip;q=0.5", "gzip"),
        ("gzip; q=0, deflate;q=0.000", ""),
        ("gzip;q=0.0, deflate;q=0.00", ""),
        ("gzip ; q=1", "gzip"),
        ("br, *", ""),
        ("", ""),
    ],
)
def test_an_answer_is_packed_as_the_client_accepts(accepted: str, packing: str) -> None:
    assert packing_of(accepted) == packing


def test_a_header_without_a_value_packs_nothing() -> None:
    one = request(DATA, "")
    one.scope["headers"].append((b"content-encoding", b""))

    async def once() -> bytes:
        async with Bodies(LIMIT, 5).read(one) as found:
            return found

    assert asyncio.run(once()) == DATA


def test_what_is_unpacked_is_held_too() -> None:
    """A thousand bytes in thirty: the memory is that of both."""
    bodies, small = Bodies(LIMIT, 5), packed(bytes(LIMIT))

    async def held() -> int:
        async with bodies.read(request(small, "gzip")):
            return bodies._held

    assert asyncio.run(held()) == LIMIT + len(small)
    assert bodies._held == 0


def test_equal_answers_are_packed_to_equal_bytes() -> None:
    """Whenever that is: the time, which gzip keeps at the fifth byte, is left out."""
    assert pack(DATA, "gzip")[4:8] == bytes(4)
    assert gzip.decompress(pack(DATA, "gzip")) == zlib.decompress(pack(DATA, "deflate")) == DATA
