"""List the modules in a value, with their paths, settings, parameters and bytes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import T7Error
from ..model import find_model, is_module, is_parameter, root_path
from ..paths import children, path_step
from ..values import LuaFunction, LuaObject, LuaTable, TorchArray
from .settings import settings
from .storage_usage import Bytes, TensorUse, attribute_bytes

#: Containers that become one PyTorch module, or modules in another order: the modules inside have
#: no PyTorch path.
_INDIVISIBLE = {
    *("nn.CReLU", "nn.CategoricalEntropy", "nn.NormStabilizer", "nn.WeightNorm"),
    *("nn.SpatialFovea", "nn.SpatialPyramid"),
}
_CHILD = re.compile(r"\.modules\[(\d+)\]")
#: Levels of modules that are listed with their calls in Lua and their names in PyTorch.
_MAX_DEPTH = 100
#: Longest path; of a longer one the beginning and the end are kept.
_MAX_PATH = 1000
_CONTAINER_TYPES = {LuaTable, LuaObject, LuaFunction, TorchArray}


@dataclass
class Layer:
    """One module (layer, container or criterion) of a file.

    Attributes:
        path: Lua path from the file's value: `model.modules[1].modules[3]`; one of more than 1000
            characters has a … in the middle.
        lua_get: The same as Lua calls, `model:get(1):get(3)`; None unless every module on the path
            is the child of a container, and below 100 levels of modules.
        torch_path: Path in the converted model: `0.2`; "" for a model itself, None if unknown.
        depth: Number of modules that contain it.
        class_name: `nn.SpatialConvolution`.
        settings: `3→64, 11×11, stride 4, pad 2`.
        shapes: Name → shape of each of its own parameters.
        parameters: Number of elements of its own parameters.
        bytes: Bytes of its own tensors, without those of modules inside it.
        same_as: For a repeated module, the path of its first occurrence.
        distinct: Number of those elements of its parameters that no layer before it has.
    """

    path: str
    lua_get: str | None
    torch_path: str | None
    depth: int
    class_name: str
    settings: str
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    parameters: int = 0
    bytes: Bytes = field(default_factory=Bytes)
    same_as: str | None = None
    distinct: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the layer as dicts, lists, strings and numbers."""
        return {
            "lua_path": self.path,
            "lua_get": self.lua_get,
            "torch_path": self.torch_path,
            "lua_class": self.class_name,
            "level": self.depth,
            "settings": self.settings,
            "shapes": [{"name": name, "shape": list(size)} for name, size in self.shapes.items()],
            "parameters": self.parameters,
            "bytes": self.bytes.total,
            "bytes_by_group": self.bytes.to_json(),
            "same_as": self.same_as,
        }


@dataclass
class ModuleInventory:
    """The modules and tensors in a value.

    Attributes:
        layers: The modules, parents before children, in the order of the containers.
        parameters: Number of distinct elements of all parameters: shared ones count once.
        weights: The path and array of each parameter.
        outside: Bytes of tensors outside every module.
    """

    layers: list[Layer] = field(default_factory=list)
    parameters: int = 0
    weights: list[tuple[str, np.ndarray]] = field(default_factory=list)
    outside: Bytes = field(default_factory=Bytes)


def list_modules(value: Any, path: str = "") -> ModuleInventory:
    """List the modules and tensors in a value without reading the tensors.

    The file's model comes first (see `find_model`), even if other values refer to parts of it.

    Args:
        value: A value of a file.
        path: Its path.
    """
    inventory = ModuleInventory()
    layers, uses = inventory.layers, list[TensorUse]()
    # By id; keeping the values makes sure that no id is used twice.
    seen: dict[int, Any] = {}
    layer_indices: dict[int, int] = {}
    stack = _roots(value, path)
    while stack:
        place = stack.pop()
        value = place.value
        if id(value) in seen:
            if id(value) in layer_indices and _child_number(place, layers) is not None:
                repeated = _layer(place, layers)
                repeated.same_as = layers[layer_indices[id(value)]].path
                layers.append(repeated)
            continue
        seen[id(value)] = value
        if isinstance(value, TorchArray):
            uses.append(TensorUse(value, place.owner, place.group))
            continue
        # A class that nobody knows is a layer too where a container has it as one.
        is_child = isinstance(value, LuaObject) and _child_number(place, layers) is not None
        if is_child or is_module(value):
            layer_indices[id(value)] = len(layers)
            layer = _layer(place, layers)
            layer.shapes = _parameter_shapes(value)
            inventory.weights += [
                (f"{layer.path}.{name}".removeprefix("."), value[name]) for name in layer.shapes
            ]
            layer.parameters = sum(map(math.prod, layer.shapes.values()))
            layers.append(layer)
            place = replace(place, owner=layer_indices[id(value)], group="buffers", inside="")
        stack += reversed(list(_inner_places(place)))
    for attribution in attribute_bytes(uses):
        owner, group = attribution.use.owner, attribution.use.group
        counts = inventory.outside if owner is None else layers[owner].bytes
        counts.add(group, attribution.bytes)
        if group == "weights":
            inventory.parameters += attribution.elements
            if owner is not None:
                layers[owner].distinct += attribution.elements
    return inventory


