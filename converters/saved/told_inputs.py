"""What a network took in Torch7, as fields tell that a `.t7` still holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import nn

from ..input_shapes import InputShapes
from ..modules.torch7_source import SKELETON, source_of
from ..t7 import LuaObject, LuaTable
from .input_trial import input_problem

#: The dimensions of one example, by what a class's name begins with.
_DIMENSIONS = {"Spatial": 3, "Volumetric": 4, "Temporal": 2, "Linear": 1}
#: Fields with the shape of the input: cudnn's bookkeeping, what a layer keeps, what it gave back.
_FIELDS = ("iSize", "_input", "input", "gradInput")
#: Modules whose first one gets their input.
_CHAINS = ("Sequential", "DataParallelTable", "DataParallel", "NoBackprop", "Decorator")
#: Memory that was never set is no size.
_LARGEST = 2**14


def told_inputs(module: nn.Module) -> tuple[InputShapes, str] | None:
    """Return what a converted network took when it was saved, and which field tells it.

    The shape is tried: fields of other versions of a layer may mean something else.

    Args:
        module: A network that was converted from a `.t7`, in evaluation mode.
    """
    source = source_of(module)
    if source is None or source.value.class_name == SKELETON:
        return None
    chain = list(_first_modules(source.value))
    names = [layer.class_name.rpartition(".")[2] for _, layer in chain]
    kinds = (n for name in names for begin, n in _DIMENSIONS.items() if name.startswith(begin))
    dimensions = next(kinds, None)
    if dimensions is None:
        return None
    for path, layer in chain:
        for field in _FIELDS:
            shape = _shape(layer.get(field), dimensions)
            if shape is not None and not input_problem(module, InputShapes.single(shape)):
                return InputShapes.single(shape), f"{path}.{field}".removeprefix(".")
    return None


def _first_modules(value: LuaObject, path: str = "") -> Iterator[tuple[str, LuaObject]]:
    """Yield the modules that get the input of a network, from the outside to the first layer.

    Layers before it that change no shape are passed by.
    """
    yield path, value
    if not value.class_name.endswith(_CHAINS):
        return
    modules = value.get("modules")
    inner = modules.to_list() if isinstance(modules, LuaTable) else []
    for number, layer in enumerate(inner, 1):
        if not isinstance(layer, LuaObject):
            return
        yield from _first_modules(layer, f"{path}.modules[{number}]".removeprefix("."))
        if not layer.class_name.endswith(("Identity", "Dropout", "Copy")):
            return


def _shape(value: Any, dimensions: int) -> tuple[int, ...] | None:
    """Return the shape of one example that a field tells, if any."""
    if not isinstance(value, np.ndarray):
        return None
    # cudnn's `iSize` holds the sizes themselves.
    is_sizes = value.ndim == 1 and value.dtype.kind == "i"
    sizes = tuple(int(size) for size in value) if is_sizes else value.shape
    if len(sizes) == dimensions + 1:
        sizes = sizes[1:]
    fits = len(sizes) == dimensions and all(0 < size <= _LARGEST for size in sizes)
    return sizes if fits else None
