"""The parser of the command line: errors of two lines, help in paragraphs, checked config files."""

from __future__ import annotations

import re
import sys
from argparse import SUPPRESS, Action, ArgumentTypeError
from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from .streams import discard_stdout
from .terminal import printable


class CommandLineParser(ArgumentParser):
    """A parser whose options are never abbreviated and whose errors take two lines.

    Attributes:
        flags: what is typed for each argument, by the name that jsonargparse gives it.
        types: the type of each argument of a command, by name.
        words: what was typed.
    """

    def __init__(self, **options: Any) -> None:
        self.flags: dict[str, str] = {}
        self.types: dict[str, Any] = {}
        self.words: list[str] = []
        super().__init__(allow_abbrev=False, formatter_class=_Paragraphs, **options)

    def parse_path(self, cfg_path: Any, *arguments: Any, **options: Any) -> Any:
        """Parse a config file; one that is no text is an error like any other."""
        try:
            return super().parse_path(cfg_path, *arguments, **options)
        except UnicodeDecodeError as error:
            self.error(f"{cfg_path}: not text: {error}")

    def parse_string(self, content: str, path: str = "", **options: Any) -> Any:
        """Parse the text of a config file, once its names and values are known to be right."""
        import yaml

        from .config_files import read_config

        try:
            config = read_config(content, self.types, self.words)
        except ArgumentTypeError as error:
            self.error(f"{path}: {error}" if path else str(error))
        return super().parse_string(yaml.safe_dump(config), path, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print what is wrong and how to see the options, and exit with 2."""
        prog = self.prog
        text, command = _readable(message, self.flags)
        prog += f" {command}" if command else ""
        with suppress(OSError):
            sys.stderr.write(f"{prog}: {printable(text)}\n{prog} --help lists the arguments\n")
            sys.stderr.flush()
        sys.exit(2)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print help; argparse would end with 0 where stdout is full."""
        try:
            print(message, end="", file=file or sys.stderr, flush=True)
        except BrokenPipeError:
            discard_stdout()
        except OSError as error:
            discard_stdout()
            sys.stderr.write(f"torchlift: stdout: {error.strerror or error}\n")
            sys.exit(1)


class _Paragraphs(DefaultHelpFormatter):
    """Help that keeps the paragraphs of the docstring, and shows defaults that say something."""

    def _get_help_string(self, action: Action) -> str:
        text = action.help or ""
        if not action.option_strings or any(action.default is v for v in (None, False, SUPPRESS)):
            return text
        return f"{text} (default: %(default)s)"

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        return "\n\n".join(fill(part, width, indent) for part in text.split("\n\n"))


def _readable(message: str, flags: Mapping[str, str]) -> tuple[str, str]:
    """Return one of jsonargparse's messages in one line, and the command that it names."""
    text = " ".join(message.split())
    if found := re.match(r"the following arguments are required: (.*)", text):
        names = found[1].split(", ")
        missing = ", ".join(flags.get(name, name) for name in names)
        return f"missing: {missing}", names[0].partition(".")[0] if "." in names[0] else ""
    if found := re.match(r'Parser key "(\w+)": (.*)', text):
        return f"{flags.get(found[1], found[1])}: {found[2]}", ""
    if found := re.match(r"argument COMMAND: invalid choice: ('.*?')", text):
        return f"no command {found[1]}", ""
    if found := re.match(r"unrecognized arguments: (.*)", text):
        option = found[1].partition("=")[0].split()[0]
        similar = get_close_matches(option, flags.values(), n=1, cutoff=0.7)
        hint = "".join(f"; did you mean {name}?" for name in similar)
        return f"no such argument: {found[1]}{hint}", ""
    if found := re.match(r"argument .*?(--[\w-]+): ignored explicit argument ('.*')", text):
        return f"{found[1]}: stands alone, without a value such as {found[2]}", ""
    if text.startswith('expected "subcommand"'):
        return "a command is missing", ""
    return re.sub(r"^argument (?:-\w, ?|-\w/)?(--[\w-]+|\w+):", r"\1:", text), ""
