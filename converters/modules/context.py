"""The context of a conversion: what converters share, and the methods that they call."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import nn

from ..expanded import expanded_elements
from ..t7 import LuaFunction, LuaObject, LuaTable
from ..t7.tensors import tensor
from .errors import ConversionError, MissingFieldError, UnknownClass, UnknownClassError
from .fields import ReadFields, describe_value
from .shared_memory import SharedMemory

if TYPE_CHECKING:
    from .registry import Registration

#: Levels of modules in modules. Real networks have some ten; Python's stack ends at some hundred.
MAX_DEPTH = 100
#: Elements that the expanded tensors of a model may have beyond those in the file.
MAX_EXPANDED = 2**22
#: The highest version of a class of Torch7 (nn.LookupTable's).
MAX_VERSION = 4
_FILE_TYPES = (LuaObject, LuaTable, LuaFunction, np.ndarray)
#: Packages whose layers have arguments that are JSON values.
_OWN_PACKAGES = ("torch", __name__.partition(".")[0])
#: Most fields that one message names.
_MAX_NAMED = 8

_Choice = TypeVar("_Choice")

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
        find: Returns the registration of an object's converter, None if there is none.
        path: Lua path of the object that is being converted, such as `model.modules[3]`.
        layers: The objects converted so far, children before parents.
        notes: Decisions where the file leaves something open.
        unknown: The classes without a converter, by their names.
        problems: Errors of objects whose classes have one, in the order of the conversion.
        arrays: The id of a parameter or buffer → the array that its values come from.
    """

    find: Callable[[LuaObject], Registration | None]
    path: str = "model"
    layers: list[ConvertedLayer] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    unknown: dict[str, UnknownClass] = field(default_factory=dict)
    problems: list[ConversionError] = field(default_factory=list)
    arrays: dict[int, np.ndarray] = field(default_factory=dict)
    _modules: dict[int, nn.Module] = field(default_factory=dict)
    _parameters: dict[tuple[Any, ...], tuple[nn.Parameter, np.ndarray]] = field(
        default_factory=dict
    )
    _last_steps: dict[Callable[[Context], None], None] = field(default_factory=dict)
    _memory: SharedMemory = field(default_factory=SharedMemory)
    _settled: set[int] = field(default_factory=set)
    _open: dict[int, str] = field(default_factory=dict)
    _expanded: int = 0
    _current: LuaObject | None = None

    def note(self, text: str) -> None:
        """Record a decision about the object that is being converted."""
        class_name = self._current.class_name if self._current else ""
        self.notes.append(Note(self.path, class_name, text))

    def when_done(self, step: Callable[[Context], None]) -> None:
        """Have a function called once when all objects are converted, to change their modules.

        It is for a layer that changes others: the objects and their modules are `layers`.
        """
        self._last_steps[step] = None

    def error(self, problem: str) -> ConversionError:
        """Return an error at the object that is being converted."""
        return ConversionError(problem, self.path)

    def choice(self, source: LuaObject, name: str, choices: Collection[_Choice]) -> _Choice:
        """Return a field whose value decides what a layer computes; the first choice if it is nil.

        Raises:
            ConversionError: The value is none of the choices.
        """
        value = source.get(name)
        for known in choices:
            if value is None or (type(value) is type(known) and value == known):
                return known
        raise self.error(
            f"{source.class_name} with {name} = {describe_value(value)} is not known; known are "
            f"{', '.join(map(repr, choices))}"
        )

    def convert(self, value: Any, step: str) -> nn.Module:
        """Convert a child object; the same object always gives the same module.

        Args:
            value: The child, an nn object.
            step: Path from the parent to the child, such as `.modules[1]`.

        Raises:
            ConversionError: The value is not an object, holds itself, or cannot be converted.
        """
        parent, current = self.path, self._current
        self.path = parent + step
        try:
            if not isinstance(value, LuaObject):
                raise self.error(f"a Torch7 module was expected, not {type(value).__name__}")
            if id(value) not in self._modules:
                self._enter(value)
                self._current = value
                self._modules[id(value)] = self._convert_new(value)
                del self._open[id(value)]
            return self._modules[id(value)]
        finally:
            self.path, self._current = parent, current

    def _enter(self, value: LuaObject) -> None:
        """Record that the conversion of an object has begun."""
        if id(value) in self._open:
            raise self.error(f"this is {self._open[id(value)]}, which holds itself")
        if len(self._open) == MAX_DEPTH:
            path = f"{self.path[:40]}…{self.path[-20:]}"
            raise ConversionError(f"more than {MAX_DEPTH} modules, one in another", path)
        self._open[id(value)] = self.path

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
        """Check that every object was converted, and take the last steps (see `when_done`).

        Args:
            is_registered: Returns whether a class has a converter, whatever its fields are.

        Raises:
            UnknownClassError: Some object's class has none; the error names all of them, and what
                is wrong with others.
            ConversionError: An object cannot be converted: the first one.
        """
        if self.unknown:
            classes = list(self.unknown.values())
            # What holds an unknown object may fail because of it.
            paths = [path for known in classes for path in known.paths]
            others = [
                problem
                for problem in self.problems
                if not any(path.startswith(problem.path or "") for path in paths)
            ]
            raise UnknownClassError(classes, is_registered(classes[0].class_name), others)
        if self.problems:
            raise self.problems[0]
        for step in self._last_steps:
            step(self)

    def _convert_new(self, source: LuaObject) -> nn.Module:
        """Convert an object; where that fails, record why and return a placeholder.

        The conversion goes on, so that one error names all unknown classes of a file.
        """
        try:
            return self._convert_known(source)
        except MissingFieldError as error:
            return self._skip_unknown(source, error.problem)
        except ConversionError as error:
            error.path = error.path or self.path
            self.problems.append(error)
            return nn.Identity()

    def _convert_known(self, source: LuaObject) -> nn.Module:
        found = self.find(source)
        if found is None:
            return self._skip_unknown(source)
        if isinstance(source.version, int) and source.version > MAX_VERSION:
            raise self.error(
                f"version {source.version} of {source.class_name} is not known: Torch7's classes "
                f"have versions up to {MAX_VERSION}"
            )
        is_renamed = source.class_name not in found.names
        fields = ReadFields(source.fields, self._check_expanded)
        module = self._call(found.converter, LuaObject(source.class_name, fields, source.version))
        fields.ignore(found.ignored)
        unread = fields.unread(self._modules)
        if is_renamed:
            if unread:
                return self._skip_unknown(source)
            self.note(f"{found.names[0]} under another name: it has the same fields")
        elif unread:
            self.note(f"fields that are not used: {_listed(unread)}")
        self._settle(module, training=source.get("train", True) is not False)
        self.layers.append(ConvertedLayer(self.path, source, module))
        return module

    def _call(self, converter: Converter, source: LuaObject) -> nn.Module:
        """Call a converter; whatever it raises for a damaged object is a ConversionError."""
        try:
            return converter(source, self)
        except ConversionError as error:
            error.path = error.path or self.path
            raise
        except Exception as error:  # its fields may hold anything
            name = error.args[0] if isinstance(error, KeyError) and error.args else None
            if isinstance(name, str) and name not in source.fields:
                raise MissingFieldError(source.class_name, name) from error
            raise self.error(_explain(error, source)) from error

    def _settle(self, module: nn.Module, training: bool) -> None:
        """Set the mode of a new module and of the new ones in it.

        As in Module.lua, a module without the field `train` is in training mode.
        """
        waiting = [module]
        while waiting:
            part = waiting.pop()
            if id(part) not in self._settled:
                self._settled.add(id(part))
                part.training = training
                self._check_arguments(part)
                waiting += part.children()

    def _check_arguments(self, module: nn.Module) -> None:
        """Check that a layer of PyTorch's or of ours was given numbers, not a file's objects."""
        if type(module).__module__.partition(".")[0] not in _OWN_PACKAGES:
            return
        for name, value in vars(module).items():
            items = value if isinstance(value, (list, tuple)) else (value,)
            for item in items:
                if isinstance(item, _FILE_TYPES):
                    raise self.error(f"{name} is {describe_value(item)}, a number was expected")

    def _check_expanded(self, array: np.ndarray) -> None:
        self._expanded += expanded_elements(array)
        if self._expanded > MAX_EXPANDED:
            raise self.error(
                f"a tensor of {'×'.join(map(str, array.shape))} elements is expanded from fewer: "
                f"the expanded tensors of a model may have {MAX_EXPANDED:,} elements"
            )

    def _skip_unknown(self, source: LuaObject, problem: str = "") -> nn.Module:
        """Record an object without a converter, convert its children, and return a placeholder."""
        if known := self.unknown.get(source.class_name):
            known.paths.append(self.path)
        else:
            described = {str(key): describe_value(value) for key, value in source.fields.items()}
            parts = [
                key
                for key, value in source.fields.items()
                if isinstance(value, LuaObject)
                and isinstance(key, str)
                and (key.isidentifier() and self._has_converter(value))
            ]
            self.unknown[source.class_name] = UnknownClass(
                source.class_name, described, [self.path], parts, problem
            )
        if isinstance(source.get("modules"), LuaTable):
            self.children(source)
        return nn.Identity()

    def _has_converter(self, value: LuaObject) -> bool:
        try:
            return self.find(value) is not None
        except ConversionError:
            return False


def _explain(error: Exception, source: LuaObject) -> str:
    """Say what a converter met in an object, and in which field."""
    problem = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
    read = _listed(source.fields.described_reads()) if isinstance(source.fields, ReadFields) else ""
    where = f" (from {read})" if read else ""
    return f"{source.class_name} cannot be converted: {problem or type(error).__name__}{where}"


def _listed(fields: list[str]) -> str:
    others = f" and {len(fields) - _MAX_NAMED} more" if len(fields) > _MAX_NAMED else ""
    return ", ".join(fields[:_MAX_NAMED]) + others


def _floating(array: np.ndarray) -> torch.Tensor:
    """Return an array as a tensor; half precision becomes float32."""
    result = tensor(array)
    return result.float() if result.dtype == torch.float16 else result
