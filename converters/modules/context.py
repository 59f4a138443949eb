"""The context of a conversion: what converters share, and the methods that they call."""

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
from .shared_memory import SharedMemory

#: Converts one Torch7 object to a module; the context converts its children and parameters.
Converter = Callable[[LuaObject, "Context"], nn.Module]


@dataclass(frozen=True)
class Note:
    """A decision about an old or unusual file, which its owner should know.

    Attributes:
        path: Lua path of the object.
        class_name: Lua class of the object.
        text: The decision.
    """

    path: str
    class_name: str
    text: str


@dataclass(frozen=True)
class ConvertedLayer:
    """A Torch7 object and the module that it was converted to.

    Attributes:
        path: Lua path of the object, such as `model.modules[3]`.
        source: The object.
        module: The module.
    """

    path: str
    source: LuaObject
    module: nn.Module


@dataclass
class Context:
    """The state of one conversion, shared by its converters.

    Attributes:
        find_converter: Function that returns the converter of an object, None if there is none.
        path: Lua path of the object that is being converted, such as `model.modules[3]`.
        layers: The objects converted so far, children before parents.
        notes: Decisions where the file leaves something open.
        unknown: Class name → paths of the objects without a converter.
        arrays: The id of a parameter or buffer → the array that its values come from.
    """

    find_converter: Callable[[LuaObject], Converter | None]
    path: str = "model"
    layers: list[ConvertedLayer] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    unknown: dict[str, list[str]] = field(default_factory=dict)
    arrays: dict[int, np.ndarray] = field(default_factory=dict)
    _modules: dict[int, nn.Module] = field(default_factory=dict)
    _parameters: dict[tuple[Any, ...], tuple[nn.Parameter, np.ndarray]] = field(
        default_factory=dict
    )
    _memory: SharedMemory = field(default_factory=SharedMemory)
    _settled: set[int] = field(default_factory=set)
    _current: LuaObject | None = None
    _fields: dict[str, str] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Record a decision about the object that is being converted."""
        class_name = self._current.class_name if self._current else ""
        self.notes.append(Note(self.path, class_name, text))

    def error(self, problem: str) -> ConversionError:
        """Return an error at the object that is being converted."""
        return ConversionError(problem, self.path)

    def convert(self, value: Any, step: str) -> nn.Module:
        """Convert a child object; the same object always gives the same module.

        Args:
            value: The child, an nn object.
            step: Path from the parent to the child, such as `.modules[1]`.

        Raises:
            ConversionError: The value is not an object, or lacks a field that its class requires.
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
        """Convert the modules of a container and return them in order."""
        table = source.get(field_name)
        if not isinstance(table, LuaTable):
            raise self.error(f"{source.class_name} has no table {field_name!r}")
        return [
            self.convert(child, f".{field_name}[{index}]")
            for index, child in enumerate(table.to_list(), 1)
        ]

    def fill(self, module: nn.Module, **arrays: np.ndarray | None) -> nn.Module:
        """Set parameters and buffers of a module, which may be on the `meta` device.

        Arrays are reshaped to the shapes that the module declares. Two modules whose arrays are the
        same memory in the file share one parameter. Half precision becomes float32.

        Args:
            module: The module; its tensors that are not named here must already have values.
            arrays: Parameters and buffers by name; `None` skips one.

        Returns:
            The module.

        Raises:
            ConversionError: An array has the wrong number of elements.
        """
        for name, array in arrays.items():
            if array is None:
                continue
            declared = getattr(module, name)
            if array.size != declared.numel():
                raise self.error(
                    f"{name} has {array.size} elements (shape {tuple(array.shape)}), "
                    f"but shape {tuple(declared.shape)} was expected"
                )
            if isinstance(declared, nn.Parameter):
                module.register_parameter(name, self.parameter(array, tuple(declared.shape)))
            else:
                module.register_buffer(name, _floating(array).reshape(declared.shape))
                self.arrays[id(getattr(module, name))] = array
        if "num_batches_tracked" in dict(module.named_buffers(recurse=False)):
            module.register_buffer("num_batches_tracked", torch.tensor(0))
        return module

    def parameter(self, array: np.ndarray, shape: tuple[int, ...] | None = None) -> nn.Parameter:
        """Return the parameter with an array's values; the same memory gives the same parameter."""
        shape = tuple(array.shape) if shape is None else shape
        address = array.__array_interface__["data"][0]
        key = (address, array.dtype.str, array.shape, array.strides, shape)
        if key not in self._parameters:
            parameter = nn.Parameter(_floating(array).reshape(shape))
            # Keep the array: the address of one that is freed may be used by another.
            self._parameters[key] = parameter, array
            self.arrays[id(parameter)] = array
            self._note_overlap(array)
        return self._parameters[key][0]

    def _note_overlap(self, array: np.ndarray) -> None:
        """Say it where two parameters are one piece of memory seen in two ways."""
        other = self._memory.add(array, self.path) if array.size else None
        if other is not None:
            self.note(
                f"shares memory with {other} in another layout (such as a transposed weight): the "
                "values are equal here, but they are two parameters, which training changes apart"
            )

    def finish(self, is_registered: Callable[[str], bool]) -> None:
        """Check that every object has a converter.

        Args:
            is_registered: Returns whether a class has a converter, whatever its fields are.

        Raises:
            UnknownClassError: Some object has none; the error names all of them.
        """
        if self.unknown:
            is_taken = is_registered(next(iter(self.unknown)))
            raise UnknownClassError(self.unknown, self._fields, is_taken)

    def _convert_new(self, source: LuaObject) -> nn.Module:
        try:
            converter = self.find_converter(source)
        except ConversionError as error:
            raise self.error(error.problem) from None
        if converter is None:
            return self._skip_unknown(source)
        try:
            module = converter(source, self)
        except KeyError as error:
            raise self.error(f"{source.class_name} has no field {error.args[0]!r}") from error
        for part in module.modules():
            if id(part) not in self._settled:
                # As in Module.lua, a module without the field `train` is in training mode.
                part.training = source.get("train", True) is not False
                self._settled.add(id(part))
        self.layers.append(ConvertedLayer(self.path, source, module))
        return module

    def _skip_unknown(self, source: LuaObject) -> nn.Module:
        """Record an object without a converter, convert its children, and return a placeholder."""
        if not self.unknown:
            self._fields = {str(key): _kind(value) for key, value in source.fields.items()}
        self.unknown.setdefault(source.class_name, []).append(self.path)
        if isinstance(source.get("modules"), LuaTable):
            self.children(source)
        return nn.Identity()


def _floating(array: np.ndarray) -> torch.Tensor:
    """Return an array as a tensor; half precision becomes float32."""
    result = tensor(array)
    return result.float() if result.dtype == torch.float16 else result


def _kind(value: Any) -> str:
    """Describe a field's value by its class and size."""
    if isinstance(value, np.ndarray):
        return f"{getattr(value, 'torch_class', 'array')} {'×'.join(map(str, value.shape))}"
    if isinstance(value, LuaObject):
        return value.class_name
    return f"table of {len(value)}" if isinstance(value, LuaTable) else repr(value)
