"""Rules of criterions that no file of Torch7's shows: ties, overflow, older files, tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from layer_support import lua

from torchlift.converters import convert

MSE = lua("nn.MSECriterion", sizeAverage=True)


def test_a_logistic_loss_does_not_overflow() -> None:
    """Torch7 computes the exponential in double precision; in single, e¹⁰⁰ is infinite."""
    criterion = convert(lua("nn.SoftMarginCriterion", sizeAverage=False))
    loss = criterion(torch.tensor([-100.0, 100.0, 0.0]), torch.tensor([1.0, 1.0, -1.0]))
    assert loss.item() == pytest.approx(100 + np.log(2))


def test_a_target_of_no_probability_costs_nothing() -> None:
    """`DistKLDivCriterion.c` skips targets of 0 and less, also where the input is -∞."""
    criterion = convert(lua("nn.DistKLDivCriterion", sizeAverage=False))
    input = torch.tensor([-float("inf"), -3.0, np.log(0.25)])
    assert criterion(input, torch.tensor([0.0, -1.0, 0.5])).item() == pytest.approx(0.5 * np.log(2))


def test_a_loss_of_exactly_its_margin_has_the_gradient_of_a_larger_one() -> None:
    input = torch.tensor([1.0, 0.5, 2.0], requires_grad=True)
    criterion = convert(lua("nn.HingeEmbeddingCriterion", margin=1, sizeAverage=False))
    criterion(input, -torch.ones(3)).backward()
    assert input.grad is not None
    assert input.grad.tolist() == [-1, -1, 0]
    leaf = torch.zeros(2, requires_grad=True)
    absolute = convert(lua("nn.AbsCriterion", sizeAverage=False))
    absolute(leaf, torch.zeros(2)).backward()
    assert leaf.grad is not None
    assert leaf.grad.tolist() == [1, 1]


def test_a_target_passes_through_a_module_of_its_own() -> None:
    modules = {"inputModule": lua("nn.Square"), "targetModule": lua("nn.Abs")}
    criterion = convert(lua("nn.ModuleCriterion", criterion=MSE, **modules))
    assert criterion(torch.tensor([3.0]), torch.tensor([-4.0])).item() == 25


@pytest.mark.parametrize("weights", [[2, 3], np.array([2.0, 3.0])])
def test_weights_of_criterions_are_a_table_or_a_storage(weights: Any) -> None:
    fields = {"criterions": [MSE, lua("nn.L1Cost")], "weights": weights}
    one = torch.tensor([4.0])
    multi = convert(lua("nn.MultiCriterion", **fields))
    assert multi(one, torch.tensor([1.0])).item() == 2 * 9 + 3 * 4
    # The second criterion takes no target, so that there is none for it.
    parallel = convert(lua("nn.ParallelCriterion", **fields))
    assert parallel([one, one], [torch.tensor([1.0])]).item() == 2 * 9 + 3 * 4


def test_weights_follow_the_classes_of_the_target() -> None:
    """The target's last dimension counts the classes, whatever the shape of the input is."""
    criterion = convert(lua("nn.BCECriterion", weights=torch.tensor([1.0, 2.0, 4.0])))
    halves, target = torch.full((6,), 0.5), torch.tensor([[1.0, 0, 1], [0, 0, 1]])
    halves[5] = 0.25
    expected = (2 * (1 + 2) * np.log(2) + 4 * np.log(2) + 4 * np.log(4)) / 6
    assert criterion(halves, target).item() == pytest.approx(expected)


