"""Errors of the parser of the command line, for people."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches


def readable(message: str, flags: Mapping[str, str]) -> tuple[str, str]:
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
    if text.startswith('expected "subcommand"'):
        return "a command is missing", ""
    return re.sub(r"^argument (?:-\w, ?|-\w/)?(--[\w-]+|\w+):", r"\1:", text), ""
