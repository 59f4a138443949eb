"""Finding the containers in which a layer overwrites what another one reads (see `in_place`)."""

from __future__ import annotations

from torch import nn

from ..t7.values import is_true
from .context import ConvertedLayer
from .in_place import InPlace, Interpreter, Memory, Ref

#: Classes whose field `inplace` makes them overwrite their input.
_OVERWRITING = frozenset(
    {
        *("nn.AddConstant", "nn.CAddTable", "nn.Clamp", "nn.Dropout", "nn.ELU", "nn.HardTanh"),
        *("nn.LeakyReLU", "nn.MulConstant", "nn.ReLU", "nn.ReLU6", "nn.RReLU", "nn.Threshold"),
        *("cudnn.ClippedReLU", "cudnn.ReLU", "cudnn.Sigmoid", "cudnn.Tanh", "inn.ConstAffine"),
    }
)
#: Classes whose output is the memory of their input.
_VIEWING = frozenset(
    {
        *("nn.Collapse", "nn.Contiguous", "nn.GradientReversal", "nn.Identity"),
        *("nn.L1Penalty", "nn.PrintSize", "nn.Replicate", "nn.Reshape", "nn.SplitTable"),
        *("nn.Squeeze", "nn.Unsqueeze", "nn.View", "nn.ZeroGrad"),
    }
)


def share_memory(module: nn.Module, layers: list[ConvertedLayer]) -> tuple[nn.Module, list[str]]:
    """Put each container in which a layer overwrites what another one reads into an InPlace.

    Args:
        module: The converted module, which is changed.
        layers: What it was converted from, children before parents.

    Returns:
        The module, itself in an InPlace where needed, and the Lua paths of the containers.
    """
    writers = {id(e.module) for e in layers if _overwrites(e)}
    if not writers:
        return module, []
    viewers = {id(e.module) for e in layers if _views(e)}
    paths = []
    for entry in layers:
        container = entry.module
        if not isinstance(container, (nn.Sequential, nn.ModuleList)):
            continue
        if _reads_what_is_overwritten(container, writers, viewers):
            paths.append(entry.path)
            names = [(f"0.{name}", id(part)) for name, part in container.named_modules() if name]
            wrapper = InPlace(
                container,
                writers=[name for name, key in names if key in writers],
                viewers=[name for name, key in names if key in viewers],
            )
            wrapper.training = container.training
            module = _replace(module, container, wrapper)
    return module, paths


def _reads_what_is_overwritten(container: nn.Module, writers: set[int], viewers: set[int]) -> bool:
    interpreter = Interpreter(writers, viewers)
    try:
        interpreter.read(interpreter.run(container, Ref(Memory())))
    except (IndexError, KeyError, TypeError, ValueError):
        # Tables that do not fit are an error of the forward pass, not of the conversion.
        return False
    return interpreter.stale


def _overwrites(entry: ConvertedLayer) -> bool:
    return entry.source.class_name in _OVERWRITING and is_true(entry.source.get("inplace"))


def _views(entry: ConvertedLayer) -> bool:
    # nn.Copy returns its input if the type is the same.
    is_copy = entry.source.class_name == "nn.Copy" and isinstance(entry.module, nn.Identity)
    return entry.source.class_name in _VIEWING or is_copy


def _replace(module: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Put a module in another's place wherever it occurs, and return the whole module."""
    for parent in module.modules():
        for name, child in parent._modules.items():
            if child is old and parent is not new:
                parent._modules[name] = new
    return new if module is old else module
