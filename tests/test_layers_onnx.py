"""Every converted layer that ONNX can express, run by ONNX Runtime at the recorded batch size.

Expected values are Torch7's outputs, as in `test_layers`. The tolerance of 1e-4 allows ONNX
Runtime's order of summation and its approximations of exp and tanh.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from recorded_support import RANDOM
from support import proof, relative_error
from test_layers import cases

from torchlift.converters import t7
from torchlift.converters.modules import convert_recorded

#: Name of a case that ONNX cannot express → reason.
NOT_IN_ONNX: dict[str, str] = {
    **dict.fromkeys(RANDOM, "it draws random numbers at each call"),
}

LOSS = "a loss is for training"
TRAINING = "it was recorded in training mode, and ONNX graphs are for inference"


def reason(case: t7.LuaTable) -> str | None:
    """Return why a case is not exported, None if it is."""
    return TRAINING if case.get("mode") == "train" else NOT_IN_ONNX.get(case["name"])


def leaves(value: Any) -> list[torch.Tensor]:
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, list) else [value]


def run_in_onnx(module: torch.nn.Module, inputs: Any) -> list[torch.Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            with torch.no_grad():  # Or torch makes the gradients of loops too.
                program = torch.onnx.export(
                    module, (inputs,), dynamo=True, opset_version=18, verbose=False
                )
        finally:
            logging.disable(logging.NOTSET)
    assert program is not None
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    # The session has no input for a tensor that does not affect the output.
    tensors = dict(
        zip([value.name for value in program.model.graph.inputs], leaves(inputs), strict=False)
    )
    names = {value.name for value in session.get_inputs()}
    feed = {name: np.asarray(tensor) for name, tensor in tensors.items() if name in names}
    return [torch.as_tensor(output) for output in session.run(None, feed)]


@pytest.mark.slow
@pytest.mark.parametrize("case", cases())
def test_onnx_runtime_computes_torch7s_outputs(
    case: t7.LuaTable, record_property: Callable[[str, object], None]
) -> None:
    conversion = convert_recorded(case["module"])
    skip_reason = reason(case)
    record_property("proved", proof(conversion, case["class"], "onnx", skip_reason))
    if skip_reason:
        pytest.skip(skip_reason)
    data = t7.to_torch(case)
    outputs = run_in_onnx(conversion.module.eval(), data["input"])
    expected = leaves(data["output"])
    assert len(outputs) == len(expected)
    for output, expected_output in zip(outputs, expected, strict=True):
        assert relative_error(output, expected_output) < 1e-4
