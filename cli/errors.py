"""Errors of the command line itself."""

from __future__ import annotations

import signal

from ..converters.errors import TorchliftError


class UsageError(TorchliftError):
    """Arguments that are wrong in themselves, whatever the files hold; the exit code is 2."""


class Terminated(SystemExit):
    """SIGTERM: temporary files are removed on the way out, and the exit code is 143."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)
