"""The commands: what a person types after `torchlift`, and what a lab consists of."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from .parser import Command

#: Those that work on files, in the order of the help.
FILE_COMMANDS: tuple[str, ...] = (
    "inspect",
    "summary",
    "cat",
    "convert",
    "export",
    "check",
    "quantize",
    "predict",
    "evaluate",
    "extract",
    "probe",
    "train",
    "finetune",
    "sweep",
    "split",
    "plot",
)

#: Every command, in the order of the help.
COMMANDS: tuple[str, ...] = (*FILE_COMMANDS, "lab", "doctor", "demo")


def load_commands(words: Sequence[str], names: Sequence[str] = COMMANDS) -> tuple[Command, ...]:
    """The command that words name, or all where they name none, for `parse_command`.

    Each is the function of its name in the module of its name. Only what is asked for is imported:
    all of them take longer than most of them to run.

    Args:
        words: what stands after `torchlift`, as a shell splits it.
        names: those to choose from.
    """
    chosen = [name for name in names if [*words[:1]] == [name]]
    return tuple(getattr(import_module(f".{name}", __package__), name) for name in chosen or names)
