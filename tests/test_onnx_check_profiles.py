"""The limits of a check are those that docs/checks.md promises."""

from __future__ import annotations

import pytest
from support import ROOT

from torchlift.converters.onnx import PROFILES, OnnxError
from torchlift.converters.onnx.checker.profiles import choose_profile


def documented() -> dict[str, tuple[float, ...]]:
    """Return the numbers in the table of limits, by profile."""
    lines = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    found = {}
    for name, *cells in rows:
        if name.split(" ")[0] in PROFILES and len(cells) == 4:
            numbers = (cell.partition("%") for cell in cells)
            found[name.split(" ")[0]] = tuple(
                float(digits) / (100 if percent else 1) for digits, percent, _ in numbers
            )
    return found


def test_the_limits_are_those_in_the_docs() -> None:
    limits = {
        name: (each.tolerance, each.top1, each.top5, each.drop) for name, each in PROFILES.items()
    }
    found = documented()
    assert found.keys() == limits.keys()
    for name, numbers in limits.items():
        assert found[name] == pytest.approx(numbers), name


@pytest.mark.parametrize(
    ("precision", "provider", "name"),
    [
        ("fp32", "CPUExecutionProvider", "fp32-cpu"),
        ("fp32", "", "fp32-cpu"),
        (None, "CPUExecutionProvider", "fp32-cpu"),
        ("fp32", "CUDAExecutionProvider", "fp32-gpu"),
        ("fp16", "CPUExecutionProvider", "fp16"),
        ("int8", "CUDAExecutionProvider", "int8"),
    ],
)
def test_the_limits_are_those_of_the_files_arithmetic(
    precision: str | None, provider: str, name: str
) -> None:
    assert choose_profile(None, None, precision, provider) is PROFILES[name]
    assert choose_profile("int8", None, precision, provider) is PROFILES["int8"]
    given = choose_profile(None, 0.0, precision, provider)
    assert (given.name, given.tolerance, given.drop) == (name, 0.0, PROFILES[name].drop)


def test_an_unknown_profile_names_those_that_there_are() -> None:
    with pytest.raises(OnnxError, match="no profile 'fp8': choose fp32-cpu, fp32-gpu, fp16, int8"):
        choose_profile("fp8", None, "fp32", "")
