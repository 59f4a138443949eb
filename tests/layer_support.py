"""Helpers for tests of converted layers: Torch7 objects, and a comparison with ONNX Runtime."""

from __future__ import annotations

import logging
from typing import Any

import onnxruntime
import torch
from support import relative_error
from torch import nn

from torchlift.converters import convert, t7


def lua(class_name: str, **fields: Any) -> t7.LuaObject:
    """Return a Torch7 object with fields given as torch tensors, lists (tables) and values."""
    return t7.LuaObject(class_name, t7.LuaTable({k: _lua_value(v) for k, v in fields.items()}))


def layer(class_name: str, **fields: Any) -> nn.Module:
    """Return the module of a Torch7 object in evaluation mode."""
    return convert(lua(class_name, **fields)).eval()


def rand(*shape: int) -> torch.Tensor:
    """Return normal random numbers in double precision."""
    return torch.randn(*shape, dtype=torch.float64)


def _lua_value(value: Any) -> Any:
    if isinstance(value, list):
        return t7.LuaTable.from_list([_lua_value(item) for item in value])
    return value.detach().numpy() if isinstance(value, torch.Tensor) else value


def export_error(module: nn.Module, example: torch.Tensor) -> float:
    """Return the largest error of ONNX Runtime and of the exported program.

    The module is exported with a dynamic batch and compared at batch sizes 1, 3 and 7.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    batch = torch.export.Dim("batch")
    program = torch.export.export(module.eval(), (example,), dynamic_shapes=({0: batch},))
    onnx_program = torch.onnx.export(program, dynamo=True, verbose=False)
    assert onnx_program is not None
    content = onnx_program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    errors = []
    for size in (1, 3, 7):
        images = torch.randn(size, *example.shape[1:])
        (output,) = session.run(None, {name: images.numpy()})
        errors.append(relative_error(torch.from_numpy(output), module(images)))
        errors.append(relative_error(program.module()(images), module(images)))
    return max(errors)
