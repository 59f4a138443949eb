"""`torchlift COMMAND`: parses the command line, runs one command, prints its report."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from functools import cache
from typing import Any

from jsonargparse import ArgumentParser

from .. import __version__
from ..converters.errors import TorchliftError
from .cat import cat
from .check import check
from .convert import convert
from .demo import demo
from .doctor import doctor
from .evaluate import evaluate
from .export import export
from .extract import extract
from .finetune import finetune
from .inspect import inspect
from .lab import lab
from .parser import Command, build_parser, call
from .plot import plot
from .predict import predict
from .probe import probe
from .quantize import quantize
from .report import Report, show
from .split import split
from .summary import summary
from .sweep import sweep
from .train import train

#: Every command, in the order of the help. Their modules import torch only when they run.
COMMANDS: tuple[Command, ...] = (
    inspect,
    summary,
    cat,
    convert,
    export,
    check,
    quantize,
    predict,
    evaluate,
    extract,
    probe,
    train,
    finetune,
    sweep,
    split,
    plot,
    lab,
    doctor,
    demo,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after `torchlift`; those of the process by default.

    Returns:
        the exit code: 0, or 1 for an error or a check that failed (usage errors exit with 2).
    """
    command, options = _understood(sys.argv[1:] if arguments is None else arguments)
    # With --json, whatever a command says while it works goes to stderr.
    aside = redirect_stdout(sys.stderr) if options["json"] else nullcontext()
    try:
        with aside:
            report = call(command, options)
        show(report, as_json=options["json"])
    except TorchliftError as error:
        if options["debug"]:
            raise
        print(f"torchlift: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except OSError as error:
        if options["debug"]:
            raise
        print(f"torchlift: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0 if report.passed else 1


def execute(words: Sequence[str]) -> Report:
    """What a command gives, for commands that consist of others.

    Args:
        words: those after `torchlift`, as a shell would split them.

    Raises:
        TorchliftError: what the command raises.
        SystemExit: when the words are no command; the usage is printed on stderr.
    """
    return call(*_understood(words))


def _understood(words: Sequence[str]) -> tuple[Command, dict[str, Any]]:
    """The command that the words name, and its options."""
    chosen = _parser().parse_args(list(words))
    command = next(item for item in COMMANDS if item.__name__ == chosen.subcommand)
    return command, vars(chosen[chosen.subcommand])


@cache
def _parser() -> ArgumentParser:
    return build_parser(COMMANDS, __version__)


def run() -> None:
    """The console command."""
    # Read when torch is loaded. Threads that wait for others by spinning keep those from running
    # where there are fewer cores free than threads: a training then takes five times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(main())
