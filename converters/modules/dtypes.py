"""The dtype of a Torch7 object, by PyTorch's name (`"float32"`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..t7 import LuaObject, LuaTable
from ..t7.types import TENSOR_DTYPES


def dtype_name(tensor_class: str) -> str:
    """Return the dtype of a tensor class: `torch.CudaTensor` → `float32`.

    Half precision becomes float32, as it does for parameters (`Context.fill`).

    Raises:
        KeyError: Torch7 has no tensor class of this name.
    """
    name = TENSOR_DTYPES[tensor_class].name
    return "float32" if name == "float16" else name


def module_dtype(source: LuaObject) -> str:
    """Return the dtype to which a module casts: that of `_type`, in older files of its output."""
    return dtype_name(
        source.get("_type") or tensor_class(source.get("output")) or "torch.FloatTensor"
    )


def tensor_class(value: Any) -> str | None:
    """Return the class of the first tensor in a value or in nested tables, or None."""
    if isinstance(value, LuaTable):
        return next(filter(None, map(tensor_class, value.values())), None)
    return getattr(value, "torch_class", None) if isinstance(value, np.ndarray) else None
