"""Config files: the options of a command in YAML, such as the config.yaml of a run."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from ..converters.saved.hub import is_remote
from ..converters.validation import read_yaml
from ..transfer.data.remote_files import is_address
from ..transfer.training.options import RENAMED_OPTIONS
from .values import parser_of

#: Trackers that write to the folder of the run.
_LOCAL_TRACKERS = {"tensorboard", "none"}

#: Prefix of a network that a Python function makes.
_PYTHON = "python:"


def read_config(text: str, types: Mapping[str, Any], words: Collection[str] = ()) -> dict[str, Any]:
    """Return the options of a config file, by the names that the command has for them.

    Args:
        text: YAML, with names of options as torchlift writes them, now or in 0.1.0.
        types: the type of each of the command's arguments, by name.
        words: what was typed. Python code, addresses, repositories of the Hub, and trackers, which
            may be services elsewhere, are only taken from a file if they are named here too.

    Raises:
        ArgumentTypeError: when it is something else, an option does not exist or has an invalid
            value, or it names what only the command line may name.

    Example:
        >>> read_config("part: test", {"split": str})
        {'split': 'test'}
    """
    try:
        config = read_yaml(text)
    except ValueError as error:
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
        _check_named(str(given), value, words)
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


def _check_named(name: str, value: Any, words: Collection[str]) -> None:
    """Check that an option which runs code or needs a network is also on the command line."""
    texts = [text for text in (value if isinstance(value, list) else [value]) if text is not None]
    runs = name == "plugin" or any(str(text).startswith(_PYTHON) for text in texts)
    calls = name == "tracker" and not set(texts) <= _LOCAL_TRACKERS
    downloads = any(is_remote(str(text)) for text in texts)
    fetches = any(is_address(str(text)) for text in texts)
    if name == "download" and value is True and "--download" not in words:
        raise ArgumentTypeError("download: true is only taken from the command line: --download")
    typed = {*words, *(word.partition("=")[2] for word in words)}
    typed |= {part.strip() for word in typed for part in word.split(",")}
    if (runs or calls or downloads or fetches) and not {str(text) for text in texts} <= typed:
        what = "Python code that runs" if runs else "a service that is called"
        what = "a repository that is downloaded" if downloads else what
        what = "an address that is fetched" if fetches else what
        raise ArgumentTypeError(
            f"{name}: {value} is {what}, which a config file cannot name: give it on the command "
            "line too"
        )
