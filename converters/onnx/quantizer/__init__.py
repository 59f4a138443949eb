"""Quantizing an `.onnx` file to int8."""

from .quantize import Quantized, quantize

__all__ = ["Quantized", "quantize"]
