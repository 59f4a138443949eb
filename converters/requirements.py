"""Which extra of torchlift installs a package that is missing."""

from __future__ import annotations

from importlib.util import find_spec

from .errors import TorchliftError

#: The extra that installs each package that torchlift imports beside its base.
_EXTRAS = {
    **dict.fromkeys(
        (
            *(
                "accelerate",
                "huggingface_hub",
                "jinja2",
                "joblib",
                "markdown_it",
                "matplotlib",
                "onnx",
                "onnx_ir",
            ),
            *("onnxruntime", "onnxscript", "PIL", "sklearn", "tensorboard", "torch"),
            *("torchvision", "zarr"),
        ),
        "cpu",
    ),
    **dict.fromkeys(("aiohttp", "fsspec", "pandas", "pyarrow"), "data"),
    **dict.fromkeys(("timm", "transformers"), "networks"),
    **dict.fromkeys(
        ("fastapi", "httptools", "prometheus_client", "python_multipart", "starlette", "uvicorn"),
        "serve",
    ),
}

#: The name of a package on PyPI, if it differs from the name that is imported.
_PIP_NAMES = {
    "PIL": "pillow",
    "huggingface_hub": "huggingface-hub",
    "markdown_it": "markdown-it-py",
    "onnx_ir": "onnx-ir",
    "prometheus_client": "prometheus-client",
    "python_multipart": "python-multipart",
    "sklearn": "scikit-learn",
}


class MissingPackageError(TorchliftError, ImportError):
    """A part of torchlift whose packages are not installed; the message names the extra."""


def require(feature: str, *packages: str) -> None:
    """Check that packages are installed, without importing them.

    Args:
        feature: What needs them, such as `torchlift.converters.modules`.
        packages: The names under which they are imported.

    Raises:
        MissingPackageError: If one is missing.

    Example:
        >>> require("this example", "numpy")
    """
    for package in packages:
        if not is_installed(package):
            raise missing_package(feature, package)


def is_installed(package: str) -> bool:
    """Return whether a package can be imported, without importing it.

    Example:
        >>> is_installed("numpy")
        True
    """
    return find_spec(package) is not None


def missing_package(feature: str, package: str) -> MissingPackageError:
    """Return the error for a package that is missing.

    Example:
        >>> str(missing_package("export", "torch"))
        "export needs torch: pip install 'torchlift[cpu]'"
        >>> str(missing_package("predict", "PIL"))
        "predict needs pillow: pip install 'torchlift[cpu]'"
        >>> str(missing_package("serve", "PIL"))
        "serve needs pillow: pip install 'torchlift[serve]'"
    """
    name, extra = _PIP_NAMES.get(package, package), _EXTRAS.get(package, "cpu")
    if feature == "serve":
        # Without torch, which the server does not need.
        extra = "serve"
    return MissingPackageError(
        f"{feature} needs {name}: pip install 'torchlift[{extra}]'", name=package
    )


def is_optional(package: str) -> bool:
    """Return whether an extra installs a package."""
    return package in _EXTRAS
