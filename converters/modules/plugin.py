"""Converters from a user's own file, which runs only when it is named."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from .errors import ConversionError
from .registry import PLUGIN, unregister_module


def load_plugin(file: str | os.PathLike[str]) -> None:
    """Run a Python file that registers converters, once, however often it is named.

    Args:
        file: The user's file, such as `my_layers.py`.

    Raises:
        ConversionError: The file is missing or fails (nothing that it registered stays), it
            registers a name that is taken, or another plugin has the same file name.
    """
    path = Path(file).resolve()
    if not path.is_file():
        raise ConversionError(f"no such plugin file: {path}")
    name = f"{PLUGIN}{path.stem}"
    loaded = getattr(sys.modules.get(name), "__file__", None)
    if loaded == str(path):
        return
    if loaded is not None:
        raise ConversionError(f"plugin {path}: {loaded} has the same name; rename one of them")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConversionError(f"a plugin is a Python file (.py), not {path.name}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        unregister_module(name)
        if not isinstance(error, (Exception, SystemExit)):
            raise
        # A user's file may raise anything: the message names the file and keeps the error's words.
        kind = "" if isinstance(error, ConversionError) else f"{type(error).__name__}: "
        raise ConversionError(f"plugin {path} failed: {kind}{error}") from error
