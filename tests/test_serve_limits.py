"""Limits of the server: bodies, time, the queue.

What is protected: one client cannot take the server from the others.
"""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Iterator

import pytest
from serve_support import Answer, Server, digit_images, digits_model, serving

(IMAGE,) = digit_images(1)
LIMIT = 100 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Its model waits a minute for other examples, but a request may take half a second."""
    model = digits_model(tmp_path_factory.mktemp("serve"))
    words = ("--max-body=100K", "--timeout=0.5", "--queue=2", "--max-delay-ms=60000")
    with serving(model, *words) as running:
        yield running


def raw(server: Server, request: bytes, timeout: float = 30) -> bytes:
    """Send bytes and return what comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=timeout) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(2**16):
            answer += part
    return answer


def test_a_length_that_is_too_large_is_refused_before_the_body_is_read(server: Server) -> None:
    began = time.monotonic()
    answer = raw(
        server,
        b"POST /predict HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        + f"Content-Length: {10**15}\r\n\r\n".encode(),
    )
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"100 Continue" not in answer
    assert b'{"error": "the body is larger than 102,400 bytes"}' in answer
    assert time.monotonic() - began < 20


def test_a_body_without_a_length_is_cut(server: Server) -> None:
    chunks = b"".join(b"4000\r\n" + b"x" * 0x4000 + b"\r\n" for _ in range(10))
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert raw(server, head + chunks + b"0\r\n\r\n").startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (gzip.compress(bytes(10**7)), "gzip", 413),
        (zlib.compress(bytes(10**7)), "deflate", 413),
        (gzip.compress(b"x" * LIMIT) * 2, "gzip", 413),
        (gzip.compress(IMAGE)[:-9], "gzip", 400),
        (b"no gzip", "gzip", 400),
        (IMAGE, "br", 415),
    ],
    # A packed body, which would be the name, begins with the time.
    ids=["too large", "deflate, too large", "two members", "cut", "no gzip", "unknown packing"],
)
def test_packed_bodies_have_the_same_limit(
    body: bytes, encoding: str, status: int, server: Server
) -> None:
    answer = server.ask("POST", "/predict", body, {"Content-Encoding": encoding})
    assert (answer.status, list(answer.json)) == (status, ["error"])


def test_a_slow_body_does_not_wait_for_ever(server: Server) -> None:
    answer = raw(server, b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nslow")
    assert answer.startswith(b"HTTP/1.1 408")


def test_past_the_time_is_504_and_a_full_queue_503(server: Server) -> None:
    answers: list[Answer] = []

    def ask() -> None:
        answers.append(server.ask("POST", "/predict", IMAGE))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = sorted(answer.status for answer in answers)
    assert set(statuses) == {503, 504}
    assert statuses.count(504) >= 2
    for answer in answers:
        assert list(answer.json) == ["error"]
        assert (answer.headers.get("retry-after") == "1") == (answer.status == 503)
    assert server.metric("torchlift_queue_length") == 0


@pytest.mark.slow
def test_a_head_that_is_too_large(server: Server) -> None:
    answer = raw(server, b"GET / HTTP/1.1\r\nX: " + b"x" * 2**20)
    assert b" 431 " in answer.splitlines()[0]
    assert list(json.loads(answer.partition(b"\r\n\r\n")[2])) == ["error"]
