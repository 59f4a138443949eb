"""The OpenAPI document of the server, asked by schemathesis for what it says.

What is protected: programs that are made from the document. `schemathesis.toml` says the one thing
that a schema cannot.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

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
