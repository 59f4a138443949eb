"""Small Torch7 networks and checkpoints, put together from the fields that Lua writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from torchlift.converters import t7
from torchlift.converters.t7 import LuaObject, LuaTable

_RANDOM = np.random.default_rng(0)


def numbers(*shape: int) -> np.ndarray:
    """Return float32 numbers around zero."""
    return (_RANDOM.random(shape) - 0.5).astype(np.float32)


def lua_list(*values: Any) -> LuaTable:
    return LuaTable.from_list(values)


def lua(**fields: Any) -> LuaTable:
    return LuaTable(fields)


def module(class_name: str, **fields: Any) -> LuaObject:
    """Return a module with the fields of `Module.lua`."""
    own = {"output": numbers(0), "gradInput": numbers(0), "_type": "torch.FloatTensor"}
    return LuaObject(class_name, LuaTable({**own, "train": False, **fields}))


def sequential(*modules: LuaObject) -> LuaObject:
    return module("nn.Sequential", modules=lua_list(*modules))


def linear(inputs: int, outputs: int) -> LuaObject:
    return module("nn.Linear", weight=numbers(outputs, inputs), bias=numbers(outputs))


def convolution(inputs: int, outputs: int, size: int, pad: int = 0) -> LuaObject:
    return module(
        "nn.SpatialConvolution",
        nInputPlane=inputs,
        nOutputPlane=outputs,
        kW=size,
        kH=size,
        dW=1,
        dH=1,
        padW=pad,
        padH=pad,
        weight=numbers(outputs, inputs, size, size),
        bias=numbers(outputs),
    )


def view(*sizes: int) -> LuaObject:
    count = int(abs(np.prod(sizes)))
    return module("nn.View", size=np.array(sizes, np.int64), numElements=count)


def image_network(channels: int = 3, classes: int = 3, side: int = 8) -> LuaObject:
    """Return a classifier of images, `channels`×`side`×`side`."""
    return sequential(
        convolution(channels, 4, 3, 1),
        module("nn.ReLU", threshold=0, val=0),
        view(4 * side * side),
        linear(4 * side * side, classes),
        module("nn.LogSoftMax"),
    )


def write(value: Any, folder: Path, name: str = "checkpoint.t7") -> Path:
    """Write a value to a file of a folder."""
    t7.save(value, folder / name)
    return folder / name
