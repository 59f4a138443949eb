"""From a typed function to a subcommand: names, types and defaults from its signature.

Parameters before `*` are positional, those behind it are options, flags where they are `bool`;
a parameter whose type is a dataclass stands for that dataclass's fields. The help is the
docstring.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from docstring_parser import parse as parse_docstring
from jsonargparse import ArgumentParser, DefaultHelpFormatter

from .. import __version__
from .result import CommandResult

Command = Callable[..., CommandResult]

#: What every command takes besides its own parameters.
_COMMON = {
    "json": "Print one JSON document on stdout.",
    "debug": "Show the traceback of an error.",
}

#: Options that may be written with one letter, in every command that has them.
_SHORT = {"output": ("-o",)}

_REQUIRED = inspect.Parameter.empty


@dataclasses.dataclass(frozen=True)
class Argument:
    """One argument of a command: a positional one, or an option."""

    name: str
    type: Any
    default: Any
    help: str | None
    positional: bool = False


@cache
def _parser_of(commands: tuple[Command, ...]) -> ArgumentParser:
    """The parser of `torchlift COMMAND …`."""
    parser = ArgumentParser(
        prog="torchlift",
        description="Torch7 .t7 models as PyTorch modules and checked ONNX classifiers.",
        version=__version__,
        formatter_class=_Paragraphs,
    )
    subcommands = parser.add_subcommands(metavar="COMMAND", required=True)
    for command in commands:
        doc = parse_docstring(command.__doc__ or "")
        subcommands.add_subcommand(
            command.__name__, _command_parser(command), help=doc.short_description
        )
    return parser


def parse_command(
    commands: tuple[Command, ...], words: Sequence[str]
) -> tuple[Command, dict[str, Any]]:
    """The command that words name, and its options.

    Args:
        commands: those to choose from.
        words: what stands after `torchlift`, as a shell splits it.

    Raises:
        SystemExit: when the words are no command; the usage is printed on stderr.
    """
    chosen = _parser_of(commands).parse_args(list(words))
    command = next(item for item in commands if item.__name__ == chosen.subcommand)
    return command, vars(chosen[chosen.subcommand])


def run_command(command: Command, options: dict[str, Any]) -> CommandResult:
    """Call a command with the options that its parser gave."""
    arguments: dict[str, Any] = {}
    for name, kind in _parameter_types(command).items():
        if dataclasses.is_dataclass(kind):
            fields = dataclasses.fields(kind)
            arguments[name] = kind(**{field.name: options[field.name] for field in fields})  # type: ignore[operator]  # a class, never an instance
        else:
            arguments[name] = options[name]
    return command(**arguments)


def _command_parser(command: Command) -> ArgumentParser:
    parser = ArgumentParser(description=parse_docstring(command.__doc__ or "").description)
    for argument in arguments_of(command):
        _add(parser, argument)
    for name, text in _COMMON.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    parser.add_argument("--config", action="config", help="Read options from a YAML file.")
    return parser


class _Paragraphs(DefaultHelpFormatter):
    """Help whose description keeps the paragraphs of the docstring."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        return "\n\n".join(fill(part, width, indent) for part in text.split("\n\n"))


def _parameter_types(command: Command) -> dict[str, Any]:
    types = typing.get_type_hints(command)
    return {name: types[name] for name in inspect.signature(command).parameters}


def arguments_of(command: Command) -> list[Argument]:
    """What a command's signature asks for, in order."""
    helps = _helps(command)
    types = _parameter_types(command)
    found = []
    for parameter in inspect.signature(command).parameters.values():
        kind = types[parameter.name]
        if dataclasses.is_dataclass(kind):
            kinds, texts = typing.get_type_hints(kind), _helps(kind)
            found += [
                Argument(field.name, kinds[field.name], field.default, texts.get(field.name))
                for field in dataclasses.fields(kind)
            ]
        else:
            positional = parameter.kind is not inspect.Parameter.KEYWORD_ONLY
            text = helps.get(parameter.name)
            found.append(Argument(parameter.name, kind, parameter.default, text, positional))
    return found


def _helps(documented: Any) -> dict[str, str | None]:
    return {
        entry.arg_name: entry.description
        for entry in parse_docstring(documented.__doc__ or "").params
    }


def _add(parser: ArgumentParser, argument: Argument) -> None:
    options: dict[str, Any] = {"help": argument.help, "type": argument.type}
    if argument.default is not _REQUIRED:
        options["default"] = argument.default
    if argument.positional:
        if typing.get_origin(argument.type) is list:
            options |= {"nargs": "+", "type": typing.get_args(argument.type)[0]}
        elif argument.default is not _REQUIRED:
            options["nargs"] = "?"
        parser.add_argument(argument.name, **options)
        return
    flags = [*_SHORT.get(argument.name, ()), f"--{argument.name.replace('_', '-')}"]
    if argument.type is bool:
        parser.add_argument(*flags, action="store_true", help=argument.help)
    else:
        parser.add_argument(*flags, **options)
