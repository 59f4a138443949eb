"""`torchlift COMMAND`: parses the command line, runs one command, prints its report."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout

from ..converters.errors import TorchliftError
from .commands import load_commands
from .parser import parse_command, run_command
from .result import show


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after `torchlift`; those of the process by default.

    Returns:
        the exit code: 0, or 1 for an error or a check that failed (usage errors exit with 2).
    """
    words = sys.argv[1:] if arguments is None else arguments
    command, options = parse_command(load_commands(words), words)
    # With --json, whatever a command says while it works goes to stderr.
    aside = redirect_stdout(sys.stderr) if options["json"] else nullcontext()
    try:
        with aside:
            report = run_command(command, options)
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


def run() -> None:
    """The console command."""
    # Read when torch is loaded. Threads of torch's that wait for others spin for a while, so that
    # they go on at once; where other programs keep the cores, spinning for long keeps the others
    # from ever arriving. This long is as fast as the default on a quiet machine, and several times
    # as fast on a busy one; not to spin at all costs two thirds of the speed of small networks.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    sys.exit(main())
