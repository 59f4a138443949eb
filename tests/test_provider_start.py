"""How a session is opened and what it tells, on a fake ONNX Runtime: each rule by itself."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_onnx_providers import CPU, CUDA, OPENVINO, TENSORRT, Runtime, machine

from torchlift.converters.errors import WriteError
from torchlift.converters.inference import InferenceError, ProviderError, providers
from torchlift.converters.inference.provider_options import (
    GraphFacts,
    ProviderChoice,
    parse_provider,
    requested_providers,
)
from torchlift.converters.inference.providers import RunNode, Session, nodes_by_provider
from torchlift.converters.inference.threads import available_cpus

EVERY = [TENSORRT, CUDA, OPENVINO, CPU]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "model.onnx").touch()
    return tmp_path / "model.onnx"


@pytest.mark.parametrize(
    ("provider", "device"), [(CPU, "cpu"), (OPENVINO, "cpu"), (CUDA, "cuda"), (TENSORRT, "cuda")]
)
def test_outputs_are_where_the_provider_computes(provider: str, device: str) -> None:
    bound = []

    class Binding:
        def bind_cpu_input(self, name: str, array: np.ndarray) -> None:
            bound.append((name, array.flags.c_contiguous, array.shape))

        def bind_output(self, *place: Any) -> None:
            bound.append(place)

        def copy_outputs_to_cpu(self) -> list[np.ndarray]:
            return [np.ones(2)]

    outputs = [SimpleNamespace(name="y"), SimpleNamespace(name="z")]
    runtime = SimpleNamespace(
        io_binding=Binding, run_with_iobinding=lambda _: None, get_outputs=lambda: outputs
    )
    session = Session(runtime, provider, device_id=3)
    assert session.device == device
    # A single number stays one, and no list of one.
    (found,) = session.run({"x": np.ones((3, 2)).T, "n": np.array(7)})
    assert found.tolist() == [1, 1]
    inputs = [("x", True, (2, 3)), ("n", True, ())]
    assert bound == [*inputs, ("y", device, 3), ("z", device, 3)]
    bound.clear()
    session.run({}, ["z"])
    assert bound == [("z", device, 3)]


@pytest.mark.parametrize(
    ("text", "provider", "said"),
    [
        ("[ONNXRuntimeError] : 6 : no such shape\nadvice", CPU, "[ONNXRuntimeError] : 6 : no such"),
        ("a\nFailed to allocate memory for a buffer", CUDA, "cuda has too little memory for them;"),
        ("Failed to allocate memory", CPU, "cpu has too little memory for them; run smaller"),
    ],
)
def test_a_run_that_fails_is_a_sentence_with_the_shapes(
    text: str, provider: str, said: str
) -> None:
    def fail() -> None:
        raise RuntimeError(text)

    session = Session(SimpleNamespace(io_binding=fail), provider)
    with pytest.raises(InferenceError) as caught:
        session.run({"a": np.zeros((2, 3)), "b": np.zeros(5)})
    begin = "ONNX Runtime fails on inputs of shape (2, 3), (5,): "
    assert str(caught.value).startswith(begin + said)
    assert "\n" not in str(caught.value)


def test_nodes_are_those_that_ran_each_once(tmp_path: Path) -> None:
    def event(name: str, category: str = "Node", **args: str) -> dict[str, Any]:
        return {"name": name, "cat": category, "args": args}

    events = [
        event("second_kernel_time", op_name="Conv", provider=CUDA),
        event("first_kernel_time", op_name="Relu", provider=CPU),
        event("second_kernel_time", op_name="Conv", provider=CUDA),
        event("second_fence_before", op_name="Conv"),
        event("model_run", "Session", provider=CPU),
        {"name": "third_kernel_time", "cat": "Node"},
        event("fourth", provider=CPU),
    ]
    (tmp_path / "nodes.json").write_text(json.dumps(events), encoding="utf-8")
    runtime = SimpleNamespace(end_profiling=lambda: str(tmp_path / "nodes.json"))
    assert nodes_by_provider(Session(runtime, CUDA)) == [
        RunNode("first", "Relu", CPU),
        RunNode("fourth", "", CPU),
        RunNode("second", "Conv", CUDA),
    ]


@pytest.mark.parametrize(
    ("shapes", "profile"),
    [
        ([("N", 3), ("M", 2)], "a:1x3,b:1x2"),
        ([("N", 3), (4, 2)], None),
        ([("N", 3), ("N", "L")], None),
        ([("N", 3), ()], None),
    ],
)
def test_an_engine_is_for_batches_if_only_the_batch_of_each_input_is_free(
    shapes: list[tuple[Any, ...]], profile: str | None, tmp_path: Path
) -> None:
    facts = GraphFacts([*zip("ab", shapes, strict=True)], "fp32", tmp_path / "engines")
    (name, options), *_ = requested_providers(parse_provider("tensorrt"), facts=facts)
    assert name == TENSORRT
    assert options.get("trt_profile_min_shapes") == profile


@pytest.mark.parametrize("content", ["", '[{"cat": "Node", "na'])
def test_a_record_that_is_cut_is_a_sentence(content: str, tmp_path: Path) -> None:
    file = tmp_path / "nodes.json"
    file.write_text(content, encoding="utf-8")
    runtime = SimpleNamespace(end_profiling=lambda: str(file))
    with pytest.raises(WriteError, match=r"nodes\.json: .* that it ran is cut: is the disk full"):
        nodes_by_provider(Session(runtime, CPU))


def test_openvino_chooses_how_many_threads_it_has_if_nobody_says() -> None:
    openvino = parse_provider("openvino")
    for threads, said in ((0, None), (1, "1"), (7, "7")):
        (name, options), rest = requested_providers(openvino, threads)
        assert (name, rest) == (OPENVINO, CPU)
        assert options.get("num_of_threads") == said


@pytest.mark.parametrize(
    ("operator", "has_weights"),
    [
        *((name, True) for name in ("Conv", "FusedConv", "ConvTranspose", "Gemm", "MatMul")),
        *((name, True) for name in ("LSTM", "GRU", "RNN", "MatMulInteger", "Attention")),
        *((name, False) for name in ("Relu", "Shape", "Reshape", "MaxPool", "Concat")),
    ],
)
def test_operators_with_weights_are_known_by_their_names(operator: str, has_weights: bool) -> None:
    assert RunNode("n", operator, CPU).has_weights is has_weights


@pytest.mark.parametrize(
    ("name", "has_remedy"), [("cuda", True), ("cuda:1", True), ("tensorrt", False), ("cpu", False)]
)
def test_the_cpu_is_named_where_auto_would_take_it(
    name: str, has_remedy: bool, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, [], [], "there is no NVIDIA driver")
    with pytest.raises(ProviderError) as caught:
        providers.open_session(file, name)
    assert str(caught.value).startswith(f"{name.partition(':')[0]} does not start: ")
    assert str(caught.value).endswith("; provider='cpu' runs on the CPU") is has_remedy


def test_auto_names_all_that_does_not_start(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, [OPENVINO], [], None)
    with pytest.raises(ProviderError) as caught:
        providers.open_session(file, "auto")
    assert str(caught.value).count("does not start: the installed ONNX Runtime has no ") == 2


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("auto", ProviderChoice("auto")),
        ("cpu", ProviderChoice("cpu")),
        ("openvino", ProviderChoice("openvino", precision="f32")),
        ("openvino:bf16", ProviderChoice("openvino", precision="bf16")),
        ("cuda", ProviderChoice("cuda", 5)),
        ("cuda:0", ProviderChoice("cuda", 0)),
        ("cuda:999", ProviderChoice("cuda", 999)),
        ("cuda:999999M", ProviderChoice("cuda", 5, memory=999_999 * 2**20)),
        ("tensorrt:2:1G", ProviderChoice("tensorrt", 2, memory=2**30)),
        *((text, None) for text in ("", "CPU", "cpu:", "cpu:0", "auto:", "openvino:", "cuda: 1")),
        *(
            (f"cuda:{text}", None)
            for text in ("1000", "1:0G", "01G", "1000000M", "4T", "4g", "1:2")
        ),
        *((f"openvino:{text}", None) for text in ("0", "f16", "BF16", "bf16:1")),
        (None, None),
    ],
)
def test_a_provider_is_a_name_with_what_belongs_to_it(
    text: Any, choice: ProviderChoice | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a number it is the GPU of this process."""
    monkeypatch.setenv("LOCAL_RANK", "5")
    if choice is None:
        with pytest.raises(ProviderError, match=f"no provider {text!r}: choose "):
            parse_provider(text)
        return
    assert parse_provider(text) == choice


