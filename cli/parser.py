"""From a typed function to a subcommand: names, types and defaults from its signature.

Parameters before `*` are positional; those behind it are options, or flags where they are `bool`.
A parameter whose type is a dataclass stands for that dataclass's fields, which are a titled group
of options in the help. The help is the docstring.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Any

from docstring_parser import parse as parse_docstring

from .. import __version__
from ..converters.errors import TorchliftError
from .argument_parser import CommandLineParser
from .errors import UsageError
from .result import CommandResult
from .values import parser_of

Command = Callable[..., CommandResult]

#: What every command takes besides its own parameters.
_COMMON = {
    "json": "Print one JSON document on stdout.",
    "debug": "Show the traceback of an error.",
}

#: Options that may be written with one letter, in every command that has them.
_SHORT = {"output": ("-o",)}

#: Flags that stand for a value of an option, in every command that has it: the flag, the value and
#: its help.
_SHORTHANDS = {
    "on_error": (
        "--skip-bad",
        "skip",
        "Leave out what cannot be read, counted and named in a note.",
    )
}

#: Where a dataset may also be, said in every command that takes one, by the argument's name.
_ADDRESSES = "An address such as s3://, hf://, https:// or zip:// will do too."
_DATASETS = ("data", "test_data")

_REQUIRED = inspect.Parameter.empty


@dataclasses.dataclass(frozen=True)
class Argument:
    """One argument of a command: a positional one, or an option.

    Attributes:
        name: of the parameter in Python.
        type: its annotation.
        default: its default, or `inspect.Parameter.empty`.
        help: its entry in the docstring.
        group: the title of its group in the help; empty for the command's own.
        positional: whether it is no option.
    """

    name: str
    type: Any
    default: Any
    help: str | None
    group: str = ""
    positional: bool = False

    @property
    def flag(self) -> str:
        """The option as it is typed, or a positional argument's name."""
        return self.name if self.positional else f"--{self.name.replace('_', '-')}"


def parse_command(
    commands: tuple[Command, ...], words: Sequence[str]
) -> tuple[Command, dict[str, Any]]:
    """Return the command that words name, and its arguments by name.

    Args:
        commands: those to choose from.
        words: what stands after `torchlift`, as a shell splits it.

    Raises:
        SystemExit: when the words are no command; one or two lines are printed on stderr.
    """
    words = list(words)
    command = next((item for item in commands if words[:1] == [item.__name__]), None)
    if command is not None:
        words[1:] = _options_last(command, words[1:])
    parser = _parser_of(commands)
    parser.words[:] = words
    chosen = parser.parse_args(words)
    command = next(item for item in commands if item.__name__ == chosen.subcommand)
    return command, vars(chosen[chosen.subcommand])


def run_command(command: Command, options: dict[str, Any]) -> CommandResult:
    """Call a command with the arguments that its parser gave.

    Raises:
        UsageError: when an option has an invalid value.
        TorchliftError: when the command fails.
    """
    return command(**build_arguments(command, options))


