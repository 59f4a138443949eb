"""Which execution provider of ONNX Runtime runs a model, and why not another.

ONNX Runtime goes on with the CPU in silence when CUDA does not start. Here a provider that was
named starts or is an error; only `auto` may fall back, and it says so.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from .errors import InferenceError, ProviderError
from .provider_diagnostics import driver_problem, library_problem, library_remedy, package_remedy
from .threads import available_cpus

#: Our names for the execution providers.
PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}

#: What `auto` tries. TensorRT is only for who asks: it builds an engine for minutes.
_AUTO = ("cuda", "cpu")

#: A provider may leave nodes to the ones after it. TF32 would round products to 10 bits.
_WITH: dict[str, list[str | tuple[str, dict[str, Any]]]] = {
    "tensorrt": [PROVIDERS["tensorrt"], (PROVIDERS["cuda"], {"use_tf32": 0}), PROVIDERS["cpu"]],
    "cuda": [(PROVIDERS["cuda"], {"use_tf32": 0}), PROVIDERS["cpu"]],
    "cpu": [PROVIDERS["cpu"]],
}

# Severities of ONNX Runtime's log.
_WARNING, _ERROR, _FATAL = 2, 3, 4


@dataclass(frozen=True)
class Session:
    """An ONNX Runtime session and what it really runs on.

    Attributes:
        runtime: the session.
        provider: the first of its execution providers, such as `CPUExecutionProvider`.
        note: why `auto` took this one; empty where nothing was fallen back from.
    """

    runtime: onnxruntime.InferenceSession
    provider: str
    note: str = ""

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs, in the order of the file.

        Inputs and outputs are bound to their places, so that a GPU gets each batch once and gives
        its outputs back once, at the end.

        Args:
            inputs: an array for each input, by name and in its number type.
        """
        binding = self.runtime.io_binding()
        for name, array in inputs.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        for output in self.runtime.get_outputs():
            binding.bind_output(output.name, self.device)
        self.runtime.run_with_iobinding(binding)
        return list(binding.copy_outputs_to_cpu())

    @property
    def device(self) -> str:
        """Where its outputs are made: `cpu` or `cuda`."""
        return "cpu" if self.provider == PROVIDERS["cpu"] else "cuda"


def open_session(
    file: str | os.PathLike[str],
    provider: str = "auto",
    threads: int | None = None,
    profile: str | os.PathLike[str] | None = None,
) -> Session:
    """Open an `.onnx` file on an execution provider.

    Args:
        file: the exported model.
        provider: `cpu`, `cuda`, `tensorrt`, or `auto`: CUDA where it starts, else the CPU.
        threads: how many work on one operator; by default all that this process may use.
        profile: prefix of a file in which ONNX Runtime notes what it runs.

    Raises:
        ProviderError: when the provider is unknown, or was named and does not start; the message
            has the reason and the remedy.
        InferenceError: when ONNX Runtime cannot load the file.
    """
    if not Path(file).is_file():
        raise InferenceError(f"{os.fspath(file)}: no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cpus()
    options.log_severity_level = _ERROR
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = os.fspath(profile)
    if provider != "auto":
        return _start(os.fspath(file), provider, options)
    if driver_problem():
        session = _start(os.fspath(file), "cpu", options)
        return Session(session.runtime, session.provider, "runs on the CPU: no NVIDIA GPU here")
    reasons = []
    for name in _AUTO:
        try:
            session = _start(os.fspath(file), name, options)
        except ProviderError as error:
            reasons.append(str(error))
        else:
            note = f"runs on {session.provider}: {'; '.join(reasons)}" if reasons else ""
            return Session(session.runtime, session.provider, note)
    raise ProviderError("; ".join(reasons))


def nodes_by_provider(session: Session) -> Counter[str]:
    """How many nodes each provider has run in a session that was opened with `profile`.

    ONNX Runtime's notes end here, so that they stay small.
    """
    events = json.loads(Path(session.runtime.end_profiling()).read_text())
    nodes = {
        (event["args"]["provider"], event["name"])
        for event in events
        if event.get("cat") == "Node" and event.get("args", {}).get("provider")
    }
    return Counter(provider for provider, _ in nodes)


def provider_problem(provider: str) -> str | None:
    """Why a provider does not start on this machine, with the remedy; `None` where it does.

    It is tried, with a network of one node.

    Args:
        provider: `cpu`, `cuda` or `tensorrt`.

    Raises:
        ProviderError: when there is no provider of this name.
    """
    if problem := _known_problem(provider):
        return problem
    try:
        _start(_one_node(), provider, onnxruntime.SessionOptions())
    except InferenceError as error:
        return str(error).removeprefix(f"{provider} does not start: ")
    return None


def _known_problem(provider: str) -> str | None:
    """What can be told before a session is tried, which would log pages."""
    if provider not in PROVIDERS:
        raise ProviderError(f"no provider {provider!r}: choose auto, {', '.join(PROVIDERS)}")
    if PROVIDERS[provider] not in onnxruntime.get_available_providers():
        return f"the installed ONNX Runtime has no {PROVIDERS[provider]}; {package_remedy()}"
    return None if provider == "cpu" else driver_problem()


def _start(model: str | bytes, provider: str, options: onnxruntime.SessionOptions) -> Session:
    if problem := _known_problem(provider):
        raise ProviderError(f"{provider} does not start: {problem}")
    wanted = PROVIDERS[provider]
    runtime = _create(model, provider, options)
    started = runtime.get_providers()[0]
    if started != wanted:
        raise ProviderError(
            f"{provider} does not start: {library_problem(wanted)}; {library_remedy(provider)}"
        )
    return Session(runtime, started)


def _create(
    model: str | bytes, provider: str, options: onnxruntime.SessionOptions
) -> onnxruntime.InferenceSession:
    with _quiet():
        if provider != "cpu":
            # The CUDA libraries of torch's own wheels serve ONNX Runtime too.
            onnxruntime.preload_dlls()
        try:
            runtime = onnxruntime.InferenceSession(model, options, providers=_WITH[provider])
        except Exception as error:  # ONNX Runtime's errors share no other base class.
            reason = str(error).splitlines()[0]
            name = model if isinstance(model, str) else provider
            raise InferenceError(f"{name}: ONNX Runtime cannot load it: {reason}") from error
    # Otherwise a failing run would go on with the CPU, in silence.
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
    """A network that any provider can run."""
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    node = helper.make_node("Add", ["x", "x"], ["y"])
    graph = helper.make_graph([node], "one", values[:1], values[1:])
    opset = helper.make_operatorsetid("", 18)
    data: bytes = helper.make_model(graph, ir_version=8, opset_imports=[opset]).SerializeToString()
    return data
