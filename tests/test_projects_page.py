"""`docs/projects.md`: its commands are understood, and its table says what the files hold."""

from __future__ import annotations

import re
import shlex

import pytest
from projects_page import PAGE, renewed

from torchlift.cli.commands import FILE_COMMANDS, load_commands
from torchlift.cli.parser import parse_command

TEXT = PAGE.read_text(encoding="utf-8")
COMMANDS = sorted(
    {line for line in re.findall(r"`([^`]+)`", TEXT) if line.split()[0] in FILE_COMMANDS}
)


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_are_understood(line: str) -> None:
    words = shlex.split(line)
    command, _ = parse_command(load_commands(words, FILE_COMMANDS), words)
    assert command.__name__ == words[0]


def test_the_table_is_what_the_checkpoints_hold() -> None:
    """`python tests/projects_page.py` writes it again."""
    assert renewed(TEXT) == TEXT
