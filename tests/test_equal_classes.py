"""Classes that compute what a class of torch/nn computes on the same fields, as Torch7 recorded it.

No fixture has cuDNN's own numbers, which need a GPU. `cudnn.convert` of cudnn.torch replaces the
class of a module and keeps its fields, so each recorded case of the nn class is renamed. Packages
have earlier names of nn classes, and layers that return their input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from recorded_support import compare_with_torch7
from support import FIXTURES, proof

from torchlift.converters import t7
from torchlift.converters.modules import convert_recorded, registered_classes

#: Class → the class with the same fields and results, where their names differ.
OTHER_NAMES = {
    "cudnn.VolumetricLogSoftMax": "nn.LogSoftMax",
    "cudnn.VolumetricSoftMax": "nn.SoftMax",
    "inn.SpatialConstAffine": "inn.ConstAffine",
    "nn.BNFastLSTM": "nn.FastLSTM",
    "nn.ContentLoss": "nn.Identity",
    "nn.DataParallel": "nn.Decorator",
    "nn.DeepDreamLoss": "nn.Identity",
    "nn.Dictionary": "nn.LookupTable",
    "nn.DummyGradOutput": "nn.Identity",
    "nn.GradNormalization": "nn.Identity",
    "nn.LookupTableGPU": "nn.LookupTable",
    "nn.Mufuru": "nn.MuFuRu",
    "nn.ReverseSequence": "nn.SeqReverseSequence",
    **{
        f"nn.SpatialConvolution{kind}": "nn.SpatialConvolution"
        for kind in (
            *("CuFFT", "FBFFT", "FBFFTGemm", "FFT", "FFTTiled", "FFTTiledAsync"),
            *("FFTTiledIterated", "FFTTiledSync"),
        )
    },
    "nn.SpatialConvolutionSparse": "nn.SpatialConvolutionMap",
    "nn.StyleLoss": "nn.Identity",
    "nn.TemporalRowConvolutionMM": "nn.TemporalRowConvolution",
    "nn.VolumetricConvolutionMM": "nn.VolumetricConvolution",
    "w2nn.Print": "nn.Identity",
    "w2nn.PrintTable": "nn.Identity",
}

#: Classes of cudnn whose fields are others than those of the nn class of the same name.
OTHER_FIELDS = {"cudnn.GRU", "cudnn.LSTM", "cudnn.TemporalConvolution"}


def equal_class(name: str) -> str | None:
    """Return the class that a class equals, None if there is none."""
    package, _, short = name.partition(".")
    if package == "cudnn" and name not in OTHER_FIELDS:
        return OTHER_NAMES.get(name, f"nn.{short}")
    return OTHER_NAMES.get(name)


def is_common(case: t7.LuaTable) -> bool:
    """Return whether cuDNN defines the case as nn does."""
    module = case["module"]
    pads = [module.get(name, 0) for name in ("padW", "padH", "padT")]
    if "AveragePooling" in case["class"]:
        # cuDNN always counts the padding, divides, and drops windows that lie in the padding.
        flags = module.get("divide", True), module.get("count_include_pad", True)
        return all(flags) and not (any(pads) and module.get("ceil_mode"))
    if case["class"] in ("nn.SoftMax", "nn.LogSoftMax"):
        # `cudnn.SoftMax` normalizes over all values of an image.
        return case["input"].ndim <= 2
    return True


def cases() -> list[Any]:
    """Return the recorded cases of the equal class for each class that has one."""
    recorded: dict[str, list[t7.LuaTable]] = {}
    for file in sorted((FIXTURES / "layers").glob("*.t7")):
        for case in t7.load(file).values():
            if "module" in case and case["module"].class_name == case["class"] and is_common(case):
                recorded.setdefault(case["class"], []).append(case)
    return [
        pytest.param(name, case, id=f"{name}-{case['name']}")
        for name in registered_classes()
        for case in recorded.get(equal_class(name) or "", [])
        if "note" not in case  # files of older versions
    ]


@pytest.mark.parametrize(("class_name", "case"), cases())
def test_a_class_computes_what_the_class_that_it_equals_does(
    class_name: str, case: t7.LuaTable, record_property: Callable[[str, object], None]
) -> None:
    module = t7.LuaObject(class_name, case["module"].fields, case["module"].version)
    conversion = convert_recorded(module)
    for kind, reason in compare_with_torch7(conversion, case).items():
        reason = reason or f"as {case['class']}"
        record_property("proved", proof(conversion, class_name, kind, reason))
