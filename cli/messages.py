"""From the words of the library to those of the command line.

Errors of the library name Python arguments, as `overwrite=True`, `input_size=(H, W)` or
`lr=0`. On the command line the same arguments are options.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from .parser import Command, arguments_of

#: An argument in a message: its name, and its value unless that is an ellipsis. It may stand in a
#: call, as in "load_model(file, at='net')", of which the command line has the argument only. What
#: is part of a longer word, as in "runs/lr=0.1/data.t7", is none.
_ARGUMENT = (
    r"(?<![^\s(\"'`])(?P<call>[a-z_]+\(file, )?"
    r"(?P<name>[a-z][a-z0-9_]*)=(?P<value>\([^)]*\)|\[[^\]]*\]|'[^']*'|[\w.+-]+|…)?"
    r"(?(call)\))(?![^\s,;:.)\"'`?])"
)


def as_options(
    message: str,
    options: Collection[str],
    texts: Collection[str] = (),
    words: Collection[str] = (),
) -> str:
    """Return a message of the library in which arguments are options.

    Args:
        message: names arguments as `name=value`.
        options: the arguments that the command has as options; others stay as they are.
        texts: what the user typed, such as the name of a file; it is never changed.
        words: the arguments that are typed without an option.

    Example:
        >>> as_options("x.onnx already exists; overwrite=True replaces it", {"overwrite"})
        'x.onnx already exists; --overwrite replaces it'
        >>> as_options("give input_size=(H, W), or keep=[…]", {"input_size", "keep"})
        'give --input-size HxW, or --keep …'
        >>> as_options("load_model(file, at='nets[2]')", {"at"})
        "--at 'nets[2]'"
        >>> as_options("at=2: no model; give at=PATH", {"at"}, {"at=2"})
        'at=2: no model; give --at PATH'
        >>> as_options("a run with data='a.t7', now data='b.t7'", {"lr"}, words={"data"})
        'a run with data a.t7, now data b.t7'
    """
    longest_first = sorted(filter(None, texts), key=len, reverse=True)
    kept = "".join(f"{re.escape(text)}|" for text in longest_first)

    def option(found: re.Match[str]) -> str:
        name, value = found["name"], found["value"] or ""
        if name in words and value:
            return f"{name} {_typed(value)}"
        if name not in options:
            return found[0]
        flag = f"--{name.replace('_', '-')}"
        return flag if value in ("", "True", "…") else f"{flag} {_typed(value)}"

    return re.sub(kept + _ARGUMENT, option, message)


def for_command(message: str, command: Command, given: Mapping[str, Any]) -> str:
    """Return a message of the library in one line, with a command's arguments as its options.

    Args:
        message: names arguments as `name=value`.
        command: the command that runs.
        given: its arguments by name.
    """
    arguments = arguments_of(command)
    words = {argument.name for argument in arguments if argument.positional}
    options = {argument.name for argument in arguments} - words
    return as_options(" ".join(message.split()), options, texts_of(given), words)


def texts_of(arguments: Mapping[str, Any]) -> set[str]:
    """Return the texts among a command's arguments that could look like arguments in a message.

    Example:
        >>> sorted(texts_of({"inputs": ["./lr=1/x.png", "y.png"], "top": 5}))
        ['./lr=1/x.png', 'lr=1', 'lr=1/x.png']
    """
    values = [value if isinstance(value, list) else [value] for value in arguments.values()]
    given = [text for listed in values for text in listed if isinstance(text, str)]
    # A message may name a file as `Path` writes it, or the folder that it is in.
    paths = [part for text in given for part in (Path(text), *Path(text).parents)]
    return {" ".join(text.split()) for text in (*given, *map(str, paths)) if "=" in text}


def _typed(value: str) -> str:
    """Return a Python value as it is typed: `(H, W)` is `HxW`, `['a', 'b']` is `a,b`."""
    if value.startswith("("):
        return "x".join(part.strip() for part in value.strip("()").split(",") if part.strip())
    if value.startswith("["):
        return ",".join(part.strip().strip("'") for part in value.strip("[]").split(","))
    return shlex.quote(value[1:-1]) if value.startswith("'") else value
