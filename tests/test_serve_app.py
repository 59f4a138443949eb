"""What the application answers, without a socket: draining, models, statistics, faults.

What is protected: a server that stops takes no new work, nobody brings a model of their own, and
what is counted is what happened.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serve_support import Answer, digits_model

pytest.importorskip("fastapi")

from serve_app_support import IMAGE, INFER, REQUEST, Application, answers, asked

from torchlift.cli.serve import app as app_file
from torchlift.cli.serve.metrics import QUEUE_LENGTH


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits_model(tmp_path_factory.mktemp("app"))


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
    ("parameters", "problem"),
    [
        ({"config": "{}"}, "own files only"),
        ({"file:1/model.onnx": "AAAA"}, "own files only"),
        ({"unload_dependents": True, "config": "{}"}, "own files only"),
        ({"config": "{}", "unload_dependents": True}, "own files only"),
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
    # The log says of which request, as the client can.
    (fault,) = [vars(record) for record in caplog.records if record.exc_info]
    assert fault["request_id"] == answer.headers["x-request-id"]
    assert (fault["path"], fault["model"]) == ("/predict", "digits")


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


def test_the_model_is_named_where_there_are_several_and_said_to_be_missing_where_there_is_none(
    tmp_path: Path,
) -> None:
    for name in ("a.onnx", "b.onnx"):
        digits_model(tmp_path, name)
    for method, path in (("POST", "/predict"), ("GET", "/card")):
        which, one, unknown, _, only, _, none = answers(
            tmp_path,
            (method, path, IMAGE),
            (method, f"{path}?model=b", IMAGE),
            (method, f"{path}?model=c", IMAGE),
            ("POST", "/v2/repository/models/b/unload"),
            (method, path, IMAGE),
            ("POST", "/v2/repository/models/a/unload"),
            (method, path, IMAGE),
        )
        assert (which.status, which.json) == (400, {"error": "which model? model= is one of a, b"})
        assert (one.status, one.json["model"]) == (200, "b")
        assert (unknown.status, only.json["model"]) == (404, "a")
        assert (none.status, none.json) == (404, {"error": "no model is loaded"})


@pytest.mark.parametrize(
    ("top", "count"),
    [("1", 1), ("7", 7), ("10", 10), ("007", 7), ("0" * 30 + "3", 3), ("9" * 30, 10), (None, 5),
     # Of a long number no end counts alone.
     ("100000003", 10), ("1000000003", 10)],
)  # fmt: skip
def test_as_many_classes_are_listed_as_are_asked_for(
    top: str | None, count: int, model: Path
) -> None:
    (answer,) = answers(model, ("POST", "/predict" + (f"?top={top}" if top else ""), IMAGE))
    (result,) = answer.json["results"]
    assert len(result["predictions"]) == count


def test_a_packed_answer_says_how_long_its_json_is_before_it_was_packed(model: Path) -> None:
    request = {**json.loads(REQUEST), "parameters": {"binary_data_output": True}}
    body = json.dumps(request).encode()
    plain, packed = answers(
        model, ("POST", INFER, body), ("POST", INFER, body, {"Accept-Encoding": "gzip"})
    )
    assert "content-encoding" not in plain.headers
    assert (packed.headers["content-encoding"], packed.headers["vary"]) == (
        "gzip",
        "Accept-Encoding",
    )
    assert gzip.decompress(packed.body) == plain.body
    for answer in (plain, packed):
        length = int(answer.headers["inference-header-content-length"])
        assert json.loads(plain.body[:length])["outputs"][0]["shape"] == [1, 10]
        assert answer.headers["content-type"] == "application/octet-stream"


def test_what_an_address_does_not_take_is_said_with_what_it_takes(model: Path) -> None:
    wrong, packed = answers(
        model,
        ("GET", "/predict"),
        ("POST", "/predict", IMAGE, {"Content-Encoding": "br"}),
    )
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
    assert (packed.status, packed.headers["accept-encoding"]) == (415, "gzip, deflate")


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("/predict?topk=3", "unknown parameter topk; known: top, model"),
        ("/predict?Top=3&top=3", "unknown parameter Top; known: top, model"),
        ("/predict?top=3&top=5", "top: given more than once"),
        ("/card?top=3", "unknown parameter top; known: model"),
    ],
)
def test_a_parameter_that_means_nothing_is_refused_not_ignored(
    address: str, problem: str, model: Path
) -> None:
    method = "GET" if address.startswith("/card") else "POST"
    (answer,) = answers(model, (method, address, IMAGE))
    assert (answer.status, answer.json) == (422, {"error": problem})


def test_the_queue_and_the_time_of_a_request_are_limited_and_shown(model: Path) -> None:
    """One waits for others that do not come; the next finds the queue full."""

    async def work(running: Application) -> list[Answer]:
        with running.service.waiting.enter():
            assert QUEUE_LENGTH._value.get() == 1
            full = await running.ask("POST", INFER, REQUEST)
        assert QUEUE_LENGTH._value.get() == 0
        running.service.models.find("digits").batcher._max_delay = 60
        late = await running.ask("POST", INFER, REQUEST)
        assert QUEUE_LENGTH._value.get() == 0
        return [full, late, await running.ask("GET", "/v2/models/digits/stats")]

    full, late, stats = asked(work, model, queue=1, timeout=0.1)
    assert (full.status, full.headers["retry-after"]) == (503, "1")
    assert full.json["error"].startswith("the queue is full: 1 requests are waiting")
    assert (late.status, late.json) == (504, {"error": "no answer within 0.1 seconds"})
    (entry,) = stats.json["model_stats"]
    assert entry["inference_stats"]["fail"]["count"] == 2
    assert entry["inference_count"] == 0


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/nothing", "/v2/nothing", "/static/x"])
def test_what_is_not_there_is_an_error_like_any_other(path: str, model: Path) -> None:
    """Also the pages about its addresses that the framework would bring from elsewhere."""
    (found,) = answers(model, ("GET", path))
    assert (found.status, list(found.json)) == (404, ["error"])


def test_metrics_say_which_format_they_have(model: Path) -> None:
    """Prometheus reads only what is named by its type."""
    (found,) = answers(model, ("GET", "/metrics"))
    assert found.headers["content-type"].startswith("text/plain; version=")


def test_the_largest_image_and_body_are_those_of_the_settings(model: Path) -> None:
    """The image has 32×32 pixels."""
    for changed, status in (
        ({"max_pixels": 1024}, 200),
        ({"max_pixels": 1023}, 413),
        ({"max_body": len(IMAGE)}, 200),
        ({"max_body": len(IMAGE) - 1}, 413),
    ):
        (found,) = answers(model, ("POST", "/predict", IMAGE), **changed)
        assert found.status == status


def test_the_card_of_one_model_names_all(tmp_path: Path) -> None:
    for name in ("b.onnx", "a.onnx"):
        digits_model(tmp_path, name)
    (found,) = answers(tmp_path, ("GET", "/card?model=b"))
    assert (found.json["model"], found.json["models"]) == ("b", ["a", "b"])


@pytest.mark.parametrize("blank", [b"", b" ", b"\r\n\t"])
def test_a_request_to_the_repository_needs_no_body(blank: bytes, model: Path) -> None:
    found = answers(
        model,
        ("POST", "/v2/repository/index", blank),
        ("POST", "/v2/repository/models/digits/load", blank),
    )
    assert [one.status for one in found] == [200, 200]


def test_half_a_surrogate_pair_in_a_file_ends_no_card(model: Path) -> None:
    """JSON, in which a file says what it was made from, can hold one, and UTF-8 cannot."""

    async def work(running: Application) -> Answer:
        served = running.service.models.find("digits").model
        served.metadata = replace(served.metadata, source={"file": "\ud800é.t7"})
        return await running.ask("GET", "/card")

    card = asked(work, model)
    assert (card.status, card.json["source"]) == (200, {"file": "?é.t7"})


def test_each_version_of_each_model_is_counted_for_itself(tmp_path: Path) -> None:
    for name in ("m/1/model.onnx", "m/2/model.onnx", "other.onnx"):
        digits_model(tmp_path, name)
    *_, every, one, old, described = answers(
        tmp_path,
        *[("POST", "/v2/models/m/versions/1/infer", REQUEST)] * 3,
        ("POST", "/v2/models/m/infer", REQUEST),
        *[("POST", "/v2/models/other/infer", REQUEST)] * 2,
        ("GET", "/v2/models/stats"),
        ("GET", "/v2/models/m/stats"),
        ("GET", "/v2/models/m/versions/1/stats"),
        ("GET", "/v2/models/m/versions/2"),
    )
    counts = [("m", "1", 3), ("m", "2", 1), ("other", "1", 2)]
    for answer, expected in ((every, counts), (one, counts[:2]), (old, counts[:1])):
        assert [
            (entry["name"], entry["version"], entry["inference_count"])
            for entry in answer.json["model_stats"]
        ] == expected
    # Of a model all versions are told, whichever is asked.
    assert described.json["versions"] == ["1", "2"]


def test_a_request_with_bytes_says_where_they_begin(model: Path) -> None:
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, 1, 32, 32]}
    entry = {**tensor, "parameters": {"binary_data_size": 4096}}
    text = json.dumps({"id": "seven", "inputs": [entry]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    plain, binary, without = answers(
        model,
        ("POST", INFER, REQUEST),
        ("POST", INFER, text + bytes(4096), headers),
        ("POST", INFER, text + bytes(4096)),
    )
    assert plain.json == binary.json
    assert without.status == 400
