"""Why CUDA or TensorRT does not start on this machine, and how to fix it."""

from __future__ import annotations

import ctypes
import sys
from importlib import metadata
from pathlib import Path

import onnxruntime

#: The packages that install the module `onnxruntime`.
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")


def driver_problem() -> str | None:
    """Return why the CUDA driver has no GPU (`cuInit`, `cuDeviceGetCount`), or None if it has."""
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
    """Return which shared library keeps a provider's own library from loading.

    Args:
        provider: Its name in ONNX Runtime, such as `CUDAExecutionProvider`.
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
    """Return how to install the libraries that a provider loads.

    Args:
        provider: `cuda`, `tensorrt` or `openvino`.
    """
    if provider == "openvino":
        return "`pip install --force-reinstall onnxruntime-openvino`"
    version = getattr(onnxruntime, "cuda_version", "")
    built_for = f"CUDA {version}" if version else "the CUDA of its release notes"
    release = f"ONNX Runtime {onnxruntime.__version__} is built for {built_for}"
    if provider == "tensorrt":
        major = version.split(".")[0] if version[:1].isdigit() else "12"
        return f"{release}: install TensorRT for it (`pip install tensorrt-cu{major}`)"
    return (
        f"{release}: install torch for the same CUDA major version, or "
        "`pip install onnxruntime-gpu[cuda,cudnn]`"
    )


def package_remedy(kind: str = "gpu") -> str:
    """Return how to replace the installed ONNX Runtime by the one with a provider.

    Args:
        kind: `gpu` or `openvino`.
    """
    if conflict := runtime_conflict():
        return conflict
    return f"`pip uninstall onnxruntime`, then `pip install onnxruntime-{kind}`"


def runtime_conflict() -> str | None:
    """Return which packages of ONNX Runtime overwrite each other and what to do, or None."""
    installed = [package for package in _RUNTIMES if _is_installed(package)]
    if len(installed) < 2:
        return None
    both = "both" if len(installed) == 2 else "all"
    return (
        f"{' and '.join(installed)} are {both} installed and overwrite each other: "
        f"`pip uninstall {' '.join(installed)}`, then `pip install` one of them"
    )


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
