"""What `torchlift serve` decides before it serves: settings, token, address; and how it logs."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from serve_support import digits_model

pytest.importorskip("fastapi")

from torchlift.cli.serve import command, supervisor, worker
from torchlift.cli.serve.command import _address, _listen, _read_token, serve
from torchlift.cli.serve.errors import ServeError
from torchlift.cli.serve.logs import configure_logs
from torchlift.cli.serve.settings import Settings
from torchlift.converters.inference import threads

LOGGERS = ("torchlift.serve", "uvicorn", "uvicorn.error", "python_multipart")


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """What a server does with the loggers of the process does not outlive a test."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(one.handlers, one.propagate, one.level) for one in loggers]
    yield
    for one, (handlers, propagate, level) in zip(loggers, before, strict=True):
        one.handlers, one.propagate = handlers, propagate
        one.setLevel(level)


def started(
    monkeypatch: pytest.MonkeyPatch, model: Path, **options: Any
) -> tuple[Settings, int, dict[str, Any]]:
    """The settings and the number of processes of a server, and what is printed in the end."""
    found: list[Any] = []

    def alone(settings: Settings, listener: socket.socket, say: Any) -> None:
        found.extend([settings, 1])
        say()
        listener.close()

    def several(settings: Settings, listener: socket.socket, workers: int, say: Any) -> None:
        found.extend([settings, workers])
        say()
        listener.close()

    monkeypatch.setattr(worker, "serve_alone", alone)
    monkeypatch.setattr(supervisor, "supervise", several)
    monkeypatch.setattr(threads, "available_cpus", lambda: 7)
    result = serve(str(model), port=0, **options)
    return found[0], found[1], result.data


