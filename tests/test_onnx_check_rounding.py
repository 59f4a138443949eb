"""Errors that rounding explains are no errors, and only those.

Logits that are what is left of large terms differ between two orders of summation by more than any
tolerance relative to them; the same file with another weight must still be found.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from torchlift.converters.inference.errors import ModelInputError
from torchlift.converters.onnx import check, export
from torchlift.converters.onnx.checker.rounding import allowed_rounding, moved_with_inputs
from torchlift.converters.saved import SavedModel


class Cancelling(nn.Module):
    """A head whose logits are differences of sums that are 10⁵ times larger."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.rand(2, 4096, generator=generator))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        features = input.flatten(1).abs() @ self.weight.T
        # The sum that is taken off is the same number, in another order.
        flipped = input.flatten(1).abs().flip(1) @ self.weight.flip(1).T
        return features - flipped + 1e-3 * torch.tanh(features - 1000)


@pytest.fixture(scope="module")
def model() -> SavedModel:
    return SavedModel(Cancelling().eval(), "logits", (1, 64, 64), ["a", "b"])


def images() -> np.ndarray:
    """The same in each run."""
    return torch.randn(16, 1, 64, 64, generator=torch.Generator().manual_seed(7)).numpy()


@pytest.mark.parametrize("fp16", [False, True], ids=["fp32", "fp16"])
def test_logits_that_cancel_pass(model: SavedModel, fp16: bool, tmp_path: Path) -> None:
    """With ONNX Runtime 1.22 an fp16 file fails for a third of all inputs (docs/support.md)."""
    export(model, tmp_path / "model.onnx", fp16=fp16)
    report = check(model, tmp_path / "model.onnx", images())
    outputs = next(finding for finding in report.findings if finding.name == "outputs")
    assert outputs.passed, outputs.text


def test_another_weight_is_no_rounding(model: SavedModel, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export(model, path)
    graph = onnx.load(path)
    tensor = max(graph.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    changed = numpy_helper.to_array(tensor).copy()
    changed.reshape(-1)[::2] *= 1.01
    tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
    onnx.save(graph, path)
    report = check(model, path, images())
    outputs = next(finding for finding in report.findings if finding.name == "outputs")
    assert not outputs.passed


def test_the_rounding_of_a_sum_is_that_of_its_terms() -> None:
    """1e4 + 0.1 - 1e4 in float32 is off by up to 2⁻¹¹, half the distance of neighbours of 1e4."""
    head = nn.Linear(3, 1, bias=False)
    head.weight = nn.Parameter(torch.tensor([[1.0, 1.0, -1.0]]))
    inputs = np.array([[1e4, 0.1, 1e4]], np.float32)
    (allowed,) = allowed_rounding(head, inputs, "fp32-cpu")
    assert 0 < allowed <= 4 * 2**-10
    assert allowed_rounding(head, inputs, "int8") == []


def test_a_jump_is_no_rounding_and_each_row_has_its_own() -> None:
    """Outputs move with the last digits of the inputs: in proportion, or by a jump as an index."""

    def model(inputs: np.ndarray) -> list[np.ndarray]:
        steep, jump = inputs[:, :1] * 1000, (inputs[:, 1:] > 0).astype(np.float64)
        return [steep * [[1], [0]], jump, steep * np.inf]

    inputs = np.array([[3.0, 0.0], [3.0, 5.0]])
    with np.errstate(invalid="ignore"):
        steep, jump, infinite = moved_with_inputs(model, inputs, model(inputs))
    # 32 last digits of 3 in single precision, times 1000.
    assert steep.ravel().tolist() == pytest.approx([32 * 3 * 2**-23 * 1000, 0])
    assert not jump.any()
    assert not infinite.any()


def test_whole_numbers_do_not_move_and_nothing_is_known_of_what_a_model_refuses() -> None:
    inputs = np.array([[3, 4]])
    assert not moved_with_inputs(lambda x: [x * 1000.0], inputs, [inputs * 1000.0])[0].any()

    def refuse(inputs: np.ndarray) -> list[np.ndarray]:
        raise ModelInputError("a dtype of its own")

    assert not moved_with_inputs(refuse, np.ones((1, 2)), [np.ones((1, 2))])[0].any()
    assert allowed_rounding(nn.Linear(9, 2), np.ones((1, 2), np.float32), "fp32-cpu") == []
