"""What stands around the answers of the application: origins, headers, the log and its counts.

What is protected: a page of another origin changes nothing and reads what it may, and the log and
the metrics tell what was asked and answered.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import zlib
from pathlib import Path
from typing import Any

import pytest
from serve_support import digits_model

pytest.importorskip("fastapi")

from serve_app_support import IMAGE, INFER, REQUEST, Application, answers, asked

from torchlift.cli.serve.gate import DURATION, REQUESTS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits_model(tmp_path_factory.mktemp("app"))


def test_origins_that_may_read_are_told_to_and_others_are_not(model: Path) -> None:
    ask = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    for allowed, read in (((), False), (("https://a.example",), True), (("*",), True)):
        found, preflight, no_preflight, plain = answers(
            model,
            ("GET", "/v2", b"", {"Origin": "https://a.example"}),
            ("OPTIONS", "/predict", b"", ask),
            ("OPTIONS", "/predict", b"", {"Origin": "https://a.example"}),
            ("GET", "/v2"),
            cors_origins=allowed,
        )
        name = "access-control-allow-origin"
        assert found.headers.get(name) == ("https://a.example" if read else None)
        resource = found.headers["cross-origin-resource-policy"]
        assert resource == ("cross-origin" if read else "same-origin")
        assert preflight.status == (204 if read else 405)
        assert no_preflight.status == 405
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
            *(("GET", path) for path in ("/v2/health/live", "/v2/health/ready", "/metrics")),
        )
    entries = [record for record in caplog.records if record.getMessage() == "request"]
    infer, missing, *checks = (vars(record) for record in entries)
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
    # What a load balancer or Prometheus asks each second is no news.
    assert [one["levelname"] for one in (infer, missing, *checks)] == ["INFO"] * 2 + ["DEBUG"] * 3


def test_a_client_that_leaves_is_counted_as_499(
    model: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("torchlift.serve"), "propagate", True)
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

    with caplog.at_level(logging.INFO, "torchlift.serve"):
        assert asked(work, model)
    (entry,) = [vars(record) for record in caplog.records if record.getMessage() == "request"]
    # It has seen no status.
    assert (entry["model"], entry["status"]) == ("digits", None)


def test_every_request_for_a_model_is_counted_and_logged_as_its(
    model: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("torchlift.serve"), "propagate", True)
    asks: list[tuple[str, tuple[Any, ...]]] = [
        ("predict", ("POST", "/predict", IMAGE)),
        ("infer", ("POST", INFER, REQUEST)),
        ("card", ("GET", "/card")),
        ("metadata", ("GET", "/v2/models/digits")),
        ("ready", ("GET", "/v2/models/digits/versions/1/ready")),
        ("config", ("GET", "/v2/models/digits/config")),
    ]
    counts = [REQUESTS.labels("digits", name, "200")._value for name, _ in asks]
    before = [count.get() for count in counts]
    with caplog.at_level(logging.DEBUG, "torchlift.serve"):
        answers(model, *(request for _, request in asks))
    assert [count.get() for count in counts] == [number + 1 for number in before]
    entries = [vars(record) for record in caplog.records if record.getMessage() == "request"]
    assert [entry["model"] for entry in entries] == ["digits"] * len(asks)


def test_addresses_that_are_not_there_are_counted_as_one(model: Path) -> None:
    """A stranger who tries many must not fill the metrics with them."""
    count = REQUESTS.labels("", "none", "404")._value
    before = count.get()
    answers(model, ("GET", "/admin"), ("GET", "/wp-login.php"))
    assert count.get() == before + 2


def test_the_page_and_its_files_have_their_types_and_policy(model: Path) -> None:
    page, script, style, icon, other = answers(
        model,
        ("GET", "/"),
        *(("GET", f"/static/{name}") for name in ("app.js", "style.css", "icon.svg", "app.py")),
    )
    types = [one.headers["content-type"].split(";")[0] for one in (page, script, style, icon)]
    assert types == ["text/html", "text/javascript", "text/css", "image/svg+xml"]
    assert other.status == 404
    policy = page.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "'unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "camera=(self)" in page.headers["permissions-policy"]
    assert script.headers["content-security-policy"].startswith("default-src 'none'")


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


def test_an_answer_says_all_that_it_depends_on(model: Path) -> None:
    (small,) = answers(
        model,
        ("POST", INFER, REQUEST, {"Accept-Encoding": "gzip"}),
        cors_origins=("https://a.example",),
    )
    named = {name.strip() for name in small.headers["vary"].split(",")}
    assert named == {"Accept-Encoding", "Origin"}
