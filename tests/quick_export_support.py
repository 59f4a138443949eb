"""Exports without waiting: torch.onnx reads its 500 translations of operators only once.

`torch.onnx.export` parses the source of every translation anew for each network, which is more than
half of the time of a small one's export, and the tests export some hundred.
"""

from __future__ import annotations

import functools
import sys
from typing import Any


def keep_translations() -> None:
    """Let torch.onnx keep what it read, in this process, if it will be used here at all."""
    if "torchlift.converters.onnx.exporter.tracing" not in sys.modules:
        return
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        read = functools.cache(ONNXRegistry.from_torchlib)
    except (ImportError, AttributeError):
        return  # Another version of torch: its exports only take longer.

    def registry(*args: Any, **kwargs: Any) -> ONNXRegistry:
        kept = read(*args, **kwargs)
        copy = ONNXRegistry()
        copy._opset_version = kept._opset_version
        # An export adds its own translations to these lists.
        copy.functions = {name: list(found) for name, found in kept.functions.items()}
        return copy

    ONNXRegistry.from_torchlib = staticmethod(registry)
