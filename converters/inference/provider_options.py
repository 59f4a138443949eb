"""What ONNX Runtime is told about an execution provider: the device, the arithmetic, its caches."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ProviderError

#: Processors without VNNI add pairs of 8-bit products in 16 bits, which overflow where weights have
#: all 8 bits; with this entry of its configuration, ONNX Runtime takes a slower way for those.
EXACT_INT8 = ("session.x64quantprecision", "1")

#: ONNX Runtime's names of the execution providers, by ours.
PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}

#: Those that run on a GPU of NVIDIA.
ON_GPU = ("cuda", "tensorrt")

#: The arithmetic that OpenVINO can be asked for, by name.
PRECISIONS = ("f32", "bf16")

#: The batches that TensorRT builds one engine for: the smallest, the usual and the largest.
_BATCHES = (1, 32, 128)

#: What may stand behind a GPU's provider: its number and a limit of memory, such as `:1:4G`.
_ON_GPU = re.compile(r"(?::(\d{1,3}))?(?::([1-9]\d{0,5})([MG]))?", re.ASCII)

#: A provider with its options, as ONNX Runtime takes it.
Requested = str | tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class ProviderChoice:
    """A provider as it is asked for.

    Attributes:
        name: One of `PROVIDERS`, or `auto`.
        device: The number of the GPU.
        precision: The arithmetic, for OpenVINO: `f32` or `bf16`.
        memory: How many bytes of the GPU's memory tensors may take; 0 for all of it.
    """

    name: str
    device: int = 0
    precision: str = "f32"
    memory: int = 0


@dataclass(frozen=True)
class GraphFacts:
    """What TensorRT must know of a file before it builds an engine.

    Attributes:
        inputs: Name and shape of each input; a free axis is not a number.
        precision: The arithmetic in the file: `fp32`, `fp16` or `int8`.
        cache: The folder of its engines.
    """

    inputs: Sequence[tuple[str, Sequence[Any]]]
    precision: str
    cache: Path


def parse_provider(text: str) -> ProviderChoice:
    """Read a provider: `auto`, a name, `cuda:1`, `cuda:1:4G` and `cuda:4G`, or `openvino:bf16`.

    `tensorrt` takes what `cuda` takes. `4G` is the most memory of the GPU that is used.

    Raises:
        ProviderError: If there is no such provider, device or arithmetic.

    Example:
        >>> parse_provider("cuda:1:4G")
        ProviderChoice(name='cuda', device=1, precision='f32', memory=4294967296)
    """
    name, _, detail = text.partition(":") if isinstance(text, str) else ("", "", "")
    if name != "auto" and name not in PROVIDERS:
        raise ProviderError(f"no provider {text!r}: choose auto, {', '.join(PROVIDERS)}")
    if name in ON_GPU and (found := _ON_GPU.fullmatch(text.removeprefix(name))):
        device, amount, unit = found.groups()
        memory = int(amount) << {"M": 20, "G": 30}[unit] if amount else 0
        return ProviderChoice(name, int(device) if device else own_device(), memory=memory)
    if text == name:
        return ProviderChoice(name)
    if name == "openvino" and detail in PRECISIONS:
        return ProviderChoice(name, precision=detail)
    others = {"openvino": ["openvino:bf16"]} | {gpu: [f"{gpu}:1", f"{gpu}:1:4G"] for gpu in ON_GPU}
    allowed = " or ".join([name, *others.get(name, [])])
    raise ProviderError(f"no provider {text!r}: choose {allowed}")


def own_device() -> int:
    """Return the GPU of this process: each that torchrun starts on a machine has its own."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def requested_providers(
    choice: ProviderChoice, threads: int = 0, facts: GraphFacts | None = None
) -> list[Requested]:
    """Return a provider and those that run the nodes it leaves, with their options.

    The options keep the numbers those of single precision, and the same from run to run.

    Args:
        choice: The provider.
        threads: How many threads work on one operator, for OpenVINO; 0 for its own choice.
        facts: The file, for TensorRT.
    """
    cpu = PROVIDERS["cpu"]
    if choice.name == "tensorrt":
        return [(PROVIDERS["tensorrt"], _tensorrt(choice, facts)), (_CUDA, _cuda(choice)), cpu]
    if choice.name == "cuda":
        return [(_CUDA, _cuda(choice)), cpu]
    if choice.name == "openvino":
        return [(PROVIDERS["openvino"], _openvino(choice, threads)), cpu]
    return [cpu]


_CUDA = PROVIDERS["cuda"]


def _cuda(choice: ProviderChoice) -> dict[str, Any]:
    limit = {"gpu_mem_limit": choice.memory} if choice.memory else {}
    return limit | {
        "device_id": choice.device,
        # TF32 would round products to 10 bits.
        "use_tf32": 0,
        # The default tries every algorithm for each new shape, such as that of a last batch.
        "cudnn_conv_algo_search": "HEURISTIC",
        # The default doubles what it takes of the GPU's memory each time that it needs more.
        "arena_extend_strategy": "kSameAsRequested",
    }


def _tensorrt(choice: ProviderChoice, facts: GraphFacts | None) -> dict[str, Any]:
    options: dict[str, Any] = {"device_id": choice.device}
    if choice.memory:
        options["trt_max_workspace_size"] = choice.memory
    if facts is None:
        return options
    options |= {
        "trt_fp16_enable": facts.precision == "fp16",
        "trt_int8_enable": facts.precision == "int8",
        # An engine takes minutes to build: other processes, and other batches, use the same.
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": os.fspath(facts.cache),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": os.fspath(facts.cache.parent),
    }
    has_batch = all(
        shape and not isinstance(shape[0], int) and all(isinstance(size, int) for size in shape[1:])
        for _, shape in facts.inputs
    )
    if has_batch:
        for bound, batch in zip(("min", "opt", "max"), _BATCHES, strict=True):
            options[f"trt_profile_{bound}_shapes"] = ",".join(
                f"{name}:{'x'.join(map(str, (batch, *shape[1:])))}" for name, shape in facts.inputs
            )
    return options


def _openvino(choice: ProviderChoice, threads: int) -> dict[str, Any]:
    # Without a hint it computes in bfloat16 on processors that have it.
    options: dict[str, Any] = {
        "device_type": "CPU",
        "load_config": json.dumps({"CPU": {"INFERENCE_PRECISION_HINT": choice.precision}}),
    }
    return options | ({"num_of_threads": str(threads)} if threads else {})


def engine_cache(file: Path) -> Path:
    """Return the folder for the engines that TensorRT builds from a file.

    It is in the user's folder for caches, and belongs to these bytes alone: engines are looked up
    by the graph, which another training of the same network shares.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Path(home) / "torchlift" / "tensorrt" / digest[:16]
