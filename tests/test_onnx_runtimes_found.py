"""Where `check --runtime` takes a runtime from: another interpreter first, then this one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from torchlift.converters.onnx import OnnxError, find_runtimes
from torchlift.converters.onnx.runtimes import installed
from torchlift.converters.requirements import MissingPackageError


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Which runtimes each interpreter has; "asked" holds what each was asked for."""
    known: dict[str, set[str]] = {sys.executable: set(), "other": set(), "asked": set()}

    def has(python: str, names: Any) -> set[str]:
        known["asked"] |= {f"{Path(python).name}:{name}" for name in names}
        return known[python] & set(names)

    monkeypatch.setattr(installed, "_has", has)
    return known


@pytest.mark.parametrize(
    ("here", "there", "taken"),
    [
        ({"openvino"}, set(), "here"),
        (set(), {"openvino"}, "there"),
        ({"openvino"}, {"openvino"}, "there"),
        (set(), set(), ""),
    ],
)
def test_the_other_interpreter_is_asked_first(
    here: set[str], there: set[str], taken: str, packages: dict[str, set[str]]
) -> None:
    packages[sys.executable], packages["other"] = here, there
    if not taken:
        with pytest.raises(MissingPackageError, match=r"in other or here: other -m pip install"):
            find_runtimes(["openvino"], "other")
        return
    (found,) = find_runtimes(["openvino"], "other")
    assert found.command[0] == ("other" if taken == "there" else sys.executable)
    assert found.command[2] == "openvino"
    assert found.is_elsewhere is (taken == "there")
    # What one has, the next is not asked for.
    assert (f"{Path(sys.executable).name}:openvino" in packages["asked"]) is (not there)


def test_without_another_interpreter_only_this_one_counts(packages: dict[str, set[str]]) -> None:
    packages["other"] = {"openvino"}
    with pytest.raises(MissingPackageError, match=r"is not installed here: python -m pip install"):
        find_runtimes(["openvino"])
    packages[sys.executable] = {"openvino"}
    found = find_runtimes(["openvino"])
    assert [(each.name, each.is_elsewhere) for each in found] == [("openvino", False)]


def test_a_browser_needs_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(installed.shutil, "which", lambda _: None)
    with pytest.raises(OnnxError, match="the runtime web needs node, version 20 or newer"):
        find_runtimes(["web"])
    monkeypatch.setattr(installed.shutil, "which", lambda name: f"/bin/{name}")
    package = tmp_path / "onnxruntime-web"
    asked: list[Any] = []

    def runtime(folder: Any) -> Any:
        asked.append(folder)
        return type("Runtime", (), {"folder": package})

    monkeypatch.setattr(installed, "find_runtime", runtime)
    (found,) = find_runtimes(["web"], onnxruntime_web=package)
    assert asked == [package]
    assert (found.name, found.command[0], found.command[2]) == ("web", "/bin/node", str(package))
    assert Path(found.command[1]).name == "web_worker.mjs"
    assert not found.is_elsewhere


def test_an_unknown_name_is_refused_before_anything_is_asked(
    packages: dict[str, set[str]],
) -> None:
    with pytest.raises(OnnxError, match="no runtime 'tvm': choose onnxruntime, "):
        find_runtimes(["openvino", "tvm"])
    assert packages["asked"] == set()


def test_a_runtime_that_is_named_twice_is_run_once() -> None:
    found = find_runtimes(["reference", "onnxruntime", "reference"])
    assert [one.name for one in found] == ["reference", "onnxruntime"]
    assert not any(one.is_elsewhere for one in found)
