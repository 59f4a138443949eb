"""What all layers of a random network are drawn with: sizes, weights, and Torch7 objects."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from hypothesis import strategies as st

from torchlift.converters.t7 import LuaObject, LuaTable, TorchArray

Shape: TypeAlias = tuple[int, ...]
#: A layer and the shape of its output.
Layer: TypeAlias = tuple[LuaObject, Shape]
#: Draws a layer for inputs of a shape.
Maker: TypeAlias = "Callable[[Drawing, Shape], Layer]"


@dataclass
class Drawing:
    """The draws of one network.

    Attributes:
        draw: Hypothesis' function.
        rng: Draws weights.
        batched_only: Whether a layer counts the dimensions of the whole batch, so that the network
            takes no single example.
        is_continuous: Whether rounding cannot change the output much: no layer jumps.
        reusable: Shape → layers that keep it, which may stand in a second place too.
    """

    draw: st.DrawFn
    rng: np.random.Generator
    batched_only: bool = False
    is_continuous: bool = True
    reusable: dict[Shape, list[LuaObject]] = field(default_factory=dict)

    def integer(self, lowest: int, highest: int) -> int:
        return self.draw(st.integers(lowest, max(lowest, highest)))

    def choice(self, *values: Any) -> Any:
        return self.draw(st.sampled_from(values))

    def boolean(self) -> bool:
        return self.draw(st.booleans())

    def normal(self, *shape: int, fan_in: int = 1) -> np.ndarray:
        """Return weights that neither blow up nor vanish in a deep network."""
        return (self.rng.standard_normal(shape) / math.sqrt(fan_in)).astype("f4")

    def uniform(self, lowest: float, highest: float, *shape: int) -> np.ndarray:
        return self.rng.uniform(lowest, highest, shape).astype("f4")


def module(class_name: str, **fields: Any) -> LuaObject:
    """Return an object as `Module.lua` builds it: lists are tables, tuples LongStorages."""
    values = {"_type": "torch.FloatTensor", "output": empty(), "gradInput": empty(), **fields}
    for name in ("weight", "bias"):
        if fields.get(name) is not None:
            values[f"grad{name.capitalize()}"] = np.zeros_like(fields[name])
    return LuaObject(
        class_name,
        LuaTable({key: _value(value) for key, value in values.items() if value is not None}),
    )


def empty() -> TorchArray:
    result = np.empty(0, "f4").view(TorchArray)
    result.torch_class = "torch.FloatTensor"
    return result


def _value(value: Any) -> Any:
    if isinstance(value, list):
        return LuaTable.from_list([_value(item) for item in value])
    if isinstance(value, tuple):
        storage = np.array(value, "i8").view(TorchArray)
        storage.torch_class = "torch.LongStorage"
        return storage
    return value


def sequential(*modules: LuaObject) -> LuaObject:
    return module("nn.Sequential", modules=list(modules))


def with_size(shape: Shape, dim: int, size: int) -> Shape:
    """Return a shape with another size of one dimension."""
    return (*shape[:dim], size, *shape[dim + 1 :])