def test_a_number_is_the_target_of_the_first_values() -> None:
    criterion = convert(lua("nn.MarginRankingCriterion", margin=5, sizeAverage=True))
    pair = [torch.tensor([[3.0, 100.0], [7.0, 8.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])]
    assert criterion(pair, 1).item() == 3
    assert criterion(pair, -1).item() == 7


@pytest.mark.parametrize(("target", "loss"), [(1, 1), (-1, 2), (0, 3), (0.5, 3), (-2, 3)])
def test_a_hinge_of_neither_1_nor_minus_1_is_the_sum_of_both(target: float, loss: float) -> None:
    """`HingeEmbeddingCriterion.lua` leaves out one of two losses where the target equals ±1."""
    criterion = convert(lua("nn.HingeEmbeddingCriterion", margin=3, sizeAverage=False))
    assert criterion(torch.ones(1), torch.tensor([float(target)])).item() == loss


@pytest.mark.parametrize(("target", "loss"), [(1, 4), (-1, 1)])
def test_a_criterion_of_a_pair_ignores_further_entries(target: int, loss: float) -> None:
    pair = [torch.tensor([3.0, 1.0]), torch.tensor([1.0, 3.0]), torch.full((2,), 9.0)]
    hinge = convert(lua("nn.L1HingeEmbeddingCriterion", margin=5))
    assert hinge(pair, target).item() == loss
    ranking = convert(lua("nn.MarginRankingCriterion", margin=5, sizeAverage=False))
    # 5 - (3 - 1) and 5 - (1 - 3), whatever the sign is.
    assert ranking(pair, torch.full((2,), float(target))).item() == 3 + 7


@pytest.mark.parametrize("ignored", [-100, 0, 3])
def test_a_target_that_is_ignored_needs_no_weight(ignored: int) -> None:
    """A mean is over the weights of the others, wherever the ignored number points to."""
    fields = {"weights": torch.tensor([1.0, 3.0, 8.0]), "ignoreIndex": ignored}
    criterion = convert(lua("nn.ClassNLLCriterion", **fields, sizeAverage=True))
    logs = -torch.tensor([[2.0, 9, 9], [9, 9, 9], [9, 6, 9]])
    assert criterion(logs, torch.tensor([1, ignored, 2])).item() == (1 * 2 + 3 * 6) / (1 + 3)


ROWS = torch.tensor([[0.2, 0.7, 0.4], [0.9, 0.1, 0.5]])
SIGNS = torch.tensor([[1.0, -1, -1], [-1, 1, -1]])

#: Criterion, input, target, and what a mean divides the sum by.
AVERAGES: dict[str, tuple[Any, Any, float]] = {
    "nn.MSECriterion": (ROWS, 3 * ROWS, 6),
    "nn.AbsCriterion": (ROWS, 3 * ROWS, 6),
    "nn.SmoothL1Criterion": (ROWS, 5 * ROWS, 6),
    "nn.DistKLDivCriterion": (ROWS.log(), ROWS.flip(1), 6),
    "nn.BCECriterion": (ROWS, ROWS.round(), 6),
    "nn.MultiLabelSoftMarginCriterion": (ROWS, ROWS.round(), 6),
    "nn.SpatialAutoCropMSECriterion": (ROWS[None], torch.ones(1, 4, 5), 6),
    "nn.ClassNLLCriterion": (ROWS.log(), torch.tensor([1, 3]), 2),
    "nn.MultiMarginCriterion": (ROWS, torch.tensor([1, 3]), 2),
    "nn.MultiLabelMarginCriterion": (ROWS, torch.tensor([[1, 0, 0], [3, 1, 0]]), 2),
    "nn.MarginCriterion": (ROWS, SIGNS, 6),
    "nn.HingeEmbeddingCriterion": (ROWS, SIGNS, 6),
    "nn.SoftMarginCriterion": (ROWS, SIGNS, 6),
    "nn.CosineEmbeddingCriterion": ([ROWS, ROWS.flip(1)], SIGNS[:, 0], 2),
    "nn.MarginRankingCriterion": ([ROWS, ROWS.flip(1)], SIGNS, 2),
    "nn.DistanceRatioCriterion": ([ROWS, ROWS.flip(1)], None, 2),
}
FIELDS = {"nn.MultiMarginCriterion": {"weights": torch.tensor([1.0, 2, 3])}}


@pytest.mark.parametrize("name", AVERAGES)
def test_a_mean_is_the_sum_divided_by_how_many_there_are(name: str) -> None:
    input, target, count = AVERAGES[name]
    mean, total = (
        convert(lua(name, sizeAverage=average, **FIELDS.get(name, {})))(input, target).item()
        for average in (True, False)
    )
    assert total != 0
    assert mean == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.uint8])
@pytest.mark.parametrize(
    "name", ["MSECriterion", "SmoothL1Criterion", "BCECriterion", "MarginCriterion"]
)
def test_a_loss_has_the_dtype_of_its_input(name: str, dtype: torch.dtype) -> None:
    criterion = convert(lua(f"nn.{name}", sizeAverage=True))
    loss = criterion(ROWS, torch.ones(2, 3, dtype=dtype))
    assert loss.dtype == torch.float32
    assert loss.item() == criterion(ROWS, torch.ones(2, 3)).item()


def test_cross_entropy_drops_dimensions_of_size_1() -> None:
    """As `CrossEntropyCriterion.lua`: (N, 1, C) are N examples of C classes."""
    nll = lua("nn.ClassNLLCriterion", sizeAverage=True)
    criterion = convert(lua("nn.CrossEntropyCriterion", nll=nll, sizeAverage=True))
    logits, target = torch.tensor([[[0.0, 0, 0]], [[0, 0, 0]]]), torch.tensor([1, 3])
    assert criterion(logits, target).item() == pytest.approx(np.log(3))


@pytest.mark.parametrize(("target", "loss"), [(1, 2), (-1, 3), (0, 2), (2, 2)])
def test_only_a_target_of_minus_1_makes_a_pair_dissimilar(target: float, loss: float) -> None:
    """`L1HingeEmbeddingCriterion.lua` compares with -1; anything else is the distance."""
    criterion = convert(lua("nn.L1HingeEmbeddingCriterion", margin=5))
    assert criterion([torch.tensor([3.0, 1.0]), torch.tensor([2.0, 2.0])], target).item() == loss


def test_an_example_that_is_at_its_margin_has_no_gradient() -> None:
    """`MarginCriterion.c` takes those whose x·y is less than the margin."""
    input = torch.tensor([1.0, 0.5, -1.0, 2.0], requires_grad=True)
    criterion = convert(lua("nn.MarginCriterion", margin=1, sizeAverage=False))
    criterion(input, torch.tensor([1.0, 1, -1, 1])).backward()
    assert input.grad is not None
    assert input.grad.tolist() == [0, -1, 0, 0]


@pytest.mark.parametrize("shape", [(6,), (3, 2), (2, 3), (1, 2, 3), (1, 1, 2, 3)])
def test_a_weight_of_a_target_has_as_many_numbers_in_any_shape(shape: tuple[int, ...]) -> None:
    """`WeightedMSECriterion.lua`: the target is multiplied by it, number by number."""
    weight = torch.tensor([[1.0, 2, 3], [4, 5, 6]])
    criterion = convert(lua("nn.WeightedMSECriterion", weight=weight, sizeAverage=False))
    assert criterion(torch.zeros(shape), torch.ones(shape)).item() == 1 + 4 + 9 + 16 + 25 + 36
