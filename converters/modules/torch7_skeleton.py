"""The skeleton of a network's Torch7 object: its fields, without the values of the network.

The object is converted anew, and the network is compared with that layer by layer: what is the
same is written from the object, what was replaced is described anew.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from ..t7 import LuaObject, LuaTable, TorchArray, dumps, loads
from ..t7.types import STORAGE_DTYPES, TENSOR_CLASSES, TENSOR_DTYPES, storage_class
from .conversion import Conversion, convert_recorded
from .errors import ConversionError
from .torch7_source import (
    SKELETON,
    TENSOR,
    TreeCopy,
    part_of,
    source_of,
    submodule_path,
    tensors_in,
)

#: What `clearState` empties in every module, and the large buffers of some.
_BUFFERS = frozenset(
    {"output", "gradInput", "finput", "fgradInput", "noise", "save_mean", "save_std"}
)
#: Attributes of a module that do not come from its Torch7 object.
_OWN_ATTRIBUTES = frozenset({"training", "keep_batch"})


def skeleton(network: nn.Module, describe: Callable[[nn.Module, str], LuaObject]) -> LuaObject:
    """Return the skeleton of the Torch7 object of a network.

    Args:
        network: A network with a `torch7_source`. Layers may have been replaced since it was
            converted; values may have changed.
        describe: Returns the Torch7 object of a layer that has none; it is given the layer and its
            name.

    Raises:
        ConversionError: A layer has changed in a way that its object does not say.
    """
    source = source_of(network)
    assert source is not None
    value = source.object(network)
    if any(type(array) is np.ndarray for array in tensors_in(value)):
        # Plain arrays, of an object that was made in Python, have no storages.
        value = loads(dumps(value))
    aligned = _Alignment(convert_recorded(value), describe, _Storages(value))
    aligned.align(aligned.conversion.module, network, "")
    root = aligned.replaced.get(id(value), value)
    return _Skeleton(aligned).build(root)


@dataclass
class _Alignment:
    """Which layers of a network are still what a fresh conversion of its object gives.

    Attributes:
        conversion: The fresh conversion.
        describe: As for `skeleton`.
        storages: The storages of the object.
        replaced: The objects of changed layers → what stands for them, by the id of the object.
        places: The id of a storage → where in it the tensors of the network are.
        tensors: Those tensors, by their name.
    """

    conversion: Conversion
    describe: Callable[[nn.Module, str], LuaObject]
    storages: _Storages
    replaced: dict[int, LuaObject] = field(default_factory=dict)
    places: dict[int, list[LuaTable]] = field(default_factory=dict)
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    _seen: set[int] = field(default_factory=set)

    def align(self, fresh: nn.Module, current: nn.Module, name: str) -> None:
        """Compare a layer with that of the fresh conversion, and their children."""
        if id(fresh) in self._seen:
            return None
        self._seen.add(id(fresh))
        if not _same_arguments(fresh, current) or _shapes(fresh) != _shapes(current):
            return self._replace(fresh, self.describe(current, name), name)
        if list(fresh._modules) != list(current._modules):
            return self._replace_children(fresh, current, name)
        for key, tensor in _tensors(fresh):
            self._align_tensor(tensor, dict(_tensors(current))[key], submodule_path(name, key))
        for key, child in fresh.named_children():
            self.align(child, current.get_submodule(key), submodule_path(name, key))
        return None

    def _align_tensor(self, fresh: torch.Tensor, current: torch.Tensor, name: str) -> None:
        if id(fresh) in self._seen:
            return
        self._seen.add(id(fresh))
        array = self.conversion.arrays.get(id(fresh))
        found = None if array is None else self.storages.find(array)
        if array is not None and found is not None:
            storage, offset = found
            place = {"name": name, "offset": offset, **_layout(array)}
            self.places.setdefault(id(storage), []).append(LuaTable(place))
            self.tensors[name] = current
            return
        # Torch7's object holds these values in another form, or not at all.
        is_counter = name.rpartition(".")[2] == "num_batches_tracked"
        if not is_counter and not torch.equal(fresh.to(current), current):
            raise ConversionError(
                f"{name}: has changed, and Torch7's class holds these values in another form: they "
                "cannot be written back"
            )

    def _replace(self, fresh: nn.Module, replacement: LuaObject, name: str) -> None:
        objects = [e.source for e in self.conversion.layers if e.module is fresh]
        if not objects:
            raise ConversionError(
                f"{name or 'the network'}: has changed, and is part of a Torch7 layer that cannot "
                "be written back without it"
            )
        self.replaced |= {id(value): replacement for value in objects}

    def _replace_children(self, fresh: nn.Module, current: nn.Module, name: str) -> None:
        """Give a container's object a new table of modules: layers were added or taken away."""
        objects = {id(e.module): e.source for e in self.conversion.layers}
        source = objects.get(id(fresh))
        modules = None if source is None else source.get("modules")
        if source is None or not isinstance(modules, LuaTable):
            raise ConversionError(f"{name or 'the network'}: its layers are not those of Torch7's")
        before, children = dict(fresh.named_children()), []
        for key, child in current.named_children():
            old = before.get(key)
            if old is not None and id(old) in objects:
                self.align(old, child, submodule_path(name, key))
                children.append(objects[id(old)])
            else:
                children.append(self.describe(child, submodule_path(name, key)))
        changed = LuaTable(dict(source.fields.items()) | {"modules": LuaTable.from_list(children)})
        self._replace(fresh, LuaObject(source.class_name, changed, source.version), name)