@dataclass(frozen=True)
class _Place:
    """A value during the walk through a file.

    Attributes:
        value: The value.
        path: Its path.
        owner: Index of the module that it is in.
        group: The group of its bytes.
        inside: Its path from that module.
    """

    value: Any
    path: str
    owner: int | None = None
    group: str = "other"
    inside: str = ""


def _roots(value: Any, path: str) -> list[_Place]:
    """Return the places to start from; the last one, the model, is visited first."""
    root = _Place(value, path or root_path(value))
    try:
        return [root, _Place(*find_model(value, path))]
    except T7Error:
        return [root]


def _inner_places(place: _Place) -> Iterator[_Place]:
    """Yield the values in a table, instance or function that may hold tensors, modules first."""
    entries = children(place.value)
    if _CONTAINER_TYPES.isdisjoint(map(type, entries.values())):
        return
    items = entries.items()
    if "modules" in entries:
        # A key may be a tensor, for which == is not a bool.
        items.sort(key=lambda item: not (isinstance(item[0], str) and item[0] == "modules"))
    for key, value in items:
        if type(value) in _CONTAINER_TYPES:
            group = place.group
            if place.owner is not None and isinstance(key, str):
                group = _group(key, entries) or group
            step = path_step(key)
            path = _shortened((place.path + step).removeprefix("."))
            yield _Place(value, path, place.owner, group, _shortened(place.inside + step))


def _shortened(path: str) -> str:
    """Return a path of bounded length, so that thousands of nested values take linear time."""
    return path if len(path) <= _MAX_PATH else f"{path[: _MAX_PATH // 2]}…{path[-_MAX_PATH // 3 :]}"


def _group(name: str, fields: LuaTable) -> str | None:
    """Return the group that a field's name implies, if any."""
    if name.startswith("running_"):
        return "running_statistics"
    if is_parameter(name, fields):
        return "weights"
    return "gradients" if re.match("grad(?!Input|Output)", name) else None


def _parameter_shapes(module: LuaObject) -> dict[str, tuple[int, ...]]:
    shapes = {
        name: value.shape
        for name, value in module.fields.items()
        if isinstance(value, np.ndarray) and _group(str(name), module.fields) == "weights"
    }
    return dict(sorted(shapes.items(), key=lambda item: item[0] != "weight"))


def _child_number(place: _Place, layers: list[Layer]) -> int | None:
    """Return the number of a module in its container, from 1, or None if it has no container."""
    if place.owner is None:
        return None
    match = _CHILD.fullmatch(place.inside)
    return int(match[1]) if match else None


def _layer(place: _Place, layers: list[Layer]) -> Layer:
    parent = None if place.owner is None else layers[place.owner]
    number = _child_number(place, layers)
    lua_get, torch_path = (place.path, "") if parent is None else (None, None)
    if parent and number and parent.depth < _MAX_DEPTH:
        if parent.lua_get is not None:
            lua_get = f"{parent.lua_get}:get({number})"
        if parent.torch_path is not None and parent.class_name not in _INDIVISIBLE:
            torch_path = f"{parent.torch_path}.{number - 1}".removeprefix(".")
    return Layer(
        path=place.path,
        lua_get=lua_get,
        torch_path=torch_path,
        depth=parent.depth + 1 if parent else 0,
        class_name=place.value.class_name,
        settings=settings(place.value),
    )
