"""Layers of waifu2x, compared with the computation in its Lua files, step by step."""

from __future__ import annotations

import pytest
import torch
from layer_support import export_error, lua, rand
from support import relative_error
from torch import nn
from torch.nn import functional

from torchlift.converters import convert
from torchlift.converters.modules import convert_recorded

#: float64 against float64: only the order of summation differs.
EXACT = 1e-12


@pytest.mark.covers("w2nn.InplaceClip01", compared="outputs, gradients")
def test_clip_passes_the_gradient_unchanged() -> None:
    image = torch.tensor([-0.5, 0.0, 0.3, 1.0, 1.7], requires_grad=True)
    output = convert(lua("w2nn.InplaceClip01"))(image)
    assert torch.equal(output, torch.tensor([0, 0, 0.3, 1, 1]))
    gradient = torch.randn(5)
    output.backward(gradient)
    assert torch.equal(image.grad, gradient)


@pytest.mark.covers("nn.LeakyReLU", "w2nn.LeakyReLU", compared="outputs")
def test_leaky_relu_reads_the_slope_of_every_version() -> None:
    values = rand(100)
    for name in ("nn.LeakyReLU", "w2nn.LeakyReLU"):
        # The class that is older than torch/nn's own; its updateOutput, step by step.
        layer = lua(name, negative_scale=0.1, negative=torch.zeros(0))
        expected = (values.abs() + values) / 2 + (values.abs() - values) * (-0.5 * 0.1)
        assert relative_error(convert(layer)(values), expected) < EXACT
    assert convert(lua("nn.LeakyReLU", negval=0.2)).negative_slope == 0.2
    without = convert_recorded(lua("nn.LeakyReLU"))
    assert without.module.negative_slope == 0.01
    assert "negval" in without.notes[0].text


@pytest.mark.covers("w2nn.ScaleTable", compared="outputs, gradients")
def test_scale_table_scales_feature_maps() -> None:
    maps, scale = rand(2, 3, 4, 5).requires_grad_(), rand(2, 3, 1, 1).requires_grad_()
    output = convert(lua("w2nn.ScaleTable"))([maps, scale])
    assert torch.equal(output, torch.einsum("nchw,nc->nchw", maps, scale[..., 0, 0]))
    gradient = rand(2, 3, 4, 5)
    output.backward(gradient)
    assert relative_error(maps.grad, gradient * scale.detach().expand_as(maps)) < EXACT
    # updateGradInput sums over the pixels of each map.
    summed = (gradient * maps.detach()).reshape(2, 3, 20).sum(2).reshape(2, 3, 1, 1)
    assert relative_error(scale.grad, summed) < EXACT


