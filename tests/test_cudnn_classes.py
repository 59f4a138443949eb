"""Classes of cudnn compute what the nn class computes on the same fields, as Torch7 recorded it.

No fixture has cuDNN's own numbers, which need a GPU. `cudnn.convert` of cudnn.torch replaces the
class of a module and keeps its fields, so each recorded case of the nn class is renamed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from recorded_support import compare_with_torch7
from support import FIXTURES, proof

from torchlift.converters import t7
from torchlift.converters.modules import convert_recorded, registered_classes

#: Class of cudnn → the nn class with the same fields and results, where the names differ.
OTHER_NAMES = {"VolumetricSoftMax": "SoftMax", "VolumetricLogSoftMax": "LogSoftMax"}

#: Classes whose fields are others than those of the nn class: hand-written tests compare them.
OTHER_FIELDS = {"cudnn.GRU", "cudnn.LSTM", "cudnn.TemporalConvolution"}


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
    """Return a recorded case of an nn class for each class of cudnn that has its fields."""
    recorded: dict[str, list[t7.LuaTable]] = {}
    for file in sorted((FIXTURES / "layers").glob("*.t7")):
        for case in t7.load(file).values():
            if "module" in case and file.stem != "legacy" and is_common(case):
                recorded.setdefault(case["class"], []).append(case)
    found = []
    for name in registered_classes():
        package, _, short = name.partition(".")
        twin = f"nn.{OTHER_NAMES.get(short, short)}"
        if package == "cudnn" and name not in OTHER_FIELDS:
            found += [
                pytest.param(name, case, id=f"{name}-{case['name']}")
                for case in recorded.get(twin, [])
            ]
    return found


@pytest.mark.parametrize(("class_name", "case"), cases())
def test_a_class_of_cudnn_computes_what_its_nn_class_does(
    class_name: str, case: t7.LuaTable, record_property: Callable[[str, object], None]
) -> None:
    module = t7.LuaObject(class_name, case["module"].fields, case["module"].version)
    conversion = convert_recorded(module)
    for kind, reason in compare_with_torch7(conversion, case).items():
        reason = reason or f"as {case['class']}"
        record_property("proved", proof(conversion, class_name, kind, reason))
