"""Criterions: losses and gradients of Torch7's fixtures, and of its formulas for other cases.

Torch7 computed the cases of `fixtures/layers/criterions.t7` in float32. Tolerances are relative to
the largest expected value: 1e-5 for losses and 1e-4 for gradients, which allows another order of
summation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from layer_support import lua
from support import FIXTURES, proof, relative_error
from test_layers_onnx import LOSS

from torchlift.converters import convert, t7
from torchlift.converters.modules import convert_recorded

CASES = [
    pytest.param(case, id=case["name"])
    for case in t7.load(FIXTURES / "layers" / "criterions.t7").values()
]


def requiring_grad(value: Any) -> Any:
    if isinstance(value, list):
        return [requiring_grad(item) for item in value]
    return value.clone().requires_grad_()


def gradients(value: Any) -> Any:
    return [gradients(item) for item in value] if isinstance(value, list) else value.grad


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_equal_torch7(
    case: t7.LuaTable, record_property: Callable[[str, object], None]
) -> None:
    conversion, data = convert_recorded(case["criterion"]), t7.to_torch(case)
    input = requiring_grad(data["input"])
    loss = conversion.module(input, data.get("target"))
    assert loss.dim() == 0
    assert relative_error(loss.detach(), data["output"]) < 1e-5
    loss.backward()
    assert relative_error(gradients(input), data["gradInput"]) < 1e-4
    for kind in ("evaluation", "gradients"):
        record_property("proved", proof(conversion, case["class"], kind))
    record_property("proved", proof(conversion, case["class"], "onnx", LOSS))


@pytest.mark.parametrize("case", CASES)
def test_float64_stays_float64(case: t7.LuaTable) -> None:
    data = t7.to_torch(case)

    def double(value: Any) -> Any:
        if isinstance(value, list):
            return [double(item) for item in value]
        return value.double() if isinstance(value, torch.Tensor) else value

    loss = convert(case["criterion"]).double()(double(data["input"]), double(data.get("target")))
    assert loss.dtype == torch.float64
    assert relative_error(loss, data["output"]) < 1e-5


def log_probabilities(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).log_softmax(
        0 if len(shape) == 1 else 1
    )


@pytest.mark.covers("nn.ClassNLLCriterion", compared="outputs")
@pytest.mark.parametrize("target", [3, torch.tensor([3]), torch.tensor([3.0])])
def test_class_nll_of_one_example_takes_a_number_or_a_tensor(target: Any) -> None:
    input = log_probabilities(5)
    assert convert(lua("nn.ClassNLLCriterion", sizeAverage=True))(input, target) == -input[2]


@pytest.mark.covers("nn.ClassNLLCriterion", compared="outputs, gradients")
def test_class_nll_ignores_a_target_counted_from_one() -> None:
    criterion = convert(lua("nn.ClassNLLCriterion", sizeAverage=True, ignoreIndex=2))
    input = log_probabilities(3, 4)
    expected = -(input[0, 0] + input[2, 3]) / 2
    assert relative_error(criterion(input, torch.tensor([1, 2, 4])), expected) < 1e-12
    alone = input[0].clone().requires_grad_()
    loss = criterion(alone, 2)
    loss.backward()
    assert loss == 0
    assert torch.equal(alone.grad, torch.zeros_like(input[0]))


@pytest.mark.covers("nn.SpatialClassNLLCriterion", compared="outputs")
@pytest.mark.parametrize("average", [True, False])
def test_spatial_class_nll_divides_by_the_sum_of_weights(average: bool) -> None:
    weights = np.array([0.5, 2.0, 1.0])
    criterion = convert(
        lua("nn.SpatialClassNLLCriterion", sizeAverage=average, weights=weights)
    ).double()
    input, target = log_probabilities(2, 3, 4, 5), torch.arange(40).reshape(2, 4, 5) % 3 + 1
    total = weight = 0.0
    for n, y, x in np.ndindex(2, 4, 5):
        index = int(target[n, y, x]) - 1
        total -= weights[index] * input[n, index, y, x]
        weight += weights[index]
    expected = total / weight if average else total
    assert relative_error(criterion(input, target), expected) < 1e-12


def nll(**fields: Any) -> t7.LuaObject:
    return lua("nn.ClassNLLCriterion", **fields)


@pytest.mark.covers("nn.CrossEntropyCriterion", compared="outputs")
def test_cross_entropy_squeezes_its_input() -> None:
    criterion = convert(lua("nn.CrossEntropyCriterion", nll=nll(sizeAverage=True)))
    logits = torch.randn(4, 5, dtype=torch.float64)
    target = torch.tensor([1.0, 5.0, 2.0, 3.0])
    expected = -logits.log_softmax(1)[range(4), [0, 4, 1, 2]].mean()
    assert relative_error(criterion(logits, target), expected) < 1e-12
    assert relative_error(criterion(logits[..., None, None], target[:, None]), expected) < 1e-12
    batch_of_one = criterion(logits[:1], target[:1])
    assert relative_error(batch_of_one, criterion(logits[0], 1)) < 1e-12


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        ({}, True, "mean"),
        ({"sizeAverage": True, "oldSizeAverage": True}, False, "sum"),
        ({"sizeAverage": False, "oldSizeAverage": True}, True, "sum"),
        ({"sizeAverage": False}, True, "sum"),
    ],
)
def test_cross_entropy_uses_a_changed_size_average(
    outer: dict[str, bool], inner: bool, expected: str
) -> None:
    criterion = convert(lua("nn.CrossEntropyCriterion", nll=nll(sizeAverage=inner), **outer))
    assert criterion.criterion.reduction == expected


@pytest.mark.covers(
    "cudnn.SpatialCrossEntropyCriterion",
    "cudnn.VolumetricCrossEntropyCriterion",
    compared="outputs",
)
def test_cudnn_cross_entropies_are_per_pixel() -> None:
    spatial = lua(
        "cudnn.SpatialCrossEntropyCriterion",
        sizeAverage=True,
        nll=lua("nn.SpatialClassNLLCriterion", sizeAverage=False),
    )
    volumetric = lua("cudnn.VolumetricCrossEntropyCriterion", scec=spatial)
    logits = torch.randn(1, 3, 2, 4, 5, dtype=torch.float64)
    target = torch.randint(1, 4, (1, 2, 4, 5))
    chosen = logits.log_softmax(1).gather(1, target[:, None] - 1)
    assert relative_error(convert(volumetric)(logits, target), -chosen.mean()) < 1e-12
    loss = convert(spatial)(logits.reshape(1, 3, 8, 5), target.reshape(1, 8, 5))
    assert relative_error(loss, -chosen.mean()) < 1e-12


@pytest.mark.covers("nn.MSECriterion", compared="outputs")
def test_targets_need_only_as_many_elements_as_the_input() -> None:
    criterion = convert(lua("nn.MSECriterion", sizeAverage=True))
    input, target = torch.randn(4, 1), torch.randn(4)
    expected = (input.flatten() - target).square().mean()
    assert relative_error(criterion(input, target), expected) < 1e-6


@pytest.mark.covers("nn.SpatialAutoCropMSECriterion", compared="outputs")
@pytest.mark.parametrize("shape", [(3, 7, 9), (2, 3, 7, 9)])
def test_auto_crop_compares_with_the_center_of_the_target(shape: tuple[int, ...]) -> None:
    criterion = convert(lua("nn.SpatialAutoCropMSECriterion", sizeAverage=False))
    target = torch.randn(*shape)
    input = torch.randn(*shape[:-2], 2, 4)
    expected = (input - target[..., 2:4, 2:6]).square().sum()
    assert relative_error(criterion(input, target), expected) < 1e-6


@pytest.mark.covers("nn.DistanceRatioCriterion", compared="outputs")
def test_distance_ratio_is_a_log_probability() -> None:
    similar, dissimilar = torch.rand(2, 4, dtype=torch.float64)
    expected = -torch.log(similar.neg().exp() / (similar.neg().exp() + dissimilar.neg().exp()))
    for average, loss in ((True, expected.mean()), (False, expected.sum())):
        criterion = convert(lua("nn.DistanceRatioCriterion", sizeAverage=average))
        assert relative_error(criterion([similar, dissimilar]), loss) < 1e-12


@pytest.mark.covers(
    "nn.CosineEmbeddingCriterion",
    "nn.HingeEmbeddingCriterion",
    "nn.L1HingeEmbeddingCriterion",
    "nn.MarginRankingCriterion",
    compared="outputs",
)
@pytest.mark.parametrize("target", [1, -1])
def test_one_pair_takes_a_number_as_its_target(target: int) -> None:
    pair = [torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0])]
    cosine = convert(lua("nn.CosineEmbeddingCriterion", margin=0.1, sizeAverage=True))
    assert relative_error(cosine(pair, target), 0.2 if target == 1 else 0.7) < 1e-6
    hinge = convert(lua("nn.L1HingeEmbeddingCriterion", margin=5))
    assert hinge(pair, target) == (2.0 if target == 1 else 3.0)
    ranking = convert(lua("nn.MarginRankingCriterion", margin=0.5, sizeAverage=True))
    assert ranking([item[:1] for item in pair], target) == (1.5 if target == 1 else 0.0)
    embedding = convert(lua("nn.HingeEmbeddingCriterion", margin=3))
    assert embedding(torch.tensor([1.0]), target) == (1.0 if target == 1 else 2.0)


@pytest.mark.covers("nn.BCECriterion", compared="outputs")
def test_loss_of_saturated_probabilities() -> None:
    criterion = convert(lua("nn.BCECriterion", sizeAverage=True))
    loss = criterion(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]))
    assert relative_error(loss, -np.log(1e-12)) < 1e-6


def test_older_soft_margin_criterions_keep_their_options_in_another() -> None:
    logits, target = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    options = lua("nn.BCECriterion", sizeAverage=False, weights=torch.tensor([1.0, 3.0]))
    fields = {"sizeAverage": True, "weights": torch.tensor([5.0, 5.0])}
    for given, expected in (({"nll": options}, 4.0), ({"nll": options} | fields, 4.0), (fields, 5)):
        loss = convert(lua("nn.MultiLabelSoftMarginCriterion", **given))(logits, target)
        assert relative_error(loss, expected * np.log(2)) < 1e-6


@pytest.mark.parametrize(("average", "divisor"), [(True, 2), (False, 1)])
def test_a_ranking_is_averaged_over_the_first_size_of_its_target(
    average: bool, divisor: int
) -> None:
    criterion = convert(lua("nn.MarginRankingCriterion", margin=0.5, sizeAverage=average))
    first, second = torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, 5.0]]), torch.ones(2, 3)
    target = torch.tensor([[1.0, 1.0, -1.0], [-1.0, 1.0, -1.0]])
    # 0.5, 0, 2.5 and 0, 0.5, 4.5
    assert relative_error(criterion([first, second], target), 8.0 / divisor) < 1e-6


def test_an_ignored_class_has_no_weight_in_the_average() -> None:
    fields = {"weights": torch.tensor([2.0, 3.0, 7.0]), "ignoreIndex": 2, "sizeAverage": True}
    criterion = convert(lua("nn.ClassNLLCriterion", **fields))
    losses = torch.tensor([[-0.5, -9.0, -9.0], [-9.0, -9.0, -9.0], [-9.0, -9.0, -0.25]])
    expected = (2 * 0.5 + 7 * 0.25) / (2 + 7)
    assert relative_error(criterion(losses, torch.tensor([1, 2, 3])), expected) < 1e-6


def test_gradients_of_saturated_probabilities() -> None:
    """(x - y) / ((x + 1e-12)·(1 - x + 1e-12)), as `BCECriterion.lua` has it."""
    criterion = convert(lua("nn.BCECriterion", sizeAverage=False))
    input = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.5], requires_grad=True)
    criterion(input, torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0])).backward()
    torch.testing.assert_close(input.grad, torch.tensor([0.0, 0.0, -1e12, 1e12, -2.0]))


@pytest.mark.covers("nn.MultiLabelMarginCriterion", compared="outputs")
def test_multi_label_margin_reads_targets_up_to_the_first_zero() -> None:
    criterion = convert(lua("nn.MultiLabelMarginCriterion", sizeAverage=True))
    input = torch.tensor([0.1, 0.2, 0.4, 0.8])
    # Targets 4 and 1, the example in the documentation of torch/nn.
    expected = sum(max(0.0, 1 - (input[a] - input[b]).item()) / 4 for a in (3, 0) for b in (1, 2))
    assert relative_error(criterion(input, torch.tensor([4, 1, 0, 2])), expected) < 1e-6


def mse() -> t7.LuaObject:
    return lua("nn.MSECriterion", sizeAverage=True)


@pytest.mark.covers("nn.ParallelCriterion", compared="outputs")
def test_parallel_criterion_may_be_nested_and_repeat_a_target() -> None:
    inner = lua(
        "nn.ParallelCriterion",
        criterions=[nll(sizeAverage=True), mse()],
        weights=[0.5, 1],
    )
    outer = lua("nn.ParallelCriterion", criterions=[mse(), inner], weights=[0.4, 1])
    a, b = torch.randn(2, 3), torch.randn(2, 3)
    scores, classes = log_probabilities(2, 3), torch.tensor([1, 3], dtype=torch.int32)
    loss = convert(outer)([a, [scores, a]], [b, [classes, b]])
    distance, likelihood = (a - b).square().mean(), -(scores[0, 0] + scores[1, 2]) / 2
    assert relative_error(loss, 1.4 * distance + 0.5 * likelihood) < 1e-6

    repeated = lua(
        "nn.ParallelCriterion",
        criterions=[mse(), mse()],
        weights=[1, 2],
        repeatTarget=True,
    )
    assert relative_error(convert(repeated)([a, a], b), 3 * distance) < 1e-6


@pytest.mark.covers("nn.CriterionTable", "nn.ModuleCriterion", compared="outputs")
def test_criterion_table_and_module_criterion() -> None:
    a, b = torch.randn(2, 3), torch.randn(2, 3)
    table = convert(lua("nn.CriterionTable", criterion=mse()))
    assert relative_error(table([a, b]), (a - b).square().mean()) < 1e-6
    module = convert(lua("nn.ModuleCriterion", criterion=mse(), inputModule=lua("nn.Tanh")))
    assert relative_error(module(a, b), (a.tanh() - b).square().mean()) < 1e-6


def test_a_missing_size_average_is_noted() -> None:
    notes = convert_recorded(lua("nn.MSECriterion")).notes
    assert [note.class_name for note in notes] == ["nn.MSECriterion"]


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("MSECriterion", lambda d: d**2),
        ("AbsCriterion", abs),
        ("SmoothL1Criterion", lambda d: np.where(abs(d) < 1, d**2 / 2, abs(d) - 0.5)),
    ],
)
def test_pointwise_losses_are_means_or_sums(name: str, loss: Callable[[Any], Any]) -> None:
    input, target = torch.randn(4, 3, dtype=torch.float64) * 2, torch.zeros(4, 3).double()
    values = loss(input.numpy())
    for average, expected in ((True, values.mean()), (False, values.sum())):
        result = convert(lua(f"nn.{name}", sizeAverage=average))(input, target)
        assert float(result) == pytest.approx(expected)


@pytest.mark.parametrize("mean", [True, False])
def test_the_distance_to_a_corner_is_a_mean_or_a_sum(mean: bool) -> None:
    corners = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    criterion = convert(lua("nn.ClassSimplexCriterion", simplex=corners, sizeAverage=mean))
    input = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    squares = (input - corners[[2, 0, 1, 2]]).square()
    found = criterion(input, torch.tensor([3.0, 1, 2, 3]))
    torch.testing.assert_close(found, squares.mean() if mean else squares.sum())


def test_a_label_that_is_neither_1_nor_minus_1_costs_the_cosine_itself() -> None:
    """`CosineEmbeddingCriterion.lua` changes the cosines of the labels 1 and -1 only."""
    criterion = convert(lua("nn.CosineEmbeddingCriterion", margin=0.5, sizeAverage=True))
    pair = [torch.tensor([[3.0, 4.0]] * 3), torch.tensor([[1.0, 0.0]] * 3)]
    losses = {1.0: 0.4, -1.0: 0.1, 0.0: 0.6}
    for label, loss in losses.items():
        assert criterion(pair, torch.full((3,), label)).item() == pytest.approx(loss, abs=1e-6)
