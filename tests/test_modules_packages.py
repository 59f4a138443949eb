"""Layers of dpnn, stn and other packages, compared with loops and formulas of the Lua sources.

`test_layers` compares the layers in `fixtures/layers/packages.t7` with Torch7 itself.
"""

from __future__ import annotations

import math
from typing import Any

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


def input_gradient(module: nn.Module, input: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    leaf = input.clone().requires_grad_()
    module(leaf).backward(grad)
    assert leaf.grad is not None
    return leaf.grad


@pytest.mark.covers("nn.ArgMax", compared="outputs")
@pytest.mark.parametrize("as_long", [True, False])
def test_arg_max_counts_from_one(as_long: bool) -> None:
    module = convert(lua("nn.ArgMax", dim=1, nInputDim=1, asLong=as_long))
    input = torch.tensor([[0.0, 3.0, 1.0], [5.0, 3.0, 1.0]])
    assert module(input).tolist() == [2, 1]
    assert module(input[0]).tolist() == [2]
    assert module(input).dtype == (torch.int64 if as_long else torch.float32)


@pytest.mark.covers("nn.Clip", compared="outputs, gradients")
def test_clip_passes_the_gradient_unchanged() -> None:
    module = convert(lua("nn.Clip", minval=-1, maxval=2))
    input, grad = torch.tensor([-3.0, 0.5, 9.0]), torch.tensor([1.0, 2.0, 3.0])
    assert module(input).tolist() == [-1, 0.5, 2]
    assert torch.equal(input_gradient(module, input, grad), grad)
    # The lower limit wins where it is above the upper one.
    assert convert(lua("nn.Clip", minval=3, maxval=1))(input).tolist() == [3, 3, 3]


@pytest.mark.covers("nn.Inception", compared="outputs")
def test_inception_takes_one_image() -> None:
    module = convert(
        lua(
            "nn.Inception",
            modules=[
                lua(
                    "nn.Concat",
                    dimension=2,
                    modules=[lua("nn.Identity"), lua("nn.MulConstant", constant_scalar=2)],
                )
            ],
        )
    )
    image = torch.randn(3, 4, 5)
    assert torch.equal(module(image), torch.cat([image, image * 2]))


@pytest.mark.covers("nn.SpatialBinaryConvolution", compared="outputs, gradients")
def test_binary_convolution_has_the_gradients_of_the_lua() -> None:
    weight, input, grad = rand(4, 3, 3, 3), rand(2, 3, 6, 7), rand(2, 4, 3, 4)
    fields = {"kW": 3, "kH": 3, "dW": 2, "dH": 2, "padW": 1, "padH": 0}
    layer = lua(
        "nn.SpatialBinaryConvolution", weight=weight, nInputPlane=3, nOutputPlane=4, **fields
    )
    module = convert(layer)
    grad = grad[:, :, : (6 - 3) // 2 + 1]
    signs = weight.sign().requires_grad_()
    leaf = input.clone().requires_grad_()
    plain = functional.conv2d(leaf, signs, None, 2, (0, 1))
    scale = weight.abs().mean((1, 2, 3))
    assert relative_error(module(input), (plain * scale[:, None, None]).detach()) < EXACT
    assert relative_error(module(input[0]), module(input)[0].detach()) < EXACT
    plain.backward(grad)
    # Only the gradient of the input has a factor (updateGradInput).
    expected = leaf.grad * weight.abs().mean((0, 2, 3))[:, None, None]
    assert relative_error(input_gradient(module, input, grad), expected) < EXACT
    assert relative_error(module.weight.grad, signs.grad) < EXACT


@pytest.mark.covers("nn.TotalVariation", compared="outputs, gradients")
def test_total_variation_appears_in_the_gradient_only() -> None:
    image, grad = rand(2, 3, 4, 5), rand(2, 3, 4, 5)
    module = convert(lua("nn.TotalVariation", strength=0.5))
    assert torch.equal(module(image), image)
    # updateGradInput of TotalVariation.lua.
    expected = torch.zeros_like(image)
    horizontal = image[..., :-1, :-1] - image[..., :-1, 1:]
    vertical = image[..., :-1, :-1] - image[..., 1:, :-1]
    expected[..., :-1, :-1] += horizontal + vertical
    expected[..., :-1, 1:] -= horizontal
    expected[..., 1:, :-1] -= vertical
    expected = expected * 0.5 + grad
    assert relative_error(input_gradient(module, image, grad), expected) < EXACT


@pytest.mark.covers("nn.CategoricalEntropy", compared="gradients")
@pytest.mark.parametrize("minimum", [None, 0.0, 100.0])
def test_the_gradient_of_categorical_entropy(minimum: float | None) -> None:
    input = rand(4, 5).softmax(1)
    layer = lua("nn.CategoricalEntropy", scale=3, minEntropy=minimum)
    p = input.sum(0) / input.sum()
    # updateGradInput of CategoricalEntropy.lua, for a gradient of -scale at the entropy.
    slope = (p + 1e-6).log() + p / (p + 1e-6)
    expected = (
        torch.zeros_like(input) if minimum == 0 else (3 * slope / input.sum() / 4).expand(4, 5)
    )
    actual = input_gradient(convert(layer), input, torch.zeros_like(input))
    assert relative_error(actual, expected) < EXACT


@pytest.mark.covers("nn.NormStabilizer", compared="gradients")
def test_the_gradient_of_norm_stabilizer() -> None:
    layer = lua("nn.Sequencer", modules=[lua("nn.NormStabilizer", beta=2)])
    steps = rand(3, 4, 5)
    module = convert(layer)
    assert torch.equal(module(steps), steps)
    norms = steps.norm(dim=2, keepdim=True)
    expected = torch.zeros_like(steps)
    # _updateGradInput of NormStabilizer.lua: one term per neighbor in time.
    for step, other in ((0, 1), (1, 0), (1, 2), (2, 1)):
        factor = (norms[step] - norms[other]) * 2 * 2 / norms[step]
        expected[step] += steps[step] / 4 * factor
    zero = torch.zeros_like(steps)
    assert relative_error(input_gradient(module, steps, zero), expected) < EXACT
    assert not input_gradient(module.eval(), steps, zero).any()


def glimpse(image: torch.Tensor, location: list[float], size: int, scale: int) -> torch.Tensor:
    """Compute one scale of `SpatialGlimpse.lua` for one image, step by step as the Lua code."""
    cut = size * scale
    pad = (cut - 1) // 2
    padded = functional.pad(image, [pad] * 4)
    corner = []
    for position, largest in zip(
        location, (padded.shape[1] - cut, padded.shape[2] - cut), strict=True
    ):
        corner.append(int(min(largest, max(0.0, (position + 1) / 2 * largest))))
    crop = padded[:, corner[0] : corner[0] + cut, corner[1] : corner[1] + cut]
    return functional.avg_pool2d(crop, scale)


@pytest.mark.covers("nn.SpatialGlimpse", compared="outputs")
def test_spatial_glimpse_equals_the_loop() -> None:
    images = torch.randn(3, 2, 9, 11)
    locations = torch.tensor([[-1.0, -1.0], [0.3, -0.4], [1.0, 1.7]])
    module = convert(lua("nn.SpatialGlimpse", height=3, width=3, depth=3, scale=2))
    expected = torch.stack(
        [
            torch.cat([glimpse(image, location.tolist(), 3, 2**depth) for depth in range(3)])
            for image, location in zip(images, locations, strict=True)
        ]
    )
    assert relative_error(module([images, locations]), expected) < 1e-6
    assert relative_error(module([images[1], locations[1]]), expected[1]) < 1e-6


def test_the_first_version_of_spatial_glimpse_scales_bilinearly() -> None:
    image, location = torch.randn(1, 1, 9, 9), torch.zeros(1, 2)
    conversion = convert_recorded(lua("nn.SpatialGlimpse", size=3, depth=3, scale=2))
    output = conversion.module([image, location])
    assert "first version" in conversion.notes[0].text
    assert torch.equal(output[0, 0], image[0, 0, 3:6, 3:6])
    # The center crop of 6 of 13 padded pixels, with aligned corners.
    crop = functional.pad(image, [2] * 4)[..., 3:9, 3:9]
    expected = functional.interpolate(crop, (3, 3), mode="bilinear", align_corners=True)
    assert relative_error(output[:, 1:2], expected) < 1e-6


@pytest.mark.covers("nn.TemporalGlimpse", compared="outputs")
def test_temporal_glimpse_returns_a_section_of_a_sequence() -> None:
    sequence = torch.arange(1.0, 7)[None, :, None].expand(3, 6, 1)
    module = convert(lua("nn.TemporalGlimpse", size=3))
    sections = module([sequence, torch.tensor([[-1.0], [0.0], [1.0]])])
    assert sections[:, :, 0].tolist() == [[0, 1, 2], [2, 3, 4], [5, 6, 0]]


@pytest.mark.covers(
    "nn.TotalDropout",
    "nn.SimpleColorTransform",
    "nn.PCAColorTransform",
    compared="outputs",
)
def test_augmentation_takes_place_in_training_mode_only() -> None:
    input = torch.randn(4, 3, 8, 10)
    for layer in (
        lua("nn.TotalDropout", p=0.5),
        lua("nn.SpatialRegionDropout", p=0.3),
        lua("nn.SimpleColorTransform", range=torch.ones(3)),
        lua("nn.PCAColorTransform", eigenVectors=torch.eye(3), eigenValues=torch.ones(3), std=0.1),
    ):
        module = convert(layer)
        assert any(not torch.equal(module(input), input) for _ in range(30)), layer
        assert torch.equal(module.eval()(input), input)
        assert module.train()(input[0]).shape == input[0].shape


@pytest.mark.covers("nn.BatchFlip", compared="outputs, training")
def test_batch_flip_mirrors_half_of_the_images() -> None:
    torch.manual_seed(0)
    images = torch.randn(7, 3, 4, 5)
    module = convert(lua("nn.BatchFlip", train=True)).train()
    drawn = set()
    for _ in range(20):
        output = module(images)
        mirrored = [torch.equal(output[n], images[n].flip(-1)) for n in range(7)]
        unchanged = [torch.equal(output[n], images[n]) for n in range(7)]
        assert sum(mirrored) == 3  # le(bs / 2) of a permutation of 1..bs
        assert sum(unchanged) == 4
        drawn.add(tuple(mirrored))
    assert len(drawn) > 5
    assert torch.equal(module.eval()(images), images)


@pytest.mark.covers("nn.ResidualDrop", compared="outputs, training")
def test_residual_blocks_are_skipped_at_random_in_training_mode() -> None:
    """Stochastic depth, as in the updateOutput of `ResidualDrop.lua`."""
    torch.manual_seed(0)
    double = lua("nn.MulConstant", constant_scalar=2)
    pooled = lua("nn.SpatialAveragePooling", kW=1, kH=1, dW=2, dH=2)
    strided = lua("nn.Sequential", modules=[double, pooled])
    module = convert(lua("nn.ResidualDrop", deathRate=0.25, modules=[strided, pooled]))
    image = torch.randn(2, 3, 6, 6)
    skipped = image[..., ::2, ::2]
    assert relative_error(module.eval()(image), skipped * (1 + 2 * 0.75)) < 1e-6
    module.train()
    skips = sum(torch.equal(module(image), skipped) for _ in range(1000))
    assert 180 < skips < 320  # five standard deviations around 250
    assert any(relative_error(module(image), skipped * 3) < 1e-6 for _ in range(30))


@pytest.mark.covers("nn.DenseConnectLayerCustom", compared="outputs")
def test_dense_layers_of_the_memory_efficient_densenet_equal_its_standard_ones() -> None:
    weights = [rand(2, 3, 3, 3), rand(2, 5, 3, 3)]

    def convolution(weight: torch.Tensor) -> Any:
        sizes = {"nInputPlane": weight.shape[1], "nOutputPlane": 2, "kW": 3, "kH": 3}
        steps = {"dW": 1, "dH": 1, "padW": 1, "padH": 1}
        return lua("nn.SpatialConvolution", weight=weight, **sizes, **steps)

    def custom(weight: torch.Tensor) -> Any:
        return lua("nn.DenseConnectLayerCustom", modules=[lua("nn.ReLU"), convolution(weight)])

    def standard(weight: torch.Tensor) -> Any:
        net = lua("nn.Sequential", modules=[lua("nn.ReLU"), convolution(weight)])
        return lua("nn.Concat", dimension=2, modules=[lua("nn.Identity"), net])

    joined = lua("nn.JoinTable", dimension=2)
    efficient = convert(lua("nn.Sequential", modules=[*map(custom, weights), joined]))
    plain = convert(lua("nn.Sequential", modules=[*map(standard, weights)]))
    image = rand(2, 3, 5, 6)
    assert relative_error(efficient(image), plain(image).detach()) < EXACT


@pytest.mark.covers("nn.SpatialRegionDropout", compared="training")
def test_region_dropout_clears_one_edge() -> None:
    torch.manual_seed(0)
    module, ones = convert(lua("nn.SpatialRegionDropout", p=0.3)), torch.ones(1, 1, 10, 20)
    edges = set()
    for _ in range(50):
        kept = module(ones)[0, 0]
        assert relative_error(kept.unique(), torch.tensor([0, 1 / 0.7])) < 1e-6
        rows, columns = (kept > 0).any(1), (kept > 0).any(0)
        assert (int(rows.sum()), int(columns.sum())) in {(7, 20), (10, 14)}
        edges.add((bool(rows[0]), bool(rows[-1]), bool(columns[0]), bool(columns[-1])))
    assert len(edges) == 4


@pytest.mark.covers("nn.SpatialUniformCrop", compared="outputs, training")
def test_uniform_crop_is_a_center_crop_in_evaluation_mode() -> None:
    module = convert(lua("nn.SpatialUniformCrop", oheight=2, owidth=3, train=False))
    image = torch.arange(42.0).reshape(1, 1, 6, 7)
    # ceil(4/2) = 2 and ceil(4/2) = 2, counted from 1.
    assert torch.equal(module(image), image[..., 1:3, 1:4])
    cropped = module.train()(image.expand(50, -1, -1, -1))
    corners = {tuple(crop[0, 0, :1].tolist()) for crop in cropped}
    assert cropped.shape == (50, 1, 2, 3)
    assert len(corners) > 5


REINFORCE = [
    (lua("nn.ReinforceNormal", stdev=2), lambda mean: mean),
    (lua("nn.ReinforceBernoulli"), lambda p: p),
    (lua("nn.ReinforceCategorical"), lambda p: p),
    (lua("nn.ReinforceGamma", scale=3), lambda shape: shape * 3),
]


@pytest.mark.covers(
    "nn.ReinforceNormal",
    "nn.ReinforceBernoulli",
    "nn.ReinforceCategorical",
    "nn.ReinforceGamma",
    compared="outputs, training",
)
@pytest.mark.parametrize(("layer", "evaluated"), REINFORCE)
def test_reinforce_layers_draw_in_training(layer: Any, evaluated: Any) -> None:
    torch.manual_seed(0)
    module, input = convert(layer), torch.full((20000, 4), 0.25, requires_grad=True)
    drawn = module(input)
    assert not drawn.requires_grad
    # Four standard deviations of the mean of 80,000 draws are below 0.03.
    assert abs(float(drawn.mean()) - float(evaluated(torch.tensor(0.25)))) < 0.03
    assert torch.equal(module.eval()(input), evaluated(input))


@pytest.mark.covers("nn.NCEModule", compared="outputs, training")
def test_nce_module_scores_targets_and_noise() -> None:
    weight, bias = rand(6, 4), rand(6)
    unigrams = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0, 0.0]).double()
    fields = {"weight": weight, "bias": bias, "unigrams": unigrams, "k": 2, "normalized": True}
    module = convert(lua("nn.NCEModule", logsoftmax=True, **fields))
    features, target = rand(3, 4), torch.tensor([1, 6, 2])
    scores = (features @ weight.t() + bias).exp()
    model, noise, target_frequency, noise_frequency = module([features, target])
    assert relative_error(model, scores[range(3), [0, 5, 1]]) < EXACT
    # Only the third class has a frequency above 0, so that only it is drawn.
    assert relative_error(noise, scores[:, 2:3].expand(3, 2)) < EXACT
    assert target_frequency.tolist() == [0, 0, 0]
    assert noise_frequency.tolist() == [[1, 1]] * 3
    expected = (scores / scores.sum(1, keepdim=True)).log()
    assert relative_error(module.eval()([features, target]), expected) < EXACT


