"""Errors of the command line itself."""

from __future__ import annotations

from ..converters.errors import TorchliftError


class UsageError(TorchliftError):
    """Arguments that are wrong in themselves, whatever the files hold; the exit code is 2."""