class Watched(Runtime):
    """Notes what a session was opened with, and in which state ONNX Runtime was."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__(EVERY, EVERY)
        self.fails, self.preloaded, self.opened = fails, 0, list[Any]()

    def preload_dlls(self) -> None:
        self.preloaded += 1

    def InferenceSession(self, file: str, options: Any, providers: list[Any]) -> Any:  # noqa: N802
        self.opened.append((options, self.severities[-1]))
        if self.fails:
            raise RuntimeError("no such operator\nadvice")
        return super().InferenceSession(file, options, providers)


def watched(monkeypatch: pytest.MonkeyPatch, fails: bool = False) -> Watched:
    runtime = Watched(fails)
    monkeypatch.setattr(providers, "onnxruntime", runtime)
    monkeypatch.setattr(providers, "driver_problem", lambda: None)
    return runtime


@pytest.mark.parametrize("fails", [False, True])
def test_onnxruntime_is_quiet_while_it_starts_and_as_before_behind_it(
    fails: bool, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = watched(monkeypatch, fails)
    if fails:
        with pytest.raises(InferenceError, match=r"model\.onnx: .* cannot load it: no such oper"):
            providers.open_session(file, "cpu")
    else:
        providers.open_session(file, "cpu")
    ((options, severity),) = runtime.opened
    fatal, warning = 4, 2
    assert (options.log_severity_level, severity) == (fatal, fatal)
    assert runtime.severities == [fatal, warning]


@pytest.mark.parametrize("profile", [None, "nodes"])
@pytest.mark.parametrize("threads", [None, 3])
def test_a_session_has_the_threads_and_the_recording_that_are_asked_for(
    threads: int | None, profile: str | None, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = watched(monkeypatch)
    providers.open_session(file, "cpu", threads, profile)
    ((options, _),) = runtime.opened
    assert options.intra_op_num_threads == (threads or available_cpus())
    assert options.enable_profiling is (profile is not None)
    if profile:
        assert options.profile_file_prefix == profile


@pytest.mark.parametrize(
    ("name", "loads"), [("cpu", 0), ("openvino", 0), ("cuda", 1), ("tensorrt", 1)]
)
def test_libraries_of_cuda_are_loaded_for_a_gpu_alone(
    name: str, loads: int, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = watched(monkeypatch)
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    providers.open_session(file, name)
    assert runtime.preloaded == loads
    assert os.environ.pop("NVIDIA_TF32_OVERRIDE", None) == ("0" if name == "tensorrt" else None)


def test_who_wants_rounded_products_of_tensorrt_gets_them(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched(monkeypatch)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    providers.open_session(file, "tensorrt")
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "1"
