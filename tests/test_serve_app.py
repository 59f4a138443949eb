"""What the application answers, without a socket: draining, other pages, counts, headers, the log.

What is protected: a server that stops takes no new work, a page of another origin changes nothing,
and what is counted and logged is what happened.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serve_support import Answer, digit_images, digits_model

pytest.importorskip("fastapi")

from serve_app_support import Application, application, within

from torchlift.cli.serve import app as app_file
from torchlift.cli.serve.gate import DURATION, REQUESTS

(IMAGE,) = digit_images(1)
INFER = "/v2/models/digits/infer"
#: One black image, as JSON alone.
REQUEST = json.dumps(
    {
        "id": "seven",
        "inputs": [
            {"name": "input", "datatype": "FP32", "shape": [1, 1, 32, 32], "data": [0.0] * 1024}
        ],
    }
).encode()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits_model(tmp_path_factory.mktemp("app"))


def asked(work: Callable[[Application], Awaitable[Any]], path: Path, **settings: Any) -> Any:
    async def run() -> Any:
        async with application(path, **settings) as running:
            return await work(running)

    return within(run())


def answers(path: Path, *requests: tuple[Any, ...], **settings: Any) -> list[Answer]:
    async def work(running: Application) -> list[Answer]:
        return [await running.ask(*request) for request in requests]

    found: list[Answer] = asked(work, path, **settings)
    return found


def test_a_server_that_stops_takes_no_new_work(model: Path) -> None:
    async def work(running: Application) -> dict[str, list[Answer]]:
        asks = {
            "work": [("POST", "/predict", IMAGE), ("POST", INFER, REQUEST)],
            "ready": [("GET", "/v2/health/ready")],
            "well": [("GET", "/v2/health/live"), ("GET", "/v2/models/digits"), ("GET", "/metrics")],
        }
        before = [await running.ask(*one) for ones in asks.values() for one in ones]
        assert {answer.status for answer in before} == {200}
        assert not any("connection" in answer.headers for answer in before)
        running.service.draining = True
        return {what: [await running.ask(*one) for one in ones] for what, ones in asks.items()}

    found = asked(work, model)
    for answer in (*found["work"], *found["ready"]):
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert {answer.status for answer in found["well"]} == {200}
    # Whoever keeps a connection open must not ask on it again.
    for answer in [one for ones in found.values() for one in ones]:
        assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("origin", "allowed", "status"),
    [
        (None, (), 200),
        ("http://here:8000", (), 200),
        ("http://here:8001", (), 403),
        ("https://other.example", (), 403),
        ("https://other.example", ("https://other.example",), 200),
        # To read answers is not to change models.
        ("https://other.example", ("*",), 403),
        ("null", ("*",), 403),
    ],
)
@pytest.mark.parametrize("operation", ["load", "unload"])
def test_pages_of_other_origins_change_no_models(
    operation: str, origin: str | None, allowed: tuple[str, ...], status: int, model: Path
) -> None:
    headers = {"Origin": origin} if origin else {}
    path = f"/v2/repository/models/digits/{operation}"
    changed, ready = answers(
        model,
        ("POST", path, b"", headers),
        ("GET", "/v2/models/digits/ready"),
        cors_origins=allowed,
    )
    assert changed.status == status
    assert (ready.status == 404) == (operation == "unload" and status == 200)


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"config": "{}"}, "own files only"),
        ({"file:1/model.onnx": "AAAA"}, "own files only"),
        ([], "no JSON object"),
    ],
)
def test_nobody_sends_a_model_of_their_own(parameters: Any, problem: str, model: Path) -> None:
    body = json.dumps({"parameters": parameters}).encode()
    (answer,) = answers(model, ("POST", "/v2/repository/models/digits/load", body))
    assert answer.status == 400
    assert problem in answer.json["error"]


def test_the_index_shows_all_or_what_is_ready(tmp_path: Path) -> None:
    digits_model(tmp_path, "a.onnx")
    digits_model(tmp_path, "b.onnx")
    index = "/v2/repository/index"
    _, every, empty, ready = answers(
        tmp_path,
        ("POST", "/v2/repository/models/b/unload"),
        ("POST", index, b'{"ready": false}'),
        ("POST", index),
        ("POST", index, b'{"ready": true}'),
    )
    unloaded = {"name": "b", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}
    assert every.json == empty.json
    assert [entry["name"] for entry in every.json] == ["a", "b"]
    assert every.json[1] == unloaded
    assert [entry["name"] for entry in ready.json] == ["a"]


def test_statistics_count_what_passed_and_what_failed(model: Path) -> None:
    stats = "/v2/models/digits/stats"
    wrong = ("POST", "/predict", b"no image")
    *_, one, version, every, none = answers(
        model,
        *(("POST", "/predict", IMAGE), ("POST", INFER, REQUEST), wrong),
        ("GET", stats),
        ("GET", "/v2/models/digits/versions/1/stats"),
        ("GET", "/v2/models/stats"),
        ("GET", "/v2/models/digits/versions/2/stats"),
    )
    assert one.json == version.json == every.json
    (entry,) = one.json["model_stats"]
    assert (entry["name"], entry["version"]) == ("digits", "1")
    counts = {name: part["count"] for name, part in entry["inference_stats"].items()}
    assert (counts["success"], counts["fail"]) == (2, 1)
    assert entry["inference_count"] == entry["execution_count"] == 2
    assert entry["inference_stats"]["success"]["ns"] > 0
    assert none.status == 404


def test_statistics_are_the_sum_over_all_processes(model: Path) -> None:
    async def work(running: Application) -> Any:
        await running.ask("POST", INFER, REQUEST)
        operate = running.service.operate

        async def three(operation: str, argument: str) -> list[Any]:
            return [await operate(operation, argument) for _ in range(3)]

        running.service.everywhere = three
        return (await running.ask("GET", "/v2/models/digits/stats")).json

    (entry,) = asked(work, model)["model_stats"]
    assert entry["inference_count"] == 3
    assert entry["inference_stats"]["success"]["count"] == 3
    assert [batch["compute_infer"]["count"] for batch in entry["batch_stats"]] == [3]


@pytest.mark.parametrize("packing", ["gzip", "deflate"])
def test_a_packed_answer_says_how_it_is_packed_and_why(packing: str, model: Path) -> None:
    plain, small = answers(
        model, ("POST", INFER, REQUEST), ("POST", INFER, REQUEST, {"Accept-Encoding": packing})
    )
    assert "content-encoding" not in plain.headers
    assert (small.headers["content-encoding"], small.headers["vary"]) == (
        packing,
        "Accept-Encoding",
    )
    unpack = {"gzip": gzip.decompress, "deflate": zlib.decompress}[packing]
    assert unpack(small.body) == plain.body
    assert small.headers["content-length"] == str(len(small.body))
    assert plain.json["id"] == "seven"


def test_an_answer_with_bytes_says_where_they_begin(model: Path) -> None:
    request = {**json.loads(REQUEST), "parameters": {"binary_data_output": True}}
    plain, binary = answers(
        model, ("POST", INFER, REQUEST), ("POST", INFER, json.dumps(request).encode())
    )
    assert plain.headers["content-type"] == "application/json"
    assert "inference-header-content-length" not in plain.headers
    assert binary.headers["content-type"] == "application/octet-stream"
    length = int(binary.headers["inference-header-content-length"])
    numbers = np.frombuffer(binary.body[length:], "<f4")
    np.testing.assert_array_equal(numbers, np.float32(plain.json["outputs"][0]["data"]))


def test_origins_that_may_read_are_told_to_and_others_are_not(model: Path) -> None:
    ask = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    for allowed, read in (((), False), (("https://a.example",), True), (("*",), True)):
        found, preflight, plain = answers(
            model,
            ("GET", "/v2", b"", {"Origin": "https://a.example"}),
            ("OPTIONS", "/predict", b"", ask),
            ("GET", "/v2"),
            cors_origins=allowed,
        )
        name = "access-control-allow-origin"
        assert found.headers.get(name) == ("https://a.example" if read else None)
        resource = found.headers["cross-origin-resource-policy"]
        assert resource == ("cross-origin" if read else "same-origin")
        assert preflight.status == (204 if read else 405)
        assert (preflight.headers.get("access-control-allow-methods") == "GET, POST") == read
        assert "access-control-allow-methods" not in found.headers
        assert name not in plain.headers
        # A cache must not give one page's answer to another.
        assert (plain.headers.get("vary") == "Origin") == bool(allowed)
        assert plain.headers["cache-control"] == "no-store"


def test_a_request_is_logged_with_what_it_asked_and_got(
    model: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("torchlift.serve"), "propagate", True)
    with caplog.at_level(logging.DEBUG, "torchlift.serve"):
        answers(
            model,
            ("POST", INFER, REQUEST, {"X-Request-Id": "mine-1"}),
            ("GET", "/" + "x" * 300, b"", {"X-Request-Id": "mine-2\tforged"}),
            ("GET", "/v2/health/live"),
        )
    entries = [record for record in caplog.records if record.getMessage() == "request"]
    infer, missing, live = (vars(record) for record in entries)
    assert (infer["request_id"], infer["client"], infer["model"]) == (
        "mine-1",
        "192.0.2.7",
        "digits",
    )
    assert (infer["method"], infer["path"], infer["status"]) == ("POST", INFER, 200)
    assert infer["seconds"] > 0
    # Nobody fills the log with one request, or writes a line of it.
    assert (missing["path"], missing["status"]) == ("/" + "x" * 199, 404)
    assert len(missing["request_id"]) == 16
    # What a load balancer asks each second is no news.
    assert [one["levelname"] for one in (infer, missing, live)] == ["INFO", "INFO", "DEBUG"]


def test_a_client_that_leaves_is_counted_as_499(model: Path) -> None:
    count = REQUESTS.labels("digits", "infer", "499")
    times = DURATION.labels("digits", "infer")

    async def work(running: Application) -> bool:
        before = count._value.get(), times._sum.get()
        one = asyncio.create_task(running.ask("POST", INFER, REQUEST))
        while not running.service.models.find("digits").batcher._items and not one.done():
            await asyncio.sleep(0)
        running_before = running.gate.running
        one.cancel()
        await asyncio.wait([one])
        assert (running_before, running.gate.running) == (1, 0)
        return bool(count._value.get() == before[0] + 1 and times._sum.get() > before[1])

    assert asked(work, model)


def test_a_fault_of_the_server_is_an_answer_without_details(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> Any:
        raise ValueError("a path of the server")

    monkeypatch.setattr(app_file, "images_of", fail)
    (answer,) = answers(model, ("POST", "/predict", IMAGE))
    assert (answer.status, answer.json) == (
        500,
        {"error": "an error of the server; its log says more"},
    )
    assert "a path of the server" in caplog.text


def test_shapes_that_the_model_does_not_run_on_are_the_clients_fault(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchlift.cli.serve.model import ServedModel
    from torchlift.converters.errors import TorchliftError

    def fail(*_: Any) -> Any:
        raise TorchliftError("a path of the server")

    async def work(running: Application) -> Answer:
        monkeypatch.setattr(ServedModel, "run", fail)
        return await running.ask("POST", INFER, REQUEST)

    answer = asked(work, model)
    assert answer.status == 400
    assert answer.json["error"].endswith("on inputs of shape {'input': [1, 1, 32, 32]}")