def build_arguments(command: Command, options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a command: groups of options are dataclasses.

    Raises:
        UsageError: when an option has an invalid value.
    """
    arguments: dict[str, Any] = {}
    for name, kind in _parameter_types(command).items():
        if dataclasses.is_dataclass(kind):
            fields = dataclasses.fields(kind)
            values = {field.name: options[field.name] for field in fields}
            try:
                arguments[name] = kind(**values)  # type: ignore[operator]  # a class, never an instance
            except TorchliftError as error:
                # Nothing but the options is known yet: one of them is wrong in itself.
                raise UsageError(str(error)) from error
        else:
            arguments[name] = options[name]
    return arguments


def arguments_of(command: Command) -> list[Argument]:
    """Return what a command's signature asks for, in order."""
    helps = _helps(command)
    types = _parameter_types(command)
    arguments = []
    for parameter in inspect.signature(command).parameters.values():
        kind = types[parameter.name]
        if dataclasses.is_dataclass(kind):
            kinds, texts = typing.get_type_hints(kind, include_extras=True), _helps(kind)
            title = (parse_docstring(kind.__doc__ or "").short_description or "").rstrip(".")
            arguments += [
                Argument(field.name, kinds[field.name], field.default, texts.get(field.name), title)
                for field in dataclasses.fields(kind)
            ]
        else:
            positional = parameter.kind is not inspect.Parameter.KEYWORD_ONLY
            text = helps.get(parameter.name)
            arguments.append(
                Argument(parameter.name, kind, parameter.default, text, positional=positional)
            )
    return arguments


def flags_of(command: Command) -> set[str]:
    """Return the options of a command that take no value, as they are typed."""
    own = {argument.flag for argument in arguments_of(command) if argument.type is bool}
    return own | {flag for flag, _, _ in _SHORTHANDS.values()}


@cache
def _parser_of(commands: tuple[Command, ...]) -> CommandLineParser:
    """Return the parser of `torchlift COMMAND …`."""
    parser = CommandLineParser(
        prog="torchlift",
        description="Torch7 .t7 models as PyTorch modules and checked ONNX classifiers.",
        version=__version__,
    )
    subcommands = parser.add_subcommands(metavar="COMMAND", required=True)
    for command in commands:
        doc = parse_docstring(command.__doc__ or "")
        inner = _command_parser(command)
        inner.words = parser.words
        subcommands.add_subcommand(command.__name__, inner, help=doc.short_description)
        # jsonargparse would show the options of `torchlift` itself, which has none.
        inner.prog = f"torchlift {command.__name__}"
        names = {f"{command.__name__}.{one.name}": one.flag for one in arguments_of(command)}
        parser.flags |= names
    return parser


def _command_parser(command: Command) -> CommandLineParser:
    parser = CommandLineParser(
        prog=f"torchlift {command.__name__}",
        description=parse_docstring(command.__doc__ or "").description,
    )
    groups: dict[str, Any] = {}
    for argument in arguments_of(command):
        if argument.group and argument.group not in groups:
            groups[argument.group] = parser.add_argument_group(argument.group)
        _add(groups.get(argument.group, parser), argument)
        parser.flags[argument.name] = argument.flag
        parser.types[argument.name] = argument.type
    for name, text in _COMMON.items():
        parser.types[name] = bool
        parser.add_argument(f"--{name}", action="store_true", help=text)
    parser.add_argument("--config", action="config", help="Read options from a YAML file.")
    return parser


def _options_last(command: Command, words: list[str]) -> list[str]:
    """Move the options behind the positional arguments, among which they may stand.

    Every option takes one value or none, so that what belongs together is known.
    """
    flags = flags_of(command) | {f"--{name}" for name in (*_COMMON, "help")} | {"-h"}
    positional: list[str] = []
    options: list[str] = []
    waiting = iter(words)
    for word in waiting:
        if word == "--":
            # What follows is no option, whatever it looks like.
            return [*options, word, *positional, *waiting]
        if not word.startswith("-") or re.fullmatch(r"-(\d.*)?", word):
            positional.append(word)
        else:
            options.append(word)
            if "=" not in word and word not in flags and (value := next(waiting, None)) is not None:
                if re.match(r"-[\d.]", value):
                    # A negative number; argparse would take -1,1 for an option.
                    options[-1] = f"{word}={value}"
                else:
                    options.append(value)
    return [*positional, *options]


def _parameter_types(command: Command) -> dict[str, Any]:
    types = typing.get_type_hints(command, include_extras=True)
    return {name: types[name] for name in inspect.signature(command).parameters}


def _helps(documented: Any) -> dict[str, str | None]:
    described = [documented]
    if isinstance(documented, type):
        # A group of options may extend another one.
        described = [kind for kind in documented.__mro__ if dataclasses.is_dataclass(kind)]
    return {
        entry.arg_name: entry.description
        for one in described
        for entry in parse_docstring(one.__doc__ or "").params
    }


def _add(parser: Any, argument: Argument) -> None:
    text = argument.help
    if argument.name in _DATASETS:
        text = f"{text} {_ADDRESSES}"
    options: dict[str, Any] = {"help": text}
    if argument.default is not _REQUIRED:
        options["default"] = argument.default
    choices = _choices(argument.type)
    if argument.positional:
        if typing.get_origin(argument.type) is list:
            options["nargs"] = "+"
        elif argument.default is not _REQUIRED:
            options["nargs"] = "?"
        if choices:
            options |= {"type": parser_of(argument.type), "metavar": argument.name}
        parser.add_argument(argument.name, **options)
        return
    flags = [*_SHORT.get(argument.name, ()), argument.flag]
    if argument.type is bool:
        parser.add_argument(*flags, action="store_true", **options)
    else:
        if argument.default is _REQUIRED:
            options["required"] = True
        if choices:
            name = argument.name.upper()
            free = not _is_choice(argument.type)
            options["metavar"] = "|".join([name, *choices]) if free else f"{{{','.join(choices)}}}"
        parser.add_argument(*flags, type=parser_of(argument.type), **options)
    if shorthand := _SHORTHANDS.get(argument.name):
        flag, value, text = shorthand
        parser.add_argument(
            flag,
            dest=argument.name,
            action="store_const",
            const=value,
            default=argument.default,
            help=text,
        )


def _is_choice(annotation: Any) -> bool:
    """Return whether a type is a Literal, optional or not, without other values."""
    kinds = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    return all(typing.get_origin(kind) is typing.Literal for kind in kinds if kind is not NoneType)


def _is_union(annotation: Any) -> bool:
    return isinstance(annotation, UnionType) or typing.get_origin(annotation) is typing.Union


def _choices(annotation: Any) -> tuple[str, ...]:
    """Return the values of a Literal, optional or not; of any other type none."""
    for kind in (annotation, *typing.get_args(annotation)):
        if typing.get_origin(kind) is typing.Literal:
            return tuple(map(str, typing.get_args(kind)))
    return ()
