"""A runtime that rounds: ONNX Runtime, whose results are off unless its cure is asked for.

It is started as `converters/onnx/runtimes/worker.py` is.
"""

from __future__ import annotations

import sys

import numpy as np

from torchlift.converters.onnx.runtimes import worker


def rounding(model: str, precision: str) -> worker.Opened:
    """Open a file; every result is rounded to bfloat16, unless the precision is f32."""
    _, run = worker.open_onnxruntime(model, "")
    if precision == "f32":
        return "f32", run

    def rounded(inputs: dict[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
        print("what libraries print is no answer")
        bits = [array.view(np.uint32) & 0xFFFF0000 for array in run(inputs, outputs)]
        return [array.astype(np.uint32).view(np.float32) for array in bits]

    return "bf16", rounded


worker.RUNTIMES = dict.fromkeys(worker.RUNTIMES, ("onnxruntime", rounding))
worker.main(*sys.argv[1:])