@pytest.mark.parametrize(("workers", "expected"), [(1, 7), (2, 3), (7, 1), (20, 1)])
def test_the_processes_share_the_cores(
    workers: int, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, count, data = started(monkeypatch, digits_model(tmp_path), workers=workers)
    assert (settings.threads, count) == (expected, workers)
    assert data["models"] == ["digits"]
    assert data["address"].startswith("http://127.0.0.1:")


def test_options_become_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    token.write_text(" s3cret\n", encoding="ascii")
    model = digits_model(tmp_path)
    settings, _, _ = started(
        monkeypatch,
        model,
        provider="cpu",
        max_batch=4,
        max_delay_ms=250,
        queue=9,
        timeout=1.5,
        max_body=1000,
        max_pixels=2000,
        token_file=str(token),
        cors_origin=["https://a.example", "*"],
        log_format="json",
    )
    assert settings == Settings(
        path=str(model),
        provider="cpu",
        threads=7,
        max_batch=4,
        max_delay=0.25,
        queue=9,
        timeout=1.5,
        max_body=1000,
        max_pixels=2000,
        token="s3cret",
        cors_origins=("https://a.example", "*"),
        log_format="json",
    )
    # A traceback or a log shows no token.
    assert "s3cret" not in repr(settings)
    plain, _, _ = started(monkeypatch, model)
    assert (plain.token, plain.cors_origins) == (None, ())


def test_a_file_without_a_name_is_no_leave_to_ask_for_no_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a variable of a script is empty."""
    with pytest.raises(ServeError, match="the token cannot be read"):
        started(monkeypatch, digits_model(tmp_path), token_file="")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_it_says_what_it_serves_and_where(
    log_format: Any,
    workers: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    digits_model(tmp_path, "a.onnx")
    digits_model(tmp_path, "a-b.onnx")
    _, _, data = started(monkeypatch, tmp_path, log_format=log_format, workers=workers)
    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line)["message"] if log_format == "json" else line
    assert said == f"serving a, a-b at {data['address']}"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"one two", "one token without blanks"),
        (b"one\ntwo", "one token without blanks"),
        (b"one\x07", "one token without blanks"),
        (b" \n", "there is no token in it"),
        ("épagneul".encode(), "characters that no header can hold"),
        (None, "the token cannot be read: No such file"),
    ],
)
def test_what_is_no_token_is_refused(content: bytes | None, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ServeError, match=problem):
        _read_token(file)


def test_a_port_is_free_again_at_once_but_not_shared() -> None:
    first = _listen("127.0.0.1", 0)
    port = first.getsockname()[1]
    with first:
        with pytest.raises(ServeError, match=f"cannot listen on 127.0.0.1, port {port}: "):
            _listen("127.0.0.1", port)
        # A connection that the server closes keeps the port for minutes, unless it may be reused.
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = first.accept()
            accepted.close()
            assert client.recv(1) == b""
    with _listen("127.0.0.1", port) as again:
        assert _address(again) == f"http://127.0.0.1:{port}"


def test_an_address_of_version_6_stands_in_brackets() -> None:
    try:
        listener = _listen("::1", 0)
    except ServeError:
        pytest.skip("there is no IPv6 here")
    with listener:
        port = listener.getsockname()[1]
        assert _address(listener) == f"http://[::1]:{port}"


def logged(log_format: Any, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What a few events look like."""
    configure_logs(log_format)
    log = logging.getLogger("torchlift.serve")
    facts = {"request_id": "r1", "path": "/\x1b[2J\n", "status": 200, "model": None, "other": 1}
    facts |= {"client": "192.0.2.7", "method": "GET", "seconds": 0.0}
    log.info("one\n two %s", "three", extra=facts)
    log.debug("nobody sees this")
    logging.getLogger("uvicorn.error").warning("a stranger sent garbage")
    logging.getLogger("uvicorn.error").error("a fault")
    logging.getLogger("uvicorn").warning("of the server")
    logging.getLogger("uvicorn").info("nobody asks")
    assert not logging.getLogger("python_multipart").isEnabledFor(logging.ERROR)
    try:
        raise ValueError("at\x1b[2J fault")
    except ValueError:
        log.exception("it failed")
    return capsys.readouterr().err.splitlines()


def moment(text: str) -> float:
    assert text.endswith("Z")
    assert len(text) == len("2026-01-02T03:04:05.678Z")
    now = datetime.now(UTC)
    return abs((now - datetime.fromisoformat(text)).total_seconds())


def test_the_log_for_people_is_a_line_for_each_event(capsys: pytest.CaptureFixture[str]) -> None:
    first, *others = logged("text", capsys)
    when, rest = first.split(" ", 1)
    assert moment(when) < 60
    assert rest == (
        r"info one two three request_id=r1 client=192.0.2.7 method=GET path=/\x1b[2J\n status=200 "
        "seconds=0.0"
    )
    assert [line.split(" ", 1)[1] for line in others[:3]] == [
        "error a fault",
        "warning of the server",
        "error it failed",
    ]
    assert others[-1] == r"ValueError: at\x1b[2J fault"


def test_the_log_for_programs_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    first, fault, warning, failed = map(json.loads, logged("json", capsys))
    assert moment(first.pop("time")) < 60
    assert isinstance(first.pop("process"), int)
    assert first == {
        "level": "info",
        "message": "one\n two three",
        "request_id": "r1",
        "client": "192.0.2.7",
        "method": "GET",
        "path": "/\x1b[2J\n",
        "status": 200,
        "seconds": 0.0,
    }
    assert (fault["level"], fault["message"]) == ("error", "a fault")
    assert warning["level"] == "warning"
    assert failed["exception"].splitlines()[-1] == "ValueError: at\x1b[2J fault"


def test_the_log_has_the_time_of_no_place(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    try:
        time.tzset()
        assert moment(logged("text", capsys)[0].split(" ", 1)[0]) < 60
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_line_is_logged_once(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.StreamHandler()
    logging.getLogger().addHandler(root)
    try:
        lines = logged("text", capsys)
    finally:
        logging.getLogger().removeHandler(root)
    assert sum("it failed" in line for line in lines) == 1


def test_a_package_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for missing in command._PACKAGES:
        monkeypatch.setattr(command, "is_installed", lambda name, gone=missing: name != gone)
        with pytest.raises(ImportError, match="torchlift"):
            serve(str(tmp_path))
