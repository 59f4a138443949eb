"""Containers of one module that compute what it does (`Decorator.lua`, `DontCast.lua`, …)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...t7 import LuaObject
from ..context import Context
from ..dtypes import dtype_name, tensor_class
from ..registry import layer, register
from .container import Container


@layer
class DontCast(Container):
    """`DontCast.lua`: a module with a dtype of its own inside a model of another dtype.

    Args:
        modules: One module.
        cast_in: Name of the dtype to which inputs are cast, such as `float32`; None for no cast.
        cast_out: Name of the dtype to which outputs are cast; None for no cast.
    """

    def __init__(
        self, *modules: nn.Module, cast_in: str | None = None, cast_out: str | None = None
    ) -> None:
        super().__init__(*modules)
        self.cast_in = cast_in
        self.cast_out = cast_out

    def forward(self, input: Any) -> Any:
        """Map an input of the module to its output, both cast."""
        return _cast(self[0](_cast(input, self.cast_in)), self.cast_out)

    def extra_repr(self) -> str:
        """Return the arguments shown by repr()."""
        return f"cast_in={self.cast_in}, cast_out={self.cast_out}"


def _cast(value: Any, dtype: str | None) -> Any:
    if dtype is None:
        return value
    if isinstance(value, list):
        return [_cast(item, dtype) for item in value]
    return value.to(getattr(torch, dtype))


@register("nn.DontCast")
def dont_cast(source: LuaObject, context: Context) -> nn.Module:
    """Convert `DontCast.lua`: a module with its own dtype; a Sequential if nothing is cast."""
    if not source.get("castin") and not source.get("castout"):
        return nn.Sequential(*context.children(source))
    output_class = tensor_class(source.get("output"))
    return DontCast(
        *context.children(source),
        cast_in=dtype_name(source["moduleType"]) if source.get("castin") else None,
        cast_out=dtype_name(output_class) if source.get("castout") and output_class else None,
    )


@register(
    "nn.Decorator",
    "nn.NaN",
    "nn.Profile",
    "nn.GPU",
    ignored=(
        "id",
        "numFwds",
        "numBwds",
        "summedFwdTime",
        "summedBwdTime",
        "timer",
        "print_interval",
    ),
)
def decorator(source: LuaObject, context: Context) -> nn.Module:
    """Convert `Decorator.lua` or a class that watches or places its only child.

    `NaN.lua` checks for NaN, `Profile.lua` prints times, `GPU.lua` selects a device; none of them
    changes the output.
    """
    return nn.Sequential(*context.children(source))


@register("nn.DataParallelTable", "nn.DataParallel")
def data_parallel(source: LuaObject, context: Context) -> nn.Module:
    """Convert `DataParallelTable.lua` of cunn or fbcunn's `DataParallel.lua`: a model on many GPUs.

    All children are replicas of the first one, which is kept.
    """
    replicas = source["modules"]
    if len(replicas) > 1:
        context.note(f"{len(replicas)} replicas on {len(replicas)} GPUs: the first is kept")
    return nn.Sequential(context.convert(replicas[1], ".modules[1]"))
