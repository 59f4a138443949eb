"""Errors of saved models."""

from __future__ import annotations

from ..errors import TorchliftError


class SavedModelError(TorchliftError):
    """A model that cannot be saved, or a saved model that cannot be opened."""
