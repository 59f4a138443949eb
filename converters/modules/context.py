"""What a converter may ask for while it turns one Torch7 object into a module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from ..t7 import LuaObject, LuaTable
from ..t7.tensors import tensor
from .errors import ConversionError, UnknownClassError

#: Turns one Torch7 object into a module; it asks the context for its children and parameters.
Converter = Callable[[LuaObject, "Context"], nn.Module]


@dataclass(frozen=True)
class Note:
    """Something decided for an old or odd file, worth telling its owner."""

    path: str
    class_name: str
    text: str


@dataclass(frozen=True)
class ConvertedLayer:
    """One Torch7 object and the module that it became."""

    path: str
    source: LuaObject
    module: nn.Module


@dataclass
class Context:
    """One run of `convert`: what is shared between its converters.

    Attributes:
        find_converter: the converter of a class name, None for a class that has none.
        path: Lua path of the object that is being converted, such as `model.modules[3]`.
        layers: what has been converted, children before parents.
        notes: what was decided where a file leaves something open.
        unknown: class name → paths of the objects that no converter takes.
    """

    find_converter: Callable[[str], Converter | None]
    path: str = "model"
    layers: list[ConvertedLayer] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    unknown: dict[str, list[str]] = field(default_factory=dict)
    _modules: dict[int, nn.Module] = field(default_factory=dict)
    _parameters: dict[tuple[Any, ...], tuple[nn.Parameter, np.ndarray]] = field(
        default_factory=dict
    )
    _settled: set[int] = field(default_factory=set)
    _current: LuaObject | None = None
    _fields: dict[str, str] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Record a decision about the object that is being converted."""
        class_name = self._current.class_name if self._current else ""
        self.notes.append(Note(self.path, class_name, text))

    def error(self, problem: str) -> ConversionError:
        """An error at the object that is being converted."""
        return ConversionError(problem, self.path)

    def convert(self, value: Any, step: str) -> nn.Module:
        """The module of a child object; an object met twice gives the same module.

        Args:
            value: the child, an nn object.
            step: the child's place in its parent, such as `.modules[1]`.

        Raises:
            ConversionError: when it is no object, or lacks a field that its class must have.
        """
        parent, current = self.path, self._current
        self.path = parent + step
        try:
            if not isinstance(value, LuaObject):
                raise self.error(f"a Torch7 module was expected, not {type(value).__name__}")
            if id(value) not in self._modules:
                self._current = value
                self._modules[id(value)] = self._convert_new(value)
            return self._modules[id(value)]
        finally:
            self.path, self._current = parent, current

    def children(self, source: LuaObject, field_name: str = "modules") -> list[nn.Module]:
        """The converted modules of a container, in order."""
        table = source.get(field_name)
        if not isinstance(table, LuaTable):
            raise self.error(f"{source.class_name} has no table {field_name!r}")
        return [
            self.convert(child, f".{field_name}[{index}]")
            for index, child in enumerate(table.to_list(), 1)
        ]

    def fill(self, module: nn.Module, **arrays: np.ndarray | None) -> nn.Module:
        """Give a module (made on the `meta` device) its parameters and buffers.

        Arrays are taken in the shape that the module declares; two modules that hold the same
        memory in the file share one parameter. Half precision becomes float32.

        Args:
            module: the module; every tensor of it that is not named here must be computable.
            arrays: its parameters and buffers by name; `None` leaves one out.

        Raises:
            ConversionError: when an array has another number of elements than the module needs.
        """
        for name, array in arrays.items():
            if array is None:
                continue
            declared = getattr(module, name)
            if array.size != declared.numel():
                raise self.error(
                    f"{name} has {array.size} numbers (shape {tuple(array.shape)}), "
                    f"{tuple(declared.shape)} was expected"
                )
            if isinstance(declared, nn.Parameter):
                module.register_parameter(name, self.parameter(array, tuple(declared.shape)))
            else:
                module.register_buffer(name, _floating(array).reshape(declared.shape))
        if "num_batches_tracked" in dict(module.named_buffers(recurse=False)):
            module.register_buffer("num_batches_tracked", torch.tensor(0))
        return module

    def parameter(self, array: np.ndarray, shape: tuple[int, ...] | None = None) -> nn.Parameter:
        """The parameter that holds an array's numbers; the same memory gives the same parameter."""
        shape = tuple(array.shape) if shape is None else shape
        address = array.__array_interface__["data"][0]
        key = (address, array.dtype.str, array.shape, array.strides, shape)
        if key not in self._parameters:
            parameter = nn.Parameter(_floating(array).reshape(shape))
            # The array is kept with it: a converter's own would be freed, its address used again.
            self._parameters[key] = parameter, array
        return self._parameters[key][0]

    def finish(self) -> None:
        """Check that nothing was left out.

        Raises:
            UnknownClassError: when any object has no converter; it names them all.
        """
        if self.unknown:
            raise UnknownClassError(self.unknown, self._fields)

    def _convert_new(self, source: LuaObject) -> nn.Module:
        converter = self.find_converter(source.class_name)
        if converter is None:
            return self._skip_unknown(source)
        try:
            module = converter(source, self)
        except KeyError as error:
            raise self.error(f"{source.class_name} has no field {error.args[0]!r}") from error
        for part in module.modules():
            if id(part) not in self._settled:
                # As saved; a module that was never told is in training mode, as in Module.lua.
                part.training = source.get("train", True) is not False
                self._settled.add(id(part))
        self.layers.append(ConvertedLayer(self.path, source, module))
        return module

    def _skip_unknown(self, source: LuaObject) -> nn.Module:
        """Remember an unknown object, look for more inside it, and go on."""
        if not self.unknown:
            self._fields = {str(key): _kind(value) for key, value in source.fields.items()}
        self.unknown.setdefault(source.class_name, []).append(self.path)
        if isinstance(source.get("modules"), LuaTable):
            self.children(source)
        return nn.Identity()


def _floating(array: np.ndarray) -> torch.Tensor:
    result = tensor(array)
    return result.float() if result.dtype == torch.float16 else result


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{getattr(value, 'torch_class', 'array')} {'×'.join(map(str, value.shape))}"
    if isinstance(value, LuaObject):
        return value.class_name
    return f"table of {len(value)}" if isinstance(value, LuaTable) else repr(value)
