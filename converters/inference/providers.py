"""Opening an `.onnx` file on an execution provider of ONNX Runtime, or saying why it fails.

When CUDA does not start, ONNX Runtime silently uses the CPU. Here a provider that is requested by
name starts or is an error; only `auto` falls back, and it says so.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime

from ..errors import WriteError, first_line
from .errors import InferenceError, ProviderError
from .metadata import Metadata
from .onnx_weights import missing_weights
from .provider_diagnostics import driver_problem, library_problem, library_remedy, package_remedy
from .provider_options import (
    EXACT_INT8,
    ON_GPU,
    PROVIDERS,
    GraphFacts,
    ProviderChoice,
    engine_cache,
    parse_provider,
    requested_providers,
)
from .threads import available_cpus

#: What `auto` tries, in this order. Not TensorRT, which spends minutes building an engine.
_AUTO = ("cuda", "cpu")

#: What the names of operators with weights contain.
_WITH_WEIGHTS = ("Attention", "Conv", "Gemm", "GRU", "LSTM", "MatMul", "RNN")

# Severities in ONNX Runtime's log.
_WARNING, _FATAL = 2, 4


@dataclass(frozen=True)
class Session:
    """An ONNX Runtime session and the provider that it runs on.

    Attributes:
        runtime: The session.
        provider: The first of its execution providers, such as `CPUExecutionProvider`.
        note: Why `auto` chose this provider, or in which arithmetic OpenVINO computes.
        device_id: The number of the GPU.
    """

    runtime: onnxruntime.InferenceSession
    provider: str
    note: str = ""
    device_id: int = 0

    def run(
        self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
    ) -> list[np.ndarray]:
        """Return the outputs, in the order of the file.

        Inputs and outputs are bound, so that a batch is copied to a GPU once and its outputs are
        copied back once, at the end.

        Args:
            inputs: An array for each input, by name and of the input's dtype.
            outputs: The names of those that are wanted, in this order; all by default.

        Raises:
            InferenceError: If ONNX Runtime cannot run inputs of this shape.
        """
        try:
            binding = self.runtime.io_binding()
            for name, array in inputs.items():
                binding.bind_cpu_input(name, np.asarray(array, order="C"))
            for name in outputs or [output.name for output in self.runtime.get_outputs()]:
                binding.bind_output(name, self.device, self.device_id)
            self.runtime.run_with_iobinding(binding)
            return list(binding.copy_outputs_to_cpu())
        except Exception as error:  # ONNX Runtime's errors share no other base class.
            shapes = ", ".join(str(array.shape) for array in inputs.values())
            reason = first_line(error)
            if "Failed to allocate memory" in str(error):
                reason = f"{self.device} has too little memory for them; run smaller batches"
            raise InferenceError(
                f"ONNX Runtime fails on inputs of shape {shapes}: {reason}"
            ) from error

    @property
    def device(self) -> str:
        """Where its outputs are computed: `cpu` or `cuda`."""
        return "cuda" if self.provider in [PROVIDERS[name] for name in ON_GPU] else "cpu"


def open_session(
    file: str | os.PathLike[str],
    provider: str = "auto",
    threads: int | None = None,
    profile: str | os.PathLike[str] | None = None,
) -> Session:
    """Open an `.onnx` file on an execution provider.

    Args:
        file: The exported model.
        provider: `cpu`, `cuda`, `tensorrt`, `openvino`, or `auto`: CUDA if it starts, otherwise
            the CPU. `cuda:1` is the second GPU; `openvino:bf16` computes in bfloat16.
        threads: How many threads work on one operator; by default one for each processor that
            this process may use.
        profile: Prefix of a file in which ONNX Runtime records the nodes that it runs.

    Raises:
        ProviderError: If the provider is unknown or does not start; the message says why, and what
            to do.
        InferenceError: If ONNX Runtime cannot load the file, or its weights are in a file that is
            missing or cut.
    """
    choice = parse_provider(provider)
    if not Path(file).is_file():
        raise InferenceError(f"{os.fspath(file)}: no such file")
    if problem := missing_weights(Path(file)):
        raise InferenceError(f"{os.fspath(file)}: {problem}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cpus()
    options.add_session_config_entry(*EXACT_INT8)
    # Its errors are raised too; its log would show names from the file as they are.
    options.log_severity_level = _FATAL
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = os.fspath(profile)
    if choice.name != "auto":
        try:
            return _start(os.fspath(file), choice, options)
        except ProviderError as error:
            remedy = "; provider='cpu' runs on the CPU" if choice.name in _AUTO[:-1] else ""
            raise ProviderError(f"{error}{remedy}") from error
    if driver_problem():
        session = _start(os.fspath(file), ProviderChoice("cpu"), options)
        return replace(session, note="runs on the CPU: no NVIDIA GPU here")
    problems = []
    for name in _AUTO:
        try:
            session = _start(os.fspath(file), parse_provider(name), options)
        except ProviderError as error:
            problems.append(str(error))
        else:
            note = f"runs on {session.provider}: {'; '.join(problems)}" if problems else ""
            return replace(session, note=note)
    raise ProviderError("; ".join(problems))


@dataclass(frozen=True)
class RunNode:
    """A node that ONNX Runtime has run.

    Attributes:
        name: Its name, or that of the nodes which it was fused from.
        operator: Its operator, which may be one of ONNX Runtime's own, such as `FusedConv`.
        provider: The execution provider that ran it.
    """

    name: str
    operator: str
    provider: str

    @property
    def has_weights(self) -> bool:
        """Whether it is a layer with weights, where most of the time goes."""
        return any(word in self.operator for word in _WITH_WEIGHTS)


def nodes_by_provider(session: Session) -> list[RunNode]:
    """Return the nodes that each provider has run, in a session opened with `profile`.

    This ends the recording, so that its file stays small.

    Raises:
        WriteError: If ONNX Runtime could not write the whole recording, of which it says nothing.
    """
    file = Path(session.runtime.end_profiling())
    try:
        events = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise WriteError(
            f"{file}: ONNX Runtime's record of the nodes that it ran is cut: is the disk full?"
        ) from None
    nodes = {
        RunNode(
            event["name"].removesuffix("_kernel_time"),
            event["args"].get("op_name", ""),
            event["args"]["provider"],
        )
        for event in events
        if event.get("cat") == "Node" and event.get("args", {}).get("provider")
    }
    return sorted(nodes, key=lambda node: node.name)


def provider_problem(provider: str) -> str | None:
    """Return why a provider does not start on this machine and what to do, or None if it starts.

    The answer comes from a convolution that runs on it: some libraries are loaded that late.

    Args:
        provider: As for `open_session`, but not `auto`.

    Raises:
        ProviderError: If no provider has this name.

    Example:
        >>> print(provider_problem("cpu"))
        None
    """
    choice = parse_provider(provider)
    if problem := _known_problem(choice):
        return problem
    try:
        session = _start(_convolution(), choice, onnxruntime.SessionOptions())
        (output,) = session.run({"x": np.full((1, 1, 4, 4), 2, np.float32)})
    except InferenceError as error:
        return str(error).removeprefix(f"{choice.name} does not start: ")
    if not np.array_equal(output, np.full((1, 1, 2, 2), 18, np.float32)):
        return f"a convolution gives {output.ravel().tolist()}, where 18 was expected"
    return None


def _known_problem(choice: ProviderChoice) -> str | None:
    """Return a problem that shows before a session is opened, which would log pages."""
    if PROVIDERS[choice.name] not in onnxruntime.get_available_providers():
        remedy = package_remedy("openvino" if choice.name == "openvino" else "gpu")
        return f"the installed ONNX Runtime has no {PROVIDERS[choice.name]}; {remedy}"
    return driver_problem() if choice.name in ON_GPU else None


def _start(
    model: str | bytes, choice: ProviderChoice, options: onnxruntime.SessionOptions
) -> Session:
    """Open a session on a provider, and check that it is the one that started."""
    if problem := _known_problem(choice):
        raise ProviderError(f"{choice.name} does not start: {problem}")
    runtime = _create(model, choice, options)
    started = runtime.get_providers()[0]
    if started != PROVIDERS[choice.name]:
        problem = library_problem(PROVIDERS[choice.name])
        raise ProviderError(
            f"{choice.name} does not start: {problem}; {library_remedy(choice.name)}"
        )
    note = f"OpenVINO computes in {choice.precision}" if choice.name == "openvino" else ""
    return Session(runtime, started, note, choice.device)


def _create(
    model: str | bytes, choice: ProviderChoice, options: onnxruntime.SessionOptions
) -> onnxruntime.InferenceSession:
    with _quiet():
        if choice.name == "tensorrt":
            # Its only switch for TF32, which must be set before the libraries are loaded.
            os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
        if choice.name in ON_GPU:
            # ONNX Runtime can use the CUDA libraries that torch's wheels bring.
            onnxruntime.preload_dlls()
        try:
            is_file = isinstance(model, str) and choice.name == "tensorrt"
            facts = _graph_facts(Path(str(model))) if is_file else None
            runtime = onnxruntime.InferenceSession(
                model,
                options,
                providers=requested_providers(choice, options.intra_op_num_threads, facts),
            )
        except Exception as error:  # ONNX Runtime's errors share no other base class.
            reason = first_line(error)
            name = model if isinstance(model, str) else choice.name
            raise InferenceError(f"{name}: ONNX Runtime cannot load it: {reason}") from error
    # Otherwise a run that fails on the GPU would silently be repeated on the CPU.
    runtime.disable_fallback()
    return runtime


def _graph_facts(file: Path) -> GraphFacts:
    """Return what TensorRT must know of a file; a session on the CPU tells."""
    cache = engine_cache(file)
    cache.mkdir(parents=True, exist_ok=True)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    runtime = onnxruntime.InferenceSession(file, options, providers=[PROVIDERS["cpu"]])
    props = runtime.get_modelmeta().custom_metadata_map
    return GraphFacts(
        [(value.name, value.shape) for value in runtime.get_inputs()],
        Metadata.from_props(props).precision or "fp32",
        cache,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what ONNX Runtime prints and logs while it starts off both streams."""
    onnxruntime.set_default_logger_severity(_FATAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        onnxruntime.set_default_logger_severity(_WARNING)


def _convolution() -> bytes:
    """Return a network that every provider can run: sums of 3×3 values."""
    from onnx import TensorProto, helper

    free = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 4])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 2, 2])
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 3, 3], [1.0] * 9)
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "convolution", [free], [output], [weight])
    opset = helper.make_operatorsetid("", 18)
    data: bytes = helper.make_model(graph, ir_version=8, opset_imports=[opset]).SerializeToString()
    return data
