"""`torchlift convert --all`: every model of a `.t7`, each in a folder of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType

from ..converters.errors import TorchliftError
from .convert import convert, open_compared, write_model
from .describe import metadata_view
from .errors import UsageError
from .messages import for_command
from .model_options import AS_THE_INPUT, ModelOptions, OutputOptions, run_plugin
from .result import CommandResult

#: Characters of the longest folder name; file systems take 255 bytes.
_LONGEST_NAME = 200


def convert_all(
    file: str,
    folder: Path,
    options: ModelOptions,
    overwrite: bool = False,
    output_options: OutputOptions = AS_THE_INPUT,
) -> CommandResult:
    """Convert every model of a `.t7`; what cannot be converted is named at the end.

    Args:
        file: The `.t7` file.
        folder: Where the folders are written; it is made where it is missing.
        options: How each model is opened; with `at`, the models in that value.
        overwrite: Whether saved models that are there are replaced.
        output_options: How the outputs of each become images.

    Raises:
        TorchliftError: If the file holds no model, or something that is not replaced is there.
    """
    from ..converters.modules.find import find_networks
    from ..converters.overwriting import check_output_folder
    from ..converters.saved.folder import SAVED_MODEL

    if Path(file).is_dir() or (":" in file and not Path(file).exists()):
        raise UsageError(f"{file}: --all is for a .t7 file")
    run_plugin(options.plugin)
    paths = [one.path for one in find_networks(file, options.at)]
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise TorchliftError(f"{folder} is not a folder; choose another name")
    if not folder.parent.is_dir():
        raise TorchliftError(f"{folder.parent}: no such folder")
    folder.mkdir(exist_ok=True)
    targets = [folder / name for name in folder_names(paths)]
    for target in targets:
        check_output_folder(target, SAVED_MODEL, overwrite)
    models: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for path, target in zip(paths, targets, strict=True):
        try:
            opened = open_compared(file, replace(options, at=path))
            output_options.set_on(opened, file)
            written = write_model(file, opened, target, "", overwrite)
        except TorchliftError as error:
            problem = for_command(str(error), convert, {"model": file})
            failed.append({"lua_path": path, "problem": problem})
        else:
            models.append({"lua_path": path, **written})
    data = {"model": file, "models": models, "unconverted": failed}
    return CommandResult(data, _view(models, failed), passed=not failed)


def folder_names(paths: Sequence[str]) -> list[str]:
    """Return the name of a folder for each path, all different.

    Example:
        >>> folder_names(["models[1]", 'a["../b"]', "a[_.._b_]", ".."])
        ['models[1]', 'a[_.._b_]', 'a[_.._b_]-2', '_..']
    """
    names: list[str] = []
    # Some file systems do not tell upper from lower case.
    taken = set[str]()
    for path in paths:
        plain = re.sub(r"[^A-Za-z0-9_.\-\[\]]", "_", path)[:_LONGEST_NAME]
        name = plain if plain.strip(".") else f"_{plain}"
        number = 2
        unique = name
        while unique.lower() in taken:
            unique, number = f"{name}-{number}", number + 1
        taken.add(unique.lower())
        names.append(unique)
    return names


def _view(models: Sequence[dict[str, Any]], failed: Sequence[dict[str, str]]) -> RenderableType:
    parts: list[RenderableType] = []
    for one in models:
        parts += [metadata_view({name: one[name] for name in one if name != "model"}), ""]
    parts += [f"not converted: {one['lua_path']}: {one['problem']}" for one in failed]
    return Group(*parts)
