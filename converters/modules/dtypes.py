"""The number type that a Torch7 object works in, by PyTorch's name (`"float32"`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..t7 import LuaObject, LuaTable
from ..t7.types import TENSOR_DTYPES


def dtype_name(tensor_class: str) -> str:
    """The dtype of a tensor class: `torch.CudaTensor` → `float32`.

    Half precision becomes float32, as parameters do (`Context.fill`).

    Raises:
        KeyError: when it is no tensor class of Torch7.
    """
    name = TENSOR_DTYPES[tensor_class].name
    return "float32" if name == "float16" else name


def module_dtype(source: LuaObject) -> str:
    """The dtype that a module casts to: its `_type`, or in older files its output's class."""
    return dtype_name(
        source.get("_type") or tensor_class(source.get("output")) or "torch.FloatTensor"
    )


def tensor_class(value: Any) -> str | None:
    """The class of the first tensor in a value, tables walked in order; None without a tensor."""
    if isinstance(value, LuaTable):
        return next(filter(None, map(tensor_class, value.values())), None)
    return getattr(value, "torch_class", None) if isinstance(value, np.ndarray) else None
