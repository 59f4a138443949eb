"""Fields of Torch7 modules as `torch.legacy.nn` names and counts them, and back.

PyTorch 0.4's `load_lua` counted dimensions and indices from 0, renamed some fields, and gave absent
ones the value None (`torch/utils/serialization/read_lua_file.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

#: Class → fields that count from 0 in Python.
_COUNTED = {
    "Index": ("dimension",),
    "SelectTable": ("index",),
    "SplitTable": ("dimension",),
    "JoinTable": ("dimension",),
    "Parallel": ("inputDimension", "outputDimension"),
    "Concat": ("dimension",),
    "DepthConcat": ("dimension",),
    "Squeeze": ("dim",),
    "Unsqueeze": ("dim",),
    "Replicate": ("dim",),
    "MixtureTable": ("dim",),
    "Narrow": ("dimension", "index"),
    "NarrowTable": ("offset",),
    "LookupTable": ("paddingValue",),
    "SpatialConvolutionMap": ("connTable",),
    "SpatialFullConvolutionMap": ("connTable",),
    "Select": ("dimension", "index"),
    "Padding": ("dim", "index"),
    "PartialLinear": ("partition",),
    "Sum": ("dimension",),
    "Max": ("dimension",),
    "Min": ("dimension",),
    "Mean": ("dimension",),
    "Transpose": ("permutations",),
}

#: Class → Lua's name of a field → the name in Python.
_RENAMED = {
    "ReLU": {"val": "value"},
    "Threshold": {"val": "value"},
    "Unsqueeze": {"pos": "dim"},
    "HardShrink": {"lambda": "lambd"},
    "SoftShrink": {"lambda": "lambd"},
    "GradientReversal": {"lambda": "lambd"},
    "SpatialAdaptiveMaxPooling": {"H": "h", "W": "w"},
}

_NORM = ("weight", "bias", "gradWeight", "gradBias", "save_mean", "save_std")

#: Class → fields that are None where the file has none.
_EXPECTED = {
    "Linear": ("bias", "gradWeight", "gradBias", "addBuffer"),
    "CAddTable": ("inplace",),
    "SpatialFractionalMaxPooling": ("outW", "outH", "ratioW", "ratioH"),
    "BatchNormalization": _NORM,
    "SpatialBatchNormalization": _NORM,
    "VolumetricBatchNormalization": _NORM[:4],
    "LookupTable": ("maxNorm", "normType", "_gradOutput", "_sorted", "_indices"),
    "MixtureTable": ("table",),
    "WeightedEuclidean": ("fastBackward",),
    "VolumetricMaxPooling": ("ceil_mode",),
    "BCECriterion": ("buffer",),
    "SpatialClassNLLCriterion": ("weights",),
    "ClassNLLCriterion": ("weights",),
    "ParallelCriterion": ("repeatTarget",),
    "MultiMarginCriterion": ("weights",),
    "SpatialConvolution": ("bias", "gradWeight", "gradBias", "_gradOutput"),
    "SpatialCrossMapLRN": ("scale",),
    "Dropout": ("inplace",),
}


def python_fields(kind: str, fields: dict[Any, Any]) -> dict[str, Any]:
    """Return the attributes of a module.

    Args:
        kind: The class without its package, such as `Linear`.
        fields: The fields of the file, with torch tensors.
    """
    names = _RENAMED.get(kind, {})
    result = {names.get(name, name): value for name, value in fields.items()}
    for name in _COUNTED.get(kind, ()):
        if name in result:
            result[name] = _shifted(result[name], -1, name)
    if kind.endswith("BatchNormalization") and torch.is_tensor(result.get("running_std")):
        # What version 1 of the class stored is 1 / sqrt(variance + eps).
        result["running_var"] = result.pop("running_std").pow(-2) - result["eps"]
    for name in _EXPECTED.get(kind, ()):
        result.setdefault(name, None)
    return {name: value for name, value in result.items() if isinstance(name, str)}


def lua_fields(kind: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that a module of a file has, for its attributes.

    Args:
        kind: The class without its package.
        attributes: The attributes, as `python_fields` returns them.
    """
    result = {name: value for name, value in attributes.items() if value is not None}
    for name in _COUNTED.get(kind, ()):
        if name in result:
            result[name] = _shifted(result[name], 1, name)
    for lua_name, name in _RENAMED.get(kind, {}).items():
        if name in result:
            result[lua_name] = result.pop(name)
    return result


def _shifted(value: Any, step: int, name: str) -> Any:
    """Return a number counted from the other start; one from the end, below 0, stays."""
    if isinstance(value, list):
        return [_shifted(item, step, name) for item in value]
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return value + step
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    lowest = 1 if step < 0 else 0
    # No padding value is 0 in Lua and -1 in Python.
    return value + step if value >= lowest or name == "paddingValue" else value
