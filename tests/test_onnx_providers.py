"""A provider that is requested by name starts or is an error; `auto` falls back and says so.

Most tests need no GPU: a fake ONNX Runtime behaves as the real one does on machines with a GPU, or
with a part of it missing.
"""

from __future__ import annotations

import json
import os
from importlib import import_module, metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from torchlift.cli.main import main
from torchlift.converters.inference import (
    InferenceError,
    OnnxPredictor,
    ProviderError,
    provider_diagnostics,
    provider_problem,
    providers,
)
from torchlift.converters.inference.threads import available_cpus
from torchlift.converters.onnx import export
from torchlift.converters.saved import SavedModel

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
TENSORRT, OPENVINO = "TensorrtExecutionProvider", "OpenVINOExecutionProvider"


class Runtime:
    """A fake onnxruntime, for a machine on which the `working` providers start."""

    def __init__(self, compiled: list[str], working: list[str]) -> None:
        self.compiled, self.working = compiled, working
        self.severities: list[int] = []
        self.sessions: list[Any] = []
        self.requested: list[list[Any]] = []
        self.__file__, self.__version__ = onnxruntime.__file__, "1.22.0"
        self.cuda_version = "12.8"
        self.SessionOptions = onnxruntime.SessionOptions
        self.GraphOptimizationLevel = onnxruntime.GraphOptimizationLevel
        self.metadata: dict[str, str] = {}

    def get_available_providers(self) -> list[str]:
        return self.compiled

    def set_default_logger_severity(self, severity: int) -> None:
        self.severities.append(severity)

    def preload_dlls(self) -> None:
        print("Failed to load libcublas")

    def InferenceSession(self, file: str, options: Any, providers: list[Any]) -> Any:  # noqa: N802
        runtime = self
        self.requested.append(providers)
        names = [name if isinstance(name, str) else name[0] for name in providers]

        class Session:
            fallback = True
            threads = options.intra_op_num_threads

            def get_providers(self) -> list[str]:
                return [name for name in names if name in runtime.working]

            def disable_fallback(self) -> None:
                self.fallback = False

            def get_inputs(self) -> list[Any]:
                return [SimpleNamespace(name="input", shape=["batch", 3, 8, 8])]

            def get_modelmeta(self) -> Any:
                return SimpleNamespace(custom_metadata_map=runtime.metadata)

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
    # A run that fails on the GPU must not silently be repeated on the CPU.
    assert not any(session.fallback for session in runtime.sessions)
    # Products are not rounded to TF32, and a last batch of another size starts no search.
    (name, options), rest = runtime.requested[0]
    assert runtime.requested[0] == runtime.requested[1]
    assert (name, rest) == (CUDA, CPU)
    assert options["use_tf32"] == options["device_id"] == 0
    assert options["cudnn_conv_algo_search"] == "HEURISTIC"


