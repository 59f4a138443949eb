"""A report adds up its batches, and is read by people and by programs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from torchlift.converters.errors import WriteError
from torchlift.converters.onnx.checker.comparison import Comparison, compare
from torchlift.converters.onnx.checker.graph_checks import _text
from torchlift.converters.onnx.checker.profiles import PROFILES
from torchlift.converters.onnx.checker.report import (
    CheckReport,
    Finding,
    RuntimeResult,
    check_report_targets,
    write_check_report,
)
from torchlift.converters.onnx.checker.runtime_divergence import _error
from torchlift.converters.onnx.checker.thresholds import check_accuracy, check_outputs

EXPECTED = np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0]])


def comparison(actual: object = EXPECTED, is_classifier: bool = True) -> Comparison:
    return compare(EXPECTED, np.asarray(actual), np.arange(2), 1e-4, is_classifier)


def report(*comparisons: Comparison, passed: bool = True) -> CheckReport:
    findings = [Finding("structure", True, "fine"), Finding("outputs", passed, "some text")]
    return CheckReport("x.onnx", "", "noise", "fp32-cpu", 1e-4, findings, list(comparisons))


def test_predictions_of_all_batches_are_added() -> None:
    wrong = comparison([[0.0, 1.0, 3.0], [0.0, 2.0, 1.0]])
    assert report(comparison(), wrong).agreement == (3, 4)
    assert report(comparison(), comparison(is_classifier=False)).agreement is None
    assert report().agreement is None


def test_the_error_is_the_largest_and_unknown_if_a_batch_has_none() -> None:
    off = comparison([[3.0, 1.0, 0.3], [0.0, 2.0, 1.0]])
    assert report(comparison(), off).error == pytest.approx(0.1)
    nothing = comparison(EXPECTED * np.nan)
    assert math.isnan(report(off, nothing).error)
    assert math.isnan(report().error)
    found = json.loads(json.dumps(report(off, nothing).to_json(), allow_nan=False))
    assert (found["error"], found["agreeing"], found["count"]) == (None, 3, 4)
    assert found["comparisons"][1]["error"] is None
    assert report().to_json()["agreeing"] is report().to_json()["count"] is None


def test_one_failure_fails_the_report() -> None:
    assert report().passed
    assert not report(passed=False).passed
    assert [*report(passed=False).lines()] == [
        "x.onnx: noise, not run, profile fp32-cpu",
        "ok      structure  fine",
        "FAILED  outputs    some text",
        "x.onnx: FAILED: outputs",
    ]
    assert [*report().lines()][-1] == "x.onnx: passed"


def test_exactly_what_is_allowed_passes() -> None:
    limits, near = PROFILES["int8"], comparison([[3.0, 1.0, 0.6], [0.0, 2.0, 1.0]])
    assert near.error == pytest.approx(limits.tolerance, rel=1e-12)
    outputs = {each.name: each.passed for each in check_outputs([near], limits, None)}
    assert outputs == {"finite": True, "outputs": near.error <= limits.tolerance, "top-1": True}
    quarter = compare(np.array([[4.0, 0.0]]), np.array([[4.0, 1.0]]), np.arange(1), 0.25, False)
    for tolerance, passes in ((0.25, True), (0.2499, False)):
        _, outputs_found = check_outputs([quarter], replace(limits, tolerance=tolerance), None)
        assert outputs_found.passed is passes
    wrong = comparison([[0.0, 1.0, 3.0], [0.0, 2.0, 1.0]])
    batches = [wrong, *[comparison()] * 9]
    # 19 of 20 predictions are the 95% that int8 must have.
    found = {each.name: each.passed for each in check_outputs(batches, limits, None)}
    assert found["top-1"]
    found = {each.name: each.passed for each in check_outputs(batches[:-1], limits, None)}
    assert not found["top-1"]


@pytest.mark.parametrize(
    ("ties", "drop", "passed"), [(0, 0.2, True), (0, 0.1, False), (1, 0, True)]
)
def test_a_loss_of_accuracy_may_be_as_large_as_allowed_or_a_tie(
    ties: int, drop: float, passed: bool
) -> None:
    classes = np.array([0, 1, 2, 0, 1])
    other = np.array([0, 1, 2, 0, 0])
    finding = check_accuracy(classes, (classes, other), ties, drop)
    assert finding.passed is passed
    assert finding.text.startswith("1.0000 of the model, 0.8000 of the file (-0.2000)")
    assert ("; 1 of 5 are ties, a loss" in finding.text) is bool(ties)
    # A file that is better than the model is no loss.
    assert check_accuracy(classes, (other, classes), 0, 0).passed


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "yes"), (False, "no"), (None, "none"), (0.1234567, "0.123457"), ([32, 16], "32×16")],
)
def test_values_are_written_as_people_write_them(value: object, text: str) -> None:
    assert _text(value) == text


def result(**changes: Any) -> RuntimeResult:
    values = {
        "runtime": "opencv",
        "version": "5.0",
        "arithmetic": "CPU",
        "python": None,
        "passed": True,
        "error": 1.2e-6,
        "agreeing": None,
        "count": 9,
        **dict.fromkeys(("problem", "node", "cure", "skipped")),
    }
    return RuntimeResult(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "opencv 5.0 (CPU): error 1.2e-06"),
        ({"agreeing": 8}, "opencv 5.0 (CPU): error 1.2e-06, 8 of 9 predictions agree"),
        ({"agreeing": 0}, "opencv 5.0 (CPU): error 1.2e-06, 0 of 9 predictions agree"),
        ({"problem": "it died", "skipped": "random"}, "opencv 5.0 (CPU): it died"),
        ({"python": "py", "arithmetic": ""}, "opencv 5.0 (in py): error 1.2e-06"),
        ({"version": "", "arithmetic": "", "problem": "it died"}, "opencv: it died"),
        ({"skipped": "random"}, "opencv 5.0 (CPU): runs; skipped (random)"),
        (
            {"problem": "far off", "node": "conv (Conv, error 1.0e-01)", "passed": False},
            "opencv 5.0 (CPU): far off; the first node that differs is conv (Conv, error 1.0e-01)",
        ),
        (
            {"problem": "far off", "cure": "enableWinograd(False)", "passed": False},
            "opencv 5.0 (CPU): far off; with enableWinograd(False) it passes",
        ),
    ],
)
def test_what_a_runtime_did_is_one_sentence(changes: dict[str, Any], text: str) -> None:
    finding = result(**changes).finding()
    assert finding == Finding("runtime", changes.get("passed", True), text)


def test_a_value_of_a_node_is_off_relative_to_what_it_should_be() -> None:
    first, second = np.array([1.0, -4.0]), np.array([1.0, 6.0])
    assert _error(first, second) == 10 / 4
    assert _error(second, first) == 10 / 6
    # Small values too, and in either direction.
    assert _error(first / 1024, second / 1024) == 10 / 4
    assert _error(second, first - 4) == 14 / 6
    assert _error(np.zeros(2), np.zeros(2)) == 0
    assert _error(np.zeros(0), np.zeros(0)) == 0
    for other in (np.zeros(3), np.array([1.0, np.nan])):
        assert math.isnan(_error(first, other))


def test_a_report_is_written_where_a_file_can_be(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    assert check_report_targets(model) == [tmp_path / "m.check.json", tmp_path / "m.check.txt"]
    with pytest.raises(WriteError, match="no such folder"):
        check_report_targets(tmp_path / "none" / "m.onnx")
    (tmp_path / "m.check.txt").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WriteError, match="is a symbolic link and is not replaced"):
        check_report_targets(model)
    (tmp_path / "m.check.txt").unlink()
    (tmp_path / "m.check.txt").mkdir()
    with pytest.raises(WriteError, match="is a folder; a file name was expected"):
        check_report_targets(model)


def test_the_report_of_an_earlier_check_is_replaced_and_no_other_file(tmp_path: Path) -> None:
    for passed in (True, False, True):
        found = replace(report(passed=passed), path=str(tmp_path / "m.onnx"))
        text = [file.read_text(encoding="utf-8") for file in write_check_report(found)][1]
        assert text.rstrip().endswith(": passed") is passed
    for name, text in (("m.check.txt", "my notes\n"), ("m.check.json", '{"file": "m.onnx"}')):
        before = (tmp_path / name).read_bytes()
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(WriteError, match="is not the report of a check and is not replaced"):
            write_check_report(found)
        assert (tmp_path / name).read_text(encoding="utf-8") == text
        (tmp_path / name).write_bytes(before)


@pytest.mark.parametrize(
    ("name", "content", "is_replaced"),
    [
        ("m.check.txt", b"x.onnx: noise\nok  finite\nx.onnx: passed\n", True),
        ("m.check.txt", b"x.onnx: FAILED: weights, nodes\n", True),
        # The verdict is the last line of a report.
        ("m.check.txt", b"x.onnx: passed\nmy notes\n", False),
        ("m.check.txt", b"caf\xe9\nx.onnx: passed\n", False),
        ("m.check.txt", b"it passed\n", False),
        ("m.check.json", b'{"file": "m", "passed": true, "findings": [], "more": 1}', True),
        ("m.check.json", b'{"file": "m", "passed": true}', False),
        ("m.check.json", b'["file", "passed", "findings"]', False),
        ("m.check.json", b"[" * 100_000, False),
        ("m.check.json", b"{", False),
    ],
)
def test_only_what_reads_as_a_report_is_replaced(
    name: str, content: bytes, is_replaced: bool, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    if is_replaced:
        assert tmp_path / name in check_report_targets(tmp_path / "m.onnx")
    else:
        with pytest.raises(WriteError, match="is not the report of a check and is not replaced"):
            check_report_targets(tmp_path / "m.onnx")
    assert (tmp_path / name).read_bytes() == content


def test_the_names_of_findings_are_aligned_and_each_failure_is_named_once() -> None:
    findings = [Finding("a", False, "1"), Finding("longest", True, "2"), Finding("a", False, "3")]
    found = replace(report(), findings=[*findings, Finding("b", False, "4")], provider="CPU")
    assert [*found.lines()] == [
        "x.onnx: noise, CPU, profile fp32-cpu",
        "FAILED  a        1",
        "ok      longest  2",
        "FAILED  a        3",
        "FAILED  b        4",
        "x.onnx: FAILED: a, b",
    ]
