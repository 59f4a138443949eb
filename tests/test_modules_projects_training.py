"""What layers of published projects do in training mode, and their gradients.

`test_contract` has an example of every class in evaluation mode; these compare the rest with the
updateOutput and updateGradInput of the Lua sources, written out as formulas.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from contract_projects_support import PROJECTS
from layer_support import lua, rand
from support import relative_error
from torch.nn import functional

from torchlift.converters import convert

#: float64 against float64: only the order of summation differs.
EXACT = 1e-12


def gradients(output: torch.Tensor, grad: torch.Tensor, *inputs: torch.Tensor) -> Any:
    """Return the gradients of inputs for a gradient of the output."""
    return torch.autograd.grad(output, inputs, grad)


@pytest.mark.covers("nn.GradientRescale", compared="outputs, gradients")
def test_a_rescaled_gradient_keeps_its_sign() -> None:
    x, grad = rand(2, 3).requires_grad_(), rand(2, 3)
    output = convert(lua("nn.GradientRescale", scaleFactor=0.5))(x)
    assert torch.equal(output, x)
    assert torch.equal(gradients(output, grad, x)[0], grad * 0.5)


@pytest.mark.covers("nn.GradMultiply", compared="outputs, gradients, training")
def test_only_gradients_of_parameters_are_multiplied_and_in_training_mode_only() -> None:
    weight, x, grad = rand(4, 3), rand(2, 3).requires_grad_(), rand(2, 4)
    module = convert(lua("nn.GradMultiply", factor=0.25, modules=[lua("nn.Linear", weight=weight)]))
    for training, factor in ((True, 0.25), (False, 1.0)):
        output = module.train(training)(x)
        assert relative_error(output, (x @ weight.T).detach()) < EXACT
        of_input, of_weight = gradients(output, grad, x, module[0].weight)
        assert relative_error(of_input, grad @ weight) < EXACT
        assert relative_error(of_weight, grad.T @ x * factor) < EXACT


@pytest.mark.covers("nn.BeamableMM", compared="outputs, training")
def test_a_beam_shares_the_matrix_of_its_sentence_in_training_mode() -> None:
    """Two sentences with three hypotheses each: matrices 0 and 3 count."""
    first, second = rand(6, 1, 4), rand(6, 4, 5)
    module = convert(lua("nn.BeamableMM", beam=3))
    expected = torch.stack([first[row] @ second[row // 3 * 3] for row in range(6)])
    assert relative_error(module.train()([first, second]), expected) < EXACT
    assert relative_error(module.eval()([first, second]), first @ second) < EXACT
    # Several steps at once, and a layer without a beam, take the matrices one by one.
    module.train()
    steps = rand(6, 2, 4)
    assert relative_error(module([steps, second]), steps @ second) < EXACT
    plain = convert(lua("nn.BeamableMM", transA=True, transB=True)).train()
    transposed = [first.transpose(1, 2), second.transpose(1, 2)]
    without = convert(lua("nn.BeamableMM")).train()
    assert relative_error(without([first, second]), first @ second) < EXACT
    assert relative_error(plain(transposed), first @ second) < EXACT


@pytest.mark.covers("nn.BBoxNorm", "nn.TrainTestLayer", "nn.ModeSwitch", compared="training")
def test_layers_with_a_mode_do_something_else_in_training_mode() -> None:
    x = rand(2, 8)
    boxes = convert(lua("nn.BBoxNorm", mean=rand(4), std=rand(4)))
    assert torch.equal(boxes.train()(x), x)
    for name in ("nn.TrainTestLayer", "nn.ModeSwitch"):
        module = convert(lua(name, modules=[lua("nn.Square"), lua("nn.Tanh")]))
        assert torch.equal(module.train()(x), x * x)
        assert torch.equal(module.eval()(x), x.tanh())


@pytest.mark.covers("BinarizedNeurons", compared="outputs, gradients, training")
def test_binarized_neurons_draw_signs_with_the_probability_of_the_hard_sigmoid() -> None:
    torch.manual_seed(0)
    x, grad = torch.full((20000,), 0.5, requires_grad=True), torch.randn(20000)
    module = convert(lua("BinarizedNeurons", stcFlag=True))
    drawn = module.train()(x)
    assert set(drawn.tolist()) == {-1.0, 1.0}
    # (0.5 + 1) / 2; five standard deviations are 0.015.
    assert abs(float((drawn > 0).float().mean()) - 0.75) < 0.016
    assert torch.equal(gradients(drawn, grad, x)[0], grad)
    assert (module.eval()(x) == 1).all()
    assert (convert(lua("BinarizedNeurons", stcFlag=False)).train()(x) == 1).all()


@pytest.mark.covers("BinaryLinear", "BinarySpatialConvolution", compared="outputs, gradients")
def test_the_gradient_of_a_binary_weight_is_that_of_its_signs() -> None:
    weight, x, grad = rand(4, 3), rand(2, 3).requires_grad_(), rand(2, 4)
    weight[0, 0] = 0
    signs = torch.where(weight > 0, 1.0, -1.0).double()
    module = convert(lua("BinaryLinear", weight=weight, bias=torch.zeros(4).double()))
    output = module(x)
    assert relative_error(output, (x @ signs.T).detach()) < EXACT
    of_input, of_weight = gradients(output, grad, x, module.weight)
    assert relative_error(of_input, grad @ signs) < EXACT
    assert relative_error(of_weight, grad.T @ x) < EXACT


@pytest.mark.covers("nn.BinActiveZ", compared="outputs, gradients")
def test_the_gradient_of_a_sign_passes_between_minus_one_and_one() -> None:
    """And so the gradient of a binary weight is that of the weight that ran."""
    x = torch.tensor([-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5], requires_grad=True)
    grad = torch.arange(1.0, 8)
    (of_input,) = gradients(convert(lua("nn.BinActiveZ"))(x), grad, x)
    assert of_input.tolist() == [0, 0, 3, 4, 5, 0, 0]
    weight, bias = rand(4, 3, 3, 3), rand(4)
    fields = {"nInputPlane": 3, "nOutputPlane": 4, "kW": 3, "kH": 3, "dW": 1, "dH": 1}
    convolution = lua("nn.SpatialConvolution", weight=weight, bias=bias, **fields)
    block = convert(lua("nn.Sequential", modules=[lua("nn.BinActiveZ"), convolution]))
    image = rand(2, 3, 5, 5)
    scale = weight.abs().mean((1, 2, 3), keepdim=True)
    binary = (weight.sign() * scale).requires_grad_()
    expected = functional.conv2d(image.sign(), binary, bias)
    grad = rand(*expected.shape)
    output = block(image)
    assert relative_error(output, expected.detach()) < EXACT
    (of_weight,) = gradients(output, grad, block[1].weight)
    assert relative_error(of_weight, gradients(expected, grad, binary)[0]) < EXACT


def nearest_power(value: torch.Tensor) -> torch.Tensor:
    return value.sign() * 2 ** torch.round(torch.log2(value.abs()))


@pytest.mark.covers(
    "BatchNormalizationShiftPow2",
    "SpatialBatchNormalizationShiftPow2",
    compared="outputs, gradients, training",
)
@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 2, 5)])
def test_normalization_by_shifts_in_training_mode(shape: tuple[int, ...]) -> None:
    """Channel by channel, as the loops of `BatchNormalizationShiftPow2.lua`."""
    name = (
        "BatchNormalizationShiftPow2" if len(shape) == 2 else "SpatialBatchNormalizationShiftPow2"
    )
    mean, deviation = rand(3), rand(3).abs() + 0.5
    weight, bias = rand(3), rand(3)
    module = convert(
        lua(
            name,
            running_mean=mean,
            running_std=deviation,
            weight=weight,
            bias=bias,
            eps=0.125,
            momentum=0.25,
        )
    ).train()
    # Deviations of which each has another power of 2.
    spread = torch.tensor([0.5, 1.0, 8.0]).double().reshape(3, *[1] * (len(shape) - 2))
    x, grad = (rand(*shape) * spread).requires_grad_(), rand(*shape)
    output = module(x)
    of_input, of_weight, of_bias = gradients(output, grad, x, module.weight, module.bias)
    for channel in range(3):
        values, slopes = x[:, channel].detach(), grad[:, channel]
        centered = values - values.mean()
        rounded = nearest_power(centered)
        inverse = 1 / ((rounded * centered).mean() + 0.125).sqrt()
        shift, scale = nearest_power(inverse), nearest_power(weight[channel])
        expected = centered * shift * scale + bias[channel]
        assert relative_error(output[:, channel], expected) < EXACT
        through = -(rounded * slopes).mean() * rounded * shift**2
        through = (through + slopes - slopes.mean()) * shift * scale
        assert relative_error(of_input[:, channel], through) < EXACT
        summed = (nearest_power(centered * shift) * slopes).sum()
        assert relative_error(of_weight[channel], summed) < EXACT
        assert relative_error(of_bias[channel], slopes.sum()) < EXACT
        running = mean[channel] * 0.75 + values.mean() * 0.25
        assert relative_error(module.running_mean[channel], running) < EXACT
        running = deviation[channel] * 0.75 + inverse * 0.25
        assert relative_error(module.running_std[channel], running) < EXACT


@pytest.mark.parametrize("per_image", [True, False])
@pytest.mark.covers("nn.ShakeShakeBlock", compared="outputs, gradients, training")
def test_shaken_branches_have_other_weights_in_the_gradient(per_image: bool) -> None:
    """α and 1-α weight the branches, β and 1-β their gradients; each is ½ where it is not drawn."""
    branch = lua("nn.Sequential", modules=[lua("nn.Identity"), lua("nn.MulConstant")])
    skip = lua("nn.Sequential", modules=[lua("nn.MulConstant", constant_scalar=0)])
    halves = lua("nn.Sequential", modules=[lua("nn.MulConstant", constant_scalar=3), branch])
    branch.fields["modules"][2].fields["constant_scalar"] = 9.0
    x, grad = (
        torch.ones(5, 2, 3, 4, dtype=torch.float64, requires_grad=True),
        torch.ones(5, 2, 3, 4),
    )
    for forward in (True, False):
        for backward in (True, False):
            options = {
                "forwardShake": str(forward).lower(),
                "backwardShake": str(backward).lower(),
                "shakeImage": str(per_image).lower(),
            }
            source = lua("nn.ShakeShakeBlock", modules=[branch, halves, skip], **options)
            torch.manual_seed(3)
            output = convert(source).train()(x)
            # The second branch's last layer, another branch, does not run: it is 3 · x.
            alpha = (3 - output) / 2
            (of_input,) = gradients(output, grad.double(), x)
            beta = (3 - of_input) / 2
            for drawn, weights in ((forward, alpha), (backward, beta)):
                assert (weights - weights[:, :1, :1, :1]).abs().max() < EXACT
                first = weights[:, 0, 0, 0]
                assert (first > 0).all()
                assert (first < 1).all()
                different = len(set(first.tolist()))
                if drawn:
                    assert different == (5 if per_image else 1)
                    assert first[0] != 0.5
                else:
                    assert (first == 0.5).all()
            assert not (forward and backward and torch.allclose(alpha, beta))


@pytest.mark.covers("nn.ShakeShakeTable", compared="training, gradients")
def test_shaken_branches_of_a_table_follow_its_options() -> None:
    x = torch.ones(5, 2, dtype=torch.float64, requires_grad=True)
    for drawn in ("forwardShake", "backwardShake"):
        options = dict.fromkeys(("forwardShake", "backwardShake", "shakeImage"), "false")
        source = lua(
            "nn.ShakeShakeTable", constant_tensor=torch.ones(5), **options | {drawn: "true"}
        )
        torch.manual_seed(3)
        skip, first, second = convert(source).train()([2 * x, x, x])
        assert torch.equal(skip, 2 * x)
        assert relative_error((first + second).detach(), x.detach()) < EXACT
        (of_input,) = gradients(first, torch.ones(5, 2).double(), x)
        for weights, name in ((first, "forwardShake"), (of_input, "backwardShake")):
            assert len(weights.unique()) == 1
            assert bool((weights == 0.5).all()) is (name != drawn)


@pytest.mark.covers("nn.ConvBlockTrainTestLayer", compared="training")
def test_a_convolution_of_steps_reads_the_whole_sequence_in_training_mode() -> None:
    source = PROJECTS["nn.ConvBlockTrainTestLayer"]()[0]
    module = convert(source).train()
    steps = torch.randn(5, 2, 4)
    weight, bias = (source["modules"][1]["modules"][2]["modules"][1][n] for n in ("weight", "bias"))
    expected = sum(
        steps[shift : shift + 3] @ torch.from_numpy(weight[shift]) for shift in range(3)
    ) + torch.from_numpy(bias)
    assert relative_error(module(steps), expected) < 1e-5
