"""Errors of exporting, checking and quantizing."""

from __future__ import annotations

from ..errors import TorchliftError


class OnnxError(TorchliftError):
    """A model that cannot be exported, or an `.onnx` file that cannot be read or checked."""
