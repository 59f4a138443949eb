"""What a check found, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .comparison import Comparison


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        name: what was checked: `structure`, `interface`, `labels`, `weights`, `finite`, …
        passed: whether it is as it must be.
        text: what was found.
    """

    name: str
    passed: bool
    text: str


@dataclass(frozen=True)
class CheckReport:
    """An exported file compared with the network that it was exported from.

    Attributes:
        path: the file.
        provider: the execution provider that really ran it; empty when it could not be run.
        data: what it was run on.
        profile: what was let pass, a name of `PROFILES`.
        tolerance: largest error that passes, relative to the largest output.
        findings: one a check, in the order in which they were made.
        comparisons: one a batch that was run.
    """

    path: str
    provider: str
    data: str
    profile: str
    tolerance: float
    findings: list[Finding]
    comparisons: list[Comparison]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(finding.passed for finding in self.findings)

    @property
    def error(self) -> float:
        """The largest error, relative to the largest output of its batch; NaN if nothing ran."""
        return max((part.error for part in self.comparisons), default=float("nan"))

    @property
    def agreement(self) -> tuple[int, int] | None:
        """Examples with the same likeliest class, and all of them; None for no classifier."""
        counted = [(part.agreeing, part.batch) for part in self.comparisons]
        if not counted or any(agreeing is None for agreeing, _ in counted):
            return None
        return sum(agreeing or 0 for agreeing, _ in counted), sum(batch for _, batch in counted)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "path": self.path,
            "passed": self.passed,
            "provider": self.provider,
            "data": self.data,
            "profile": self.profile,
            "tolerance": self.tolerance,
            "error": self.error if self.comparisons else None,
            "agreement": self.agreement,
            "findings": [asdict(finding) for finding in self.findings],
            "comparisons": [asdict(comparison) for comparison in self.comparisons],
        }

    def lines(self) -> Iterator[str]:
        """The report for people: what was run, a line a check, and the verdict."""
        yield f"{self.path}: {self.data}, {self.provider or 'not run'}, profile {self.profile}"
        width = max(len(finding.name) for finding in self.findings)
        for finding in self.findings:
            mark = "ok    " if finding.passed else "FAILED"
            yield f"{mark}  {finding.name:<{width}}  {finding.text}"
        failed = [finding.name for finding in self.findings if not finding.passed]
        verdict = f"FAILED: {', '.join(failed)}" if failed else "passed"
        yield f"{self.path}: {verdict}"


def write_check_report(report: CheckReport) -> list[Path]:
    """Write a report beside its file: `….check.json` for programs, `….check.txt` for people."""
    file = Path(report.path)
    texts = {
        file.with_suffix(".check.json"): json.dumps(report.to_json(), indent=2) + "\n",
        file.with_suffix(".check.txt"): "\n".join(report.lines()) + "\n",
    }
    for target, text in texts.items():
        target.write_text(text, encoding="utf-8")
    return list(texts)