def test_auto_does_not_try_tensorrt(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = [TENSORRT, CUDA, CPU]
    runtime = machine(monkeypatch, every, every, None)
    assert providers.open_session(file, "auto").provider == CUDA
    assert providers.open_session(file, "tensorrt").provider == TENSORRT
    runtime.working = [CUDA, CPU]
    monkeypatch.setattr(providers, "library_problem", lambda _: "libnvinfer.so.10: cannot open")
    with pytest.raises(ProviderError, match=r"libnvinfer.*pip install tensorrt-cu12"):
        providers.open_session(file, "tensorrt")
    # `provider_problem` tries the provider.
    assert str(provider_problem("tensorrt")).startswith("libnvinfer.so.10: cannot open; ")


def test_tensorrt_keeps_its_engines_for_these_weights_and_for_every_batch(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    every = [TENSORRT, CUDA, CPU]
    runtime = machine(monkeypatch, every, every, None)
    caches = []
    for precision, weights in (("fp16", b"one"), ("int8", b"other")):
        file.write_bytes(weights)
        runtime.metadata = {
            "precision": json.dumps(precision),
            "torchlift_version": json.dumps("1"),
        }
        providers.open_session(file, "tensorrt:1")
        (name, options), (_, for_cuda), _ = runtime.requested[-1]
        assert name == TENSORRT
        assert options["device_id"] == for_cuda["device_id"] == 1
        assert (options["trt_fp16_enable"], options["trt_int8_enable"]) == (
            precision == "fp16",
            precision == "int8",
        )
        assert options["trt_engine_cache_enable"]
        assert options["trt_profile_min_shapes"] == "input:1x3x8x8"
        assert options["trt_profile_max_shapes"] == "input:128x3x8x8"
        caches.append(Path(options["trt_engine_cache_path"]))
        assert caches[-1].is_dir()
    # The graphs are the same; TensorRT would take the engine of the other weights.
    assert caches[0] != caches[1]
    assert all(cache.is_relative_to(tmp_path / "cache") for cache in caches)
    # Its builder rounds products to TF32 otherwise.
    assert os.environ.pop("NVIDIA_TF32_OVERRIDE") == "0"


def test_openvino_computes_in_float32_unless_asked_by_name(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = machine(monkeypatch, [OPENVINO, CPU], [OPENVINO, CPU], "no driver is needed")
    for name, precision in (("openvino", "f32"), ("openvino:bf16", "bf16")):
        session = providers.open_session(file, name, threads=3)
        assert (session.provider, session.device) == (OPENVINO, "cpu")
        assert session.note == f"OpenVINO computes in {precision}"
        (asked, options), rest = runtime.requested[-1]
        assert (asked, rest) == (OPENVINO, CPU)
        hints = json.loads(options["load_config"])
        assert hints == {"CPU": {"INFERENCE_PRECISION_HINT": precision}}
        assert options["num_of_threads"] == "3"
    assert providers.open_session(file, "auto").provider == CPU
    machine(monkeypatch, [CPU], [CPU], None)
    with pytest.raises(ProviderError, match="`pip install onnxruntime-openvino`"):
        providers.open_session(file, "openvino")


@pytest.mark.parametrize("words", ["predict m.onnx x", "evaluate m.onnx x", "check m.t7 m.onnx"])
def test_bfloat16_is_asked_for_by_name(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def open_on(*arguments: Any, **options: Any) -> Any:
        given = [one for one in arguments if isinstance(one, str)]
        asked.append(options.get("provider", given[-1]) if options or given else "")
        raise ProviderError("seen")

    opened = SavedModel(nn.Linear(2, 2), "logits")
    monkeypatch.setattr("torchlift.cli.model_options.ModelOptions.predictor", open_on)
    monkeypatch.setattr("torchlift.cli.model_options.ModelOptions.model", lambda *_: opened)
    monkeypatch.setattr("torchlift.converters.onnx.check", open_on)
    monkeypatch.setattr("torchlift.cli.predict._fingerprint", lambda _: "")
    line = [*words.split(), "--provider", "openvino"]
    assert main([*line, "--precision", "bf16"]) == 1
    assert main(line) == 1
    assert asked == ["openvino:bf16", "openvino"]
    assert main([*words.split(), "--precision", "bf16"]) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cuda:x", "no provider 'cuda:x': choose cuda or cuda:1"),
        ("cuda:-1", "choose cuda or cuda:1"),
        ("cuda:", "choose cuda or cuda:1 or cuda:1:4G"),
        ("cuda:4X", "no provider 'cuda:4X'"),
        ("tensorrt:0M", "no provider 'tensorrt:0M'"),
        ("cpu:1", "no provider 'cpu:1': choose cpu$"),
        ("openvino:f16", "choose openvino or openvino:bf16"),
        ("auto:1", "choose auto$"),
    ],
)
def test_a_device_that_is_none_is_an_error(file: Path, text: str, said: str) -> None:
    with pytest.raises(ProviderError, match=said):
        providers.open_session(file, text)


@pytest.mark.parametrize(("provider", "rank"), [("cuda:1", "0"), ("cuda", "1"), ("auto", "1")])
def test_the_second_gpu_is_the_one_that_is_bound(
    file: Path, monkeypatch: pytest.MonkeyPatch, provider: str, rank: str
) -> None:
    """One that is named, or that of this process, where torchrun started several."""
    runtime = machine(monkeypatch, [CUDA, CPU], [CUDA, CPU], None)
    monkeypatch.setenv("LOCAL_RANK", rank)
    session = providers.open_session(file, provider)
    assert (session.device, session.device_id) == ("cuda", 1)
    assert runtime.requested[0][0][1]["device_id"] == 1


@pytest.mark.parametrize(
    ("text", "device", "limit"),
    [("cuda:4G", 0, 4 * 2**30), ("cuda:1:512M", 1, 512 * 2**20), ("cuda:2", 2, None)],
)
def test_a_limit_of_memory_is_told(
    file: Path, monkeypatch: pytest.MonkeyPatch, text: str, device: int, limit: int | None
) -> None:
    runtime = machine(monkeypatch, [CUDA, CPU], [CUDA, CPU], None)
    assert providers.open_session(file, text).device_id == device
    assert runtime.requested[0][0][1].get("gpu_mem_limit") == limit


def test_a_provider_starts_when_its_convolution_gives_what_it_should(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = providers.Session.run
    monkeypatch.setattr(
        providers.Session, "run", lambda session, inputs: [run(session, inputs)[0] + 1]
    )
    assert "a convolution gives [19.0" in str(provider_problem("cpu"))


def test_the_cpu_is_used_on_request(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, [CUDA, CPU], [CUDA, CPU], None)
    session = providers.open_session(file, "cpu")
    assert (session.provider, session.note) == (CPU, "")


def test_a_missing_driver(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = machine(monkeypatch, [CUDA, CPU], [CPU], "there is no NVIDIA driver")
    with pytest.raises(ProviderError, match="cuda does not start: there is no NVIDIA driver"):
        providers.open_session(file, "cuda")
    # The problem is known before a session is opened, which would log pages.
    assert runtime.sessions == []
    session = providers.open_session(file, "auto")
    assert session.provider == CPU
    assert session.note == "runs on the CPU: no NVIDIA GPU here"


def test_a_silent_fallback_of_cuda_is_an_error(
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
    # What preload_dlls prints is kept off the streams.
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
    with pytest.raises(ProviderError, match="both installed and overwrite each other"):
        providers.open_session(file, "cuda")
    assert "has no CUDAExecutionProvider" in providers.open_session(file, "auto").note


def test_unknown_names_and_files(file: Path) -> None:
    with pytest.raises(
        ProviderError, match="no provider 'gpu': choose auto, tensorrt, cuda, openv"
    ):
        providers.open_session(file, "gpu")
    with pytest.raises(InferenceError, match=r"nowhere\.onnx: no such file"):
        providers.open_session(file.with_name("nowhere.onnx"), "cpu")
    # The real ONNX Runtime, with a file that is not a model.
    file.write_text("This is not a model.\n", encoding="utf-8")
    with pytest.raises(InferenceError, match=r"model\.onnx: ONNX Runtime cannot load it"):
        providers.open_session(file, "cpu")


def test_the_cpu_always_starts() -> None:
    assert provider_problem("cpu") is None


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinity masks")
def test_threads_follow_the_affinity_mask(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = machine(monkeypatch, [CPU], [CPU], None)
    all_cpus, before = available_cpus(), os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        providers.open_session(file, "cpu")
    finally:
        os.sched_setaffinity(0, before)
    providers.open_session(file, "cpu")
    assert [session.threads for session in runtime.sessions] == [1, all_cpus]


def test_threads_follow_the_limit_of_joblib(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quota of a container goes the same way; joblib reads it."""
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert available_cpus() == 1


def test_a_run_with_bound_inputs_equals_a_plain_run(tmp_path: Path) -> None:
    torch.manual_seed(0)
    export(nn.Conv2d(3, 4, 3), tmp_path / "model.onnx", input_shape=(3, 8, 8))
    session = providers.open_session(tmp_path / "model.onnx", "cpu", profile=tmp_path / "nodes")
    images = np.random.default_rng(0).standard_normal((5, 8, 8, 3), np.float32)
    inputs = {"input": images.transpose(0, 3, 1, 2)}  # Not contiguous.
    plain = session.runtime.run(None, {"input": np.ascontiguousarray(inputs["input"])})
    assert np.array_equal(session.run(inputs)[0], plain[0])
    nodes = providers.nodes_by_provider(session)
    assert {node.provider for node in nodes} == {CPU}
    assert [node.operator for node in nodes if node.has_weights] == ["Conv"]


def test_a_failing_run_is_an_error_of_one_sentence(tmp_path: Path) -> None:
    export(nn.Conv2d(3, 4, 3), tmp_path / "model.onnx", input_shape=(3, 8, 8), any_size=True)
    predictor = OnnxPredictor(tmp_path / "model.onnx", "cpu")
    assert predictor(np.zeros((1, 3, 9, 7), np.float32)).shape == (1, 4, 7, 5)
    with pytest.raises(InferenceError, match=r"fails on inputs of shape \(1, 2, 8, 8\): "):
        predictor(np.zeros((1, 2, 8, 8), np.float32))


@pytest.mark.parametrize(("operator", "passes"), [("Shape", True), ("Conv", False)])
def test_a_layer_that_a_named_provider_left_to_another_fails(
    operator: str, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [
        providers.RunNode("first", "Conv", "CUDAExecutionProvider"),
        providers.RunNode("second", operator, CPU),
    ]
    checking = import_module("torchlift.converters.onnx.checker.check")
    monkeypatch.setattr(checking, "nodes_by_provider", lambda _: nodes)
    finding = checking._provider_finding(providers.Session(None, "CUDAExecutionProvider"), "fp32")
    assert finding.passed == passes
    assert "ran 1 of 2 nodes, 50% (1 on CPUExecutionProvider)" in finding.text
    assert ("ran elsewhere: second" in finding.text) != passes


def test_a_file_with_a_fixed_batch_runs_in_pieces(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    export(network, tmp_path / "model.onnx", input_shape=(3, 2, 2), output_kind="logits")
    inputs = np.random.default_rng(0).standard_normal((5, 3, 2, 2), np.float32)
    expected = OnnxPredictor(tmp_path / "model.onnx", "cpu")(inputs)
    model = onnx.load(tmp_path / "model.onnx")
    for size in (1, 2):
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = size
        onnx.save(model, tmp_path / "fixed.onnx")
        actual = OnnxPredictor(tmp_path / "fixed.onnx", "cpu")(inputs)
        # Another batch may sum in another order.
        assert np.allclose(actual, expected, atol=1e-6)
