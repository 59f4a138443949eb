"""Padding, dropping and pooling of regions, at the ends of what their layers take."""

from __future__ import annotations

import pytest
import torch
from layer_support import lua, rand
from support import relative_error

from torchlift.converters import convert
from torchlift.converters.modules import ConversionError
from torchlift.converters.modules.packages.roi_pooling import round_half_away

#: float64 against float64: only the order of summation differs.
EXACT = 1e-12


@pytest.mark.covers("nn.TrimZero", compared="outputs, training")
def test_trimming_takes_one_example_and_a_batch_of_nothing_but_zeros() -> None:
    weight, bias = rand(2, 3), rand(2)
    linear = lua("nn.Linear", weight=weight, bias=bias)
    module, row = convert(lua("nn.TrimZero", nInputDim=1, modules=[linear])), rand(3)
    assert relative_error(module(row), weight @ row + bias) < EXACT
    assert module(torch.zeros(3).double()).tolist() == [0, 0]
    statistics = {"running_mean": torch.zeros(3), "running_var": torch.ones(3)}
    norm = lua("nn.BatchNormalization", eps=1e-5, momentum=0.1, **statistics)
    module = convert(lua("nn.TrimZero", nInputDim=1, modules=[norm])).train()
    # Nothing is left to normalize: torch would refuse an empty batch.
    assert torch.equal(module(torch.zeros(4, 3)), torch.zeros(4, 3))


def test_an_exported_layer_that_trims_computes_all_rows() -> None:
    """How many rows are zero is not known before."""
    module = convert(
        lua("nn.TrimZero", nInputDim=1, modules=[lua("nn.AddConstant", constant_scalar=1)])
    )
    program = torch.export.export(module.eval(), (torch.ones(3, 2),)).module()
    rows = torch.tensor([[1.0, 2.0], [0.0, 0.0], [0.0, 3.0]])
    assert program(rows).tolist() == [[2, 3], [0, 0], [1, 4]]


@pytest.mark.covers("nn.MaskZeroCriterion", compared="outputs, gradients")
def test_a_criterion_without_examples_is_zero_and_so_is_its_gradient() -> None:
    inner = lua("nn.MSECriterion")
    criterion = convert(lua("nn.MaskZeroCriterion", nInputDim=1, criterion=inner))
    input = torch.zeros(2, 3, requires_grad=True)
    loss = criterion(input, torch.ones(2, 3))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(input.grad, torch.zeros(2, 3))


@pytest.mark.covers("nn.StereoJoin", compared="outputs")
def test_more_shifts_than_columns_have_no_counterpart() -> None:
    images = rand(2, 3, 2, 2)
    costs = convert(lua("nn.StereoJoin", disp_max=4, direction=-1))(images)
    assert costs.shape == (1, 4, 2, 2)
    assert relative_error(costs[0, 0], -(images[0] * images[1]).sum(0)) < EXACT
    assert (
        relative_error(costs[0, 1, :, 1], -(images[0, :, :, 1] * images[1, :, :, 0]).sum(0)) < EXACT
    )
    assert costs[0, 1, :, 0].isnan().all()
    assert costs[0, 2:].isnan().all()
    with pytest.raises(ConversionError, match="direction"):
        convert(lua("nn.StereoJoin", disp_max=4, direction=1))


@pytest.mark.parametrize("v2", [True, False])
@pytest.mark.covers("nn.SeqDropout", compared="outputs, training")
def test_features_are_dropped_with_their_probability_at_every_step(v2: bool) -> None:
    torch.manual_seed(0)
    module, ones = convert(lua("nn.SeqDropout", p=0.2, v2=v2)), torch.ones(3, 5000)
    output = module.train()(ones)
    assert torch.equal(output, output[:1].expand(3, -1))
    kept = 1.25 if v2 else 1.0
    assert set(output.unique().tolist()) == {0.0, kept}
    # Five standard deviations of a frequency of 0.8 are 0.028.
    assert abs(float((output[0] > 0).float().mean()) - 0.8) < 0.028
    assert torch.equal(module.eval()(ones), ones if v2 else ones * 0.8)


@pytest.mark.covers("inn.ROIPooling", compared="outputs")
def test_regions_of_very_small_numbers_are_not_empty() -> None:
    maps, region = torch.full((1, 1, 4, 4), -1e30), torch.tensor([[1.0, 1, 1, 4, 4]])
    module = convert(lua("inn.ROIPooling", H=2, W=2))
    assert torch.equal(module([maps, region]), maps[..., :2, :2])
    # All of it lies outside: every bin is empty.
    assert not module([maps, region + torch.tensor([0, 9, 9, 9, 9])]).any()


def test_halves_are_rounded_away_from_zero() -> None:
    values = torch.tensor([-2.5, -1.5, -1.25, -0.5, 0.0, 0.5, 1.25, 2.5])
    assert round_half_away(values).tolist() == [-3, -2, -1, -1, 0, 1, 1, 3]
