"""Which function converts which Torch7 class, and which layers a saved model may name.

A name is taken once: a second registration is an error that names both places.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

from torch import nn

from ..t7 import LuaObject
from .context import Converter
from .errors import ConversionError

_LayerClass = TypeVar("_LayerClass", bound=type[nn.Module])

#: The package of torchlift's own layers, whose names in saved models have no module.
_OURS = __name__.split(".")[0]

#: Prefix of the module name of a plugin's file; the rest is the file's stem (see `plugin`).
PLUGIN = "torchlift_plugin_"


@dataclass(frozen=True)
class Registration:
    """The registration of a converter.

    Attributes:
        names: The classes that it was registered for.
        converter: The converter.
        fields: Fields that its objects must have.
        ignored: Fields that it does not read, because they mean nothing for the numbers.
    """

    names: tuple[str, ...]
    converter: Converter
    fields: frozenset[str]
    ignored: frozenset[str]


_converters: dict[str, list[Registration]] = {}
_layers: dict[str, type[nn.Module]] = {}


def register(
    *class_names: str, fields: Collection[str] = (), ignored: Collection[str] = ()
) -> Callable[[Converter], Converter]:
    """Make a function the converter of Torch7 classes.

    Args:
        class_names: The classes, such as `nn.Linear`.
        fields: Fields that distinguish this project's class from another project's class of the
            same name. An object is converted by the converter whose fields it has, and by the one
            without fields if it has those of no other; two converters with fields must each name
            a field that the other does not.
        ignored: Fields that mean nothing for the numbers, such as scratch memory. Any other field
            that the converter does not read becomes a note of the conversion.

    Raises:
        ConversionError: The name is taken by another converter; the error names both places.

    Example:
        >>> @register("my.Twice")
        ... def twice(source, context):
        ...     return nn.Identity()
        >>> find_converter(LuaObject("my.Twice")) is twice
        True
        >>> unregister_module(twice.__module__)
    """
    is_text = isinstance(fields, str) or isinstance(ignored, str)
    if is_text or not all(isinstance(name, str) for name in class_names):
        raise ConversionError(
            '@register takes class names, fields=("core",) and ignored=("noise",): names of '
            "classes and collections of names of fields"
        )
    if not class_names:
        raise ConversionError('@register needs a class name: @register("my.Layer")')
    distinguishing = frozenset(fields)

    def decorate(converter: Converter) -> Converter:
        for name in class_names:
            for other in _converters.get(name, []):
                if _cannot_tell_apart(distinguishing, other.fields):
                    raise ConversionError(
                        f"{name} has a converter already: {_place(other.converter)}; "
                        f"{_place(converter)} registers another one. Classes of two projects need "
                        f'fields that tell them apart: @register("{name}", fields=(…,))'
                    )
        registration = Registration(class_names, converter, distinguishing, frozenset(ignored))
        for name in class_names:
            _converters.setdefault(name, []).append(registration)
        return converter

    return decorate


def find_registration(source: LuaObject) -> Registration | None:
    """Return the registration of the converter of a Torch7 object, None if its class has none.

    A class that is not registered may be another one under a name with another package, or with
    none: `OneHot` is `nn.OneHot`. Whether its fields are those is for the caller to check: its
    name is not among the `names` of the registration.

    Raises:
        ConversionError: The fields of the object fit several converters of its class.

    Example:
        >>> find_registration(LuaObject("OneHot")).names
        ('nn.OneHot',)
    """
    fitting = _fitting(source.class_name, source)
    if len(fitting) > 1:
        places = " and ".join(_place(registration.converter) for registration in fitting)
        raise ConversionError(f"the fields of this {source.class_name} fit {places}")
    return fitting[0] if fitting else _of_another_package(source)


def _fitting(class_name: str, source: LuaObject) -> list[Registration]:
    """Return the registrations of a class that fit an object, those without fields only alone."""
    fitting = [
        registration
        for registration in _converters.get(class_name, [])
        if all(name in source for name in registration.fields)
    ]
    return [registration for registration in fitting if registration.fields] or fitting


def _of_another_package(source: LuaObject) -> Registration | None:
    """Return the only registration of classes with the same name in another package, or nn's."""
    bare = _without_package(source.class_name)
    if f"nn.{bare}" in _converters and source.class_name != f"nn.{bare}":
        fitting = _fitting(f"nn.{bare}", source)
    else:
        others = [name for name in _converters if _without_package(name) == bare]
        fitting = [
            registration
            for name in others
            if name != source.class_name
            for registration in _fitting(name, source)
        ]
    # One converter may be registered for several packages' classes.
    distinct = {id(registration): registration for registration in fitting}
    return next(iter(distinct.values())) if len(distinct) == 1 else None


