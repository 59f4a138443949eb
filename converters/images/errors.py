"""Errors of reading and preparing images."""

from __future__ import annotations

from ..errors import TorchliftError


class ImageError(TorchliftError):
    """An image that is missing or cannot be read."""


class PreprocessingError(TorchliftError):
    """Preprocessing that is invalid, incomplete, or does not fit the images or the network."""
