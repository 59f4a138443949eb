"""The OpenAPI document of the server, asked by schemathesis for what it says.

What is protected: programs that are made from the document. `schemathesis.toml` says the one thing
that a schema cannot.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from serve_support import digits_model, serving
from support import ROOT


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
