"""Exporting a model to an `.onnx` file."""

from .export import Exported, export

__all__ = ["Exported", "export"]
