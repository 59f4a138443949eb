"""Layers of dpnn, stn, style networks and others: against loops and formulas of the Lua sources.

What `fixtures/layers/packages.t7` has of them is compared with Torch7 in `test_layers`.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from layer_support import export_error, lua
from support import relative_error
from torch import nn
from torch.nn import functional

from torchlift.converters import convert
from torchlift.converters.modules import convert_recorded

#: float64 against float64: only the order of summation differs.
EXACT = 1e-12


def rand(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def input_gradient(module: nn.Module, input: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    leaf = input.clone().requires_grad_()
    module(leaf).backward(grad)
    assert leaf.grad is not None
    return leaf.grad


@pytest.mark.parametrize("as_long", [True, False])
def test_arg_max_counts_from_one(as_long: bool) -> None:
    module = convert(lua("nn.ArgMax", dim=1, nInputDim=1, asLong=as_long))
    input = torch.tensor([[0.0, 3.0, 1.0], [5.0, 3.0, 1.0]])
    assert module(input).tolist() == [2, 1]
    assert module(input[0]).tolist() == [2]
    assert module(input).dtype == (torch.int64 if as_long else torch.float32)


def test_clip_passes_the_gradient() -> None:
    module = convert(lua("nn.Clip", minval=-1, maxval=2))
    input, grad = torch.tensor([-3.0, 0.5, 9.0]), torch.tensor([1.0, 2.0, 3.0])
    assert module(input).tolist() == [-1, 0.5, 2]
    assert torch.equal(input_gradient(module, input, grad), grad)


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
    # Each of the two gradients has a factor of its own (updateGradInput, accGradParameters).
    expected = leaf.grad * weight.abs().mean((0, 2, 3))[:, None, None]
    assert relative_error(input_gradient(module, input, grad), expected) < EXACT
    assert relative_error(module.weight.grad, signs.grad * scale[:, None, None, None]) < EXACT


def test_penalties_only_show_in_gradients() -> None:
    image, grad = rand(2, 3, 4, 5), rand(2, 3, 4, 5)
    module = convert(lua("nn.TotalVariation", strength=0.5))
    assert torch.equal(module(image), image)
    # updateGradInput of TotalVariation.lua.
    expected = torch.zeros_like(image)
    across = image[..., :-1, :-1] - image[..., :-1, 1:]
    down = image[..., :-1, :-1] - image[..., 1:, :-1]
    expected[..., :-1, :-1] += across + down
    expected[..., :-1, 1:] -= across
    expected[..., 1:, :-1] -= down
    expected = expected * 0.5 + grad
    assert relative_error(input_gradient(module, image, grad), expected) < EXACT


@pytest.mark.parametrize("minimum", [None, 0.0, 100.0])
def test_categorical_entropy_raises_the_entropy(minimum: float | None) -> None:
    share = rand(4, 5).softmax(1)
    layer = lua("nn.CategoricalEntropy", scale=3, minEntropy=minimum)
    p = share.sum(0) / share.sum()
    # updateGradInput of CategoricalEntropy.lua, for a gradient of -scale at the entropy.
    slope = (p + 1e-6).log() + p / (p + 1e-6)
    expected = (
        torch.zeros_like(share) if minimum == 0 else (3 * slope / share.sum() / 4).expand(4, 5)
    )
    found = input_gradient(convert(layer), share, torch.zeros_like(share))
    assert relative_error(found, expected) < EXACT


def test_norm_stabilizer_pulls_neighbours_together() -> None:
    layer = lua("nn.Sequencer", modules=[lua("nn.NormStabilizer", beta=2)])
    steps = rand(3, 4, 5)
    module = convert(layer)
    assert torch.equal(module(steps), steps)
    norms = steps.norm(dim=2, keepdim=True)
    expected = torch.zeros_like(steps)
    # _updateGradInput of NormStabilizer.lua: a part from each neighbour in time.
    for step, other in ((0, 1), (1, 0), (1, 2), (2, 1)):
        factor = (norms[step] - norms[other]) * 2 * 2 / norms[step]
        expected[step] += steps[step] / 4 * factor
    zero = torch.zeros_like(steps)
    assert relative_error(input_gradient(module, steps, zero), expected) < EXACT
    assert not input_gradient(module.eval(), steps, zero).any()


def glimpse(image: torch.Tensor, place: list[float], size: int, scale: int) -> torch.Tensor:
    """One scale of `SpatialGlimpse.lua` for one image, in the Lua's own steps."""
    cut = size * scale
    pad = (cut - 1) // 2
    padded = functional.pad(image, [pad] * 4)
    corner = []
    for where, room in zip(place, (padded.shape[1] - cut, padded.shape[2] - cut), strict=True):
        corner.append(int(min(room, max(0.0, (where + 1) / 2 * room))))
    crop = padded[:, corner[0] : corner[0] + cut, corner[1] : corner[1] + cut]
    return functional.avg_pool2d(crop, scale)


