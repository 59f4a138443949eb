"""`torchlift doctor`."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Group

from .describe import metadata_view
from .result import CommandResult

#: The packages that a problem report should name.
_PACKAGES = (
    "torchlift",
    "torch",
    "torchvision",
    "numpy",
    "onnx",
    "onnxscript",
    "onnxruntime-gpu",
    "onnxruntime",
    "safetensors",
    "pillow",
    "jsonargparse",
    "rich",
)

#: What Linux calls the instructions for 8-bit dot products on x86 and ARM.
_DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8", "asimddp", "i8mm"}


def doctor() -> CommandResult:
    """Tell what this machine has: versions, devices, and which ONNX providers really start.

    Exit code 1 when not even the CPU can run an exported model.
    """
    import torch

    from ..converters.inference import PROVIDERS, provider_problem
    from ..converters.inference.threads import affinity, available_cpus, cpu_quota

    problems = {name: provider_problem(name) for name in PROVIDERS}
    devices = ["cpu"] + [
        f"cuda:{index} {torch.cuda.get_device_name(index)}"
        for index in range(torch.cuda.device_count())
    ]
    data: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "threads": available_cpus(),
        "processors_allowed": affinity(),
        "container_quota": cpu_quota() or "none",
        "int8_dot_products": _dot_products(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "torch_devices": devices,
        "onnx_providers": {name: problem or "starts" for name, problem in problems.items()},
    }
    packages = {name: version for name, version in data["packages"].items() if version}
    machine = {name: value for name, value in data.items() if not isinstance(value, dict)}
    providers = {f"onnx {name}": said for name, said in data["onnx_providers"].items()}
    view = Group(metadata_view(machine), "", metadata_view(providers), "", metadata_view(packages))
    return CommandResult(data, view, passed=problems["cpu"] is None)


def _dot_products() -> str:
    """The processor's instructions for 8-bit dot products, which quantized networks live on."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return "not known on this system"
    return ", ".join(sorted(flags & _DOT_PRODUCTS)) or "none: int8 will hardly be faster"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
