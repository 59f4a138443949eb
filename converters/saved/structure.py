"""A network's structure as JSON values, and the network of such a description.

A description is data: no code is stored, and none is run to build it. A module is described by its
class, the arguments of its constructor and its children:

    {"class": "torch.nn.Linear", "arguments": {"in_features": 84, "out_features": 10}}
    {"class": "torch.nn.Sequential", "children": [{…}, {…}, {"same_as": "0"}]}

Arguments equal to their default are left out. The value of an argument is read from the attribute
of the same name: torch.nn follows this convention, and layers of torchlift must (`registry.layer`).
A module that occurs several times is described once.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ..modules.registry import layer_class, layer_name
from ..modules.torch7_source import submodule_path
from .errors import SavedModelError

#: The JSON object that describes one module.
Description = dict[str, Any]

#: The prefix of the names of torch.nn's own classes.
TORCH = "torch.nn."
#: Modules of torch.nn whose constructors loop as often as an argument says, which a damaged file
#: could set to billions.
_UNBOUNDED = ("torch.nn.modules.rnn", "torch.nn.modules.transformer")
#: Annotations of parameters that take no module.
_PLAIN = re.compile(r"(<class '|'>|int|float|bool|str|None|list|tuple|[\[\]|,. ])+")
#: Arguments that are not described: the saved tensors have a dtype, and no device.
_PLACEMENT = ("device", "dtype")


def describe(module: nn.Module) -> Description:
    """Return a network's structure as JSON values.

    Raises:
        SavedModelError: If it contains a module that is neither a class of torch.nn nor a
            registered layer, or one whose attributes do not contain its constructor's arguments.
    """
    return _describe(module, "", {})


def build(description: Description) -> nn.Module:
    """Build the network of a description, in evaluation mode, with tensors on the `meta` device.

    Raises:
        SavedModelError: If the description is damaged, or names an unknown class.
    """
    with torch.device("meta"):
        return _build(description, "", {}).eval()


def first_names(module: nn.Module) -> dict[str, str]:
    """Map each name in the state dict to the first name of the same tensor, if it is shared."""
    first: dict[int, str] = {}
    state = module.state_dict(keep_vars=True)
    return {name: first.setdefault(id(tensor), name) for name, tensor in state.items()}


def class_of(name: str) -> type[nn.Module] | None:
    """Return the class that a description names: `torch.nn.Conv2d`, or a registered layer."""
    if not name.startswith(TORCH):
        return layer_class(name)
    cls = getattr(nn, name.removeprefix(TORCH), None)
    known = isinstance(cls, type) and issubclass(cls, nn.Module)
    return cls if known and cls.__module__ not in _UNBOUNDED else None


def _describe(module: nn.Module, path: str, seen: dict[int, str]) -> Description:
    if id(module) in seen:
        return {"same_as": seen[id(module)]}
    seen[id(module)] = path
    name = _class_name(module)
    cls = class_of(name)
    if cls is None:
        raise SavedModelError(
            f"{path or 'the model'}: {type(module).__name__} is neither a class of torch.nn nor a "
            "registered layer; register it with @layer (converters.modules.registry)"
        )
    arguments, children = {}, []
    for parameter in inspect.signature(cls).parameters.values():
        if _holds_children(cls, parameter):
            children = list(_children(module, cls))
        elif _has_value(module, cls, parameter, path):
            value = _argument(module, parameter, path, seen)
            if not _is_default(value, parameter.default):
                arguments[parameter.name] = value
    described = [
        _describe(child, submodule_path(path, str(i)), seen) for i, child in enumerate(children)
    ]
    result: Description = {"class": name}
    if arguments:
        result["arguments"] = arguments
    if described:
        result["children"] = described
    return result


def _class_name(module: nn.Module) -> str:
    """Return the name that describes a module's class."""
    cls = type(module)
    if getattr(nn, cls.__name__, None) is cls:
        return f"{TORCH}{cls.__name__}"
    name = layer_name(cls)
    return name if layer_class(name) is cls else f"{cls.__module__}.{cls.__name__}"


def _holds_children(cls: type[nn.Module], parameter: inspect.Parameter) -> bool:
    """Return whether a constructor takes its children by this parameter: `*modules`."""
    return parameter.kind is parameter.VAR_POSITIONAL or (
        cls is nn.ModuleList and parameter.name == "modules"
    )


