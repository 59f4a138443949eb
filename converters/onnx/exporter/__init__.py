"""Writing a model as ONNX."""

from .export import Exported, export

__all__ = ["Exported", "export"]
