"""Modules as `torch.legacy.nn` had them: fields are attributes, `forward` takes no autograd."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Set
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from ..modules.conversion import Conversion, convert_recorded
from ..modules.registry import is_registered
from ..t7 import LuaFunction, LuaObject, LuaTable
from .legacy_fields import lua_fields, python_fields
from .torchfile import TorchObject

#: Fields with results of former passes, which say nothing of what a module computes.
_RESULTS = frozenset({"output", "gradInput", "gradWeight", "gradBias"})

_TENSOR_TYPES = {
    "torch.FloatTensor": torch.float32,
    "torch.DoubleTensor": torch.float64,
    "torch.HalfTensor": torch.float16,
}


class Module:
    """A Torch7 module: what `load_lua` makes of an instance of a class with a converter.

    The fields of the file are attributes, children are in `modules`, which counts from 0. Fields
    may be changed, also weights in place: `forward` computes with what they are. `type(module)` has
    the name of the class, such as `SpatialConvolution`.
    """

    _class_name = "nn.Module"
    modules: list[Any]
    train: bool
    output: Any

    def set_lua_fields(self, fields: Any) -> None:
        """Set the attributes from the fields of a file, with torch tensors."""
        entries = fields if isinstance(fields, dict) else {}
        vars(self).update(python_fields(type(self).__name__, entries))

    def forward(self, input: Any) -> Any:
        """Return the output; each module's is in its attribute `output` too.

        Args:
            input: A tensor, or a list of inputs.

        Raises:
            ConversionError: If the module, with the attributes it has now, cannot compute.
        """
        network = _network(self)
        with torch.no_grad():
            self.output = network.module(input)
        return self.output

    updateOutput = __call__ = forward  # noqa: N815 - PyTorch's name

    def evaluate(self) -> Module:
        """Put this module and those in it into evaluation mode."""
        return self._set_mode(False)

    def training(self) -> Module:
        """Put this module and those in it into training mode."""
        return self._set_mode(True)

    def _set_mode(self, train: bool) -> Module:
        for module in self.listModules():
            module.train = train
        return self

    def get(self, index: int) -> Any:
        """Return a child; the first is 0."""
        return self.modules[index]

    def size(self) -> int:
        """Return how many children there are."""
        return len(self.modules)

    __len__ = size

    def __bool__(self) -> bool:
        return True

    def add(self, module: Any) -> Module:
        """Add a child at the end."""
        self.modules.append(module)
        return self

    def insert(self, module: Any, index: int) -> None:
        """Add a child before another one."""
        self.modules.insert(index, module)

    def remove(self, index: int = -1) -> None:
        """Remove a child, the last one by default."""
        del self.modules[index]

    def listModules(self) -> list[Module]:  # noqa: N802
        """Return this module and all in it, each once, parents first."""
        return [item for item in _walk(self) if isinstance(item, Module)]

    def findModules(self, typename: str) -> list[Module]:  # noqa: N802
        """Return the modules of a class, such as `nn.Linear` or `Linear`."""
        names = (typename, typename.removeprefix("nn."))
        found = self.listModules()
        return [module for module in found if type(module).__name__ in names]

    def apply(self, callback: Callable[[Module], Any]) -> None:
        """Call a function with this module and all in it."""
        for module in self.listModules():
            callback(module)

    def parameters(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return the weights and the gradients in the file, each a list."""
        modules = self.listModules()
        return _tensors(modules, ("weight", "bias")), _tensors(modules, ("gradWeight", "gradBias"))

    def type(self, type: str | None = None) -> Any:
        """Convert all floating-point tensors in place: `torch.FloatTensor`; None tells the type.

        Raises:
            ValueError: If it is no type of floating-point tensors.
        """
        if type is None:
            return getattr(self, "_type", "torch.DoubleTensor")
        if type not in _TENSOR_TYPES:
            raise ValueError(f"{type!r} is none of {', '.join(_TENSOR_TYPES)}")
        self._convert(lambda tensor: tensor.to(_TENSOR_TYPES[type]))
        for module in self.listModules():
            vars(module)["_type"] = type
        return self

    def float(self) -> Module:
        """Convert all floating-point tensors to float32, in place."""
        self.type("torch.FloatTensor")
        return self

    def double(self) -> Module:
        """Convert all floating-point tensors to float64, in place."""
        self.type("torch.DoubleTensor")
        return self

    def cuda(self) -> Module:
        """Convert all floating-point tensors to float32 and move all to the GPU, in place."""
        self.float()
        return self._convert(lambda tensor: tensor.cuda())

    def cpu(self) -> Module:
        """Move all tensors to the CPU, in place."""
        return self._convert(lambda tensor: tensor.cpu())

    def _convert(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Module:
        changed: dict[int, torch.Tensor] = {}
        kept: list[torch.Tensor] = []

        def convert(value: Any) -> Any:
            if not torch.is_tensor(value) or not value.is_floating_point():
                return value
            if id(value) not in changed:
                kept.append(value)
                changed[id(value)] = change(value)
            return changed[id(value)]

        for item in list(_walk(self)):
            entries = item if isinstance(item, (dict, list)) else vars(item)
            keys = range(len(entries)) if isinstance(entries, list) else list(entries)
            for key in keys:
                entries[key] = convert(entries[key])
        return self

    def clone(self) -> Module:
        """Return a copy with tensors of its own."""
        return copy.deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != _NETWORK}

    def __repr__(self) -> str:
        children = vars(self).get("modules")
        if not isinstance(children, list):
            return f"nn.{type(self).__name__}"
        lines = [f"  ({i}): {child!r}".replace("\n", "\n  ") for i, child in enumerate(children)]
        return "\n".join([f"nn.{type(self).__name__} {{", *lines, "}"])