@pytest.mark.covers("w2nn.DepthExpand2x", compared="outputs")
def test_depth_expand_equals_the_lua_code() -> None:
    maps = rand(2, 12, 3, 5)
    n, depth, height, width = maps.shape
    steps = maps.transpose(1, 3).reshape(n, width, height * 2, depth // 2)
    steps = steps.transpose(1, 2).reshape(n, height * 2, width * 2, depth // 4)
    expected = steps.transpose(1, 3).transpose(2, 3)
    module = convert(lua("w2nn.DepthExpand2x"))
    assert torch.equal(module(maps), expected)
    assert not torch.equal(module(maps), functional.pixel_shuffle(maps, 2))
    assert export_error(module, maps.float()) == 0


@pytest.mark.covers("w2nn.AuxiliaryLossTable", compared="outputs, training")
def test_auxiliary_outputs_are_returned_in_training_mode_only() -> None:
    outputs = [rand(2, 3), rand(2, 3)]
    module = convert(lua("w2nn.AuxiliaryLossTable", i=2))
    assert torch.equal(module.eval()(outputs), outputs[1])
    assert all(map(torch.equal, module.train()(outputs), outputs))


@pytest.mark.covers("w2nn.ShakeShakeTable", compared="outputs, training, gradients")
def test_shake_shake_draws_weights_per_example() -> None:
    torch.manual_seed(0)
    first, second = torch.ones(1000, 2, 2), torch.zeros(1000, 2, 2)
    module = convert(lua("w2nn.ShakeShakeTable"))
    assert torch.equal(module.eval()([first, second]), first)
    weights = module.train()([first.requires_grad_(), second.requires_grad_()])
    assert (weights == weights[:, :1, :1]).all()
    # 2·(1 - α) with a uniform α: from 0 to 2, and 1 on average (five standard deviations: 0.09).
    assert weights.min() >= 0
    assert weights.max() <= 2
    assert abs(weights.mean() - 1) < 0.09
    assert len(weights.unique()) > 900
    weights.sum().backward()
    assert torch.allclose(first.grad + second.grad, torch.ones_like(first))
    assert (first.grad - weights.detach() / 2).abs().max() > 0.5
    assert len(first.grad.unique()) > 900
    # What one input has less, the other one has more.
    assert torch.allclose(module([first, first]), 2 * first)
    assert torch.allclose(module([first, 3 * first]).amax(), torch.tensor(6.0), atol=0.05)


@pytest.mark.covers("w2nn.EdgeFilter", "w2nn.RandomBinaryConvolution", compared="outputs")
@pytest.mark.parametrize("name", ["w2nn.EdgeFilter", "w2nn.RandomBinaryConvolution"])
def test_fixed_convolutions_are_frozen(name: str) -> None:
    weight, image = rand(8, 1, 3, 3), rand(2, 1, 5, 6)
    sizes = {"nInputPlane": 1, "nOutputPlane": 8, "kW": 3, "kH": 3, "dW": 1, "dH": 1}
    module = convert(lua(name, weight=weight, **sizes))
    assert relative_error(module(image), functional.conv2d(image, weight)) < EXACT
    assert not any(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.covers("w2nn.GradWeight", "w2nn.Print", compared="outputs")
def test_grad_weight_scales_the_gradient_and_print_is_the_identity() -> None:
    values = rand(3).requires_grad_()
    output = convert(lua("w2nn.GradWeight", constant_scalar=0.25))(values)
    assert torch.equal(output, values)
    output.sum().backward()
    assert torch.equal(values.grad, torch.full((3,), 0.25).double())
    assert torch.equal(convert(lua("w2nn.Print"))(values), values)


def convolution(weight: torch.Tensor) -> object:
    planes, inputs, size, _ = weight.shape
    sizes = {"nInputPlane": inputs, "nOutputPlane": planes, "kW": size, "kH": size}
    return lua("nn.SpatialConvolutionMM", weight=weight, dW=1, dH=1, padW=0, padH=0, **sizes)


def test_a_cascade_with_squeeze_and_excitation_converts_and_exports() -> None:
    """The components of cunet: a gate per feature map, a cropped skip, and one of two outputs."""
    first, squeeze, last = (torch.randn(s) for s in ((4, 3, 3, 3), (4, 4, 1, 1), (3, 4, 3, 3)))
    gate = [
        lua("nn.Mean", dimension=-1, nInputDims=-1),
        lua("nn.Mean", dimension=-1, nInputDims=-1),
        lua("nn.View", size=torch.tensor([-1, 4, 1, 1])),
        convolution(squeeze),
        lua("nn.Sigmoid"),
    ]
    both = lua(
        "nn.ConcatTable",
        modules=[lua("nn.Identity"), lua("nn.Sequential", modules=gate)],
    )
    body = [
        convolution(first),
        lua("nn.LeakyReLU", negval=0.1, inplace=True),
        both,
        lua("w2nn.ScaleTable"),
        convolution(last),
    ]
    crop = lua("nn.SpatialZeroPadding", pad_l=-2, pad_r=-2, pad_t=-2, pad_b=-2)
    branches = lua("nn.ConcatTable", modules=[lua("nn.Sequential", modules=body), crop])
    total = lua("nn.Sequential", modules=[lua("nn.CAddTable"), lua("w2nn.InplaceClip01")])
    skip = lua("nn.Sequential", modules=[lua("nn.SelectTable", index=2), lua("w2nn.InplaceClip01")])
    auxiliary = lua("w2nn.AuxiliaryLossTable", i=1)
    modules = [branches, lua("nn.ConcatTable", modules=[total, skip]), auxiliary]
    network: nn.Module = convert(lua("nn.Sequential", modules=modules)).eval()

    image = torch.rand(2, 3, 12, 10)
    maps = functional.leaky_relu(functional.conv2d(image, first), 0.1)
    scale = functional.conv2d(maps.mean((2, 3), keepdim=True), squeeze).sigmoid()
    expected = functional.conv2d(maps * scale, last) + image[..., 2:-2, 2:-2]
    # float32: sums of a few hundred products in another order.
    assert relative_error(network(image), expected.detach().clamp(0, 1)) < 1e-5
    assert export_error(network, image) < 1e-5
