"""The verdict of `check --report` on a file goes with that file alone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from torchlift.converters.inference.check_verdict import check_verdict

REPORT = {"passed": True, "profile": "fp32-cpu", "error": 1e-7, "agreeing": 9, "count": 9}


def report_of(file: Path, content: Any, seconds_later: int) -> None:
    file.touch()
    report = file.with_suffix(".check.json")
    report.write_text(json.dumps(content), encoding="utf-8")
    later = file.stat().st_mtime + seconds_later
    os.utime(report, (later, later))


def test_nothing_but_the_verdict_is_told(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    assert check_verdict(file) is None
    report_of(file, {**REPORT, "path": "/home/somebody/net.onnx"}, seconds_later=1)
    assert check_verdict(file) == REPORT


def test_a_report_on_an_earlier_file_does_not_count(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    report_of(file, REPORT, seconds_later=-1)
    assert check_verdict(file) is None
    # Clocks may be coarse: one of the same time is that of the file.
    report_of(file, REPORT, seconds_later=0)
    assert check_verdict(file) == REPORT


def test_another_json_file_is_no_report(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    report_of(file, [1, 2], seconds_later=1)
    assert check_verdict(file) is None
    file.with_suffix(".check.json").write_text("{", encoding="utf-8")
    assert check_verdict(file) is None