@pytest.mark.covers(
    "nn.BinaryLogisticRegression",
    "nn.SpatialBinaryLogisticRegression",
    compared="outputs",
)
def test_logistic_criterions_equal_their_formula() -> None:
    input, target = rand(2, 1, 3, 4), rand(2, 1, 3, 4).sign()
    losses = (1 + (-target * input).exp()).log()
    for average, flat, spatial in (
        (True, losses.sum() / 24, losses.sum() / 48),
        (False, losses.sum(), losses.sum() / 24),
    ):
        plain = convert(lua("nn.BinaryLogisticRegression", sizeAverage=average))
        assert relative_error(plain(input.reshape(24, 1), target.reshape(24)), flat) < EXACT
        maps = convert(lua("nn.SpatialBinaryLogisticRegression", sizeAverage=average))
        assert relative_error(maps(input, target), spatial) < EXACT
    image = functional.softplus(-target * input)[0].sum() / 24
    assert relative_error(maps(input[0], target[0]), image) < EXACT


@pytest.mark.covers("nn.AffineTransformMatrixGenerator", compared="outputs")
@pytest.mark.parametrize("factors", [1, 2])
def test_affine_matrices_rotate_scale_and_translate(factors: int) -> None:
    layer = lua(
        "nn.AffineTransformMatrixGenerator", useRotation=True, useScale=True, useTranslation=True
    )
    angle, scale, shift = 0.5, [2.0, 3.0][:factors], [0.25, -0.5]
    cos, sin = math.cos(angle), math.sin(angle)
    linear = torch.tensor([[cos, -sin], [sin, cos]]) @ torch.diag(torch.tensor((scale * 2)[:2]))
    expected = torch.cat([linear, linear @ torch.tensor(shift)[:, None]], 1)
    values = torch.tensor([angle, *scale, *shift])
    assert relative_error(convert(layer)(values), expected) < 1e-6
    assert relative_error(convert(layer)(values.expand(3, -1)), expected.expand(3, 2, 3)) < 1e-6


