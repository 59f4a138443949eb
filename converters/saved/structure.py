"""The structure of a network as JSON values, and back; no code is stored and none is run.

A module is described by its class, its constructor's arguments and its children:

    {"class": "torch.nn.Linear", "arguments": {"in_features": 84, "out_features": 10}}
    {"class": "torch.nn.Sequential", "children": [{…}, {…}, {"same_as": "0"}]}

Arguments that have their default are left out. They are found from the constructor's signature
and the attributes of the same names, which torch.nn keeps to and our own layers must
(`registry.layer`). A module that stands in several places is described once.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..modules.registry import layer_class
from .errors import SavedModelError

#: What `describe` gives for one module.
Description = dict[str, Any]

#: How the name of a class begins that is torch's own.
TORCH = "torch.nn."
#: Files of torch.nn whose classes loop as often as an argument says.
_UNBOUNDED = ("torch.nn.modules.rnn", "torch.nn.modules.transformer")
#: Where a tensor lives and of what type it is comes from the tensors, not from the structure.
_PLACEMENT = ("device", "dtype")


def describe(module: nn.Module) -> Description:
    """A network's structure as JSON values.

    Raises:
        SavedModelError: when it has a module that is neither torch.nn's nor a layer of ours, or
            one whose constructor's arguments cannot be told from its attributes.
    """
    return _describe(module, "", {})


def build(description: Description) -> nn.Module:
    """The network of a description, in evaluation mode, with its tensors on the `meta` device.

    Raises:
        SavedModelError: when the description is damaged, or names a class that is not known.
    """
    with torch.device("meta"):
        return _build(description, "", {}).eval()


def first_names(module: nn.Module) -> dict[str, str]:
    """Each name in the state dict → the first name of the same tensor (tied and shared ones)."""
    first: dict[int, str] = {}
    state = module.state_dict(keep_vars=True)
    return {name: first.setdefault(id(tensor), name) for name, tensor in state.items()}


def class_of(name: str) -> type[nn.Module] | None:
    """The class that a description means: `torch.nn.Conv2d`, or a layer of ours by its name."""
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
            "layer that torchlift knows; mark it with @layer (converters.modules.registry)"
        )
    arguments, children = {}, []
    for parameter in inspect.signature(cls).parameters.values():
        if _holds_children(cls, parameter):
            children = list(_children(module, cls))
        elif _is_told(module, cls, parameter, path):
            value = _argument(module, parameter, path, seen)
            if not _is_default(value, parameter.default):
                arguments[parameter.name] = value
    described = [_describe(child, join(path, str(i)), seen) for i, child in enumerate(children)]
    result: Description = {"class": name}
    if arguments:
        result["arguments"] = arguments
    if described:
        result["children"] = described
    return result


def _class_name(module: nn.Module) -> str:
    """The name to write for a module's class."""
    cls = type(module)
    theirs = getattr(nn, cls.__name__, None)
    if theirs is cls:
        return TORCH + cls.__name__
    if isinstance(module, _BatchNorm) and (module.weight is None) == (module.bias is None):
        # Ours also take one example without its batch, which a saved model never gets.
        return TORCH + cls.__name__
    return cls.__name__ if layer_class(cls.__name__) is cls else f"{cls.__module__}.{cls.__name__}"


def _holds_children(cls: type[nn.Module], parameter: inspect.Parameter) -> bool:
    """Whether a constructor takes its children by this parameter: `*modules`."""
    return parameter.kind is parameter.VAR_POSITIONAL or (
        cls is nn.ModuleList and parameter.name == "modules"
    )


def _children(module: nn.Module, cls: type[nn.Module]) -> Iterator[nn.Module]:
    """The children that stand in order; those with a parameter of their own are arguments."""
    named = inspect.signature(cls).parameters
    for name, child in module._modules.items():
        if child is not None and name not in named:
            yield child


def _is_told(
    module: nn.Module, cls: type[nn.Module], parameter: inspect.Parameter, path: str
) -> bool:
    """Whether the module says what a parameter of its constructor was."""
    name = parameter.name
    if name.startswith("_") or parameter.kind is parameter.VAR_KEYWORD:
        return False
    if name in _PLACEMENT and cls.__module__.startswith(TORCH):
        return False
    if hasattr(module, name):
        return True
    if parameter.default is None:  # an older name of another parameter, as in Hardtanh
        return False
    raise SavedModelError(
        f"{path or 'the model'}: {type(module).__name__} keeps no attribute {name!r}, so that "
        "its constructor's argument of that name is not known"
    )


def _argument(
    module: nn.Module, parameter: inspect.Parameter, path: str, seen: dict[int, str]
) -> Any:
    value = getattr(module, parameter.name)
    where = join(path, parameter.name)
    if isinstance(value, nn.Module):
        return _describe(value, where, seen)
    if isinstance(value, torch.Tensor):  # such as `bias`, which is asked for by a bool
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
        raise SavedModelError(f"{where} is {type(value).__name__}, not a number, text or list")


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
            raise SavedModelError(f"{where}: {description['same_as']!r} is no earlier module")
        return built[description["same_as"]]
    name = description.get("class")
    cls = class_of(name) if isinstance(name, str) else None
    if cls is None:
        raise SavedModelError(f"{where}: no class {name!r} in torch.nn or among torchlift's layers")
    arguments, children = description.get("arguments", {}), description.get("children", [])
    if not isinstance(arguments, dict) or not isinstance(children, list):
        raise SavedModelError(f"{where}: its arguments or children are damaged")
    given = {
        key: _build(value, join(path, key), built)
        if isinstance(value, dict)
        else _as_taken(cls, value)
        for key, value in arguments.items()
    }
    modules = [_build(child, join(path, str(i)), built) for i, child in enumerate(children)]
    try:
        built[path] = cls(modules) if cls is nn.ModuleList else cls(*modules, **given)
    except Exception as error:  # a constructor may do anything with values that it never expected
        raise SavedModelError(f"{where}: {name} cannot be built: {error}") from error
    return built[path]


def _as_taken(cls: type[nn.Module], value: Any) -> Any:
    """A JSON value as a class keeps it: torch.nn takes tuples, our own layers take lists."""
    if isinstance(value, list) and cls.__module__.startswith(TORCH):
        return tuple(_as_taken(cls, item) for item in value)
    return value


def join(path: str, step: str) -> str:
    """The path of a part of a module, as in its state dict."""
    return f"{path}.{step}" if path else step
