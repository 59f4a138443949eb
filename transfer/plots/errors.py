"""What goes wrong with pictures of networks and results."""

from __future__ import annotations

from ...converters.errors import TorchliftError


class PlotError(TorchliftError):
    """Something that cannot be drawn, or not in this way."""
