"""The report of a check, for people and for programs."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...errors import WriteError
from ...files import atomic_path, check_output
from .comparison import Comparison

#: How the report for people ends.
_VERDICT = re.compile(r": (passed|FAILED: .*)\n\Z")


@dataclass(frozen=True)
class Finding:
    """The result of one part of a check.

    Attributes:
        name: What was checked: `structure`, `interface`, `labels`, `weights`, `finite`, …
        passed: Whether it is as it must be.
        text: What was found.
    """

    name: str
    passed: bool
    text: str


@dataclass(frozen=True)
class RuntimeResult:
    """What a file computes in another runtime, beside what the model computes.

    Attributes:
        runtime: Its name: `onnxruntime`, `reference`, `openvino`, `opencv` or `web`.
        version: Its version; empty if it does not open the file.
        arithmetic: What it says that it computed in.
        python: The interpreter that it ran in, if that is another one.
        passed: Whether it computes what the model does.
        error: Largest error, relative to the largest output; None if there is none.
        agreeing: How many examples have the same predicted class; None without classes.
        count: How many examples were compared.
        problem: What is wrong: a difference, or the runtime's own message.
        node: The first node that computes something else, or None.
        cure: The setting of the runtime with which it computes what the model does, or None.
        skipped: Why the outputs were not judged, or None.
    """

    runtime: str
    version: str
    arithmetic: str
    python: str | None
    passed: bool
    error: float | None
    agreeing: int | None
    count: int
    problem: str | None
    node: str | None
    cure: str | None
    skipped: str | None

    def finding(self) -> Finding:
        """Return the finding that says so."""
        where = [self.arithmetic, f"in {self.python}" if self.python else ""]
        details = ", ".join(filter(None, where))
        name = f"{self.runtime} {self.version}".strip() + (f" ({details})" if details else "")
        text = self.problem or (f"runs; skipped ({self.skipped})" if self.skipped else "")
        if not text:
            classes = f", {self.agreeing} of {self.count} predictions agree"
            text = f"error {self.error:.1e}{'' if self.agreeing is None else classes}"
        if self.node:
            text += f"; the first node that differs is {self.node}"
        if self.cure:
            text += f"; with {self.cure} it passes"
        return Finding("runtime", self.passed, f"{name}: {text}")


@dataclass(frozen=True)
class CheckReport:
    """How an exported file compares with its model.

    Attributes:
        path: The file.
        provider: The execution provider that ran it; empty if it could not be run.
        data: What it was run on.
        profile: Name of the limits that applied (see `PROFILES`).
        tolerance: Largest error that passes, relative to the largest output.
        findings: The result of each part, in order.
        comparisons: The outputs of each batch, compared.
        runtimes: What other runtimes computed, as far as they were asked.
    """

    path: str
    provider: str
    data: str
    profile: str
    tolerance: float
    findings: list[Finding]
    comparisons: list[Comparison]
    runtimes: list[RuntimeResult] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every part of the check passed."""
        return all(finding.passed for finding in self.findings)

    @property
    def error(self) -> float:
        """The largest error, relative to the largest output of its batch.

        NaN if nothing ran, or if a batch has no finite output.
        """
        errors = [comparison.error for comparison in self.comparisons]
        return math.nan if not errors or any(map(math.isnan, errors)) else max(errors)

    @property
    def agreement(self) -> tuple[int, int] | None:
        """How many examples have the same predicted class, of how many; None without classes."""
        counts = [(comparison.agreeing, comparison.batch) for comparison in self.comparisons]
        if not counts or any(agreeing is None for agreeing, _ in counts):
            return None
        return sum(agreeing or 0 for agreeing, _ in counts), sum(batch for _, batch in counts)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values; numbers that are not finite are None."""
        return {
            "file": self.path,
            "passed": self.passed,
            "provider": self.provider,
            "compared_on": self.data,
            "profile": self.profile,
            "tolerance": self.tolerance,
            "error": _finite(self.error),
            "agreeing": None if self.agreement is None else self.agreement[0],
            "count": None if self.agreement is None else self.agreement[1],
            "findings": [asdict(finding) for finding in self.findings],
            "comparisons": [
                {
                    **asdict(comparison),
                    "error": _finite(comparison.error),
                    "values": [_finite(value) for value in comparison.values],
                }
                for comparison in self.comparisons
            ],
            "runtimes": [asdict(result) for result in self.runtimes],
        }

    def lines(self) -> Iterator[str]:
        """Yield the report for people: what was run, a line for each part, and the verdict."""
        yield f"{self.path}: {self.data}, {self.provider or 'not run'}, profile {self.profile}"
        width = max(len(finding.name) for finding in self.findings)
        for finding in self.findings:
            mark = "ok    " if finding.passed else "FAILED"
            yield f"{mark}  {finding.name:<{width}}  {finding.text}"
        failed = dict.fromkeys(finding.name for finding in self.findings if not finding.passed)
        verdict = f"FAILED: {', '.join(failed)}" if failed else "passed"
        yield f"{self.path}: {verdict}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def write_check_report(report: CheckReport) -> list[Path]:
    """Write a report beside its file: `….check.json` for programs, `….check.txt` for people.

    The reports of an earlier check are replaced.

    Raises:
        WriteError: If a report cannot be written, or something else has its name.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = f"{mkdtemp()}/network.onnx"
        >>> finding = Finding("finite", True, "no NaN and no infinity")
        >>> report = CheckReport(path, "", "no data", "fp32-cpu", 1e-4, [finding], [])
        >>> [file.name for file in write_check_report(report)]
        ['network.check.json', 'network.check.txt']
    """
    targets = check_report_targets(report.path)
    contents = (json.dumps(report.to_json(), indent=2), "\n".join(report.lines()))
    texts = dict(zip(targets, contents, strict=True))
    for target, text in texts.items():
        with atomic_path(target) as path:
            path.write_text(f"{text}\n", encoding="utf-8")
    return targets


def check_report_targets(path: str | os.PathLike[str]) -> list[Path]:
    """Return the files of the report on an `.onnx` file, before the check that it is of.

    Raises:
        WriteError: If one cannot be written, or something else has its name.
    """
    targets = [Path(path).with_suffix(suffix) for suffix in (".check.json", ".check.txt")]
    for target in targets:
        _check_replaceable(target)
    return targets


def _check_replaceable(target: Path) -> None:
    """Check that a file can be written, or is the report of an earlier check.

    Raises:
        WriteError: If it is something else.
    """
    check_output(target, overwrite=True)
    if not target.exists():
        return
    try:
        text = target.read_text(encoding="utf-8")
        values = json.loads(text) if target.suffix == ".json" else None
    except (ValueError, RecursionError):
        text, values = "", None
    is_report = isinstance(values, dict) and {"file", "passed", "findings"} <= values.keys()
    if not is_report and not _VERDICT.search(text):
        raise WriteError(f"{target} is not the report of a check and is not replaced")
