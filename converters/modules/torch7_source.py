"""The Torch7 object that a network was converted from, with the network's present values.

A skeleton is that object without the values of the network: its storages are described by the
tensors of the network that they hold (see `torch7_skeleton`). A saved model keeps it, so that the
network is still written with all fields, kinds and classes of the file that it came from.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided
from torch import nn

from ..t7 import LuaFunction, LuaObject, LuaTable, TorchArray
from ..t7.types import STORAGE_DTYPES
from .errors import ConversionError

#: The classes of a skeleton and of the tensors in it.
SKELETON, TENSOR = "torchlift.Skeleton", "torchlift.Tensor"
#: How many times as many elements as the network a storage without values may have.
_LARGEST = 64
#: Classes that hold replicas of one module on several GPUs; the first is written in their place.
_REPLICATED = ("nn.DataParallelTable", "nn.DataParallel")


@dataclass(frozen=True)
class Torch7Source:
    """Where the Torch7 object of a network is; an attribute `torch7_source` of the network.

    Attributes:
        value: The object, or its skeleton.
    """

    value: LuaObject

    def object(self, network: nn.Module) -> LuaObject:
        """Return the object; a skeleton gets the tensors of the network that still fit."""
        if self.value.class_name != SKELETON:
            return self.value
        return materialize(self.value, network.state_dict())

    def __deepcopy__(self, memo: Any) -> Torch7Source:
        return self

    def __reduce__(self) -> Any:
        # A pickled network goes to another process, which does not write it back.
        return (_nothing, ())


def _nothing() -> None:
    return None


def source_of(network: nn.Module) -> Torch7Source | None:
    """Return where the Torch7 object of a network is, None if it was not converted from one."""
    source: Torch7Source | None = getattr(network, "torch7_source", None)
    return source


def submodule_path(path: str, name: str) -> str:
    """Return the path of a submodule, as in a state dict."""
    return f"{path}.{name}" if path else name


def materialize(skeleton: LuaObject, tensors: Mapping[str, torch.Tensor]) -> LuaObject:
    """Return the Torch7 object of a skeleton.

    Args:
        skeleton: What `torch7_skeleton.skeleton` returned.
        tensors: The state dict of the network; a tensor that is missing, or of another size than
            at that time, leaves zeros.

    Raises:
        ConversionError: The skeleton is damaged.
    """
    try:
        # The gradients of a layer that was replaced may be larger than all that is left; a small
        # file still cannot request much memory.
        room = _LARGEST * (2**16 + sum(tensor.numel() for tensor in tensors.values()))
        storages: dict[Any, TorchArray] = {}
        for number, described in skeleton["storages"].items():
            storages[number] = _storage(described, tensors, room)
            room -= 0 if "content" in described else storages[number].size

        def array(value: Any, key: Any) -> Any:
            if not (isinstance(value, LuaObject) and value.class_name == TENSOR):
                return value
            storage = storages[value["storage"]]
            tensor = part_of(storage, value).view(TorchArray)
            tensor.torch_class, tensor.storage = value["class"], storage
            tensor.storage_offset = int(value["offset"])
            return tensor

        return TreeCopy(array).copy(skeleton["object"])  # type: ignore[no-any-return]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConversionError(
            f"the Torch7 object of the saved model is damaged: {error}; convert its .t7 again"
        ) from error


def _storage(described: LuaTable, tensors: Mapping[str, torch.Tensor], room: int) -> TorchArray:
    """Return a storage with the values of the network's tensors."""
    size, content = int(described["size"]), described.get("content")
    if content is None and size > room:
        raise ValueError(f"a storage of {size} elements")
    dtype = STORAGE_DTYPES[described["class"]]
    storage = np.array(np.zeros(size, dtype) if content is None else content).view(TorchArray)
    storage.torch_class = described["class"]
    for place in described["places"].to_list():
        value, view = tensors.get(place["name"]), part_of(storage, place)
        if value is not None and not value.is_meta and value.numel() == view.size:
            view[...] = value.detach().cpu().reshape(view.shape).numpy()
    return storage


def part_of(storage: np.ndarray, place: LuaTable | LuaObject) -> np.ndarray:
    """Return the part of a storage that a place describes.

    Raises:
        ValueError: It is not inside the storage.
    """
    shape, strides = (tuple(map(int, place[name].to_list())) for name in ("shape", "strides"))
    offset = int(place["offset"])
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if min((offset, *shape, *strides)) < 0 or last >= storage.size:
        raise ValueError("a tensor outside its storage")
    steps = tuple(step * storage.itemsize for step in strides)
    return as_strided(np.asarray(storage)[offset:], shape, steps)


@dataclass
class TreeCopy:
    """Copies Torch7 values; what occurs twice stays one value.

    Attributes:
        leaf: Returns what stands for a value, given its key where it is an entry of a table.
        replaced: Objects that others stand for, by their id.
        emptied: Returns what stands for an entry of a table, given its key, whatever stands for the
            same value elsewhere; None for an entry that is copied.
    """

    leaf: Callable[[Any, Any], Any]
    replaced: Mapping[int, LuaObject] = field(default_factory=dict)
    emptied: Callable[[Any, Any], Any] = lambda value, key: None
    _copies: dict[int, Any] = field(default_factory=dict)
    _kept: list[Any] = field(default_factory=list)

    def copy(self, root: Any) -> Any:
        """Return a copy of a value; the values in it are copied without recursion."""
        pending: list[tuple[Any, Any]] = []

        def copied(value: Any, name: Any = None) -> Any:
            if isinstance(value, LuaObject):
                value = self._object(value)
            if id(value) in self._copies:
                return self._copies[id(value)]
            result = self.leaf(value, name)
            if result is value and isinstance(value, (LuaObject, LuaTable, LuaFunction)):
                result = LuaTable() if isinstance(value, LuaTable) else copy.copy(value)
                pending.append((value, result))
            if isinstance(value, (LuaObject, LuaTable, LuaFunction, np.ndarray)):
                self._copies[id(value)] = result
                self._kept.append(value)
            return result

        result = copied(root)
        while pending:
            value, target = pending.pop()
            if isinstance(value, LuaFunction):
                target.upvalues = copied(value.upvalues)
            elif isinstance(value, LuaObject):
                target.body = [copied(part) for part in value.body]
                target.fields = copied(value.fields)
            else:
                for key, entry in value.items():
                    empty = self.emptied(entry, key)
                    target[copied(key)] = copied(entry, key) if empty is None else empty
        return result

    def _object(self, value: LuaObject) -> LuaObject:
        while id(value) in self.replaced and self.replaced[id(value)] is not value:
            value = self.replaced[id(value)]
        if value.class_name in _REPLICATED and isinstance(value.get("modules"), LuaTable):
            return self._object(value["modules"][1])
        return value


def tensors_in(root: Any) -> list[np.ndarray]:
    """Return the tensors in nested Torch7 values."""
    found: list[np.ndarray] = []

    def leaf(value: Any, key: Any) -> Any:
        is_storage = str(getattr(value, "torch_class", None)).endswith("Storage")
        if isinstance(value, np.ndarray) and not is_storage:
            found.append(value)
        return value

    TreeCopy(leaf).copy(root)
    return found
