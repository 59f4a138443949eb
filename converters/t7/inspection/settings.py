"""Summarize a layer's main settings: `3→64, 11×11, stride 4, pad 2`.

The settings are read from fields that Torch7's classes have in common, so unknown classes are
summarized as well. Sizes are in PyTorch's order (depth × height × width).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..values import LuaObject, LuaTable

#: Pairs of fields with the number of input and of output features.
_IN_AND_OUT = (
    ("nInputPlane", "nOutputPlane"),
    ("inputFrameSize", "outputFrameSize"),
    ("inputSize", "outputSize"),
    ("inputsize", "outputsize"),
    ("fan_in", "fan_out"),
)

#: (label, a field for each axis, the default value, which is not shown).
_AXES: tuple[tuple[str, tuple[str, ...], int | None], ...] = (
    ("", ("kT", "kH", "kW"), None),
    ("stride", ("dT", "dH", "dW"), 1),
    ("pad", ("padT", "padH", "padW"), 0),
    ("dilation", ("dilationT", "dilationH", "dilationW"), 1),
    ("adj", ("adjT", "adjH", "adjW"), 0),
)

_LABELS = {"ceil_mode": "ceil", "val": "value", "negval": "slope"}

#: Fields that are not settings: internals of `Module.lua`, sizes of the last input, and sizes that
#: the parameters' shapes show.
_NOT_SETTINGS = {
    *("train", "name", "accUpdate", "noBias", "affine"),
    *("groups", "nDim", "numElements", "iwidth", "iheight", "itime"),
}

#: Longer lists of sizes are not shown.
_MAX_SIZES = 8


def settings(layer: LuaObject) -> str:
    """Return a summary of a layer's settings; empty for a layer without any."""
    items = [*_in_and_out(layer), *_axes(layer)]
    if _number(layer, "groups") not in (None, 1):
        items.append(f"groups {layer['groups']}")
    covered = {name for pair in _IN_AND_OUT for name in pair}
    covered |= {name for _, names, _ in _AXES for name in names}
    for name, value in layer.fields.items():
        if isinstance(name, str) and name not in covered | _NOT_SETTINGS and name[:1] != "_":
            items += _setting(_LABELS.get(name, name), value)
    return ", ".join(items)


def _number(layer: LuaObject, name: str) -> int | float | None:
    """Return a field if it is a number; a damaged file may have anything there."""
    value = layer.get(name)
    return value if isinstance(value, (int, float)) else None


def _in_and_out(layer: LuaObject) -> list[str]:
    for names in _IN_AND_OUT:
        inputs, outputs = (_number(layer, name) for name in names)
        if inputs is not None and outputs is not None:
            return [f"{inputs}→{outputs}"]
    weight = layer.get("weight")
    if layer.class_name.endswith("Linear") and isinstance(weight, np.ndarray) and weight.ndim == 2:
        return [f"{weight.shape[1]}→{weight.shape[0]}"]
    return []


def _axes(layer: LuaObject) -> list[str]:
    items = []
    for label, names, default in _AXES:
        sizes = [size for name in names if (size := _number(layer, name)) is not None]
        if not sizes or all(size == default for size in sizes):
            continue
        is_uniform = label and all(size == sizes[0] for size in sizes)
        text = str(sizes[0]) if is_uniform else "×".join(map(str, sizes))
        items.append(f"{label} {text}".strip())
    return items


def _setting(label: str, value: Any) -> list[str]:
    """Format a field if it is a setting: a short string, true, a nonzero number, or sizes."""
    if isinstance(value, bool):
        return [label] if value else []
    if isinstance(value, (int, float)):
        number = f"{value:g}" if isinstance(value, float) else str(value)
        return [f"{label} {number}"] if value else []
    if isinstance(value, str) and len(value) <= 20:
        return [f"{label} {value}"]
    sizes = _sizes(value)
    return [f"{label} {'×'.join(map(str, sizes))}"] if 0 < len(sizes) <= _MAX_SIZES else []


def _sizes(value: Any) -> list[int]:
    """Return a list of whole numbers: a table, or the LongStorage of a View or Reshape."""
    if isinstance(value, np.ndarray):
        is_short = value.ndim == 1 and value.dtype.kind == "i" and len(value) <= _MAX_SIZES
        return [int(size) for size in value] if is_short else []
    if isinstance(value, LuaTable) and len(value) <= _MAX_SIZES and value.is_list():
        items = value.to_list()
        return items if all(type(item) is int for item in items) else []
    return []
