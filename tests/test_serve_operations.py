"""What whoever runs a server needs: token, other origins, security headers, metrics, logs.

What is protected: nothing of a model is shown to who has no token, and no path of the server to
anybody.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from serve_support import Server, digit_images, digits_model, serving

(IMAGE,) = digit_images(1)
OPEN = {"Authorization": "Bearer s3cret"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("serve-place")
    (folder / "token").write_text("s3cret\n", encoding="utf-8")
    words = (
        *(digits_model(folder), "--token-file", folder / "token", "--log-format=json"),
        *("--cors-origin", "https://a.example"),
    )
    with serving(*words) as running:
        yield running


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/health/live", 200),
        ("GET", "/v2/health/ready", 200),
        ("GET", "/", 200),
        ("GET", "/static/app.js", 200),
        ("GET", "/v2", 401),
        ("GET", "/v2/models/digits", 401),
        ("GET", "/metrics", 401),
        ("GET", "/openapi.json", 401),
        ("GET", "/card", 401),
        ("GET", "/nothing", 401),
        ("GET", "/static/../v2", 401),
        ("POST", "/predict", 401),
        ("POST", "/v2/repository/index", 401),
    ],
)
def test_all_but_health_and_the_page_needs_the_token(
    method: str, path: str, status: int, server: Server
) -> None:
    answer = server.ask(method, path, IMAGE if method == "POST" else None)
    assert answer.status == status
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
        assert list(answer.json) == ["error"]
        for wrong in ("Bearer s3cre", "Bearer", "Basic s3cret", "Bearer s3cret2", "Bearer \xff"):
            headers = {"Authorization": wrong}
            assert server.ask(method, path, headers=headers).status == 401
    else:
        assert b"digits" not in answer.body


def test_with_the_token_everything_answers(server: Server) -> None:
    assert server.ask("POST", "/predict", IMAGE, OPEN).status == 200
    assert server.ask("GET", "/v2/models/digits", headers=OPEN).status == 200


def test_only_named_origins_read_answers(server: Server) -> None:
    named = {**OPEN, "Origin": "https://a.example"}
    answer = server.ask("POST", "/predict", IMAGE, named)
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    other = {**OPEN, "Origin": "https://b.example"}
    assert "access-control-allow-origin" not in server.ask("GET", "/v2", headers=other).headers
    asks = {"Access-Control-Request-Method": "POST"}
    answer = server.ask("OPTIONS", "/predict", headers={"Origin": "https://a.example", **asks})
    assert answer.status == 204
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    answer = server.ask("OPTIONS", "/predict", headers={"Origin": "https://b.example", **asks})
    assert answer.status == 401
    path = "/v2/repository/models/digits/unload"
    assert server.ask("POST", path, headers=other).status == 403
    assert server.ask("GET", "/v2/models/digits/ready", headers=OPEN).status == 200


def test_every_answer_has_the_headers_of_security(server: Server) -> None:
    for path in ("/", "/static/app.js", "/v2/health/live", "/v2", "/nothing"):
        headers = server.ask("GET", path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert "server" not in headers


def test_every_error_is_json_and_names_no_path(server: Server) -> None:
    for method, path, status in (
        ("GET", "/nothing", 404),
        ("GET", "/docs", 404),
        ("GET", "/redoc", 404),
        ("DELETE", "/v2", 405),
        ("GET", "/predict", 405),
        ("GET", "/v2/models/..%2f..%2fetc%2fpasswd", 404),
        ("GET", "/v2/models/digits/versions/..%2f1", 404),
        ("GET", "/static/..%2fcommand.py", 404),
        ("GET", "/static/app.py", 404),
        ("POST", "/v2/models/digits/infer", 400),
        ("POST", "/v2/repository/models/..%2f..%2fx/load", 404),
    ):
        answer = server.ask(method, path, b"{" if method == "POST" else None, OPEN)
        assert (answer.status, list(answer.json)) == (status, ["error"]), (path, answer.body)
        assert "serve-place" not in answer.body.decode()
        assert "/tmp" not in answer.body.decode()


def test_metrics_count_requests(server: Server) -> None:
    def count(line: str) -> float:
        text = server.ask("GET", "/metrics", headers=OPEN).body.decode()
        values = [one.split()[-1] for one in text.splitlines() if one.startswith(line + " ")]
        return float(values[0]) if values else 0

    total = 'torchlift_requests_total{endpoint="predict",model="digits",status="200"}'
    wrong = 'torchlift_requests_total{endpoint="none",model="",status="404"}'
    before, missing = count(total), count(wrong)
    server.ask("POST", "/predict", IMAGE, OPEN)
    server.ask("GET", "/nothing", headers=OPEN)
    assert count(total) == before + 1
    assert count(wrong) == missing + 1
    assert count('torchlift_batch_size_count{model="digits"}') > 0
    assert count("torchlift_queue_length") == 0
    sha = server.ask("GET", "/card", headers=OPEN).json["sha256"]
    assert count(f'torchlift_model_info{{model="digits",sha256="{sha}",version="1"}}') == 1
    duration = 'torchlift_request_duration_seconds_count{endpoint="predict",model="digits"}'
    assert count(duration) > 0


def test_the_log_is_json_with_request_ids(server: Server) -> None:
    answer = server.ask("GET", "/v2", headers={**OPEN, "X-Request-Id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    made = server.ask("GET", "/v2", headers={**OPEN, "X-Request-Id": "not mine"}).headers
    assert made["x-request-id"] != "not mine"
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    (entry,) = [line for line in lines if line.get("request_id") == "mine-1"]
    assert (entry["method"], entry["path"], entry["status"]) == ("GET", "/v2", 200)
    assert "s3cret" not in server.log


def test_the_card_tells_what_the_file_says(server: Server) -> None:
    card = server.ask("GET", "/card", headers=OPEN).json
    assert card["labels"][:2] == ["zero", "one"]
    assert card["preprocessing"]["color"] == "gray"
    assert card["source"]["file"] == "digits-lenet5-bn.t7"
    assert card["check"] is None
    assert card["can_predict"] is True