@dataclass
class _Skeleton:
    """Replaces the tensors of an object by descriptions of them.

    Attributes:
        aligned: The object's layers beside those of the network.
    """

    aligned: _Alignment
    _storages: dict[int, np.ndarray] = field(default_factory=dict)
    _numbers: dict[int, int] = field(default_factory=dict)
    _needed: set[int] = field(default_factory=set)

    def build(self, root: LuaObject) -> LuaObject:
        """Return the skeleton of an object."""
        value = TreeCopy(self._tensor, self.aligned.replaced, self._emptied).copy(root)
        storages = LuaTable.from_list(map(self._described, self._storages.values()))
        return LuaObject(SKELETON, LuaTable({"object": value, "storages": storages}))

    def _emptied(self, value: Any, key: Any) -> Any:
        """Return an empty tensor or table for a buffer."""
        if not isinstance(key, str):
            return None
        if isinstance(value, LuaTable) and key in ("output", "gradInput"):
            return LuaTable()
        if key not in _BUFFERS or not isinstance(value, np.ndarray):
            return None
        return None if id(_storage_of(value)) in self.aligned.places else _empty(value)

    def _tensor(self, value: Any, key: Any) -> Any:
        """Return the description of a tensor; anything else is left as it is."""
        if not isinstance(value, np.ndarray) or not value.size or _is_storage(value):
            return value
        storage = _storage_of(value)
        number = self._numbers.setdefault(id(storage), len(self._numbers) + 1)
        self._storages[id(storage)] = storage
        if not str(key).startswith("grad"):
            self._needed.add(id(storage))
        fields = {
            "class": _class_of(value),
            "storage": number,
            "offset": (_address(value) - _address(storage)) // value.itemsize,
            **_layout(value),
        }
        return LuaObject(TENSOR, LuaTable(fields))

    def _described(self, storage: np.ndarray) -> LuaTable:
        """Return the description of a storage: with its values if the network does not have them.

        A storage of gradients alone has neither: they are zeros.
        """
        places = self.aligned.places.get(id(storage), [])
        name = _class_of(storage)
        fields = {
            "class": name if _is_storage(storage) else storage_class(name),
            "size": storage.size,
            "places": LuaTable.from_list(places),
        }
        covered = np.zeros(storage.size, bool)
        for place in places:
            part_of(covered, place)[...] = True
        if sum(self.aligned.tensors[place["name"]].numel() for place in places) > covered.sum():
            self._check_shared(storage, places)
        if not covered.all() and (places or id(storage) in self._needed):
            fields["content"] = np.asarray(storage)
        return LuaTable(fields)

    def _check_shared(self, storage: np.ndarray, places: list[LuaTable]) -> None:
        """Check that tensors over the same memory still agree, such as a weight and its transpose.

        Raises:
            ConversionError: They have been trained apart.
        """
        values = np.empty(storage.size, storage.dtype)
        arrays = {}
        for place in places:
            tensor = self.aligned.tensors[place["name"]].detach().cpu()
            part = part_of(values, place)
            arrays[place["name"]] = tensor.reshape(part.shape).numpy().astype(part.dtype)
            part[...] = arrays[place["name"]]
        for place in places:
            if not np.array_equal(part_of(values, place), arrays[place["name"]]):
                raise ConversionError(
                    f"{place['name']}: shares memory with another tensor in Torch7, and both have "
                    "changed apart: they cannot be written back"
                )


