"""A server in a process of its own, models for it, and a plain HTTP client."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import FIXTURES

from torchlift.converters import t7

pytest.importorskip("fastapi")

DIGITS = FIXTURES / "digits"


@dataclass(frozen=True)
class Answer:
    """The answer to a request."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """A server that runs."""

    process: subprocess.Popen[str]
    port: int
    log_file: Path

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            read = response.read()
            named = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, named, read)
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def infer(self, inputs: np.ndarray, model: str = "digits", name: str = "input") -> np.ndarray:
        """Run a model with one input and one output, in the protocol's binary form."""
        head = {
            "inputs": [
                {
                    "name": name,
                    "datatype": {"f": "FP32", "u": "UINT8"}[inputs.dtype.kind],
                    "shape": inputs.shape,
                    "parameters": {"binary_data_size": inputs.nbytes},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
        text = json.dumps(head).encode()
        headers = {"Inference-Header-Content-Length": str(len(text))}
        answer = self.ask("POST", f"/v2/models/{model}/infer", text + inputs.tobytes(), headers)
        assert answer.status == 200, answer.body
        length = int(answer.headers["inference-header-content-length"])
        shape = json.loads(answer.body[:length])["outputs"][0]["shape"]
        return np.frombuffer(answer.body[length:], np.float32).reshape(shape)

    def metric(self, line: str) -> float:
        """Return the value of a line of `/metrics`, 0 where it is missing."""
        text = self.get("/metrics").body.decode()
        found = re.search(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop the server and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(30)


@contextmanager
def serving(*words: str | Path, environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Start `torchlift serve` on a free port, and stop it in the end."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.txt"
        command = [sys.executable, "-m", "torchlift.cli", "serve", *map(str, words), "--port=0"]
        env = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        with log.open("w", encoding="utf-8") as stream:
            process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=stream, text=True, env=env
            )
        try:
            yield Server(process, _port(process, log), log)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _port(process: subprocess.Popen[str], log: Path) -> int:
    for _ in range(1200):
        text = log.read_text(encoding="utf-8")
        if found := re.search(r"serving .* at http://\S+:(\d+)", text):
            return int(found[1])
        assert process.poll() is None, text
        time.sleep(0.05)
    raise AssertionError(f"the server did not start: {log.read_text(encoding='utf-8')}")


def digits_model(folder: Path, name: str = "digits.onnx") -> Path:
    """Write a classifier of 32×32 gray images with labels and preprocessing, and return it."""
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(FIXTURES / "0.1.0" / "model.onnx", target)
    return target


def digit_images(count: int) -> list[bytes]:
    """Return PNG files of digits."""
    data = t7.load(DIGITS / "digits-test.t7")
    files = []
    for pixels in np.asarray(data["data"])[:count]:
        file = io.BytesIO()
        Image.fromarray(pixels.reshape(pixels.shape[-2:]).astype(np.uint8)).save(file, "PNG")
        files.append(file.getvalue())
    return files


def form(parts: list[tuple[str, str | None, bytes]]) -> tuple[bytes, dict[str, str]]:
    """Return a multipart body of (name, file name, content), and its header."""
    body = b""
    for name, file, content in parts:
        called = f'; filename="{file}"' if file else ""
        body += f'--xyz\r\nContent-Disposition: form-data; name="{name}"{called}\r\n\r\n'.encode()
        body += content + b"\r\n"
    return body + b"--xyz--\r\n", {"Content-Type": "multipart/form-data; boundary=xyz"}
