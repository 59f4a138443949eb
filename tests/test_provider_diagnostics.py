"""Why a GPU is not used here: what the driver, a library and the versions tell, on stand-ins."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from torchlift.converters.inference import provider_diagnostics as diagnostics


@pytest.mark.parametrize(
    ("initialized", "counted", "gpus", "problem"),
    [
        (0, 0, 1, None),
        (0, 0, 8, None),
        (0, 0, 0, "the NVIDIA driver finds no GPU; run on a machine with an NVIDIA GPU"),
        (100, 0, 1, "the NVIDIA driver finds no GPU"),
        (0, 3, 1, "the NVIDIA driver finds no GPU"),
        (None, 0, 1, r"there is no NVIDIA driver (libcuda.so.1 is missing); run on"),
    ],
)
def test_a_driver_has_a_gpu_if_it_starts_and_counts_one(
    initialized: int | None,
    counted: int,
    gpus: int,
    problem: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def count(place: Any) -> int:
        place._obj.value = gpus
        return counted

    def load(name: str) -> Any:
        assert name == ("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        if initialized is None:
            raise OSError(name)
        return SimpleNamespace(cuInit=lambda _: initialized, cuDeviceGetCount=count)

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(diagnostics.ctypes, "CDLL", load)
    found = diagnostics.driver_problem()
    assert (found is None) if problem is None else str(found).startswith(problem)


@pytest.mark.parametrize(
    ("there", "refused", "said"),
    [
        (("shared", "cuda"), "", "CUDAExecutionProvider refused this device or its driver"),
        (("cuda",), "", "the library of CUDAExecutionProvider is missing from the installation"),
        (("shared",), "", "the library of CUDAExecutionProvider is missing from the installation"),
        (("shared", "cuda"), "cuda", "libcudnn.so.9: cannot open"),
        (("shared", "cuda"), "shared", "libcudnn.so.9: cannot open"),
    ],
)
def test_the_library_that_does_not_load_is_named(
    there: tuple[str, ...],
    refused: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "capi").mkdir()
    for name in (*there, "tensorrt"):
        (tmp_path / "capi" / f"libonnxruntime_providers_{name}.so").touch()
    loaded = []

    def load(name: str, mode: int) -> None:
        loaded.append((Path(name).stem.removeprefix("libonnxruntime_providers_"), mode))
        if refused and loaded[-1][0] == refused:
            raise OSError("libcudnn.so.9: cannot open")

    monkeypatch.setattr(
        diagnostics, "onnxruntime", SimpleNamespace(__file__=str(tmp_path / "__init__.py"))
    )
    monkeypatch.setattr(diagnostics.ctypes, "CDLL", load)
    assert diagnostics.library_problem("CUDAExecutionProvider") == said
    # What the provider's library takes from the shared one has to be there first.
    expected = [("shared", ctypes.RTLD_GLOBAL), ("cuda", ctypes.RTLD_GLOBAL)]
    assert loaded == expected[: len(loaded)]


@pytest.mark.parametrize(
    ("provider", "cuda", "remedy"),
    [
        ("cuda", "12.8", "is built for CUDA 12.8: install torch for the same CUDA major version"),
        ("cuda", "", "is built for the CUDA of its release notes: install torch"),
        ("tensorrt", "13.0", "(`pip install tensorrt-cu13`)"),
        ("tensorrt", "", "(`pip install tensorrt-cu12`)"),
        ("tensorrt", "unknown", "(`pip install tensorrt-cu12`)"),
        ("openvino", "12.8", "`pip install --force-reinstall onnxruntime-openvino`"),
    ],
)
def test_what_is_installed_fits_the_cuda_that_onnxruntime_was_built_for(
    provider: str, cuda: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = SimpleNamespace(cuda_version=cuda, __version__="1.26.0")
    monkeypatch.setattr(diagnostics, "onnxruntime", runtime)
    found = diagnostics.library_remedy(provider)
    assert remedy in found
    assert ("ONNX Runtime 1.26.0" in found) is (provider != "openvino")


@pytest.mark.parametrize(
    ("installed", "conflict"),
    [
        ([], None),
        (["onnxruntime-gpu"], None),
        (["onnxruntime", "onnxruntime-gpu"], "onnxruntime and onnxruntime-gpu are both installed"),
        (
            ["onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"],
            "onnxruntime and onnxruntime-gpu and onnxruntime-openvino are all installed",
        ),
    ],
)
def test_packages_of_one_module_are_taken_away_before_one_is_installed(
    installed: list[str], conflict: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnostics, "_is_installed", installed.__contains__)
    found = diagnostics.runtime_conflict()
    if conflict is None:
        assert found is None
        for kind in ("gpu", "openvino"):
            assert diagnostics.package_remedy(kind).endswith(f"`pip install onnxruntime-{kind}`")
        assert diagnostics.package_remedy() == diagnostics.package_remedy("gpu")
        return
    assert found == diagnostics.package_remedy() == diagnostics.package_remedy("openvino")
    assert found == (
        f"{conflict} and overwrite each other: `pip uninstall {' '.join(installed)}`, then "
        "`pip install` one of them"
    )


def test_a_package_is_installed_if_it_has_a_version() -> None:
    assert diagnostics._is_installed("numpy")
    assert not diagnostics._is_installed("onnxruntime-of-nobody")
