"""How the check of an `.onnx` file ended: the report of `check --report`, which lies beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

#: What else is in the report may name files of this machine.
_KEYS = ("passed", "profile", "error", "agreeing", "count")


def check_verdict(file: Path) -> dict[str, Any] | None:
    """Return the verdict on a file, or None if there is none, or one of an earlier file."""
    report_file = file.with_suffix(".check.json")
    try:
        if report_file.stat().st_mtime < file.stat().st_mtime:
            return None
        report = json.loads(report_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return {key: report.get(key) for key in _KEYS} if isinstance(report, dict) else None
