"""What answers say of the server, of a model and of themselves: every field, header and refusal.

What is protected: programs read these fields, browsers these headers, and neither asks twice.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from serve_support import digits_model

pytest.importorskip("fastapi")

from serve_app_support import IMAGE, INFER, REQUEST, answers

from torchlift import __version__
from torchlift.cli.serve.card import card
from torchlift.cli.serve.models import Models
from torchlift.cli.serve.settings import Settings
from torchlift.converters.images import Preprocessing
from torchlift.converters.inference import Metadata


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits_model(tmp_path_factory.mktemp("app"))


def test_the_server_says_what_it_is_and_which_extensions_it_has(model: Path) -> None:
    (found,) = answers(model, ("GET", "/v2"))
    assert found.json == {
        "name": "torchlift",
        "version": __version__,
        "extensions": [
            *("binary_tensor_data", "classification", "model_configuration", "model_repository"),
            "statistics",
        ],
    }


def test_the_configuration_of_a_model_is_tritons(model: Path) -> None:
    settings = {"max_batch": 8, "max_delay": 0.004}
    (found,) = answers(model, ("GET", "/v2/models/digits/config"), **settings)
    assert found.json == {
        "name": "digits",
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "version_policy": {"all": {}},
        "max_batch_size": 8,
        "input": [{"name": "input", "data_type": "TYPE_FP32", "dims": [1, 32, 32]}],
        "output": [{"name": "log_probabilities", "data_type": "TYPE_FP32", "dims": [10]}],
        "instance_group": [{"name": "digits", "kind": "KIND_CPU", "count": 1}],
        "parameters": {},
        "dynamic_batching": {"max_queue_delay_microseconds": 4000},
    }


def test_the_card_has_the_report_beside_the_file_and_what_it_runs_on(tmp_path: Path) -> None:
    model = digits_model(tmp_path)
    report = {"passed": True, "profile": "fp32-cpu", "error": 1e-7, "agreeing": 3, "count": 4}
    (tmp_path / "digits.check.json").write_text(json.dumps(report), encoding="utf-8")
    card, predicted = answers(model, ("GET", "/card"), ("POST", "/predict", IMAGE))
    assert card.json["check"] == report
    assert card.json["provider"] == predicted.json["provider"] == "CPUExecutionProvider"
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    assert card.json["labels"] == names
    assert (card.json["model"], card.json["models"], card.json["version"]) == (
        *("digits", ["digits"]),
        "1",
    )


def listed(text: str) -> set[str]:
    return {name.strip().lower() for name in text.split(",")}


def test_a_page_of_another_origin_may_send_and_read_the_headers_that_the_protocol_needs(
    model: Path,
) -> None:
    page = {"Origin": "https://a.example"}
    asks = {**page, "Access-Control-Request-Method": "POST"}
    found, preflight, other = answers(
        model,
        ("POST", INFER, REQUEST, page),
        ("OPTIONS", INFER, b"", asks),
        ("POST", INFER, REQUEST, {"Origin": "https://b.example"}),
        cors_origins=("https://a.example",),
    )
    assert listed(found.headers["access-control-expose-headers"]) == {
        *("inference-header-content-length", "x-request-id", "retry-after"),
    }
    assert listed(preflight.headers["access-control-allow-headers"]) == {
        *("authorization", "content-type", "content-encoding", "x-request-id"),
        "inference-header-content-length",
    }
    assert preflight.headers["access-control-max-age"] == "600"
    # An answer without a body has no length (RFC 9110, 8.6).
    assert (preflight.body, "content-length" in preflight.headers) == (b"", False)
    assert not any(name.startswith("access-control-") for name in other.headers)


def directives(policy: str) -> dict[str, list[str]]:
    words = [one.split() for one in policy.split(";")]
    return {name: values for name, *values in words}


def test_the_page_takes_nothing_from_elsewhere_and_the_camera_for_itself(model: Path) -> None:
    page, other, shared = answers(model, ("GET", "/"), ("GET", "/v2"), ("GET", "/static/shared.js"))
    assert directives(page.headers["content-security-policy"]) == {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "blob:", "data:"],
        "media-src": ["'self'", "blob:"],
        "connect-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
    assert page.headers["permissions-policy"] == "camera=(self), microphone=(), geolocation=()"
    assert directives(other.headers["content-security-policy"]) == {
        "default-src": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
    assert shared.headers["content-type"].startswith("text/javascript")
    security = {
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "cross-origin-resource-policy": "same-origin",
    }
    for answer in (page, other, shared):
        assert {name: answer.headers[name] for name in security} == security


INDEX = "/v2/repository/index"


@pytest.mark.parametrize(
    ("path", "body", "status", "problem"),
    [
        (INDEX, {"ready": 1}, 400, "'ready' is no boolean"),
        (INDEX, {"ready": None}, 400, "'ready' is no boolean"),
        (INDEX, [], 400, "the body is no JSON object"),
        ("/v2/repository/models/digits/load", {"parameters": "x"}, 400, "'parameters' is no JSON"),
        *(
            (f"/predict?top={top}", {}, 422, "top: a whole number of at least 1 was expected")
            for top in ("0", "000", "-1", "1.5", "", "x", "%C2%B2", "%D9%A3")
        ),
    ],
)
def test_values_that_mean_nothing_are_refused(
    path: str, body: Any, status: int, problem: str, model: Path
) -> None:
    (found,) = answers(model, ("POST", path, json.dumps(body).encode()))
    assert found.status == status
    assert found.json["error"].startswith(problem)


def test_who_sends_something_else_is_told_what_is_taken(model: Path) -> None:
    (found,) = answers(model, ("POST", "/predict", b"<html>", {"Content-Type": "text/html"}))
    assert found.status == 415
    assert listed(found.headers["accept"]) == {
        *("image/*", "application/octet-stream", "multipart/form-data", "application/json"),
    }


LONG = "x" * 20_000


@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [
        ("GET", f"/v2/models/{LONG}", {}, {}),
        ("GET", f"/v2/models/digits/versions/{LONG}", {}, {}),
        ("POST", f"/v2/repository/models/{LONG}/load", {}, {}),
        ("POST", f"/v2/repository/models/{LONG}/unload", {}, {}),
        ("POST", "/predict", {}, {"Content-Type": LONG}),
        ("POST", INFER, {"inputs": [{"name": LONG}]}, {}),
        ("POST", INFER, {"inputs": [{"name": "input", "datatype": LONG}]}, {}),
        ("POST", INFER, {"inputs": [{"name": "input", "datatype": "FP32", "shape": LONG}]}, {}),
        ("POST", INFER, {**json.loads(REQUEST), "outputs": [{"name": LONG}]}, {}),
    ],
    ids=["model", "version", "load", "unload", "type", "input", "datatype", "shape", "output"],
)
def test_an_error_repeats_no_more_than_the_beginning_of_what_was_sent(
    method: str, path: str, body: Any, headers: dict[str, str], model: Path
) -> None:
    (found,) = answers(model, (method, path, json.dumps(body).encode(), headers))
    assert 400 <= found.status < 500
    assert "xxx" in found.json["error"]
    assert len(found.json["error"]) < 250


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("x" * 64, True),
        ("x" * 65, False),
        ("a.B_c-9", True),
        ("", False),
        ("a b", False),
        ("a/b", False),
        ("é", False),
    ],
)
def test_the_number_of_a_request_is_its_own_where_it_is_a_short_word(
    given: str, kept: bool, model: Path
) -> None:
    (found,) = answers(model, ("GET", "/v2", b"", {"X-Request-Id": given}))
    number = found.headers["x-request-id"]
    assert (number == given) == kept
    assert kept or (len(number) == 16 and set(number) <= set("0123456789abcdef"))


def test_no_two_requests_have_the_same_number(model: Path) -> None:
    found = answers(model, *[("GET", "/v2")] * 3)
    assert len({one.headers["x-request-id"] for one in found}) == 3


def test_the_newest_version_is_the_one_with_the_largest_number() -> None:
    models = Models(Settings("models"), set())
    versions: Any = {number: SimpleNamespace(number=number) for number in ("9", "10", "2")}
    models._loaded = {"m": versions}
    assert models.find("m") is versions["10"]
    assert models.find("m", "9") is versions["9"]
    assert models.versions("m") == ["2", "9", "10"]


@pytest.mark.parametrize("inside", [None, Preprocessing("BGR", (4, 6))])
def test_the_card_has_the_preprocessing_of_the_network_wherever_it_is_done(
    inside: Preprocessing | None, tmp_path: Path
) -> None:
    outside = Preprocessing(resize="none", value_range=255)
    said = Metadata(output_kind="logits", preprocessing=outside, baked_preprocessing=inside)
    model: Any = SimpleNamespace(
        name="m", version="1", sha256="", provider="", metadata=said, takes_image=False,
        predictor=None, path=tmp_path / "m.onnx",
    )  # fmt: skip
    assert card(model, ["m"])["preprocessing"] == (inside or outside).to_json()
