"""`torchlift COMMAND`: parses the command line, runs one command, prints its result."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from types import FrameType
from typing import Any, NoReturn

from ..converters.errors import TorchliftError
from ..converters.requirements import is_optional, missing_package
from .commands import load_commands
from .errors import Terminated, UsageError
from .messages import for_command
from .parser import Command, parse_command, run_command
from .result import show
from .terminal import printable, printable_warnings


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
        command, options = parse_command(load_commands(words), words)
    except ImportError as error:
        return _print_missing(error, words[0])
    try:
        with _terminated_by_exception(), printable_warnings():
            return _run(command, options)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Terminated:
        return 128 + signal.SIGTERM
    except BrokenPipeError:
        # Whoever read the output has seen enough. Python would complain when it flushes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ImportError as error:
        if options["debug"]:
            raise
        return _print_missing(error, command.__name__)
    except (TorchliftError, OSError) as error:
        if options["debug"]:
            raise
        _print_error(error, command, options)
        return 2 if isinstance(error, UsageError) else 1


def _run(command: Command, options: dict[str, Any]) -> int:
    # With --json, whatever a command prints while it works goes to stderr.
    aside = redirect_stdout(sys.stderr) if options["json"] else nullcontext()
    with aside:
        result = run_command(command, options)
    show(result, as_json=options["json"])
    sys.stdout.flush()
    return 0 if result.passed else 1


def _print_error(error: TorchliftError | OSError, command: Command, given: dict[str, Any]) -> None:
    """Print an error in one line on stderr, and for an unknown class how to write a converter."""
    if isinstance(error, TorchliftError):
        text = for_command(str(error), command, given)
    else:
        place = f"{error.filename}: " if error.filename is not None else ""
        text = f"{place}{error.strerror or error}"
    print(f"torchlift: {printable(text)}", file=sys.stderr)
    if skeleton := getattr(error, "skeleton", None):
        print(f"\nTo write a converter, begin with:\n\n{printable(skeleton)}", file=sys.stderr)


def _print_missing(error: ImportError, command: str) -> int:
    """Name the extra that a command needs; an error of ours or of a plugin is raised again."""
    package = (error.name or "").partition(".")[0]
    if not is_optional(package):
        raise error
    print(f"torchlift: {missing_package(command, package)}", file=sys.stderr)
    return 1


@contextmanager
def _terminated_by_exception() -> Iterator[None]:
    """Turn SIGTERM into `Terminated`, so that temporary files are removed on the way out."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run() -> None:
    """Run the console command."""
    # Read when torch is loaded. A waiting thread of torch spins for a while, so that it resumes at
    # once; where other programs use the cores, spinning for long keeps the other threads from ever
    # arriving. This long is as fast as the default on a quiet machine, and several times as fast on
    # a busy one; not to spin at all costs two thirds of the speed of small networks.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    sys.exit(main())
