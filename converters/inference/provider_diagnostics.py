"""Why CUDA or TensorRT does not start on a machine, and what to do."""

from __future__ import annotations

import ctypes
import sys
from importlib import metadata
from pathlib import Path

import onnxruntime


def driver_problem() -> str | None:
    """Why the CUDA driver has no GPU for us (`cuInit`, `cuDeviceGetCount`); None if it has."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    remedy = "run on a machine with an NVIDIA GPU and its driver, or on the CPU"
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        return f"there is no NVIDIA driver ({name} is missing); {remedy}"
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or not count:
        return f"the NVIDIA driver finds no GPU; {remedy}"
    return None


def library_problem(provider: str) -> str:
    """Which shared library keeps a provider's own library from loading.

    Args:
        provider: by ONNX Runtime's name, such as `CUDAExecutionProvider`.
    """
    folder = Path(onnxruntime.__file__).parent / "capi"
    stem = provider.removesuffix("ExecutionProvider").lower()
    try:
        for name in ("shared", stem):
            library = next(folder.glob(f"*onnxruntime_providers_{name}.*"))
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    except StopIteration:
        return f"the library of {provider} is missing from the installation"
    except OSError as error:
        return str(error)
    return f"{provider} refused this device or its driver"


def library_remedy(provider: str) -> str:
    """How to get the libraries that a provider loads.

    Args:
        provider: `cuda` or `tensorrt`.
    """
    built_for = getattr(onnxruntime, "cuda_version", "") or "the CUDA of its release notes"
    release = f"ONNX Runtime {onnxruntime.__version__} is built for CUDA {built_for}"
    if provider == "tensorrt":
        major = built_for.split(".")[0] if built_for[:1].isdigit() else "12"
        return f"{release}: install TensorRT for it (`pip install tensorrt-cu{major}`)"
    return (
        f"{release}: install torch for the same CUDA major version, or "
        "`pip install onnxruntime-gpu[cuda,cudnn]`"
    )


def package_remedy() -> str:
    """Which package of ONNX Runtime to install in the place of the one that is there."""
    if _installed("onnxruntime") and _installed("onnxruntime-gpu"):
        return (
            "onnxruntime and onnxruntime-gpu are both installed and hide each other: "
            "`pip uninstall onnxruntime onnxruntime-gpu`, then `pip install onnxruntime-gpu`"
        )
    return "`pip uninstall onnxruntime`, then `pip install onnxruntime-gpu`"


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