def _without_package(class_name: str) -> str:
    return class_name.rpartition(".")[2]


def _cannot_tell_apart(fields: frozenset[str], others: frozenset[str]) -> bool:
    """Return whether objects with the fields of one of two registrations may have the other's."""
    if not fields or not others:
        return fields == others
    return fields <= others or others <= fields


def find_converter(source: LuaObject) -> Converter | None:
    """Return the converter of a Torch7 object, None if its class has none.

    Raises:
        ConversionError: The fields of the object fit several converters of its class.
    """
    found = find_registration(source)
    return None if found is None else found.converter


def is_registered(class_name: str) -> bool:
    """Return whether a Torch7 class has a converter, whatever its fields are."""
    return class_name in _converters


def converters_of(class_name: str) -> list[Converter]:
    """Return the converters of a Torch7 class: several if projects have classes of one name."""
    return [registration.converter for registration in _converters.get(class_name, [])]


def registered_classes() -> list[str]:
    """Return every Torch7 class that has a converter, sorted.

    Example:
        >>> from torchlift.converters import modules
        >>> "nn.SpatialConvolution" in modules.registered_classes()
        True
    """
    return sorted(_converters)


def layer(cls: _LayerClass) -> _LayerClass:
    """Mark a module class as a layer that saved models may name.

    The constructor takes JSON values or modules, and each is an attribute with the parameter's
    name: `converters.saved` describes and rebuilds the layer from them. In a saved model the name
    of a plugin's class includes its module (`my_layers.Scale`), so that it cannot replace a layer
    of torchlift.

    Raises:
        ConversionError: The name is taken by another class; the error names both places.

    Example:
        >>> @layer
        ... class Twice(nn.Module):
        ...     def forward(self, input):
        ...         return 2 * input
        >>> layer_class(layer_name(Twice)) is Twice
        True
        >>> unregister_module(Twice.__module__)
    """
    name = layer_name(cls)
    if name in _layers:
        raise ConversionError(
            f"{name} is a layer already: {_place(_layers[name])}; {_place(cls)} is another one: "
            "rename it"
        )
    _layers[name] = cls
    return cls


def layer_name(cls: type[nn.Module]) -> str:
    """Return the name of a layer in saved models: with its module, except for our own."""
    module = cls.__module__
    if module.split(".")[0] == _OURS:
        return cls.__name__
    return f"{module.removeprefix(PLUGIN)}.{cls.__name__}"


def layer_class(name: str) -> type[nn.Module] | None:
    """Return the layer of this name, None if there is none.

    In models saved by torchlift 0.1.0 the name of a plugin's class lacks the module. It is accepted
    if no layer of torchlift and exactly one layer of a plugin has the name.
    """
    if name in _layers or "." in name:
        return _layers.get(name)
    fitting = [cls for known, cls in _layers.items() if known.endswith(f".{name}")]
    return fitting[0] if len(fitting) == 1 else None


def unregister_module(module: str) -> None:
    """Remove the converters and layers that a Python module registered."""
    for name, registrations in list(_converters.items()):
        kept = [one for one in registrations if one.converter.__module__ != module]
        if kept:
            _converters[name] = kept
        else:
            del _converters[name]
    for name, cls in list(_layers.items()):
        if cls.__module__ == module:
            del _layers[name]


def _place(definition: Callable[..., object]) -> str:
    """Return the name, file and line of a function or class."""
    try:
        file, line = inspect.getsourcefile(definition), inspect.getsourcelines(definition)[1]
    except (OSError, TypeError):
        return f"{definition.__module__}.{definition.__qualname__}"
    return f"{definition.__qualname__} ({file}:{line})"
