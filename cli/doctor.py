"""`torchlift doctor`."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Group

from ..converters.requirements import is_installed
from .describe import metadata_view
from .result import CommandResult

#: The packages that a problem report should name.
_PACKAGES = (
    *("torchlift", "torch", "torchvision", "numpy", "onnx", "onnxscript", "onnxruntime"),
    *("onnxruntime-gpu", "onnxruntime-openvino", "safetensors", "pillow", "jsonargparse", "rich"),
)

#: What Linux calls the instructions for 8-bit dot products on x86 and ARM.
_DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8", "asimddp", "i8mm"}


def doctor() -> CommandResult:
    """Show versions and devices, and test which ONNX Runtime providers start.

    The exit code is 1 if not even the CPU can run an exported model.
    """
    providers = _providers()
    problems = _problems()
    data: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": _cpus(),
        "int8_dot_products": _dot_products(),
        "torch_devices": _torch_devices(),
        "onnx_telemetry": _telemetry(),
        "providers": providers,
        "packages": [{"package": name, "version": _version(name)} for name in _PACKAGES],
        "problems": problems,
    }
    machine = {name: value for name, value in data.items() if name not in _OWN_LINES}
    machine["int8_dot_products"] = data["int8_dot_products"] or "none"
    view = Group(
        metadata_view(machine),
        "",
        metadata_view(
            {f"onnx {one['provider']}": one["problem"] or "starts" for one in providers}
            or {"onnx": f"{_missing()} is not installed: pip install 'torchlift[cpu]'"}
        ),
        "",
        metadata_view({one["package"]: one["version"] for one in data["packages"]}),
        *(f"problem: {text}" for text in problems),
    )
    runs = any(one["provider"] == "cpu" and one["problem"] is None for one in providers)
    return CommandResult(data, view, passed=runs and not problems)


#: Entries that the view shows apart from the others.
_OWN_LINES = ("providers", "packages", "problems")


def _can_infer() -> bool:
    """Return whether `converters.inference` can be imported."""
    return is_installed("onnxruntime") and is_installed("PIL")


def _missing() -> str:
    return "pillow" if is_installed("onnxruntime") else "onnxruntime"


def _providers() -> list[dict[str, str | None]]:
    if not _can_infer():
        return []
    from ..converters.inference import PROVIDERS, provider_problem

    return [{"provider": name, "problem": provider_problem(name)} for name in PROVIDERS]


def _problems() -> list[str]:
    """Return what is wrong with the installation as a whole."""
    if not _can_infer():
        return []
    from ..converters.inference.provider_diagnostics import runtime_conflict

    conflict = runtime_conflict()
    return [] if conflict is None else [conflict]


def _telemetry() -> bool:
    """Return whether ONNX Runtime reports its use to its makers, where it was built to."""
    return os.environ.get("ORT_DISABLE_TELEMETRY") != "1"


def _torch_devices() -> list[str]:
    if not is_installed("torch"):
        return []
    import torch

    count = torch.cuda.device_count()
    names = (torch.cuda.get_device_name(index) for index in range(count))
    return ["cpu", *(f"cuda:{index} {name}" for index, name in enumerate(names))]


def _cpus() -> int | None:
    """Return how many CPUs this process may use; None without the packages that count them."""
    if not (_can_infer() and is_installed("joblib")):
        return None
    from ..converters.inference.threads import available_cpus

    return available_cpus()


def _dot_products() -> list[str]:
    """Return the processor's instructions for 8-bit dot products; int8 is slow without them."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return []
    return sorted(flags & _DOT_PRODUCTS)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
