"""Writing an ONNX file as int8."""

from .quantize import Quantized, quantize

__all__ = ["Quantized", "quantize"]
