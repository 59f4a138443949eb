"""Errors that rounding explains are no errors, and only those.

Logits that are what is left of large terms differ between two orders of summation by more than any
tolerance relative to them; the same file with another weight must still be found.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from torchlift.converters.inference.errors import ModelInputError
from torchlift.converters.onnx import check, export
from torchlift.converters.onnx.checker.rounding import (
    allowed_rounding,
    difference,
    moved_with_inputs,
)
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


@pytest.mark.parametrize(("width", "expected"), [(2.0**-9, 1.0), (2.0**-13, 0.0)])
def test_what_levels_off_within_a_small_part_of_the_last_digit_is_a_jump(
    width: float, expected: float
) -> None:
    """A deviation of equal values with a small `eps` is continuous, and soon as good as a sign.

    A 4096th of the last digit tells one from the other: tanh(2⁻¹²/2⁻⁹) is 0.12, tanh(2) is 0.96.
    """

    def model(inputs: np.ndarray) -> list[np.ndarray]:
        return [np.tanh((inputs - 1) / 2**-23 / width)]

    inputs = np.ones((1, 2))
    (moved,) = moved_with_inputs(model, inputs, model(inputs))
    # At 32 digits both are as large for a small part of the step, 2⁻⁷ of a digit.
    assert moved.ravel().tolist() == pytest.approx([expected] * 2, abs=1e-9)


class Computing(nn.Module):
    """Gives what a function makes of its input, in the arithmetic of its parameter."""

    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.function = function
        self.parameter = nn.Parameter(torch.zeros(1))

    def forward(self, input: torch.Tensor) -> Any:
        return self.function(input)


def lost(input: torch.Tensor) -> torch.Tensor:
    """Return 1 in exact arithmetic, 0 where the sum has no digit left for it."""
    return (input + 1) - input


@pytest.mark.parametrize(
    ("function", "value", "profile", "allowed"),
    [
        # Four times what float32 is off from float64, or float16 from float32.
        (lost, 2.0**24, "fp32-cpu", [4]),
        (lost, 2.0**24, "fp32-gpu", [4]),
        (lost, 2.0**11, "fp16", [4]),
        (lost, 2.0**10, "fp16", [0]),
        # What float32 loses too is no rounding of float16.
        (lambda x: (x + 2.0**-30) - x, 1.0, "fp16", [0]),
        # In single precision alone also what 32 last digits of the input make.
        (lambda x: 1024 * x, 1.0, "fp32-cpu", [1024 * 32 * 2.0**-23]),
        (lambda x: 1024 * x, 1.0, "fp16", [0]),
        # What is no number says nothing, and nothing is said where there is no number at all.
        (lambda x: torch.cat([lost(x), (-x).sqrt()], 1), 2.0**24, "fp32-cpu", [4]),
        (lambda x: [(-x).sqrt(), lost(x)], 2.0**24, "fp32-cpu", [0, 4]),
    ],
)
def test_four_times_the_rounding_of_the_arithmetic_is_allowed(
    function: Callable[[torch.Tensor], Any], value: float, profile: str, allowed: list[float]
) -> None:
    inputs = np.full((2, 1), value, np.float32)
    assert allowed_rounding(Computing(function), inputs, profile) == pytest.approx(allowed)


def in_digits(function: Callable[[np.ndarray], np.ndarray]) -> list[float]:
    """Return by how much a function of the last digits of three ones moves."""

    def model(inputs: np.ndarray) -> list[np.ndarray]:
        return [function((inputs - 1) / 2**-23)]

    inputs = np.ones((1, 3), np.float32)
    moved: list[float] = moved_with_inputs(model, inputs, model(inputs.astype(float)))[0][0]
    return list(moved)


def test_a_step_counts_where_it_is_more_than_twice_that_of_a_small_part() -> None:
    """A jump of 1 beside what grows: of 0.5 and of 4 with 32 digits."""
    assert in_digits(lambda digits: (digits != 0) + abs(digits) / 64) == [0, 0, 0]
    assert in_digits(lambda digits: (digits != 0) + abs(digits) / 8) == pytest.approx([5, 5, 5])


def test_each_number_moves_by_the_most_of_both_steps() -> None:
    """The first by one digit only, the second with all 32, the third not at all."""

    def function(digits: np.ndarray) -> np.ndarray:
        near = np.where(abs(digits) < 2, digits, 0)
        return np.where([[True, False, False]], near, [[0, 3, 0]] * digits)

    assert in_digits(function) == pytest.approx([1, 96, 0])


def test_inputs_move_the_same_way_each_time_and_zeros_as_ones() -> None:
    tried: list[np.ndarray] = []

    def model(inputs: np.ndarray) -> list[np.ndarray]:
        tried.append(inputs)
        return [inputs]

    inputs = np.tile(np.float32([0, 0.5, -8]), (4, 20))
    for _ in range(2):
        moved_with_inputs(model, inputs, [inputs])
    steps = [(one - inputs) / 2**-23 for one in tried]
    assert all(np.array_equal(*both) for both in zip(steps[:4], steps[4:], strict=True))
    assert np.abs(steps[0]).reshape(-1, 3).tolist() == [[1, 1, 8]] * 80
    # Each number by itself, up or down.
    assert {*np.sign(steps[0]).ravel()} == {-1, 1}
    assert len({row.tobytes() for row in np.sign(steps[0])}) == 4


def test_what_is_not_finite_on_either_side_is_no_difference() -> None:
    one = np.array([1, 5, np.nan, np.inf, 2, np.inf, 3])
    other = np.array([3, 1, 1, 1, np.nan, np.inf, -np.inf])
    assert difference(one, other).tolist() == [2, 4, 0, 0, 0, 0, 0]
