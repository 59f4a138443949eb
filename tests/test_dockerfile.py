"""The Dockerfile's RUN lines in an empty environment; no image is built.

What is protected: what the lines install is enough to serve a model, without torch, by the command
of ENTRYPOINT, and HEALTHCHECK sees when it is ready.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from serve_support import digits_model
from support import ROOT

DOCKERFILE = ROOT / "docs" / "deploy" / "Dockerfile"

#: No cache, no variables and no packages of the caller.
_ENVIRONMENT = {"PATH": os.defpath, "HOME": "/nonexistent", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def lines(keyword: str) -> list[str]:
    """Return what stands behind a keyword of the Dockerfile."""
    text = DOCKERFILE.read_text(encoding="utf-8")
    return re.findall(rf"^{keyword} (.*)$", text, re.MULTILINE)


@pytest.mark.slow
def test_the_lines_install_a_server_and_the_check_sees_it(tmp_path: Path) -> None:
    source, installed = tmp_path / "src", tmp_path / "opt"
    # As `COPY .` does, but for what is large and what `pip install` does not look at.
    left_out = shutil.ignore_patterns(".*", "fixtures", "tests", "node_modules", "build")
    shutil.copytree(ROOT, source, ignore=left_out)
    digits_model(tmp_path / "models")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    environment = {**_ENVIRONMENT, "PATH": f"{tmp_path / 'bin'}:{os.defpath}"}
    # Where packages come from is this machine's affair.
    own = (name for name in os.environ if name.startswith("PIP_") or name.endswith("_proxy"))
    environment |= {name: os.environ[name] for name in own}

    def here(text: str) -> str:
        text = text.replace("/opt", str(installed)).replace("/src", str(source))
        return text.replace("/models", str(tmp_path / "models")).replace("0.0.0.0", "127.0.0.1")

    assert lines("COPY") == [". /src"]
    for command in lines("RUN"):
        done = subprocess.run(
            ["sh", "-c", here(command)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        if "pip install" in command and "No matching distribution" in done.stderr:
            pytest.skip("there is no package index here")
        assert done.returncode == 0, done.stderr
    (site,) = (installed / "torchlift/lib").glob("python*/site-packages")
    assert not (site / "torch").exists()
    (entry,), (words,) = lines("ENTRYPOINT"), lines("CMD")
    (check,) = lines("HEALTHCHECK CMD")
    command = [*json.loads(here(entry)), *json.loads(here(words)), "--port=18766"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        try:
            checked = json.loads(here(check.replace(":8000", ":18766")))
            for _ in range(120):
                if subprocess.run(checked, capture_output=True).returncode == 0:
                    break
                assert server.poll() is None, server.stderr and server.stderr.read()
                time.sleep(0.25)
            else:
                raise AssertionError("the server was never ready")
        finally:
            # As `docker stop` does.
            server.terminate()
        assert server.stderr is not None
        log = server.stderr.read()
        assert server.wait(30) == 0
    entries = [json.loads(line) for line in log.splitlines()]
    assert entries[0]["message"] == "serving digits at http://127.0.0.1:18766"
