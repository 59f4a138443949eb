"""The OpenAPI document of the server, asked by schemathesis for what it says.

What is protected: programs that are made from the document. `schemathesis.toml` says the one thing
that a schema cannot.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from serve_support import digits_model, serving
from support import ROOT

pytest.importorskip("fastapi")

from serve_app_support import answers


@pytest.mark.slow
def test_requests_made_from_the_document_get_what_it_promises(tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    program = Path(sys.executable).with_name("schemathesis")
    with serving(digits_model(tmp_path)) as server:
        words = [program, "run", f"http://127.0.0.1:{server.port}/openapi.json",
                 "--max-examples=20", "--seed=1", "--no-color"]  # fmt: skip
        done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == 0, done.stdout[-3000:]
        assert "Traceback" not in server.log


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the document says of each address."""
    folder = tmp_path_factory.mktemp("serve")
    (answer,) = answers(digits_model(folder), ("GET", "/openapi.json"))
    described: dict[str, Any] = answer.json["paths"]
    return described


#: Of whatever has a body: it may be wrong, slow, large or of another type, or the server is busy.
_BODY = {400, 408, 413, 415, 503}
_NAMED = "/v2/models/{model}"
_CHANGES = "/v2/repository/models/{model}"


@pytest.mark.parametrize(
    ("method", "path", "statuses"),
    [
        ("get", "/v2", set()),
        ("get", "/metrics", set()),
        ("get", "/v2/health/live", set()),
        ("get", "/v2/health/ready", {503}),
        ("get", "/v2/models/stats", {504}),
        ("get", _NAMED, {404}),
        ("get", f"{_NAMED}/ready", {404}),
        ("get", f"{_NAMED}/config", {404}),
        ("get", f"{_NAMED}/stats", {404, 504}),
        ("get", f"{_NAMED}/versions/{{version}}/stats", {404, 504}),
        ("post", f"{_NAMED}/infer", {404, 504, *_BODY}),
        ("post", f"{_NAMED}/versions/{{version}}/infer", {404, 504, *_BODY}),
        ("post", "/predict", {404, 422, 504, *_BODY}),
        ("get", "/card", {400, 404, 422}),
        ("post", "/v2/repository/index", _BODY),
        # All processes are asked, and one may not answer in time.
        ("post", f"{_CHANGES}/load", {403, 404, 504, *_BODY}),
        ("post", f"{_CHANGES}/unload", {403, 404, 504, *_BODY}),
    ],
)
def test_each_address_is_described_with_the_errors_of_its_work(
    method: str, path: str, statuses: set[int], paths: dict[str, Any]
) -> None:
    assert set(paths[path][method]["responses"]) == {"200", "401", *map(str, statuses)}


def test_each_address_is_described_with_its_own_parameters_and_errors(tmp_path: Path) -> None:
    (answer,) = answers(digits_model(tmp_path), ("GET", "/openapi.json"))
    described = {
        (method, path): one
        for path, methods in answer.json["paths"].items()
        for method, one in methods.items()
    }
    assert len({one["operationId"] for one in described.values()}) == len(described)
    for (method, path), one in described.items():
        parameters = one.get("parameters", [])
        in_path = [each["name"] for each in parameters if each["in"] == "path"]
        assert in_path == re.findall(r"{(\w+)}", path)
        assert {"200", "401"} <= set(one["responses"])
        assert ("404" in one["responses"]) == ("{model}" in path or path in ("/predict", "/card"))
        assert ("requestBody" in one) == (method == "post")
        # A body may be too large or too slow.
        assert {"408", "413"} <= set(one["responses"]) or method == "get"
    ready = described["get", "/v2/models/{model}/versions/{version}/ready"]
    assert not ready["responses"]["200"]["content"]
    assert "503" in described["get", "/v2/health/ready"]["responses"]
    assert "403" in described["post", "/v2/repository/models/{model}/load"]["responses"]
    assert set(answer.json["paths"]) >= {"/v2", "/metrics", "/v2/models/stats", "/v2/health/live"}
    assert "/" not in answer.json["paths"]


def test_the_document_says_what_predict_and_card_take(paths: dict[str, Any]) -> None:
    predict = paths["/predict"]["post"]
    top, model = predict["parameters"]
    assert (top["name"], top["in"], top.get("required", False)) == ("top", "query", False)
    assert top["schema"] == {"type": "integer", "minimum": 1, "default": 5}
    assert (model["name"], model["in"], model.get("required", False)) == ("model", "query", False)
    assert [one["name"] for one in paths["/card"]["get"]["parameters"]] == ["model"]
    body = predict["requestBody"]
    assert body["required"] is True
    assert set(body["content"]) == {
        *("application/json", "multipart/form-data", "application/octet-stream"),
        *("image/png", "image/jpeg"),
    }
    images = body["content"]["application/json"]["schema"]
    assert images["required"] == list(images["properties"]) == ["images"]
    assert body["content"]["multipart/form-data"]["schema"]["required"] == ["image"]


def test_the_document_says_what_infer_takes_and_gives(paths: dict[str, Any]) -> None:
    for path in (f"{_NAMED}/infer", f"{_NAMED}/versions/{{version}}/infer"):
        infer = paths[path]["post"]
        body = infer["requestBody"]
        assert body["required"] is True
        for content in (body["content"], infer["responses"]["200"]["content"]):
            assert set(content) == {"application/json", "application/octet-stream"}
        asked = body["content"]["application/json"]["schema"]
        assert asked["required"] == ["inputs"]
        given = infer["responses"]["200"]["content"]["application/json"]["schema"]
        assert set(given["required"]) == {"model_name", "model_version", "outputs"}
        for entry in (asked["properties"]["inputs"], given["properties"]["outputs"]):
            assert set(entry["items"]["required"]) == {"name", "datatype", "shape"}


def test_what_the_repository_takes_may_be_left_out(paths: dict[str, Any]) -> None:
    for path, name, kind in (
        ("/v2/repository/index", "ready", "boolean"),
        (f"{_CHANGES}/load", "parameters", "object"),
        (f"{_CHANGES}/unload", "parameters", "object"),
    ):
        body = paths[path]["post"]["requestBody"]
        assert not body.get("required", False)
        schema = body["content"]["application/json"]["schema"]
        assert schema["properties"] == {name: {"type": kind}}


def test_every_error_is_described_as_what_it_is(paths: dict[str, Any]) -> None:
    """One text under `error`, of the type of JSON; metrics are plain text."""
    for methods in paths.values():
        for one in methods.values():
            for status, response in one["responses"].items():
                if status == "200":
                    continue
                (schema,) = [part["schema"] for part in response["content"].values()]
                assert list(response["content"]) == ["application/json"]
                assert schema["properties"] == {"error": {"type": "string"}}
                assert schema["required"] == ["error"]
    assert "text/plain" in paths["/metrics"]["get"]["responses"]["200"]["content"]