def _same_arguments(first: nn.Module, second: nn.Module) -> bool:
    """Return whether two modules have the same class and were given the same arguments."""
    ours, theirs = (
        {
            name: value
            for name, value in vars(module).items()
            if not name.startswith("_")
            and name not in _OWN_ATTRIBUTES
            and isinstance(value, (bool, int, float, str, list, tuple, type(None)))
        }
        for module in (first, second)
    )
    return (
        type(first) is type(second)
        and ours.keys() == theirs.keys()
        and all(_same(value, theirs[name]) for name, value in ours.items())
    )


def _same(first: Any, second: Any) -> bool:
    """Compare arguments: a saved model has lists for tuples, and torch.nn takes 0 for (0, 0)."""
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(map(_same, first, second))
    if isinstance(first, tuple) != isinstance(second, tuple):
        values, value = (first, second) if isinstance(first, tuple) else (second, first)
        return len(values) > 0 and all(item == value for item in values)
    return bool(first == second)


def _tensors(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Return the parameters and buffers of a module itself."""
    own = [*module.named_parameters(recurse=False, remove_duplicate=False)]
    return [*own, *module.named_buffers(recurse=False, remove_duplicate=False)]


def _shapes(module: nn.Module) -> list[tuple[str, torch.Size]]:
    return [(name, tensor.shape) for name, tensor in _tensors(module)]


def _layout(array: np.ndarray) -> dict[str, LuaTable]:
    """Return the shape and the strides, in elements, as tables."""
    strides = [stride // array.itemsize for stride in array.strides]
    return {"shape": LuaTable.from_list(array.shape), "strides": LuaTable.from_list(strides)}


class _Storages:
    """The storages of an object, by their addresses."""

    def __init__(self, root: LuaObject) -> None:
        storages = {id(a): a for a in map(_storage_of, tensors_in(root)) if a.size}
        self._sorted = sorted(storages.values(), key=_address)
        self._addresses = [_address(storage) for storage in self._sorted]

    def find(self, array: np.ndarray) -> tuple[np.ndarray, int] | None:
        """Return the storage that holds an array and the array's offset in it, if there is one."""
        position = bisect_right(self._addresses, _address(array)) - 1
        if position < 0 or not array.size:
            return None
        storage = self._sorted[position]
        offset = _address(array) - self._addresses[position]
        if offset >= storage.nbytes or storage.dtype != array.dtype:
            return None
        return storage, offset // array.itemsize


def _storage_of(array: np.ndarray) -> np.ndarray:
    storage: np.ndarray | None = getattr(array, "storage", None)
    return array if storage is None else storage


def _address(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _is_storage(array: np.ndarray) -> bool:
    return _class_of(array).endswith("Storage")


def _class_of(array: np.ndarray) -> str:
    """Return the Torch7 class of an array of a file, or of a plain one of that dtype."""
    name: str | None = getattr(array, "torch_class", None)
    return name or TENSOR_CLASSES[array.dtype.newbyteorder("=")]


def _empty(array: np.ndarray) -> TorchArray:
    """Return an empty tensor or storage of the class of another one."""
    name = _class_of(array)
    result = np.empty(0, {**TENSOR_DTYPES, **STORAGE_DTYPES}[name]).view(TorchArray)
    result.torch_class = name
    return result
