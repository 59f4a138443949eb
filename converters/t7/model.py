"""Recognize nn modules, and find the model of a file, without torch.

The model is the module that holds the parameters, wherever it stands: in tables of any depth, in
objects of a project's own classes, in `tds` containers, in strings that `torch.serialize` wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .embedded import embedded_value, may_embed
from .errors import T7Error
from .paths import children, format_path
from .values import LuaObject, LuaTable

#: Names that checkpoints give their model, most probable first.
_NAMES = ("model", "net", "network", "module", "modelState")

#: Fields that identify an instance as a module, whatever its class: those of `Module.lua`, of a
#: container, and of an old nngraph gModule.
_MODULE_FIELDS = {"modules", "output", "gradInput", "_type", "forwardnodes"}

#: Packages whose classes are modules, also where a constructor left out the fields of `Module.lua`.
_PACKAGES = {"nn", "cudnn", "nnx", "fbnn", "inn", "stn"}

#: Parameters of torch/nn, for files saved without gradients. Any other parameter is recognized by
#: the field with its gradient.
_PARAMETERS = {"weight", "bias", "v", "g", "diagCov"}
_NOT_PARAMETERS = {"input", "output"}

#: How many paths an error lists.
_LISTED = 24


def is_module(value: Any) -> bool:
    """Return whether a value is an nn module or criterion, by its fields or its package."""
    if not isinstance(value, LuaObject):
        return False
    return any(name in value for name in _MODULE_FIELDS) or (
        value.class_name.partition(".")[0] in _PACKAGES
        # nn.StochasticGradient and its like train a module and are none.
        and not any(is_criterion(part) for part in value.fields.values())
    )


def is_criterion(value: Any) -> bool:
    """Return whether a module is a loss; a `ModuleCriterion` is one despite its network."""
    return isinstance(value, LuaObject) and value.class_name.endswith(("Criterion", "L1Cost"))


def is_parameter(name: str, fields: LuaTable) -> bool:
    """Return whether a field of a module is a parameter, by its name or that of its gradient."""
    gradient = f"grad{name[:1].upper()}{name[1:]}"
    return name in _PARAMETERS or (gradient in fields and name not in _NOT_PARAMETERS)


def parameters_of(module: Any) -> list[np.ndarray]:
    """Return the parameters of a module and those inside it, as they are in the file."""
    found, stack, seen = list[np.ndarray](), [module], dict[int, Any]()
    while stack:
        value = stack.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        entries = children(value)
        for key, child in entries.items():
            if isinstance(child, (LuaTable, LuaObject)):
                stack.append(child)
            elif isinstance(child, np.ndarray) and isinstance(key, str):
                found += [child] if is_parameter(key, entries) else []
    return found


def root_path(value: Any) -> str:
    """Return the start of paths into a value: `model` if the value is one, else an empty string."""
    return "model" if is_module(value) else ""


@dataclass
class Candidate:
    """A module that stands in no other one.

    Attributes:
        path: Its path.
        module: The module.
        depth: Number of steps to it.
        has_parameters: Whether it or a module inside it has parameters.
    """

    path: str
    module: LuaObject
    depth: int
    has_parameters: bool = False


@dataclass
class Found:
    """What a search for the model of a file found.

    Attributes:
        networks: The modules that hold parameters; if none does, the outermost modules; losses only
            where there is nothing else.
        unknown: Path and object of each class that is no module; its fields were searched too.
        tensors: Number of tensors outside every module.
    """

    networks: list[Candidate] = field(default_factory=list)
    unknown: list[tuple[str, LuaObject]] = field(default_factory=list)
    tensors: int = 0


def find_model(
    value: Any, path: str = "", accept: Callable[[Any], bool] = is_module
) -> tuple[LuaObject, str]:
    """Find the model inside a value of a `.t7`, and its path.

    The model is the value itself if that is a module. Otherwise it is the only network with
    parameters, or the outermost one with a usual name (`model`, `net`, …). A criterion is the model
    only if there is no other module.

    Args:
        value: A value returned by `load`.
        path: Path of the value.
        accept: Returns whether a value is a module.

    Raises:
        T7Error: If there is no module, or there are several and none has a usual name.
    """
    chosen = choose(search(value, path, accept), value)
    return chosen.module, chosen.path


def search(value: Any, path: str = "", accept: Callable[[Any], bool] = is_module) -> Found:
    """Search a value of a `.t7` for its networks.

    Args:
        value: A value returned by `load`.
        path: Path of the value.
        accept: Returns whether a value is a module.
    """
    found, candidates = Found(), list[Candidate]()
    for place in _places(value, path, accept):
        if isinstance(place.value, np.ndarray):
            found.tensors += 1
        elif accept(place.value):
            candidates.append(Candidate(place.path or "model", place.value, place.depth))
        elif isinstance(place.value, LuaObject) and not _is_container(place.value):
            found.unknown.append((place.path, place.value))
    networks = [one for one in candidates if not is_criterion(one.module)]
    _mark_parameters(networks)
    parts = _parts(networks)
    found.networks = [one for one in networks if one.has_parameters and id(one.module) not in parts]
    if not found.networks:
        pool = networks or candidates
        level = min((one.depth for one in pool), default=0)
        found.networks = [one for one in pool if one.depth == level]
    return found


def choose(found: Found, value: Any) -> Candidate:
    """Return the model among what a search found.

    Args:
        found: The result of `search`.
        value: The value that was searched.

    Raises:
        T7Error: If there is no module, or there are several and none has a usual name.
    """
    networks = found.networks
    if len(networks) == 1:
        return networks[0]
    if not networks:
        return _unknown_model(found, value)
    level = min(one.depth for one in networks)
    for name in _NAMES:
        named = [
            one for one in networks if one.depth == level and one.path.rpartition(".")[2] == name
        ]
        if len(named) == 1:
            return named[0]
    raise T7Error(
        f"several modules could be the model: {list_candidates(networks)}. "
        f"Choose one: at={networks[0].path!r}{_named(found.unknown)}"
    )


def list_candidates(candidates: Sequence[Candidate]) -> str:
    """Return the paths and classes of candidates in one line."""
    shown = ", ".join(f"{one.path} ({one.module.class_name})" for one in candidates[:_LISTED])
    more = len(candidates) - _LISTED
    return f"{shown} and {more:,} more" if more > 0 else shown


@dataclass(frozen=True, slots=True)
class _Place:
    """A value during the search.

    Attributes:
        value: The value.
        key: The step from its parent to it.
        parent: The place that it is in, None for the value that is searched.
        depth: Number of steps to it.
        root: Path of the value that is searched.
    """

    value: Any
    key: Any
    parent: _Place | None
    depth: int
    root: str

    @property
    def path(self) -> str:
        """The path, put together only where it is needed: values may be nested by thousands."""
        keys, place = [], self
        while place.parent is not None:
            keys.append(place.key)
            place = place.parent
        return format_path(reversed(keys), self.root)


def _places(value: Any, path: str, accept: Callable[[Any], bool]) -> Iterator[_Place]:
    """Yield modules, objects and tensors in a value, outer ones first; modules are not entered."""
    level, seen = [_Place(value, None, None, 0, path)], dict[int, Any]()
    while level:
        inner = []
        for place in level:
            inside = embedded_value(place.value)
            if inside is not None:
                place = _Place(inside, place.key, place.parent, place.depth, path)
            # Keeping the values makes sure that no id is used twice.
            if seen.setdefault(id(place.value), place) is not place:
                continue
            if not isinstance(place.value, LuaTable):
                yield place
            if isinstance(place.value, (LuaTable, LuaObject)) and not accept(place.value):
                inner += [
                    _Place(child, key, place, place.depth + 1, path)
                    for key, child in children(place.value).items()
                    if isinstance(child, (LuaTable, LuaObject, np.ndarray)) or may_embed(child)
                ]
        level = inner


def _mark_parameters(candidates: Iterable[Candidate]) -> None:
    """Find out which candidates hold parameters; what two of them share is walked through once."""
    owners, holders, shared = dict[int, int](), set[int](), list[tuple[int, int]]()
    kept: list[Any] = []
    listed = list(candidates)
    for number, one in enumerate(listed):
        stack: list[Any] = [one.module]
        while stack:
            value = stack.pop()
            if (owner := owners.get(id(value))) is not None:
                shared.append((number, owner))
                continue
            owners[id(value)] = number
            kept.append(value)
            entries = children(value)
            for key, child in entries.items():
                if isinstance(child, np.ndarray):
                    if isinstance(key, str) and child.size and is_parameter(key, entries):
                        holders.add(number)
                elif isinstance(child, (LuaTable, LuaObject)):
                    stack.append(child)
    for number, owner in shared:
        if owner in holders:
            holders.add(number)
    for number, one in enumerate(listed):
        one.has_parameters = number in holders


def _parts(candidates: Sequence[Candidate]) -> set[int]:
    """Return the ids of the modules among candidates that stand in another candidate too."""
    wanted = {id(one.module) for one in candidates}
    parts, seen = set[int](), dict[int, Any]()
    for one in candidates:
        if id(one.module) in parts:
            continue
        stack: list[Any] = list(children(one.module).values())
        while stack:
            value = stack.pop()
            if not isinstance(value, (LuaTable, LuaObject)):
                continue
            if id(value) in wanted and value is not one.module:
                parts.add(id(value))
            if id(value) not in seen:
                seen[id(value)] = value
                stack += children(value).values()
    return parts


def _is_container(value: LuaObject) -> bool:
    """Return whether an object is one of `tds`, which are searched like tables."""
    return value.class_name.startswith("tds")


def _unknown_model(found: Found, value: Any) -> Candidate:
    """Return the object of an unknown class that must be the model, where no module stands.

    Raises:
        T7Error: If there is no such object.
    """
    for name in _NAMES:
        for path, unknown in found.unknown:
            if path.rpartition(".")[2] == name:
                return Candidate(path, unknown, 0)
    raise T7Error(f"no model in this file: {_describe_contents(found, value)}")


def _describe_contents(found: Found, value: Any) -> str:
    """Describe a value without a model; a training script's `latest.t7` names its model's file."""
    if not isinstance(value, LuaTable):
        if isinstance(value, LuaObject):
            return f"it holds {_described(value)}"
        return f"it holds a {getattr(value, 'torch_class', None) or type(value).__name__}"
    keys = ", ".join(map(str, value.keys()[:8])) or "nothing"
    parts = [f"there is no nn module in it; it holds {keys}{_named(found.unknown)}"]
    parts += [
        f"{key} names the file {text!r}"
        for key, text in value.items()
        # A list of words holds words such as 'distributed.net'.
        if isinstance(text, str) and text.endswith((".t7", ".net")) and str(key).isidentifier()
    ]
    if found.tensors:
        tensors = "1 tensor" if found.tensors == 1 else f"{found.tensors:,} tensors"
        parts.append(
            f"it holds {tensors} and no network: weights are loaded into a network of your own, "
            "python:package.module:function, with weights=FILE"
        )
    return "; ".join(parts)


def _named(unknown: Sequence[tuple[str, LuaObject]]) -> str:
    """Return a remark about the objects whose classes are not known."""
    named = [f"{path} is {_described(item)}" for path, item in unknown[:_LISTED] if path]
    return f" ({'; '.join(named)})" if named else ""


def _described(unknown: LuaObject) -> str:
    fields = ", ".join(map(str, unknown.fields.keys()[:8])) or "no fields"
    return f"a {unknown.class_name}, a class that is not known, with {fields}"
