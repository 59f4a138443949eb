"""The modules in a value, each with its place, settings, parameters and attribution of the bytes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import T7Error
from ..model import find_model, is_module, root_path
from ..paths import children, path_step
from ..values import LuaFunction, LuaObject, LuaTable, TorchArray
from .settings import settings
from .storage_usage import Bytes, TensorUse, attribute_bytes

#: Parameters of torch/nn, for files whose gradients were thrown away; a gradient names any other.
_PARAMETERS = {"weight", "bias", "v", "g", "diagCov"}
_NO_PARAMETERS = {"input", "output"}
#: Containers that become one PyTorch module: what is inside them has no path there.
_INDIVISIBLE = {"nn.CReLU", "nn.NormStabilizer", "nn.WeightNorm"}
_CHILD = re.compile(r"\.modules\[(\d+)\]")
_CONTAINERS = {LuaTable, LuaObject, LuaFunction, TorchArray}


@dataclass
class Layer:
    """One module (layer, container or criterion) of a file.

    Attributes:
        path: Lua path from the file's value: `model.modules[1].modules[3]`.
        get: the same in Lua's calls, `model:get(1):get(3)`; None where it is no container's child.
        torch_path: path in the converted model: `0.2`; "" for a model itself, None where unknown.
        depth: how many modules it stands in.
        class_name: `nn.SpatialConvolution`.
        settings: `3→64, 11×11, stride 4, pad 2`.
        shapes: shapes of its own parameters by name.
        parameters: how many numbers these have.
        bytes: what the file spends on its tensors, those of modules inside it not counted.
        same_as: path of the place where the same module stands first, if it stands there again.
    """

    path: str
    get: str | None
    torch_path: str | None
    depth: int
    class_name: str
    settings: str
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    parameters: int = 0
    bytes: Bytes = field(default_factory=Bytes)
    same_as: str | None = None


@dataclass
class ModuleInventory:
    """Everything with numbers in a value.

    Attributes:
        layers: the modules, parents before children, in the order of the containers.
        parameters: distinct numbers among all parameters: shared ones count once.
        outside: what the file spends on tensors outside every module.
    """

    layers: list[Layer] = field(default_factory=list)
    parameters: int = 0
    outside: Bytes = field(default_factory=Bytes)


def list_modules(value: Any) -> ModuleInventory:
    """The modules and tensors of a value, found without looking at a tensor's numbers.

    The file's model comes first (see `find_model`), whatever else refers to parts of it.
    """
    inventory = ModuleInventory()
    layers, uses = inventory.layers, list[TensorUse]()
    # By identity; the values are kept so that no identity is used twice.
    seen: dict[int, Any] = {}
    numbers: dict[int, int] = {}
    waiting = _start(value)
    while waiting:
        place = waiting.pop()
        value = place.value
        if id(value) in seen:
            if id(value) in numbers and _child_number(place, layers) is not None:
                again = _layer(place, layers)
                again.same_as = layers[numbers[id(value)]].path
                layers.append(again)
            continue
        seen[id(value)] = value
        if isinstance(value, TorchArray):
            uses.append(TensorUse(value, place.owner, place.group))
            continue
        if is_module(value):
            numbers[id(value)] = len(layers)
            layer = _layer(place, layers)
            layer.shapes = _parameter_shapes(value)
            layer.parameters = sum(map(math.prod, layer.shapes.values()))
            layers.append(layer)
            place = replace(place, owner=numbers[id(value)], group="buffers")
        waiting += reversed(list(_inside(place)))
    for attribution in attribute_bytes(uses):
        owner = attribution.use.owner
        spent = inventory.outside if owner is None else layers[owner].bytes
        spent.add(attribution.use.group, attribution.bytes)
        inventory.parameters += attribution.numbers if attribution.use.group == "weights" else 0
    return inventory


@dataclass(frozen=True)
class _Place:
    """A value on the way through the file: its path, the module it stands in, its group there."""

    value: Any
    path: str
    owner: int | None = None
    group: str = "other"


def _start(value: Any) -> list[_Place]:
    """Where to begin: the last is the first to be looked at."""
    whole = _Place(value, root_path(value))
    try:
        return [whole, _Place(*find_model(value))]
    except T7Error:
        return [whole]


def _inside(place: _Place) -> Iterator[_Place]:
    """What stands in a table, instance or function and may hold tensors; child modules first."""
    found = children(place.value)
    if _CONTAINERS.isdisjoint(map(type, found.values())):
        return
    items = found.items()
    if "modules" in found:
        # A key may be a tensor, which would compare number by number.
        items.sort(key=lambda item: not (isinstance(item[0], str) and item[0] == "modules"))
    for key, value in items:
        if type(value) in _CONTAINERS:
            group = place.group
            if place.owner is not None and isinstance(key, str):
                group = _group(key, found) or group
            path = (place.path + path_step(key)).removeprefix(".")
            yield _Place(value, path, place.owner, group)


def _group(name: str, fields: LuaTable) -> str | None:
    """The group that a field's name speaks of, if it does."""
    if name.startswith("running_"):
        return "running_statistics"
    gradient = f"grad{name[:1].upper()}{name[1:]}"
    if name in _PARAMETERS or (gradient in fields and name not in _NO_PARAMETERS):
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
    """Which child of its container a module is, if it is one."""
    if place.owner is None:
        return None
    match = _CHILD.fullmatch(place.path.removeprefix(layers[place.owner].path))
    return int(match[1]) if match else None


def _layer(place: _Place, layers: list[Layer]) -> Layer:
    parent = None if place.owner is None else layers[place.owner]
    number = _child_number(place, layers)
    get, torch_path = (place.path, "") if parent is None else (None, None)
    if parent and number:
        if parent.get is not None:
            get = f"{parent.get}:get({number})"
        if parent.torch_path is not None and parent.class_name not in _INDIVISIBLE:
            torch_path = f"{parent.torch_path}.{number - 1}".removeprefix(".")
    return Layer(
        path=place.path,
        get=get,
        torch_path=torch_path,
        depth=parent.depth + 1 if parent else 0,
        class_name=place.value.class_name,
        settings=settings(place.value),
    )