@pytest.mark.covers("nn.AffineGridGeneratorBHWD", "nn.BilinearSamplerBHWD", compared="outputs")
def test_a_spatial_transformer_takes_one_image() -> None:
    grid = convert(lua("nn.AffineGridGeneratorBHWD", height=4, width=5))
    sample = convert(lua("nn.BilinearSamplerBHWD"))
    image = torch.randn(4, 5, 2)
    identity = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert relative_error(sample([image, grid(identity)]), image) < 1e-5
    one_pixel_right = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.5]])
    expected = torch.cat([image[:, 1:], torch.zeros(4, 1, 2)], 1)
    assert relative_error(sample([image, grid(one_pixel_right)]), expected) < 1e-5


@pytest.mark.slow
def test_packages_export_with_any_batch() -> None:
    for layer, example in (
        (lua("nn.SpatialUniformCrop", oheight=2, owidth=3), torch.randn(2, 3, 6, 7)),
        (lua("nn.TotalVariation", strength=1), torch.randn(2, 3, 6, 7)),
        (lua("nn.Clip", minval=-1, maxval=1), torch.randn(2, 3)),
        (lua("nn.AffineGridGeneratorBHWD", height=4, width=5), torch.randn(2, 2, 3)),
        (
            lua("nn.SpatialCircularPadding", pad_l=1, pad_r=1, pad_t=1, pad_b=1),
            torch.randn(2, 3, 6, 7),
        ),
    ):
        assert export_error(convert(layer), example) < 1e-5, layer