def test_spatial_glimpse_equals_the_loop() -> None:
    images = torch.randn(3, 2, 9, 11)
    places = torch.tensor([[-1.0, -1.0], [0.3, -0.4], [1.0, 1.7]])
    module = convert(lua("nn.SpatialGlimpse", height=3, width=3, depth=3, scale=2))
    expected = torch.stack(
        [
            torch.cat([glimpse(image, place.tolist(), 3, 2**depth) for depth in range(3)])
            for image, place in zip(images, places, strict=True)
        ]
    )
    assert relative_error(module([images, places]), expected) < 1e-6
    assert relative_error(module([images[1], places[1]]), expected[1]) < 1e-6


def test_first_spatial_glimpse_scales_bilinearly() -> None:
    image, place = torch.randn(1, 1, 9, 9), torch.zeros(1, 2)
    conversion = convert_recorded(lua("nn.SpatialGlimpse", size=3, depth=3, scale=2))
    output = conversion.module([image, place])
    assert "first version" in conversion.notes[0].text
    assert torch.equal(output[0, 0], image[0, 0, 3:6, 3:6])
    # The crop of 6 at the middle of 13 padded pixels, its corners kept.
    crop = functional.pad(image, [2] * 4)[..., 3:9, 3:9]
    expected = functional.interpolate(crop, (3, 3), mode="bilinear", align_corners=True)
    assert relative_error(output[:, 1:2], expected) < 1e-6


def test_temporal_glimpse_cuts_a_part() -> None:
    sequence = torch.arange(1.0, 7)[None, :, None].expand(3, 6, 1)
    module = convert(lua("nn.TemporalGlimpse", size=3))
    found = module([sequence, torch.tensor([[-1.0], [0.0], [1.0]])])
    assert found[:, :, 0].tolist() == [[0, 1, 2], [2, 3, 4], [5, 6, 0]]


def test_augmentations_end_with_training() -> None:
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


def test_batch_flip_mirrors_half_of_the_images() -> None:
    torch.manual_seed(0)
    images = torch.randn(7, 3, 4, 5)
    module = convert(lua("nn.BatchFlip", train=True)).train()
    drawn = set()
    for _ in range(20):
        output = module(images)
        mirrored = [torch.equal(output[n], images[n].flip(-1)) for n in range(7)]
        same = [torch.equal(output[n], images[n]) for n in range(7)]
        assert sum(mirrored) == 3  # le(bs / 2) of a permutation of 1..bs
        assert sum(same) == 4
        drawn.add(tuple(mirrored))
    assert len(drawn) > 5
    assert torch.equal(module.eval()(images), images)


def test_residual_blocks_are_left_out_at_times() -> None:
    """Stochastic depth, by `ResidualDrop.lua`'s updateOutput."""
    torch.manual_seed(0)
    double = lua("nn.MulConstant", constant_scalar=2)
    pooled = lua("nn.SpatialAveragePooling", kW=1, kH=1, dW=2, dH=2)
    strided = lua("nn.Sequential", modules=[double, pooled])
    module = convert(lua("nn.ResidualDrop", deathRate=0.25, modules=[strided, pooled]))
    image = torch.randn(2, 3, 6, 6)
    skipped = image[..., ::2, ::2]
    assert relative_error(module.eval()(image), skipped * (1 + 2 * 0.75)) < 1e-6
    module.train()
    left_out = sum(torch.equal(module(image), skipped) for _ in range(1000))
    assert 180 < left_out < 320  # five standard deviations around 250
    assert any(relative_error(module(image), skipped * 3) < 1e-6 for _ in range(30))


