"""stdout and stderr that are closed, full, gone or of a small encoding.

What is protected: a command does its work and ends with the right exit code whatever stands behind
its streams, never with a traceback, and JSON stays JSON in every encoding.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_support import MODEL, SCALE
from support import ROOT

#: A command line for a shell: `inspect` and `cat` need numpy alone, so that each takes a second.
TORCHLIFT = f"{sys.executable} -m torchlift.cli"
FULL = Path("/dev/full")


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    paths = f"{ROOT.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line.replace("torchlift ", f"{TORCHLIFT} ")],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": paths} | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )


@pytest.mark.parametrize(
    ("line", "code", "err"),
    [
        (f"torchlift inspect {MODEL} --json | true", 0, ""),
        (f"torchlift inspect {MODEL} --json >&-", 0, ""),
        (f"torchlift cat {SCALE} mean -o a.t7 >&- 2>&- <&-", 0, ""),
        ("torchlift inspect none.t7 >&- 2>&-", 1, ""),
        ("torchlift --help | true", 0, ""),
        (f"torchlift inspect {MODEL} >/dev/full", 1, "torchlift: stdout: No space left on device"),
        ("torchlift --help >/dev/full", 1, "torchlift: stdout: No space left on device"),
        ("torchlift inspect none.t7 2>/dev/full", 1, ""),
        ("torchlift frobnicate 2>/dev/full", 2, ""),
    ],
)
def test_streams_that_are_closed_or_full(line: str, code: int, err: str, tmp_path: Path) -> None:
    if "/dev/full" in line and not FULL.exists():
        pytest.skip("no /dev/full here")
    ended = shell(line, tmp_path)
    assert (ended.returncode, ended.stderr.strip()) == (code, err)
    assert {path.name for path in tmp_path.iterdir()} == ({"a.t7"} if "a.t7" in line else set())


def test_nothing_that_is_printed_gets_into_a_file(tmp_path: Path) -> None:
    """The first file that is opened would get the number of a closed stream."""
    lines = (
        "import os",
        "from torchlift.cli.streams import prepare_streams",
        "prepare_streams()",
        "file = open('kept.txt', 'w')",
        "[os.write(number, b'lost') for number in (1, 2)]",
        "file.write('kept')",
    )
    ended = shell(f'{sys.executable} -c "{"; ".join(lines)}" >&- 2>&- <&-', tmp_path)
    assert ended.returncode == 0
    assert (tmp_path / "kept.txt").read_text(encoding="utf-8") == "kept"


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "cp1252"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["ascii", "cp1252", "C"],
)
def test_encodings_without_our_characters(environment: dict[str, str], tmp_path: Path) -> None:
    ended = shell(f"torchlift inspect {MODEL}", tmp_path, **environment)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "nn.SpatialConvolution 1->6, 5x5" in ended.stdout.replace("→", "->").replace("�", "x")
    named = tmp_path / "digits → 猫.t7"
    named.write_bytes(Path(MODEL).read_bytes())
    document = json.loads(
        shell(f"torchlift inspect '{named}' --json", tmp_path, **environment).stdout
    )
    if "LC_ALL" not in environment:
        assert document["file"] == str(named)


def test_a_file_name_that_is_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"bad-\xff.t7")
    (tmp_path / name).write_bytes(Path(MODEL).read_bytes())
    for options in ("", " --json"):
        ended = shell(f"torchlift inspect bad-*{options}", tmp_path)
        assert (ended.returncode, ended.stderr) == (0, "")
    ended = shell("torchlift cat bad-* nothing.here", tmp_path)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr


def test_only_what_is_written_is_replaced() -> None:
    """The rule for characters that an encoding lacks is known by its name to all of Python."""
    assert "3×2…é".encode("ascii", "torchlift") == b"3x2...\\xe9"
    with pytest.raises(UnicodeDecodeError):
        b"3\xff".decode("ascii", "torchlift")
