"""What `torchlift.converters.onnx` has: each name is imported on its first use, from its module."""

from __future__ import annotations

import pytest

from torchlift.converters import onnx
from torchlift.converters.errors import TorchliftError

#: Name → the module, below the package, that holds it.
MODULES = {
    "Annotated": "annotator",
    "annotate": "annotator",
    "CheckReport": "checker.report",
    "Profile": "checker.profiles",
    "check": "checker.check",
    "write_check_report": "checker.report",
    "Exported": "exporter.export",
    "export": "exporter.export",
    "describe_file": "onnx_file",
    "Quantized": "quantizer.quantize",
    "quantize": "quantizer.quantize",
    "InstalledRuntime": "runtimes.installed",
    "find_runtimes": "runtimes.installed",
    "write_page": "page",
    "next_version": "triton",
    "triton_version": "triton",
    "OnnxError": "errors",
}


@pytest.mark.parametrize("name", onnx.__all__)
def test_each_name_is_that_of_its_module(name: str) -> None:
    found = getattr(onnx, name)
    if name == "PROFILES":
        assert found["int8"].name == "int8"
        return
    module = MODULES.get(name)
    assert found.__name__ == name
    if module is not None:
        assert found.__module__ == f"{onnx.__name__}.{module}"
    else:
        assert found.__module__.startswith("torchlift.converters.inference.")


def test_other_names_are_none_and_errors_are_torchlifts() -> None:
    assert {*MODULES, "PROFILES", "Classifier", "open_predictor"} == set(onnx.__all__)
    with pytest.raises(AttributeError, match=r"\.onnx' has no attribute 'no'$"):
        onnx.no  # noqa: B018 - its lookup
    assert issubclass(onnx.OnnxError, TorchliftError)
