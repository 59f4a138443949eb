"""`torchlift COMMAND`: parses the command line, runs one command, prints its result."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout, suppress
from typing import Any

from ..converters.errors import TorchliftError
from ..converters.requirements import MissingPackageError, is_optional, missing_package
from .commands import load_commands
from .errors import UsageError
from .messages import for_command
from .parser import Command, parse_command, run_command
from .result import show
from .signals import Terminated, terminated_by_exception
from .streams import discard_stdout, prepare_streams
from .terminal import printable, short_warnings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after `torchlift`; those of the process by default.

    Returns:
        The exit code: 0; 1 for an error or a failed check; 130 after SIGINT and 143 after SIGTERM.
        (Wrong usage exits with 2.)
    """
    words = sys.argv[1:] if arguments is None else arguments
    try:
        with terminated_by_exception(), short_warnings():
            return _main(words)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Terminated as stopped:
        return stopped.exit_code


def _main(words: Sequence[str]) -> int:
    try:
        command, options = parse_command(load_commands(words), words)
    except ImportError as error:
        return _print_missing(error, words[0])
    try:
        # With --json, whatever a command prints while it works goes to stderr.
        with redirect_stdout(sys.stderr) if options["json"] else nullcontext():
            result = run_command(command, options)
    except ImportError as error:
        if options["debug"]:
            raise
        return _print_missing(error, command.__name__)
    except (TorchliftError, OSError) as error:
        if options["debug"]:
            raise
        _print_error(error, command, options)
        return 2 if isinstance(error, UsageError) else 1
    try:
        show(result, as_json=options["json"])
        sys.stdout.flush()
    except TorchliftError as error:
        # A text that is printed as it is made ends here.
        _print_error(error, command, options)
        return 1
    except BrokenPipeError:
        # Whoever read the output has seen enough. Python would complain when it flushes stdout.
        discard_stdout()
    except OSError as error:
        discard_stdout()
        _print(f"torchlift: stdout: {error.strerror or error}")
        return 1
    return 0 if result.passed else 1


def _print_error(error: TorchliftError | OSError, command: Command, given: dict[str, Any]) -> None:
    """Print an error in one line on stderr, and for an unknown class how to write a converter."""
    if isinstance(error, TorchliftError):
        text = for_command(str(error), command, given)
    else:
        place = f"{error.filename}: " if error.filename is not None else ""
        text = f"{place}{error.strerror or error}"
    _print(f"torchlift: {printable(text)}")
    if skeleton := getattr(error, "skeleton", None):
        _print(f"\nTo write a converter, begin with:\n\n{printable(skeleton)}")


def _print_missing(error: ImportError, command: str) -> int:
    """Say which package a command needs; any other import that fails is raised again."""
    package = (error.name or "").partition(".")[0]
    if is_optional(package):
        error = missing_package(command, package)
    if not isinstance(error, MissingPackageError):
        raise error
    _print(f"torchlift: {printable(str(error))}")
    return 1


def _print(text: str) -> None:
    # The exit code tells the rest where stderr cannot.
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def run() -> None:
    """Run the console command."""
    prepare_streams()
    # Read when torch is loaded. A waiting thread of torch spins for a while, so that it resumes at
    # once; where other programs use the cores, spinning for long keeps the other threads from ever
    # arriving. This long is as fast as the default on a quiet machine, and several times as fast on
    # a busy one; not to spin at all costs two thirds of the speed of small networks.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    sys.exit(main())
