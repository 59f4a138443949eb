"""A named provider starts or is an error with its reason; `auto` falls back and says so.

There is no GPU here: a stand-in for ONNX Runtime behaves as the real one does on machines that
have one, or that lack a part of it.
"""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from torchlift.converters.inference import (
    InferenceError,
    ProviderError,
    provider_diagnostics,
    provider_problem,
    providers,
    threads,
)
from torchlift.converters.onnx import export

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"


class Runtime:
    """What `providers` uses of onnxruntime, for a machine on which `working` providers start."""

    def __init__(self, compiled: list[str], working: list[str]) -> None:
        self.compiled, self.working = compiled, working
        self.severities: list[int] = []
        self.sessions: list[Any] = []
        self.asked: list[list[Any]] = []
        self.__file__, self.__version__ = onnxruntime.__file__, "1.22.0"
        self.cuda_version = "12.8"
        self.SessionOptions = onnxruntime.SessionOptions

    def get_available_providers(self) -> list[str]:
        return self.compiled

    def set_default_logger_severity(self, severity: int) -> None:
        self.severities.append(severity)

    def preload_dlls(self) -> None:
        print("Failed to load libcublas")

    def InferenceSession(self, file: str, options: Any, providers: list[Any]) -> Any:  # noqa: N802
        runtime = self
        self.asked.append(providers)
        names = [name if isinstance(name, str) else name[0] for name in providers]

        class Session:
            fallback = True
            threads = options.intra_op_num_threads

            def get_providers(self) -> list[str]:
                return [name for name in names if name in runtime.working]

            def disable_fallback(self) -> None:
                self.fallback = False

        self.sessions.append(Session())
        return self.sessions[-1]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").touch()
    return tmp_path / "model.onnx"


def machine(
    monkeypatch: pytest.MonkeyPatch, compiled: list[str], working: list[str], driver: str | None
) -> Runtime:
    runtime = Runtime(compiled, working)
    for module in (providers, provider_diagnostics):
        monkeypatch.setattr(module, "onnxruntime", runtime)
    monkeypatch.setattr(providers, "driver_problem", lambda: driver)
    return runtime