#: The attribute that keeps a module's converted network.
_NETWORK = "_torchlift_network"

#: The attributes that do not change what a module computes.
_HIDDEN = _RESULTS | {_NETWORK}

_classes: dict[str, type[Module]] = {}


def is_module_class(class_name: str) -> bool:
    """Return whether instances of a Torch7 class are modules that can compute."""
    return is_registered(class_name)


def new_module(item: LuaObject) -> Module:
    """Return a module without attributes, of a class with the name of the object's."""
    if item.class_name not in _classes:
        name = item.class_name.rpartition(".")[2]
        _classes[item.class_name] = type(name, (Module,), {"_class_name": item.class_name})
    return _classes[item.class_name]()


def _tensors(modules: list[Module], names: tuple[str, ...]) -> list[torch.Tensor]:
    values = [vars(module).get(name) for module in modules for name in names]
    return [value for value in values if torch.is_tensor(value)]


def _walk(root: Any, hidden: Set[str] = frozenset({_NETWORK})) -> Iterator[Any]:
    """Yield every module, unknown object, table and list in a value, each once, parents first.

    Args:
        root: The value.
        hidden: The attributes that are left out.
    """
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        item = waiting.pop()
        if id(item) in seen or not isinstance(item, (Module, TorchObject, dict, list, tuple)):
            continue
        seen.add(id(item))
        if not isinstance(item, tuple):
            yield item
        if isinstance(item, (Module, TorchObject)):
            inside = [value for name, value in vars(item).items() if name not in hidden]
        else:
            inside = list(item.values()) if isinstance(item, dict) else list(item)
        waiting += inside[::-1]


class _Network:
    """The converted network of a module, with the module's own tensors as its parameters.

    Attributes:
        key: What the module's attributes were (see `_key`).
        module: The converted network; each layer writes the attribute `output` of its module.
    """

    def __init__(self, root: Module) -> None:
        self.key = _key(root)
        objects: dict[int, Any] = {}
        tensors: dict[int, torch.Tensor] = {}
        conversion = convert_recorded(_lua_value(root, objects, tensors))
        self.module = conversion.module
        _share(conversion, tensors)
        legacy = {id(made): item for item, made in objects.values()}
        for layer in conversion.layers:
            if isinstance(module := legacy.get(id(layer.source)), Module):
                layer.module.register_forward_hook(partial(_keep_output, module))


def _network(root: Module) -> _Network:
    network = vars(root).get(_NETWORK)
    if network is None or network.key != _key(root):
        network = vars(root)[_NETWORK] = _Network(root)
    return network


def _keep_output(target: Module, layer: nn.Module, inputs: Any, output: Any) -> None:
    target.output = output


def _key(root: Module) -> tuple[Any, ...]:
    """Return what the attributes of all modules in a module are: equal where nothing changed."""
    key: list[Any] = []
    for item in _walk(root, _HIDDEN):
        key.append(id(item))
        entries = enumerate(item) if isinstance(item, list) else _entries(item)
        for name, value in entries:
            if torch.is_tensor(value):
                key += [name, id(value), value.data_ptr(), value.dtype, value.shape]
            else:
                key += [name, value if isinstance(value, (bool, int, float, str)) else id(value)]
    return tuple(key)


def _entries(item: Any) -> list[tuple[Any, Any]]:
    if isinstance(item, dict):
        return list(item.items())
    return [(name, value) for name, value in vars(item).items() if name not in _HIDDEN]


def _lua_value(value: Any, objects: dict[int, Any], tensors: dict[int, torch.Tensor]) -> Any:
    """Return the value of `converters.t7` that a value was made of.

    Args:
        value: A module or anything in one.
        objects: Filled with the id of each object → the object and what it was made of.
        tensors: Filled with the id of each array → the tensor whose memory it is.
    """
    if id(value) in objects:
        return objects[id(value)][1]
    again = partial(_lua_value, objects=objects, tensors=tensors)
    if torch.is_tensor(value):
        array = value.detach().cpu().numpy()
        objects[id(value)], tensors[id(array)] = (value, array), value
        return array
    if isinstance(value, torch.Size):
        return np.array(value, np.int64)
    if isinstance(value, (Module, TorchObject)):
        if isinstance(value, Module):
            name = value._class_name
            fields: Any = lua_fields(type(value).__name__, dict(_entries(value)))
        else:
            name, fields = str(value.torch_typename()), value._obj
        made = LuaObject(name, version=2)
        objects[id(value)] = value, made
        made.fields = again(fields) if isinstance(fields, dict) else LuaTable()
        made.body = [made.fields]
        return made
    if isinstance(value, (dict, list, tuple)):
        table = LuaTable()
        objects[id(value)] = value, table
        for key, item in value.items() if isinstance(value, dict) else enumerate(value, 1):
            table[again(key)] = again(item)
        return table
    return value if isinstance(value, (bool, int, float, str, bytes, LuaFunction)) else None


def _share(conversion: Conversion, tensors: dict[int, torch.Tensor]) -> None:
    """Give parameters and buffers the memory of the tensors that their values come from.

    So that a weight that is changed in place is changed in the network. What a converter computed
    from several tensors keeps its own.
    """
    named = [*conversion.module.named_parameters(), *conversion.module.named_buffers()]
    for _, parameter in named:
        array = conversion.arrays.get(id(parameter))
        tensor = None if array is None else tensors.get(id(array))
        if tensor is not None and tensor.dtype == parameter.dtype and tensor.is_contiguous():
            parameter.data = tensor.detach().view(parameter.shape)
