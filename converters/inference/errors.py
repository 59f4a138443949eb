"""Errors of running a model."""

from __future__ import annotations

from ..errors import TorchliftError


class InferenceError(TorchliftError):
    """A model that cannot be run, or inputs that it does not accept."""


class ModelInputError(InferenceError):
    """Inputs that a PyTorch module does not accept."""


class ProviderError(InferenceError):
    """An execution provider or device that was requested by name and does not start."""
