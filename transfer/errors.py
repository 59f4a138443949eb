"""What goes wrong with data and reports."""

from __future__ import annotations

from ..converters.errors import TorchliftError


class DataError(TorchliftError):
    """A dataset or picture that cannot be read, or does not fit the model."""


class ReportError(TorchliftError):
    """A report whose parts do not fit together, or do not say where their data comes from."""
