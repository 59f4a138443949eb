"""Finding and converting the model of a file, which may be a table such as `{model=…, epoch=…}`."""

from __future__ import annotations

import os
from typing import Any

from torch import nn

from .. import t7
from ..t7 import LuaObject, LuaTable
from ..t7 import model as t7_model
from ..t7.copying import copied_ahead
from ..t7.model import Candidate, list_candidates
from ..t7.paths import follow
from .context import Note
from .conversion import Conversion, convert_recorded
from .errors import ConversionError
from .registry import is_registered


def find_model(value: Any, path: str = "") -> tuple[LuaObject, str]:
    """Return the model in a value of a `.t7` file, and its path.

    The model is the network with the parameters (see `t7.model.find_model`). An object of a class
    with a converter is a module even if it has no fields of one. A table with the fields of a
    container becomes an nn.Sequential: `model:write(file)` writes the fields without the class.

    Args:
        value: A value returned by `t7.load`.
        path: Path of the value.

    Raises:
        ConversionError: There is no module, or there are several and none has a common name such as
            `model`.

    Example:
        >>> from torchlift.converters import t7
        >>> from torchlift.converters.modules import find_model
        >>> checkpoint = t7.LuaTable({"epoch": 3, "net": t7.LuaObject("nn.Tanh")})
        >>> model, path = find_model(checkpoint)
        >>> model.class_name, path
        ('nn.Tanh', 'net')
    """
    chosen = _choose(value, path)[0]
    return chosen.module, chosen.path


def _choose(value: Any, path: str) -> tuple[Candidate, str]:
    """Return the model in a value, and what is to be said about the choice."""
    if _is_bare_container(value):
        model = LuaObject("nn.Sequential", value)
        text = "a container's fields without its class: nn.Sequential is assumed"
        return Candidate(path or "model", model, 0), text
    found = t7_model.search(value, path, is_module)
    try:
        chosen = t7_model.choose(found, value)
    except t7.T7Error as error:
        raise ConversionError(error.problem) from error
    if chosen.depth == 0:
        return chosen, ""
    rest = [one for one in found.networks if one is not chosen]
    text = "the model of this file"
    if rest:
        text += f", chosen by its name; others are {list_candidates(rest)}"
    return chosen, text


def is_module(value: Any) -> bool:
    """Return whether a value is an nn module, by a registered class or by its fields."""
    known = isinstance(value, LuaObject) and is_registered(value.class_name)
    return known or t7_model.is_module(value)


def _is_bare_container(value: Any) -> bool:
    """Return whether a value is a table with the fields of a container."""
    modules = value.get("modules") if isinstance(value, LuaTable) else None
    return (
        isinstance(modules, LuaTable)
        and "output" in value
        and len(modules) > 0
        and modules.is_list()
        and all(map(is_module, modules.values()))
    )


def load_model(file: str | os.PathLike[str], at: str | None = None) -> nn.Module:
    """Load the model of a `.t7` file as a PyTorch module in evaluation mode.

    Args:
        file: The `.t7` file.
        at: Path of the model in the file, such as `protos.cnn`; None to search for it.

    Raises:
        T7Error: The file cannot be read, or has no value at that path.
        ConversionError: The file holds no model, or one that cannot be converted.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> from torchlift.converters import load_model, t7
        >>> file = Path(mkdtemp()) / "model.t7"
        >>> t7.save(t7.LuaTable({"epoch": 3, "model": t7.LuaObject("nn.Tanh")}), file)
        >>> load_model(file)
        Tanh()
    """
    return load_conversion(file, at).module.eval()


def load_conversion(file: str | os.PathLike[str], at: str | None = None) -> Conversion:
    """Load the model of a `.t7` file in its saved mode, with the record of its conversion.

    Args:
        file: The `.t7` file.
        at: Path of the model in the file, such as `protos.cnn`; None to search for it.

    Raises:
        T7Error: The file cannot be read, or has no value at that path.
        ConversionError: The file holds no model, or one that cannot be converted.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> from torchlift.converters import t7
        >>> from torchlift.converters.modules import load_conversion
        >>> file = Path(mkdtemp()) / "model.t7"
        >>> t7.save(t7.LuaTable({"net": t7.LuaObject("nn.Tanh")}), file)
        >>> [(layer.path, layer.module) for layer in load_conversion(file).layers]
        [('net', Tanh())]
    """
    return convert_model(t7.load(file, writable=False), at, file)


def find_networks(file: str | os.PathLike[str], at: str | None = None) -> list[Candidate]:
    """Return every network of a `.t7` file: those that `load_model` would choose from.

    Args:
        file: The `.t7` file.
        at: Path of the value in which they are; None for the file's value.

    Raises:
        T7Error: The file cannot be read, or has no value at that path.
        ConversionError: There is no network.
    """
    try:
        value = follow(t7.load(file, writable=False), at or "")
        if _is_bare_container(value):
            return [_choose(value, at or "")[0]]
        networks = t7_model.search(value, at or "", is_module).networks
        return networks or [_choose(value, at or "")[0]]
    except (ConversionError, t7.T7Error) as error:
        error.source = os.fspath(file)
        raise


def convert_model(value: Any, at: str | None, source: str | os.PathLike[str]) -> Conversion:
    """Convert the model in a value that `t7.load` returned (see `load_conversion`).

    Args:
        value: The value.
        at: Path of the model in it; None to search for it.
        source: Name of the file, for error messages.

    Raises:
        T7Error: There is no value at that path.
        ConversionError: There is no model, or one that cannot be converted.
    """
    try:
        chosen, text = _choose(follow(value, at or ""), at or "")
        with copied_ahead(t7_model.parameters_of(chosen.module)):
            conversion = convert_recorded(chosen.module, chosen.path)
        if text:
            note = Note(chosen.path, chosen.module.class_name, text)
            conversion.notes.insert(0, note)
        return conversion
    except (ConversionError, t7.T7Error) as error:
        error.source = os.fspath(source)
        raise