def test_auto_takes_cuda_where_it_starts(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = machine(monkeypatch, [CUDA, CPU], [CUDA, CPU], None)
    for name in ("auto", "cuda"):
        session = providers.open_session(file, name)
        assert (session.provider, session.note) == (CUDA, "")
    # A run that fails on the GPU must not be repeated on the CPU in silence.
    assert not any(session.fallback for session in runtime.sessions)
    # Products are not rounded to TF32, as PyTorch's are not while it is compared.
    assert runtime.asked == [[(CUDA, {"use_tf32": 0}), CPU]] * 2


def test_tensorrt_is_only_for_who_asks(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = [TENSORRT, CUDA, CPU]
    runtime = machine(monkeypatch, every, every, None)
    assert providers.open_session(file, "auto").provider == CUDA
    assert providers.open_session(file, "tensorrt").provider == TENSORRT
    runtime.working = [CUDA, CPU]
    monkeypatch.setattr(providers, "library_problem", lambda _: "libnvinfer.so.10: cannot open")
    with pytest.raises(ProviderError, match=r"libnvinfer.*pip install tensorrt-cu12"):
        providers.open_session(file, "tensorrt")
    # What `doctor` says is what was tried.
    assert "libnvinfer.so.10" in str(provider_problem("tensorrt"))
    assert provider_problem("cuda") is None


def test_the_cpu_is_taken_when_it_is_asked_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, [CUDA, CPU], [CUDA, CPU], None)
    session = providers.open_session(file, "cpu")
    assert (session.provider, session.note) == (CPU, "")


def test_a_missing_driver(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = machine(monkeypatch, [CUDA, CPU], [CPU], "there is no NVIDIA driver")
    with pytest.raises(ProviderError, match="cuda does not start: there is no NVIDIA driver"):
        providers.open_session(file, "cuda")
    # It is known before anything is tried that would log.
    assert runtime.sessions == []
    session = providers.open_session(file, "auto")
    assert session.provider == CPU
    assert session.note == "runs on the CPU: no NVIDIA GPU here"


def test_cuda_that_falls_back_in_silence_is_found_out(
    file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    runtime = machine(monkeypatch, [CUDA, CPU], [CPU], None)
    monkeypatch.setattr(providers, "library_problem", lambda _: "libcudnn.so.9: cannot open")
    with pytest.raises(ProviderError) as caught:
        providers.open_session(file, "cuda")
    assert "libcudnn.so.9: cannot open" in str(caught.value)
    assert "built for CUDA 12.8" in str(caught.value)
    assert "onnxruntime-gpu[cuda,cudnn]" in str(caught.value)
    session = providers.open_session(file, "auto")
    assert session.provider == CPU
    assert "libcudnn.so.9" in session.note
    # preload_dlls printed, and nobody heard.
    assert capfd.readouterr() == ("", "")
    assert runtime.severities[-1] == 2


def test_an_onnxruntime_without_cuda(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, [CPU], [CPU], None)
    installed = {"onnxruntime"}

    def version(package: str) -> str:
        if package in installed:
            return "1.22.0"
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(ProviderError, match="`pip uninstall onnxruntime`, then"):
        providers.open_session(file, "cuda")
    installed.add("onnxruntime-gpu")
    with pytest.raises(ProviderError, match="both installed and hide each other"):
        providers.open_session(file, "cuda")
    assert "has no CUDAExecutionProvider" in providers.open_session(file, "auto").note


def test_unknown_names_and_files(file: Path) -> None:
    with pytest.raises(ProviderError, match="no provider 'gpu': choose auto, tensorrt, cuda, cpu"):
        providers.open_session(file, "gpu")
    with pytest.raises(InferenceError, match=r"nowhere\.onnx: no such file"):
        providers.open_session(file.with_name("nowhere.onnx"), "cpu")
    # The real ONNX Runtime, and a file that is no model.
    file.write_text("This is not a model.\n")
    with pytest.raises(InferenceError, match=r"model\.onnx: ONNX Runtime cannot load it"):
        providers.open_session(file, "cpu")


def test_the_cpu_always_can() -> None:
    assert provider_problem("cpu") is None


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinity masks")
def test_threads_follow_the_affinity_mask(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = machine(monkeypatch, [CPU], [CPU], None)
    monkeypatch.setattr(threads, "cpu_quota", lambda: None)
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        providers.open_session(file, "cpu")
    finally:
        os.sched_setaffinity(0, before)
    providers.open_session(file, "cpu")
    assert [session.threads for session in runtime.sessions] == [1, len(before)]


@pytest.mark.parametrize(
    ("lines", "files", "quota"),
    [
        # Version 2: the group's own limit, and a tighter one around it.
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000", "a/cpu.max": "150000 100000"}, 1.5),
        ("0::/a\n", {"a/cpu.max": "max 100000"}, None),
        # In a container the path is the machine's, and only the root is there to be read.
        ("0::/machine/x\n", {"cpu.max": "200000 100000"}, 2.0),
        # Version 1: -1 stands for no limit.
        (
            "4:cpu,cpuacct:/a\n1:memory:/a\n",
            {"cpu/a/cpu.cfs_quota_us": "50000", "cpu/a/cpu.cfs_period_us": "100000"},
            0.5,
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
    ],
)
def test_threads_follow_the_quota_of_a_container(
    lines: str,
    files: dict[str, str],
    quota: float | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine, groups = tmp_path / "cgroup", tmp_path / "groups"
    mine.write_text(lines)
    for name, text in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(text + "\n")
    monkeypatch.setattr(threads, "_MINE", mine)
    monkeypatch.setattr(threads, "_GROUPS", groups)
    monkeypatch.setattr(threads, "affinity", lambda: 8)
    assert threads.cpu_quota() == quota
    assert threads.available_cpus() == (8 if quota is None else max(1, int(quota)))


def test_bound_inputs_and_outputs_give_what_a_plain_run_gives(tmp_path: Path) -> None:
    torch.manual_seed(0)
    export(nn.Conv2d(3, 4, 3), tmp_path / "model.onnx", input_shape=(3, 8, 8))
    session = providers.open_session(tmp_path / "model.onnx", "cpu", profile=tmp_path / "nodes")
    images = np.random.default_rng(0).standard_normal((5, 8, 8, 3), np.float32)
    inputs = {"input": images.transpose(0, 3, 1, 2)}  # No contiguous array.
    plain = session.runtime.run(None, {"input": np.ascontiguousarray(inputs["input"])})
    assert np.array_equal(session.run(inputs)[0], plain[0])
    assert providers.nodes_by_provider(session)[CPU] > 0
