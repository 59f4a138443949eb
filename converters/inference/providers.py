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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from .errors import InferenceError, ProviderError
from .onnx_weights import missing_weights
from .provider_diagnostics import driver_problem, library_problem, library_remedy, package_remedy
from .threads import available_cpus

#: ONNX Runtime's names of the execution providers, by ours.
PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}

#: What `auto` tries, in this order. Not TensorRT, which spends minutes building an engine.
_AUTO = ("cuda", "cpu")

#: A provider and those that run the nodes it leaves. TF32 would round products to 10 bits.
_PROVIDERS_WITH_FALLBACK: dict[str, list[str | tuple[str, dict[str, Any]]]] = {
    "tensorrt": [PROVIDERS["tensorrt"], (PROVIDERS["cuda"], {"use_tf32": 0}), PROVIDERS["cpu"]],
    "cuda": [(PROVIDERS["cuda"], {"use_tf32": 0}), PROVIDERS["cpu"]],
    "cpu": [PROVIDERS["cpu"]],
}

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
        note: Why `auto` chose this provider; empty if it did not fall back.
    """

    runtime: onnxruntime.InferenceSession
    provider: str
    note: str = ""

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
                binding.bind_cpu_input(name, np.ascontiguousarray(array))
            for name in outputs or [output.name for output in self.runtime.get_outputs()]:
                binding.bind_output(name, self.device)
            self.runtime.run_with_iobinding(binding)
            return list(binding.copy_outputs_to_cpu())
        except Exception as error:  # ONNX Runtime's errors share no other base class.
            shapes = ", ".join(str(array.shape) for array in inputs.values())
            reason = str(error).splitlines()[0]
            raise InferenceError(
                f"ONNX Runtime fails on inputs of shape {shapes}: {reason}"
            ) from error

    @property
    def device(self) -> str:
        """Where its outputs are computed: `cpu` or `cuda`."""
        return "cpu" if self.provider == PROVIDERS["cpu"] else "cuda"


def open_session(
    file: str | os.PathLike[str],
    provider: str = "auto",
    threads: int | None = None,
    profile: str | os.PathLike[str] | None = None,
) -> Session:
    """Open an `.onnx` file on an execution provider.

    Args:
        file: The exported model.
        provider: `cpu`, `cuda`, `tensorrt`, or `auto`: CUDA if it starts, otherwise the CPU.
        threads: How many threads work on one operator; by default one for each processor that
            this process may use.
        profile: Prefix of a file in which ONNX Runtime records the nodes that it runs.

    Raises:
        ProviderError: If the provider is unknown or does not start; the message says why, and what
            to do.
        InferenceError: If ONNX Runtime cannot load the file, or its weights are in a file that is
            missing or cut.
    """
    if not Path(file).is_file():
        raise InferenceError(f"{os.fspath(file)}: no such file")
    if problem := missing_weights(Path(file)):
        raise InferenceError(f"{os.fspath(file)}: {problem}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cpus()
    # Its errors are raised too; its log would show names from the file as they are.
    options.log_severity_level = _FATAL
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = os.fspath(profile)
    if provider != "auto":
        try:
            return _start(os.fspath(file), provider, options)
        except ProviderError as error:
            remedy = "; provider='cpu' runs on the CPU" if provider in _AUTO[:-1] else ""
            raise ProviderError(f"{error}{remedy}") from error
    if driver_problem():
        session = _start(os.fspath(file), "cpu", options)
        return Session(session.runtime, session.provider, "runs on the CPU: no NVIDIA GPU here")
    problems = []
    for name in _AUTO:
        try:
            session = _start(os.fspath(file), name, options)
        except ProviderError as error:
            problems.append(str(error))
        else:
            note = f"runs on {session.provider}: {'; '.join(problems)}" if problems else ""
            return Session(session.runtime, session.provider, note)
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
    """
    text = Path(session.runtime.end_profiling()).read_text(encoding="utf-8")
    nodes = {
        RunNode(
            event["name"].removesuffix("_kernel_time"),
            event["args"].get("op_name", ""),
            event["args"]["provider"],
        )
        for event in json.loads(text)
        if event.get("cat") == "Node" and event.get("args", {}).get("provider")
    }
    return sorted(nodes, key=lambda node: node.name)


def provider_problem(provider: str) -> str | None:
    """Return why a provider does not start on this machine and what to do, or None if it starts.

    The answer comes from a network of one node that is opened on it.

    Args:
        provider: `cpu`, `cuda` or `tensorrt`.

    Raises:
        ProviderError: If no provider has this name.

    Example:
        >>> print(provider_problem("cpu"))
        None
    """
    if problem := _known_problem(provider):
        return problem
    try:
        _start(_one_node(), provider, onnxruntime.SessionOptions())
    except InferenceError as error:
        return str(error).removeprefix(f"{provider} does not start: ")
    return None


def _known_problem(provider: str) -> str | None:
    """Return a problem that shows before a session is opened, which would log pages."""
    if provider not in PROVIDERS:
        raise ProviderError(f"no provider {provider!r}: choose auto, {', '.join(PROVIDERS)}")
    if PROVIDERS[provider] not in onnxruntime.get_available_providers():
        return f"the installed ONNX Runtime has no {PROVIDERS[provider]}; {package_remedy()}"
    return None if provider == "cpu" else driver_problem()


def _start(model: str | bytes, provider: str, options: onnxruntime.SessionOptions) -> Session:
    """Open a session on a provider, and check that it is the one that started."""
    if problem := _known_problem(provider):
        raise ProviderError(f"{provider} does not start: {problem}")
    runtime = _create(model, provider, options)
    started = runtime.get_providers()[0]
    if started != PROVIDERS[provider]:
        problem = library_problem(PROVIDERS[provider])
        raise ProviderError(f"{provider} does not start: {problem}; {library_remedy(provider)}")
    return Session(runtime, started)


def _create(
    model: str | bytes, provider: str, options: onnxruntime.SessionOptions
) -> onnxruntime.InferenceSession:
    with _quiet():
        if provider != "cpu":
            # ONNX Runtime can use the CUDA libraries that torch's wheels bring.
            onnxruntime.preload_dlls()
        try:
            runtime = onnxruntime.InferenceSession(
                model, options, providers=_PROVIDERS_WITH_FALLBACK[provider]
            )
        except Exception as error:  # ONNX Runtime's errors share no other base class.
            reason = str(error).splitlines()[0]
            name = model if isinstance(model, str) else provider
            raise InferenceError(f"{name}: ONNX Runtime cannot load it: {reason}") from error
    # Otherwise a run that fails on the GPU would silently be repeated on the CPU.
    runtime.disable_fallback()
    return runtime


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what ONNX Runtime prints and logs while it starts off both streams."""
    onnxruntime.set_default_logger_severity(_FATAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        onnxruntime.set_default_logger_severity(_WARNING)


def _one_node() -> bytes:
    """Return a network that every provider can run."""
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    node = helper.make_node("Add", ["x", "x"], ["y"])
    graph = helper.make_graph([node], "one", values[:1], values[1:])
    opset = helper.make_operatorsetid("", 18)
    data: bytes = helper.make_model(graph, ir_version=8, opset_imports=[opset]).SerializeToString()
    return data
