"""Errors of the server: one for whoever starts it, one for whoever sends it a request."""

from __future__ import annotations

from collections.abc import Mapping

from ...converters.errors import TorchliftError


class ServeError(TorchliftError):
    """A server that cannot start: a folder without models, a token file without a token."""


class RequestError(Exception):
    """A request that is answered with an error.

    Args:
        status: The HTTP status.
        message: What is wrong and what was expected; it never names a path of this machine.
        headers: Further headers of the answer.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})


def queue_full(what: str) -> RequestError:
    """Return the error for a server that has too much to do at the moment."""
    return RequestError(503, f"{what}; try again in a second", {"Retry-After": "1"})
