"""Requests that nobody honest sends.

What is protected: no error of the server but the intended 503 and 504, no traceback, no leak, and
the next client is answered. `TORCHLIFT_HOSTILE=20000` sends as many (docs/soak.md).
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serve_support import Server, digit_images, digits_model, form, serving

(IMAGE,) = digit_images(1)
Kind = Callable[[random.Random], bytes]
KINDS: dict[str, Kind] = {}


def kind(function: Kind) -> Kind:
    KINDS[function.__name__] = function
    return function


def post(path: str, body: bytes, *headers: str, length: int | str | None = None) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", *headers]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def infer(entry: dict[str, Any], behind: bytes = b"", **extra: Any) -> bytes:
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, 1, 32, 32], **entry}
    text = json.dumps({"inputs": [tensor], **extra}).encode()
    header = f"Inference-Header-Content-Length: {len(text)}"
    return post("/v2/models/digits/infer", text + behind, header)


@kind
def random_bytes(rng: random.Random) -> bytes:
    return rng.randbytes(rng.randrange(1, 3000)) + b"\r\n\r\n"


@kind
def malformed_head(rng: random.Random) -> bytes:
    return rng.choice(
        [
            b"GET / HTTP/9.9\r\n\r\n",
            b"GET /\r\n\r\n",
            b"GE T / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
            b"GET / HTTP/1.1\r\nA\x00: b\x01\r\n\r\n",
            b"GET / HTTP/1.1\nHost: x\n\n",
            b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
            b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
            b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET http://other/v2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            b"TRACE /v2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        ]
    )


@kind
def wrong_length(rng: random.Random) -> bytes:
    return rng.choice(
        [
            post("/predict", IMAGE, length="-1"),
            post("/predict", IMAGE, length="0x10"),
            post("/predict", IMAGE, length=10**30),
            post("/predict", IMAGE, length=len(IMAGE) - 9),
            post("/predict", IMAGE, "Content-Length: 3"),
            post("/predict", IMAGE, "Transfer-Encoding: chunked"),
            post("/predict", b"zz\r\n", "Transfer-Encoding: chunked"),
            post("/predict", IMAGE, length=len(IMAGE) + 100),
        ]
    )


@kind
def wrong_header_length(rng: random.Random) -> bytes:
    length = rng.choice(["-1", "x", "1" * 50, "5", "99999999", "0", " 3", "٣"])
    header = f"Inference-Header-Content-Length: {length}".encode().decode("latin-1")
    return post("/v2/models/digits/infer", b'{"inputs": []}', header)


@kind
def bombs(rng: random.Random) -> bytes:
    head = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">II", rng.choice([60_000, 2**31 - 1]), 60_000) + b"\x08\x02\0\0\0"
    chunk = b"IHDR" + header
    png = head + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    gif = b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\0;"
    bmp = b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 60000, 60000, 1, 24, *[0] * 6)
    return rng.choice(
        [
            post("/predict", png),
            post("/predict", gif),
            post("/predict", bmp),
            post("/predict", gzip.compress(bytes(3 * 10**6)), "Content-Encoding: gzip"),
            post("/predict", zlib.compress(bytes(3 * 10**6)), "Content-Encoding: deflate"),
            post("/predict", b"x", "Content-Encoding: gzip, gzip"),
            post("/v2/models/digits/infer", b"[" * 100_000),
            post("/v2/models/digits/infer", b'{"a":' * 100_000),
            post("/v2/models/digits/infer", b'{"inputs": ' + b"9" * 10_000 + b"}"),
        ]
    )


@kind
def shapes(rng: random.Random) -> bytes:
    shape = rng.choice(
        [
            [2**40, 1, 32, 32],
            [2**62, 1, 32, 32],
            [10**30, 1, 32, 32],
            [-1, 1, 32, 32],
            [0, 1, 32, 32],
            [1.5, 1, 32, 32],
            [True, 1, 32, 32],
            ["1", 1, 32, 32],
            [[1], 1, 32, 32],
            [1] * 1000,
            [],
            None,
            {},
            "1x1x32x32",
        ]
    )
    size = rng.choice([0, 4096, -1, 2**63, "4096", None, 1.5])
    return infer({"shape": shape, "parameters": {"binary_data_size": size}}, bytes(4096))


@kind
def values(rng: random.Random) -> bytes:
    data = rng.choice(
        [
            [1] * 1023,
            [1] * 1025,
            [[1] * 1024, 2],
            ["a"] * 1024,
            [None] * 1024,
            [10**400] * 1024,
            [1e39] * 1024,
            [[]] * 1024,
            {},
            "AAAA",
            None,
            [True] * 1024,
        ]
    )
    return infer({"data": data})


@kind
def not_a_number(rng: random.Random) -> bytes:
    array = np.zeros((1, 1, 32, 32), np.float32)
    array[0, 0, 3, 3] = rng.choice([np.nan, np.inf, -np.inf])
    if rng.random() < 0.5:
        return infer({"parameters": {"binary_data_size": 4096}}, array.tobytes())
    return infer({"data": array.reshape(-1).tolist()})


@kind
def wrong_entries(rng: random.Random) -> bytes:
    return rng.choice(
        [
            infer({"name": 3}),
            infer({"name": "x" * 10_000}),
            infer({"datatype": ["FP32"]}),
            infer({"parameters": []}),
            infer({"data": [0.0] * 1024}, outputs={}),
            infer({"data": [0.0] * 1024}, outputs=[{"name": "x"}]),
            infer({"data": [0.0] * 1024}, outputs=[{"name": []}]),
            infer({"data": [0.0] * 1024}, id=3),
            infer({"data": [0.0] * 1024}, parameters={"binary_data_output": 3}),
            infer(
                {"data": [0.0] * 1024},
                outputs=[{"name": "log_probabilities", "parameters": {"classification": -1}}],
            ),
            infer({"parameters": {"shared_memory_region": "/dev/shm/x"}}),
            infer({}, inputs=[]),
            infer({}, inputs=3),
            post("/v2/models/digits/infer", b"\xff\xfe{}"),
            post("/v2/models/digits/infer", b'{"inputs": "\\ud800"}'),
            post("/v2/models/digits/infer", b""),
            post("/v2/repository/index", b"[]"),
            post("/v2/repository/index", b'{"ready": "yes"}'),
        ]
    )


@kind
def traversal(rng: random.Random) -> bytes:
    name = rng.choice(
        ["..%2f..%2fetc%2fpasswd", "%00", "..", "%2e%2e", "a%0d%0aX: y", "%ff%fe", "x" * 5000, "*"]
    )
    path = rng.choice(
        [
            f"/v2/models/{name}",
            f"/v2/models/{name}/infer",
            f"/v2/models/digits/versions/{name}/ready",
            f"/v2/repository/models/{name}/load",
            f"/v2/repository/models/{name}/unload",
            f"/static/{name}",
            f"/predict?model={name}",
            f"/predict?top={name}",
            f"//{name}",
        ]
    )
    method = "POST" if "repository" in path or "predict" in path or "infer" in path else "GET"
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()


@kind
def damaged_images(rng: random.Random) -> bytes:
    damaged = bytearray(IMAGE)
    for _ in range(rng.randrange(1, 20)):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    return post("/predict", bytes(damaged[: rng.randrange(1, len(damaged) + 1)]))


@kind
def damaged_forms(rng: random.Random) -> bytes:
    body, headers = form([("image", "a.png", IMAGE)])
    content = f"Content-Type: {headers['Content-Type']}"
    damaged = bytearray(body)
    damaged[rng.randrange(150)] = rng.randrange(256)
    return rng.choice(
        [
            post("/predict", bytes(damaged), content),
            post("/predict", body[: rng.randrange(len(body))], content),
            post("/predict", body, "Content-Type: multipart/form-data"),
            post("/predict", body, "Content-Type: multipart/form-data; boundary="),
            post("/predict", body, f"Content-Type: multipart/form-data; boundary={'x' * 9000}"),
            post("/predict", b"--xyz\r\n" * 5000, content),
            post("/predict", form([("image", None, b"")] * 2000)[0], content),
            post(
                "/predict", b'{"images": ["' + b"A" * 99 + b'"]}', "Content-Type: application/json"
            ),
        ]
    )


@kind
def pipelined_garbage(rng: random.Random) -> bytes:
    return post("/predict", IMAGE) + rng.randbytes(200) + b"\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(digits_model(tmp_path_factory.mktemp("serve")), "--max-body=2M") as running:
        yield running


def statuses(server: Server, request: bytes) -> list[int]:
    """Send a request, close our side, and return the statuses of the answers."""
    answer = b""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    # The server may close in the middle of garbage; a time-out is its fault.
    with connection, suppress(ConnectionError):
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(2**16):
            answer += part
    for found in re.finditer(rb"\r\n\r\n(?=\{\"error\")", answer):
        text = answer[found.end() :].decode("utf-8", "replace")
        assert list(json.JSONDecoder().raw_decode(text)[0]) == ["error"]
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", answer) if status != b"100"]


def assert_well(server: Server) -> None:
    assert server.ask("POST", "/predict", IMAGE).status == 200
    assert server.process.poll() is None
    assert "Traceback" not in server.log


@pytest.mark.parametrize("name", KINDS)
def test_no_request_is_the_servers_fault(name: str, server: Server) -> None:
    rng = random.Random(name)
    for _ in range(12):
        request = KINDS[name](rng)
        for status in statuses(server, request):
            assert status < 500 or status in (503, 504), request[:2000]
    assert_well(server)


def resident(server: Server) -> int:
    text = Path(f"/proc/{server.process.pid}/status").read_text(encoding="utf-8")
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1])  # type: ignore[index]  # every process has it


@pytest.mark.slow
@pytest.mark.skipif("TORCHLIFT_HOSTILE" not in os.environ, reason="a long run: docs/soak.md")
def test_many_hostile_requests_leak_nothing(server: Server) -> None:
    rng = random.Random(int(os.environ.get("TORCHLIFT_SEED", "0")))
    total = int(os.environ["TORCHLIFT_HOSTILE"])
    early = 0
    for number in range(total):
        request = KINDS[rng.choice(list(KINDS))](rng)
        for status in statuses(server, request):
            assert status < 500 or status in (503, 504), request[:2000]
        if number == total // 10:
            early = resident(server)
    assert_well(server)
    assert resident(server) < 1.1 * early
