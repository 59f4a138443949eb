"""`torchlift serve`."""

from __future__ import annotations

import logging
import socket
import sys
from pathlib import Path
from typing import Any

from ...converters.requirements import is_installed, missing_package
from ..result import CommandResult
from ..terminal import console
from ..values import Bytes, Count, NotNegative, Pixels, Port, Provider, Seconds
from .errors import ServeError
from .settings import LogFormat, Settings

#: The packages that serving needs beside those of running a model.
_PACKAGES = ("onnxruntime", "PIL", "fastapi", "uvicorn", "httptools", "prometheus_client",
             "python_multipart")  # fmt: skip

_LARGEST_BODY, _LARGEST_IMAGE = Bytes(64 * 2**20), Pixels(50_000_000)

#: How many connections wait for a process to accept them.
_BACKLOG = 2048


def serve(
    model: str,
    *,
    host: str = "127.0.0.1",
    port: Port = 8000,
    provider: Provider = "auto",
    workers: Count = 1,
    max_batch: Count = 32,
    max_delay_ms: NotNegative = 2,
    queue: Count = 1024,
    timeout: Seconds = 30,
    max_body: Bytes = _LARGEST_BODY,
    max_pixels: Pixels = _LARGEST_IMAGE,
    token_file: str | None = None,
    cors_origin: list[str] | None = None,
    log_format: LogFormat = "text",
) -> CommandResult:
    """Serve classifiers over HTTP.

    Clients of the Open Inference Protocol (Triton's, KServe's) run the model; POST /predict takes
    images and answers with labels; / is a page for people. SIGTERM and Ctrl-C answer what runs and
    then stop; SIGHUP, or a changed file, loads a model again.

    Args:
        model: An .onnx file; or a folder of .onnx files or NAME/VERSION/model.onnx.
        host: The address to listen on; 0.0.0.0 is all of the machine.
        port: The port; 0 takes a free one.
        provider: What to run on: auto, cpu, cuda or cuda:1, tensorrt, openvino.
        workers: How many processes serve.
        max_batch: How many examples of different requests are run together; 1 for each alone.
        max_delay_ms: How long an example waits for others to run with.
        queue: How many requests may wait in a process.
        timeout: How many seconds a request may take.
        max_body: The largest body of a request, such as 64M, before and after unpacking.
        max_pixels: The largest image, such as 50M.
        token_file: A file with a token that clients must send as Authorization: Bearer TOKEN.
        cors_origin: Origins whose pages may read answers, with commas; '*' is all.
        log_format: How the log on stderr is written: text or json.
    """
    for package in _PACKAGES:
        if not is_installed(package):
            raise missing_package("serve", package)
    from ...converters.inference.threads import available_cpus
    from .logs import configure_logs
    from .repository import find_models

    names = sorted(find_models(Path(model)))
    settings = Settings(
        path=model,
        provider=provider,
        threads=max(available_cpus() // workers, 1),
        max_batch=max_batch,
        max_delay=max_delay_ms / 1000,
        queue=queue,
        timeout=timeout,
        max_body=max_body,
        max_pixels=max_pixels,
        token=None if token_file is None else _read_token(Path(token_file)),
        cors_origins=tuple(cors_origin or ()),
        log_format=log_format,
    )
    listener = _listen(host, port)
    address = _address(listener)
    configure_logs(log_format)

    def say() -> None:
        sentence = f"serving {', '.join(names)} at {address}"
        if log_format == "json":
            logging.getLogger("torchlift.serve").info(sentence)
        else:
            console(stderr=True).print(sentence)

    if workers == 1:
        from .worker import serve_alone

        serve_alone(settings, listener, say)
    else:
        from .supervisor import supervise

        supervise(settings, listener, workers, say)
    data: dict[str, Any] = {"address": address, "models": names}
    return CommandResult(data)


def _read_token(file: Path) -> str:
    try:
        token = file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ServeError(f"{file}: the token cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ServeError(f"{file}: the token has characters that no header can hold") from None
    if not token:
        raise ServeError(f"{file}: there is no token in it")
    if not token.isprintable() or " " in token:
        raise ServeError(f"{file}: one token without blanks was expected")
    return token


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # asyncio switches Nagle's algorithm off (40 ms an answer) only where TCP is named here.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ServeError(f"cannot listen on {host}, port {port}: {reason}") from error
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
