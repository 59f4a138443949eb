"""Opening and running a model opens no connection, starts no program and leaves nothing in HOME.

Each case runs in a process of its own, whose home is empty and in which every connection and every
program that is started is an error (`sitecustomize` is imported before anything else).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_support import DATA
from support import FIXTURES, ROOT

ONNX, SAVED = FIXTURES / "0.1.0" / "model.onnx", FIXTURES / "0.1.0" / "model"

#: Ends the process where Python is about to connect, to look a name up or to start a program.
#: (`platform` asks `uname` and the like, and torch asks the compiler for its version.)
_GUARD = """
import os, sys

def guard(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "os.exec"):
        sys.stderr.write(f"CALLED {event} {arguments}\\n")
        sys.stderr.flush()
        os._exit(99)

sys.addaudithook(guard)
"""


def run_alone(folder: Path, *words: str, code: str = "") -> tuple[int, str, set[str]]:
    """Return the exit code, the output and the files in HOME of a command or of Python code."""
    home, site = folder / "home", folder / "site"
    home.mkdir()
    site.mkdir()
    (site / "sitecustomize.py").write_text(_GUARD, encoding="utf-8")
    environment = {
        **{name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ},
        "HOME": str(home),
        "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", str(ROOT.parent))]),
    }
    arguments = ["-c", code] if code else ["-m", "torchlift.cli", *words]
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    files = {path.relative_to(home).as_posix() for path in home.rglob("*")}
    return done.returncode, done.stdout + done.stderr, files


def test_the_guard_notices_a_connection(tmp_path: Path) -> None:
    code, text, _ = run_alone(
        tmp_path, code="import socket; socket.create_connection(('127.0.0.1', 9))"
    )
    assert code == 99
    assert "CALLED socket" in text


@pytest.mark.parametrize(("given", "found"), [(None, "1"), ("0", "0"), ("1", "1")])
def test_packages_that_report_their_use_are_told_not_to_unless_it_is_wanted(
    given: str | None, found: str
) -> None:
    """Before one of them can be imported."""
    names = ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment |= {} if given is None else dict.fromkeys(names, given)
    code = f"import os, torchlift; print(*(os.environ[name] for name in {names}))"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [found] * 2


@pytest.mark.slow
def test_the_telemetry_of_onnx_runtime_is_off(tmp_path: Path) -> None:
    """On, the version that an install gives today leaves an identifier and a queue in HOME."""
    classified = "classifier.predict_inputs(numpy.zeros((1, *classifier.input_shape), 'f4'))"
    code = (
        "import numpy\n"
        "from torchlift.converters.onnx import Classifier\n"
        f"classifier = Classifier({str(ONNX)!r}, 'cpu')\n"
        f"{classified}\n"
        "import os; print(os.environ['ORT_DISABLE_TELEMETRY'])\n"
    )
    code, text, files = run_alone(tmp_path, code=code)
    assert (code, text.split()) == (0, ["1"])
    assert files == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["predict", str(ONNX), DATA, "--provider", "cpu", "-o", "p.csv"],
        ["predict", str(SAVED), DATA, "--provider", "cpu", "-o", "p.csv"],
        ["inspect", str(ONNX)],
        ["inspect", str(FIXTURES / "digits" / "digits-lenet5-bn.t7")],
    ],
    ids=" ".join,
)
def test_a_command_calls_nobody_and_leaves_nothing(words: list[str], tmp_path: Path) -> None:
    code, text, files = run_alone(tmp_path, *words)
    assert code == 0, text
    assert "CALLED" not in text
    assert files == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn", "deeplabv3_resnet50", "raft_small"])
def test_a_saved_model_starts_no_download(name: str, tmp_path: Path) -> None:
    """Torchvision's detectors load weights of a part of them even where they are to have none."""
    code = (
        "from torchlift.converters.saved import SavedModelError, TorchvisionNetwork\n"
        "try:\n"
        f"    TorchvisionNetwork({name!r})\n"
        "except SavedModelError as error:\n"
        "    print(error)\n"
    )
    done, text, _ = run_alone(tmp_path, code=code)
    assert done == 0, text
    assert f"torchvision has no classifier {name!r}" in text


def test_a_module_of_the_current_folder_does_not_take_the_place_of_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python:` appends the current folder to the places where modules are looked for."""
    from torchlift.transfer.network_by_name import load_network

    (tmp_path / "tabnanny.py").write_text("raise SystemExit('it ran')", encoding="utf-8")
    (tmp_path / "own_network_of_a_test.py").write_text(
        "import tabnanny\nfrom torch import nn\n\ndef make():\n    return nn.Flatten()\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.delitem(sys.modules, "tabnanny", raising=False)
    assert load_network("python:own_network_of_a_test:make").module is not None
    assert sys.path[-1] == str(tmp_path)
