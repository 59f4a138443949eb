"""What `doctor` finds out, and when it fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_support import shown

from torchlift.cli import doctor as file
from torchlift.cli.doctor import doctor

CPU, GPU = {"provider": "cpu", "problem": None}, {"provider": "cuda", "problem": "no device"}
NO_CPU = {"provider": "cpu", "problem": "damaged"}


@pytest.mark.parametrize(
    ("providers", "problems", "passed"),
    [
        ([CPU, GPU], [], True),
        # Whatever else starts, without a CPU something is wrong.
        ([NO_CPU, {**GPU, "problem": None}], [], False),
        ([{**GPU, "problem": None}], [], False),
        ([CPU], ["two packages in one place"], False),
        ([], [], False),
    ],
)
def test_it_passes_where_the_cpu_runs_models_and_nothing_is_wrong(
    providers: Any, problems: list[str], passed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "_providers", lambda: providers)
    monkeypatch.setattr(file, "_problems", lambda: problems)
    result = doctor()
    assert result.passed == passed
    assert (result.data["providers"], result.data["problems"]) == (providers, problems)
    lines = shown(result.view)
    for one in providers:
        assert f"onnx {one['provider']} {one['problem'] or 'starts'}" in lines
    assert [line for line in lines if line.startswith("problem: ")] == [
        f"problem: {text}" for text in problems
    ]
    assert ("is not installed" in " ".join(lines)) == (not providers)


@pytest.mark.parametrize(("value", "reports"), [("1", False), ("0", True), (None, True)])
def test_it_says_whether_the_runtime_reports_its_use(
    value: str | None, reports: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "_providers", list)
    monkeypatch.setattr(file, "_problems", list)
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    if value is not None:
        monkeypatch.setenv("ORT_DISABLE_TELEMETRY", value)
    assert doctor().data["onnx_telemetry"] is reports


def test_a_processor_names_its_instructions_for_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "flags : fpu avx_vnni sse2 avx512_vnni\nFeatures : asimd asimddp\n"
    monkeypatch.setattr(Path, "read_text", lambda self, encoding: text)
    assert file._dot_products() == ["asimddp", "avx512_vnni", "avx_vnni"]

    problems = iter([FileNotFoundError(), PermissionError()])

    def unreadable(self: Path, encoding: str) -> str:
        raise next(problems)

    monkeypatch.setattr(Path, "read_text", unreadable)
    assert [file._dot_products(), file._dot_products()] == [[], []]


def test_cpus_are_counted_where_the_packages_are_that_count_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torchlift.converters.inference.threads.available_cpus", lambda: 7)
    for missing, expected in ((None, 7), ("joblib", None), ("onnxruntime", None), ("PIL", None)):
        monkeypatch.setattr(file, "is_installed", lambda name, gone=missing: name != gone)
        assert file._cpus() == expected


@pytest.mark.parametrize(("missing", "named"), [("onnxruntime", "onnxruntime"), ("PIL", "pillow")])
def test_what_is_missing_is_named_and_no_number_is_guessed(
    missing: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "is_installed", lambda name: name != missing)
    result = doctor()
    assert (result.passed, result.data["providers"], result.data["cpus"]) == (False, [], None)
    assert any(f"{named} is not installed: pip install" in line for line in shown(result.view))


def test_gpus_are_numbered_with_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"chip {index}")
    assert file._torch_devices() == ["cpu", "cuda:0 chip 0", "cuda:1 chip 1"]
    monkeypatch.setattr(file, "is_installed", lambda name: False)
    assert file._torch_devices() == []


@pytest.mark.parametrize("missing", [None, "onnxruntime", "PIL"])
def test_runtimes_that_hide_each_other_are_a_problem_where_there_are_some(
    missing: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ONNX Runtime or Pillow nothing of it can even be imported."""
    conflict = "torchlift.converters.inference.provider_diagnostics.runtime_conflict"
    monkeypatch.setattr(conflict, lambda: "two runtimes hide each other")
    monkeypatch.setattr(file, "is_installed", lambda name: name != missing)
    expected = [] if missing else ["two runtimes hide each other"]
    assert file._problems() == expected
    monkeypatch.setattr(conflict, lambda: None)
    assert file._problems() == []
