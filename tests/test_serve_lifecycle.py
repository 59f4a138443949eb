"""A server's life: it starts fast and without torch, replaces models, loses a process, stops.

What is protected: no request is lost or answered wrongly meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from serve_support import Server, digits_model, serving
from support import ROOT

from torchlift.cli.serve import command

#: Runs the server in this process, then says what was imported.
_IN_PROCESS = """
import sys
from torchlift.cli.main import main
code = main(sys.argv[1:])
print("imported", *{"torch", "torchvision", "onnx", "matplotlib", "sklearn"} & set(sys.modules),
      file=sys.stderr)
sys.exit(code)
"""


def wait_until(condition: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def other_model(file: Path) -> None:
    """Write a model with the same input and other outputs, in one step."""
    model = onnx.load(digits_model(file.parent / "source"))
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim > 1:
            tensor.CopyFrom(numpy_helper.from_array(values * np.float32(1.5), tensor.name))
    beside = file.with_suffix(".new")
    onnx.save(model, beside)
    beside.replace(file)


def run_bare(file: Path, inputs: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options).run(None, {"input": inputs})[0]


def test_it_starts_within_two_seconds_of_processor_time_and_without_torch(tmp_path: Path) -> None:
    model, log = digits_model(tmp_path), tmp_path / "log.txt"
    command = [sys.executable, "-c", _IN_PROCESS, "serve", str(model), "--port=0", "--json"]
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, text=True)
    wait_until(lambda: "serving digits at" in log.read_text(encoding="utf-8"))
    times = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    seconds = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert seconds < 2
    assert log.read_text(encoding="utf-8").splitlines()[-1] == "imported"
    document = json.loads(out)
    schema = json.loads((ROOT / "docs/schemas/serve.json").read_text(encoding="utf-8"))
    jsonschema.validate(document, schema)
    assert document["models"] == ["digits"]


def begin_infer(server: Server, inputs: np.ndarray) -> tuple[socket.socket, bytes]:
    """Send the head of a request; return its connection, and its body when it is asked for."""
    head = {
        "inputs": [{"name": "input", "shape": inputs.shape, "datatype": "FP32",
                    "parameters": {"binary_data_size": inputs.nbytes}}],
    }  # fmt: skip
    text = json.dumps(head).encode()
    body = text + inputs.tobytes()
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    connection.sendall(
        b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        + f"Content-Length: {len(body)}\r\n".encode()
        + f"Inference-Header-Content-Length: {len(text)}\r\n\r\n".encode()
    )
    assert b"100 Continue" in connection.recv(1000)
    return connection, body


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_runs_is_answered_before_it_stops(number: int, tmp_path: Path) -> None:
    model = digits_model(tmp_path)
    inputs = np.random.default_rng(0).random((4, 1, 32, 32), np.float32)
    with serving(model) as server:
        connection, body = begin_infer(server, inputs)
        assert server.get("/v2/health/ready").status == 200
        server.process.send_signal(number)
        wait_until(lambda: server.get("/v2/health/ready").status == 503)
        assert server.get("/v2/health/live").status == 200
        refused = server.ask("POST", "/v2/models/digits/infer", b"{}")
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        connection.sendall(body)
        answer = b""
        while part := connection.recv(2**16):
            answer += part
        assert answer.startswith(b"HTTP/1.1 200")
        (output,) = json.loads(answer.partition(b"\r\n\r\n")[2])["outputs"]
        found = np.array(output["data"], np.float32).reshape(output["shape"])
        assert found.tobytes() == run_bare(model, inputs).tobytes()
        assert server.process.wait(60) == 0


class Clients:
    """Eight clients that ask the same and collect what they get."""

    def __init__(self, server: Server, inputs: np.ndarray) -> None:
        self._server, self._inputs = server, inputs
        self._threads = [threading.Thread(target=self._ask) for _ in range(8)]
        self._stopping = threading.Event()
        self.answers: list[np.ndarray] = []
        self.lost: list[Exception] = []

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a client hangs"

    def _ask(self) -> None:
        while not self._stopping.is_set():
            try:
                self.answers.append(self._server.infer(self._inputs))
            except Exception as error:
                self.lost.append(error)


def is_near(found: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.allclose(found, expected, rtol=0, atol=1e-5))


def test_a_model_is_replaced_while_eight_clients_ask(tmp_path: Path) -> None:
    model = digits_model(tmp_path)
    inputs = np.random.default_rng(1).random((2, 1, 32, 32), np.float32)
    old = run_bare(model, inputs)
    with serving(model) as server, Clients(server, inputs) as clients:
        wait_until(lambda: len(clients.answers) > 20)
        other_model(model)
        new = run_bare(model, inputs)
        assert not is_near(old, new)
        wait_until(lambda: is_near(server.infer(inputs), new))
        # What cannot be opened leaves the model that is there.
        model.with_suffix(".new").write_bytes(b"no model")
        model.with_suffix(".new").replace(model)
        failures = 'torchlift_reload_failures_total{model="digits"}'
        wait_until(lambda: server.metric(failures) == 1)
        assert "cannot be opened" in server.log
        assert is_near(server.infer(inputs), new)
        assert server.get("/v2/models/digits/ready").status == 200
        digits_model(tmp_path)
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: is_near(server.infer(inputs), old))
    assert clients.lost == []
    for answer in clients.answers:
        assert is_near(answer, old) or is_near(answer, new)


def workers_of(server: Server) -> set[int]:
    listed = subprocess.run(
        ["pgrep", "-P", str(server.process.pid), "-f", "multiprocessing.spawn"],
        capture_output=True,
        text=True,
    )
    return {int(line) for line in listed.stdout.split()}


def test_a_killed_process_is_replaced_and_no_client_hangs(tmp_path: Path) -> None:
    model = digits_model(tmp_path)
    inputs = np.random.default_rng(2).random((2, 1, 32, 32), np.float32)
    expected = run_bare(model, inputs)
    with serving(model, "--workers", "2") as server:
        before = workers_of(server)
        assert len(before) == 2
        with Clients(server, inputs) as clients:
            wait_until(lambda: len(clients.answers) > 20)
            victim = min(before)
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: victim not in workers_of(server) and len(workers_of(server)) == 2)
            wait_until(lambda: "has died" in server.log)
        # Those that the process was answering saw their connection end, no more.
        assert len(clients.lost) <= 8
        assert all(is_near(answer, expected) for answer in clients.answers)
        # A change reaches every process before it is answered, also one that starts meanwhile.
        assert server.ask("POST", "/v2/repository/models/digits/unload").status == 200
        for _ in range(20):
            assert server.get("/v2/models/digits/ready").status == 404
        assert server.ask("POST", "/v2/repository/models/digits/load").status == 200
        for _ in range(20):
            assert server.get("/v2/models/digits/ready").status == 200
        sha = server.get("/card").json["sha256"]
        info = f'torchlift_model_info{{model="digits",sha256="{sha}",version="1"}}'
        assert server.metric(info) == 1
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("content", "words", "problem"),
    [
        (b"no model", [], "digits.onnx"),
        (None, ["--token-file", "{}/missing"], "missing: the token cannot be read"),
        (None, ["--token-file", "{}/empty"], "empty: there is no token in it"),
        (None, ["--host", "256.0.0.1"], "cannot listen on 256.0.0.1"),
        (None, ["--workers", "2", "--provider", "cuda"], "cuda does not start"),
    ],
)
def test_what_is_wrong_at_the_start_is_said(
    content: bytes | None, words: list[str], problem: str, tmp_path: Path
) -> None:
    model = digits_model(tmp_path)
    if content is not None:
        model.write_bytes(content)
    (tmp_path / "empty").write_text("\n", encoding="utf-8")
    if "cuda" in words and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("CUDA may start here")
    command = [sys.executable, "-m", "torchlift.cli", "serve", str(model), "--port=0"]
    command += [word.replace("{}", str(tmp_path)) for word in words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("torchlift: ")]
    assert problem in lines[0]
    assert "Traceback" not in done.stderr


def test_no_answer_waits_for_the_acknowledgement_of_its_head() -> None:
    """Nagle's algorithm holds the body of an answer 40 ms back.

    asyncio switches it off only for sockets that were made with TCP's number.
    """

    async def nodelay() -> int:
        with command._listen("127.0.0.1", 0) as listener:
            accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
            server = await asyncio.start_server(
                lambda _, to: accepted.put_nowait(to), sock=listener
            )
            async with server:
                _, client = await asyncio.open_connection(*listener.getsockname())
                writer = await accepted.get()
                connection = writer.get_extra_info("socket")
                found: int = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                client.close()
                writer.close()
            return found

    assert asyncio.run(nodelay()) != 0
