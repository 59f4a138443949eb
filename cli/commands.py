"""The names of the commands, and how each is imported."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from .parser import Command

#: Those that work on files, in the order of the help.
FILE_COMMANDS: tuple[str, ...] = (
    "inspect",
    "summary",
    "cat",
    "dump",
    "diff",
    "convert",
    "export",
    "check",
    "annotate",
    "quantize",
    "predict",
    "evaluate",
    "sample",
    "apply",
    "extract",
    "probe",
    "calibrate",
    "train",
    "finetune",
    "sweep",
    "runs",
    "split",
    "plot",
)

#: Every command, in the order of the help.
COMMANDS: tuple[str, ...] = (*FILE_COMMANDS, "serve", "page", "lab", "doctor", "demo")


def load_commands(words: Sequence[str], names: Sequence[str] = COMMANDS) -> tuple[Command, ...]:
    """Import the command that the words name, or all of them if they name none.

    Each command is a function in the module of its name. Only the one that is named is imported:
    importing all takes longer than most of them take to run.

    Args:
        words: what stands after `torchlift`, as a shell splits it.
        names: the commands to choose from.
    """
    chosen = [name for name in names if [*words[:1]] == [name]]
    return tuple(getattr(import_module(f".{name}", __package__), name) for name in chosen or names)
