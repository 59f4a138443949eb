"""Conversion of a Torch7 object to a PyTorch module."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from .context import Context, ConvertedLayer, Note
from .errors import ConversionError
from .forward_errors import note_layer
from .notebook import show_in_notebooks
from .registry import find_registration, is_registered
from .shared_writes import share_memory
from .torch7_source import Torch7Source, source_of

#: Modules that a forward pass may run. Forty modules, each with the next one twice, would run 2^40.
MAX_RUNS = 100_000


@dataclass(frozen=True)
class Conversion:
    """A converted module and a record of its conversion.

    Attributes:
        module: The PyTorch module.
        layers: Every Torch7 object with its module, children before parents.
        notes: Decisions where the file leaves something open.
        arrays: The id of a parameter or buffer → the array that its values come from.
    """

    module: nn.Module
    layers: list[ConvertedLayer]
    notes: list[Note]
    arrays: dict[int, np.ndarray]


def convert(value: Any) -> nn.Module:
    """Convert a Torch7 module or criterion to a PyTorch module that computes the same values.

    Structure, order, sharing, dtype and training mode are kept: Lua's `model:get(2):get(9)` is
    `model[1][8]`. Indices that the network computes with still count from 1; tables are lists.

    Args:
        value: An nn object of a `.t7` file (see `t7.load`).

    Raises:
        UnknownClassError: Some classes have no converter; the error names them and their paths.
        ConversionError: An object lacks a field that its class requires.

    Example:
        >>> import numpy as np
        >>> from torchlift.converters import convert, t7
        >>> fields = t7.LuaTable({"weight": np.eye(2), "bias": np.zeros(2)})
        >>> convert(t7.LuaObject("nn.Linear", fields))
        Linear(in_features=2, out_features=2, bias=True)
    """
    return convert_recorded(value).module


def convert_recorded(value: Any, path: str = "model") -> Conversion:
    """Convert a Torch7 object and record which object became which module.

    Args:
        value: An nn object of a `.t7` file.
        path: Path of the object, with which the paths in the record begin.

    Raises:
        UnknownClassError: Some classes have no converter.
        ConversionError: An object lacks a field that its class requires.

    Example:
        >>> from torchlift.converters import t7
        >>> from torchlift.converters.modules import convert_recorded
        >>> conversion = convert_recorded(t7.LuaObject("nn.HardTanh"))
        >>> conversion.module
        Hardtanh(min_val=-1.0, max_val=1.0)
        >>> [note.text for note in conversion.notes]
        ['no fields min_val and max_val (an older file): clips to [-1, 1]']
    """
    context = Context(find_registration, path)
    module = context.convert(value, "")
    context.finish(is_registered)
    if (runs := count_runs(module)) > MAX_RUNS:
        raise ConversionError(
            f"a forward pass would run {runs:,} layers, more than {MAX_RUNS:,}: modules hold each "
            "other several times",
            path,
        )
    module, containers = share_memory(module, context.layers)
    notes = [Note(place, "", _OVERWRITTEN) for place in containers]
    module.torch7_source = Torch7Source(value)  # type: ignore[assignment]  # no tensor or module
    name_layers_in_errors(module)
    show_in_notebooks(module)
    return Conversion(module, context.layers, [*context.notes, *notes], context.arrays)


def count_runs(module: nn.Module) -> int:
    """Return how many modules a forward pass runs, each as often as it occurs in others."""
    counts: dict[int, int] = {}

    def count(part: nn.Module) -> int:
        if id(part) not in counts:
            children = part._modules.values()
            counts[id(part)] = 1 + sum(count(child) for child in children if child is not None)
        return counts[id(part)]

    return count(module)


_OVERWRITTEN = (
    "a layer overwrites its input (inplace), which another branch reads: the container runs with "
    "Torch7's memory, and is one level deeper in the PyTorch module"
)


def name_layers_in_errors(network: nn.Module) -> None:
    """Make errors in a forward pass of a network name the layer that they come from."""
    network.register_forward_hook(partial(note_layer, lua_paths), always_call=True)


def lua_paths(network: nn.Module) -> dict[str, str]:
    """Return the Lua path of each layer of a converted network by its name in PyTorch."""
    source = source_of(network)
    if source is None:
        return {}
    conversion = convert_recorded(source.object(network))
    paths = {id(layer.module): layer.path for layer in conversion.layers}
    named = conversion.module.named_modules()
    return {name: paths[id(module)] for name, module in named if id(module) in paths}
