"""The input and outputs that `check` expects of a file that takes one image."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from onnx import TensorProto, helper

from torchlift.converters.images import Preprocessing
from torchlift.converters.onnx.checker.graph_checks import _image_interface


@pytest.mark.parametrize(
    ("channels", "axes", "outputs", "problem"),
    [
        (3, ["height", "width", 3], {"output": [1, 5]}, ""),
        (1, ["height", "width", "channels"], {"output": [1, 5]}, ""),
        (1, ["height", "width", 3], {"output": [1, 5]}, "an image of height×width×channels was"),
        (3, [3, "height", "width"], {"output": [1, 5]}, "an image of height×width×3 was expected"),
        (3, ["height", "width", 3], {"scores": [1, 5]}, "the name output was expected"),
        (3, ["height", "width", 3], {"output": ["batch", 5]}, "the outputs of one image were"),
        (3, ["height", "width", 3], {"a": [1, 5], "b": [1, 2]}, ""),
        (3, ["height", "width", 3], {"a": [1, 5], "b": [2, 5]}, "the outputs of one image were"),
    ],
)
def test_a_file_that_takes_an_image_takes_one_of_any_size(
    channels: int, axes: list[Any], outputs: dict[str, Any], problem: str
) -> None:
    value = helper.make_tensor_value_info
    graph = SimpleNamespace(
        input=[value("image", TensorProto.UINT8, axes)],
        output=[value(name, 1, shape) for name, shape in outputs.items()],
    )
    baked = Preprocessing("gray" if channels == 1 else "RGB")
    pair: Any = SimpleNamespace(
        onnx_model=SimpleNamespace(graph=graph),
        metadata=SimpleNamespace(baked_preprocessing=baked),
        output_names=["a", "b"] if "b" in outputs else ["output"],
    )
    found = _image_interface(pair, "image to output")
    assert (found.passed, found.text.startswith("image to output")) == (not problem, True)
    assert problem in found.text
