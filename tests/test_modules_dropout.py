"""Dropout, noise and gradient layers: what they draw, how they scale, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from layer_support import export_error, lua
from support import relative_error
from torch import nn

from torchlift.converters import convert, t7
from torchlift.converters.modules import convert_recorded
from torchlift.converters.modules.layers.dropout import BernoulliDropout, WhiteNoise
from torchlift.converters.modules.layers.identity import (
    Cast,
    GradientReversal,
    L1Penalty,
    ZeroGrad,
)

DROPOUTS = [
    # layer, shape of the input, dimensions that share a draw, factor of kept elements, factor in
    # evaluation mode
    (lua("nn.Dropout", p=0.25, v2=True), (40, 50), 0, 1 / 0.75, 1),
    (lua("nn.Dropout", p=0.25, v2=False), (40, 50), 0, 1, 0.75),
    (lua("nn.Dropout", p=0.25), (40, 50), 0, 1, 0.75),
    (lua("nn.SpatialDropout", p=0.25), (40, 50, 2, 3), 2, 1, 0.75),
    (lua("nn.SpatialDropout", p=0.25), (2000, 2, 3), 2, 1, 0.75),
    (lua("nn.VolumetricDropout", p=0.25), (40, 50, 2, 2, 3), 3, 1, 0.75),
    (lua("nn.VolumetricDropout", p=0.25), (2000, 2, 2, 3), 3, 1, 0.75),
]


@pytest.mark.parametrize(("layer", "shape", "shared", "kept", "evaluation"), DROPOUTS)
def test_dropout_draws_and_scales(
    layer: t7.LuaObject, shape: tuple[int, ...], shared: int, kept: float, evaluation: float
) -> None:
    torch.manual_seed(0)
    module, input = convert(layer), torch.ones(shape)
    assert module.training
    output = module(input)
    assert relative_error(output.unique(), torch.tensor([0, kept])) < 1e-6
    draws = output.reshape(*shape[: len(shape) - shared], -1 if shared else 1)
    assert torch.equal(draws, draws[..., :1].expand_as(draws))
    # Four standard deviations of the mean of 2,000 draws are 0.039.
    assert abs((output > 0).float().mean() - 0.75) < 0.039
    assert torch.equal(module.eval()(input), input * evaluation)


@pytest.mark.parametrize("name", ["nn.Dropout", "nn.SpatialDropout", "nn.VolumetricDropout"])
def test_stochastic_inference_draws_in_evaluation_mode(name: str) -> None:
    torch.manual_seed(0)
    layer = lua(name, p=0.5, v2=True, stochastic_inference=True, train=False)
    output = convert(layer)(torch.ones(4, 50, 2, 2, 2))
    assert set(output.unique().tolist()) == {0.0, 2.0 if name == "nn.Dropout" else 1.0}


def test_dropout_of_an_older_file_is_noted() -> None:
    assert len(convert_recorded(lua("nn.Dropout", p=0.5)).notes) == 1
    assert not convert_recorded(lua("nn.Dropout", p=0.5, v2=False)).notes


@pytest.mark.covers("nn.WhiteNoise", compared="outputs, training")
def test_white_noise_has_its_mean_and_deviation() -> None:
    torch.manual_seed(0)
    module, input = convert(lua("nn.WhiteNoise", mean=2, std=0.5)), torch.zeros(10_000)
    output = module(input)
    # Four standard deviations of the mean and of the spread of 10,000 draws.
    assert abs(output.mean() - 2) < 0.02
    assert abs(output.std() - 0.5) < 0.0142
    assert torch.equal(module.eval()(input), input + 2)


def gradient(module: nn.Module, input: torch.Tensor, grad_output: torch.Tensor) -> torch.Tensor:
    """Return the input's gradient; the output must equal the input."""
    input = input.clone().requires_grad_()
    output = module(input)
    assert torch.equal(output, input)
    output.backward(grad_output)
    assert input.grad is not None
    return input.grad


def test_layers_that_change_only_the_gradient() -> None:
    input, grad_output = torch.tensor([-2.0, 0.0, 3.0, 1.0]), torch.tensor([1.0, 2.0, 3.0, 4.0])
    reversal = convert(lua("nn.GradientReversal", **{"lambda": 0.5}))
    assert torch.equal(gradient(reversal, input, grad_output), grad_output * -0.5)
    penalty = convert(lua("nn.L1Penalty", l1weight=0.1))
    expected = grad_output + 0.1 * input.sign()
    assert relative_error(gradient(penalty, input, grad_output), expected) < 1e-6
    average = convert(lua("nn.L1Penalty", l1weight=0.4, sizeAverage=True, provideOutput=False))
    assert relative_error(gradient(average, input, grad_output), 0.1 * input.sign()) < 1e-6
    assert not convert(lua("nn.ZeroGrad"))(input.requires_grad_()).requires_grad


def tensor(dtype: str, torch_class: str) -> np.ndarray:
    array = np.zeros(0, dtype).view(t7.TorchArray)
    array.torch_class = torch_class
    return array


@pytest.mark.parametrize(
    ("input_class", "output_class", "dtype"),
    [
        ("torch.ByteTensor", "torch.FloatTensor", torch.float32),
        ("torch.FloatTensor", "torch.DoubleTensor", torch.float64),
        ("torch.DoubleTensor", "torch.CudaHalfTensor", torch.float32),
    ],
)
def test_copy_casts_to_the_type_of_its_output(
    input_class: str, output_class: str, dtype: torch.dtype
) -> None:
    fields = {"gradInput": tensor("f4", input_class), "output": tensor("f4", output_class)}
    assert convert(lua("nn.Copy", **fields))(torch.ones(2)).dtype == dtype


def test_copy_to_another_device_is_the_identity() -> None:
    layer = lua(
        "nn.Copy",
        gradInput=tensor("f4", "torch.FloatTensor"),
        output=tensor("f4", "torch.CudaTensor"),
    )
    assert isinstance(convert(layer), nn.Identity)


LAYERS = [
    BernoulliDropout(0.3),
    BernoulliDropout(0.3, spatial_dims=2),
    BernoulliDropout(0.3, rescale=True),
    WhiteNoise(0.5, 0.1),
    GradientReversal(),
    L1Penalty(0.1, size_average=True),
    ZeroGrad(),
    Cast("float64"),
]


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_layers_export_with_a_dynamic_batch(layer: nn.Module) -> None:
    # float32 in another order of operations.
    assert export_error(layer, torch.rand(2, 3, 4, 5)) < 1e-5


@pytest.mark.parametrize(
    ("fields", "penalty", "passed"),
    [({}, 6.0, 1), ({"sizeAverage": True}, 1.0, 1), ({"provideOutput": False}, 6.0, 0)],
)
def test_an_l1_penalty_is_averaged_over_all_elements(
    fields: dict[str, bool], penalty: float, passed: int
) -> None:
    input = torch.tensor([[1.0, -2.0, 0.0], [-3.0, 4.0, 5.0]], requires_grad=True)
    output = convert(lua("nn.L1Penalty", l1weight=6.0, **fields))(input)
    assert torch.equal(output, input)
    output.backward(torch.full((2, 3), 10.0))
    assert input.grad is not None
    assert torch.equal(input.grad, input.detach().sign() * penalty + 10 * passed)