def test_dense_layers_grow_a_list() -> None:
    """Two layers of a DenseNet whose memory is saved are the same as its standard ones."""
    weights = [rand(2, 3, 3, 3), rand(2, 5, 3, 3)]

    def grow(weight: torch.Tensor) -> Any:
        sizes = {"nInputPlane": weight.shape[1], "nOutputPlane": 2, "kW": 3, "kH": 3}
        steps = {"dW": 1, "dH": 1, "padW": 1, "padH": 1}
        return lua("nn.SpatialConvolution", weight=weight, **sizes, **steps)

    def custom(weight: torch.Tensor) -> Any:
        return lua("nn.DenseConnectLayerCustom", modules=[lua("nn.ReLU"), grow(weight)])

    def standard(weight: torch.Tensor) -> Any:
        net = lua("nn.Sequential", modules=[lua("nn.ReLU"), grow(weight)])
        return lua("nn.Concat", dimension=2, modules=[lua("nn.Identity"), net])

    joined = lua("nn.JoinTable", dimension=2)
    saved = convert(lua("nn.Sequential", modules=[*map(custom, weights), joined]))
    plain = convert(lua("nn.Sequential", modules=[*map(standard, weights)]))
    image = rand(2, 3, 5, 6)
    assert relative_error(saved(image), plain(image).detach()) < 1e-12


def test_region_dropout_clears_one_edge() -> None:
    torch.manual_seed(0)
    module, ones = convert(lua("nn.SpatialRegionDropout", p=0.3)), torch.ones(1, 1, 10, 20)
    seen = set()
    for _ in range(50):
        kept = module(ones)[0, 0]
        assert relative_error(kept.unique(), torch.tensor([0, 1 / 0.7])) < 1e-6
        rows, columns = (kept > 0).any(1), (kept > 0).any(0)
        assert (int(rows.sum()), int(columns.sum())) in {(7, 20), (10, 14)}
        seen.add((bool(rows[0]), bool(rows[-1]), bool(columns[0]), bool(columns[-1])))
    assert len(seen) == 4


def test_uniform_crop_takes_the_middle_in_evaluation_mode() -> None:
    module = convert(lua("nn.SpatialUniformCrop", oheight=2, owidth=3, train=False))
    image = torch.arange(42.0).reshape(1, 1, 6, 7)
    # ceil(4/2) = 2 and ceil(4/2) = 2, from 1.
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


@pytest.mark.parametrize(("layer", "evaluated"), REINFORCE)
def test_reinforce_layers_draw_in_training(layer: Any, evaluated: Any) -> None:
    torch.manual_seed(0)
    module, input = convert(layer), torch.full((20000, 4), 0.25, requires_grad=True)
    drawn = module(input)
    assert not drawn.requires_grad
    # Four standard deviations of the mean of 80,000 draws are below 0.03.
    assert abs(float(drawn.mean()) - float(evaluated(torch.tensor(0.25)))) < 0.03
    assert torch.equal(module.eval()(input), evaluated(input))


def test_nce_module_scores_targets_and_noise() -> None:
    weight, bias = rand(6, 4), rand(6)
    unigrams = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0, 0.0]).double()
    fields = {"weight": weight, "bias": bias, "unigrams": unigrams, "k": 2, "normalized": True}
    module = convert(lua("nn.NCEModule", logsoftmax=True, **fields))
    features, target = rand(3, 4), torch.tensor([1, 6, 2])
    scores = (features @ weight.t() + bias).exp()
    model, noise, target_frequency, noise_frequency = module([features, target])
    assert relative_error(model, scores[range(3), [0, 5, 1]]) < EXACT
    # Only the third class has a frequency, so it is the only one drawn.
    assert relative_error(noise, scores[:, 2:3].expand(3, 2)) < EXACT
    assert target_frequency.tolist() == [0, 0, 0]
    assert noise_frequency.tolist() == [[1, 1]] * 3
    expected = (scores / scores.sum(1, keepdim=True)).log()
    assert relative_error(module.eval()([features, target]), expected) < EXACT


def test_logistic_criterions() -> None:
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


@pytest.mark.parametrize("factors", [1, 2])
def test_affine_matrix_turns_scales_and_shifts(factors: int) -> None:
    layer = lua(
        "nn.AffineTransformMatrixGenerator", useRotation=True, useScale=True, useTranslation=True
    )
    angle, scale, shift = 0.5, [2.0, 3.0][:factors], [0.25, -0.5]
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = turn @ torch.diag(torch.tensor((scale * 2)[:2]))
    expected = torch.cat([linear, linear @ torch.tensor(shift)[:, None]], 1)
    numbers = torch.tensor([angle, *scale, *shift])
    assert relative_error(convert(layer)(numbers), expected) < 1e-6
    assert relative_error(convert(layer)(numbers.expand(3, -1)), expected.expand(3, 2, 3)) < 1e-6


def test_spatial_transformer_takes_one_image() -> None:
    grid = convert(lua("nn.AffineGridGeneratorBHWD", height=4, width=5))
    sample = convert(lua("nn.BilinearSamplerBHWD"))
    image = torch.randn(4, 5, 2)
    same = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert relative_error(sample([image, grid(same)]), image) < 1e-5
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
