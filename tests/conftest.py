"""Collects which Torch7 classes the contract tests prove, for `docs/coverage.md`.

A test of recorded cases says what it proved with `record_property("proved", …)` (see
`support.proof`), a test written by hand with
`@pytest.mark.covers("nn.Linear", compared="outputs")`. The sum of a run is written where `--proofs`
says.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from quick_export_support import keep_translations

# Two processes with a thread for each core each would wait for one another: a third of the time.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--proofs", help="write what the contract tests proved to this JSON file")


def pytest_collection_finish() -> None:
    keep_translations()


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("covers"):
        for name in mark.args:
            proof = {"class": name, "kind": "by hand", "reason": mark.kwargs["compared"]}
            item.user_properties.append(("proved", proof))


class _Collector:
    """Gathers the proofs of passed tests, in the process that also runs or gathers the reports."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.proofs: list[object] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and not report.failed:
            self.proofs += [value for name, value in report.user_properties if name == "proved"]

    def pytest_sessionfinish(self) -> None:
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self.target.write_text(json.dumps(self.proofs))


def pytest_configure(config: pytest.Config) -> None:
    target = config.getoption("--proofs")
    if target and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Collector(Path(target)))
