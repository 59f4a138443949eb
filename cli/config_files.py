"""Config files: the options of a command in YAML, such as the config.yaml of a run."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import yaml

from ..transfer.training.options import RENAMED_OPTIONS
from .values import parser_of


def read_config(text: str, types: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a config file, by the names that the command has for them.

    Args:
        text: YAML, with names of options as torchlift writes them, now or in 0.1.0.
        types: the type of each of the command's arguments, by name.

    Raises:
        ArgumentTypeError: when it is something else, or an option does not exist or has an invalid
            value.

    Example:
        >>> read_config("part: test", {"split": str})
        {'split': 'test'}
    """
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ArgumentTypeError(f"not YAML: {error}") from error
    if not isinstance(config, dict):
        raise ArgumentTypeError("options and their values were expected, such as epochs: 5")
    options = {}
    for given, value in config.items():
        name = str(given) if given in types else RENAMED_OPTIONS.get(given, str(given))
        if name not in types:
            similar = get_close_matches(name, types, n=1, cutoff=0.7)
            hint = "".join(f"; did you mean {one}?" for one in similar)
            raise ArgumentTypeError(f"no such option: {given}{hint}")
        options[name] = value
        if types[name] is bool:
            if not isinstance(value, bool):
                raise ArgumentTypeError(f"{given}: true or false was expected, not {value!r}")
        elif value is not None:
            try:
                parser_of(types[name])(value)
            except ArgumentTypeError as error:
                raise ArgumentTypeError(f"{given}: {error}") from None
    return options
