"""A package that is missing is named as pip knows it, with the extra that brings it."""

from __future__ import annotations

import pytest

from torchlift import converters
from torchlift.converters import TorchliftError, requirements
from torchlift.converters.errors import first_line
from torchlift.converters.requirements import (
    MissingPackageError,
    is_installed,
    is_optional,
    missing_package,
    require,
)


@pytest.mark.parametrize(
    ("package", "name", "extra"),
    [
        ("torch", "torch", "cpu"),
        ("sklearn", "scikit-learn", "cpu"),
        ("onnx_ir", "onnx-ir", "cpu"),
        ("huggingface_hub", "huggingface-hub", "cpu"),
        ("markdown_it", "markdown-it-py", "cpu"),
        ("pandas", "pandas", "data"),
        ("fsspec", "fsspec", "data"),
        ("timm", "timm", "networks"),
        ("transformers", "transformers", "networks"),
        ("fastapi", "fastapi", "serve"),
        ("prometheus_client", "prometheus-client", "serve"),
        ("python_multipart", "python-multipart", "serve"),
        ("of_somebody_else", "of_somebody_else", "cpu"),
    ],
)
def test_a_package_has_the_extra_that_installs_it(package: str, name: str, extra: str) -> None:
    error = missing_package("plotting", package)
    assert str(error) == f"plotting needs {name}: pip install 'torchlift[{extra}]'"
    assert error.name == package
    assert isinstance(error, TorchliftError)
    assert isinstance(error, ImportError)
    assert str(missing_package("serve", package)).endswith("'torchlift[serve]'")
    assert is_optional(package) is (package != "of_somebody_else")


def test_the_first_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    require("plotting")
    require("plotting", "numpy", "json")
    with pytest.raises(MissingPackageError, match=r"^plotting needs no_such_package: pip"):
        require("plotting", "numpy", "no_such_package", "no_other_package")
    monkeypatch.setattr(requirements, "is_installed", lambda package: package == "numpy")
    with pytest.raises(MissingPackageError, match="plotting needs scikit-learn: "):
        require("plotting", "numpy", "sklearn", "torch")


def test_a_package_is_looked_for_and_not_imported() -> None:
    """`antigravity` opens a browser when it is imported."""
    import sys

    assert is_installed("antigravity")
    assert "antigravity" not in sys.modules
    assert not is_installed("no_such_package")


def test_the_face_of_the_converters_has_no_other_names() -> None:
    assert {name: hasattr(converters, name) for name in converters.__all__} == dict.fromkeys(
        ("TorchliftError", "convert", "load_model", "onnx", "register", "t7"), True
    )
    with pytest.raises(AttributeError, match=r"converters' has no attribute 'loads'"):
        converters.loads  # noqa: B018


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n  one  \ntwo"), "one"),
        (ValueError(""), "ValueError"),
        (OSError(2, "No such file"), "[Errno 2] No such file"),
    ],
)
def test_an_error_of_another_library_is_one_line(error: Exception, line: str) -> None:
    assert first_line(error).rstrip() == line