def _children(module: nn.Module, cls: type[nn.Module]) -> Iterator[nn.Module]:
    """Iterate over the children in order; one with a parameter of its own is an argument."""
    parameters = inspect.signature(cls).parameters
    for name, child in module._modules.items():
        if child is not None and name not in parameters:
            yield child


def _has_value(
    module: nn.Module, cls: type[nn.Module], parameter: inspect.Parameter, path: str
) -> bool:
    """Return whether a module has the value of a constructor parameter that is described.

    Raises:
        SavedModelError: If it should have it and does not.
    """
    name = parameter.name
    if name.startswith("_") or parameter.kind is parameter.VAR_KEYWORD:
        return False
    if name in _PLACEMENT and cls.__module__.startswith(TORCH):
        return False
    if hasattr(module, name):
        return True
    if parameter.default is None:  # a deprecated name of another parameter, as in Hardtanh
        return False
    raise SavedModelError(
        f"{path or 'the model'}: {type(module).__name__} has no attribute {name!r} that holds the "
        "constructor's argument of that name"
    )


def _argument(
    module: nn.Module, parameter: inspect.Parameter, path: str, seen: dict[int, str]
) -> Any:
    value = getattr(module, parameter.name)
    where = submodule_path(path, parameter.name)
    if isinstance(value, nn.Module):
        return _describe(value, where, seen)
    if isinstance(value, torch.Tensor):  # such as `bias`, whose argument is a bool
        return True
    if value is None and (parameter.annotation in (bool, "bool") or parameter.default is True):
        return False
    _check_json(value, where)
    return value


def _check_json(value: Any, where: str) -> None:
    if isinstance(value, (list, tuple)):
        for item in value:
            _check_json(item, where)
    elif value is not None and not isinstance(value, (bool, int, float, str)):
        raise SavedModelError(f"{where} is {type(value).__name__}, not a number, string or list")


def _is_default(value: Any, default: Any) -> bool:
    if isinstance(value, tuple) and not isinstance(default, tuple):
        return len(value) > 0 and all(_is_default(item, default) for item in value)
    return type(value) is type(default) and value == default


def _build(description: Any, path: str, built: dict[str, nn.Module]) -> nn.Module:
    where = path or "the model"
    if not isinstance(description, dict):
        raise SavedModelError(f"{where}: a description of a module was expected")
    if "same_as" in description:
        if description["same_as"] not in built:
            raise SavedModelError(f"{where}: {description['same_as']!r} is not an earlier module")
        return built[description["same_as"]]
    name = description.get("class")
    cls = class_of(name) if isinstance(name, str) else None
    if cls is None:
        raise SavedModelError(
            f"{where}: {name!r} is neither a class of torch.nn nor a registered layer; if it is a "
            "layer of your own, load the file that registers it (plugin=FILE)"
        )
    arguments, children = description.get("arguments", {}), description.get("children", [])
    if not isinstance(arguments, dict) or not isinstance(children, list):
        raise SavedModelError(f"{where}: its arguments or children are damaged")
    misplaced = [key for key, value in arguments.items() if _is_misplaced(cls, key, value)]
    if misplaced:
        raise SavedModelError(f"{where}: {misplaced[0]} is a module; a plain value was expected")
    values = {
        key: _build(value, submodule_path(path, key), built)
        if isinstance(value, dict)
        else _as_argument(cls, value)
        for key, value in arguments.items()
    }
    modules = [
        _build(child, submodule_path(path, str(i)), built) for i, child in enumerate(children)
    ]
    try:
        built[path] = cls(modules) if cls is nn.ModuleList else cls(*modules, **values)
    except Exception as error:  # a constructor may raise anything for values of a damaged file
        raise SavedModelError(f"{where}: {name} cannot be built: {error}") from error
    return built[path]


def _is_misplaced(cls: type[nn.Module], name: str, value: Any) -> bool:
    """Return whether a module stands where a constructor takes a number, a text or the like."""
    parameter = inspect.signature(cls).parameters.get(name)
    plain = parameter is not None and _PLAIN.fullmatch(str(parameter.annotation))
    return isinstance(value, dict) and bool(plain)


def _as_argument(cls: type[nn.Module], value: Any) -> Any:
    """Convert a JSON value: classes of torch.nn take tuples, registered layers take lists."""
    if isinstance(value, list) and cls.__module__.startswith(TORCH):
        return tuple(_as_argument(cls, item) for item in value)
    return value
