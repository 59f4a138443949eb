"""Image layers of inn, nnx, DeepMask and fbcunn, compared with loops and formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from layer_support import lua, rand
from support import SHARED, relative_error
from torch.nn import functional

from torchlift.converters import convert, t7
from torchlift.converters.modules import ConversionError

#: nn.SpatialNormalization, SpatialPadding and SpatialClassifier, with all activations.
FACES = SHARED / "wild" / "torch+demos__face-detector__face.net.ascii@8907ed5"

#: Both sides are float64; only the order of summation differs.
EXACT = 1e-12


@pytest.mark.covers("inn.SpatialMaxPooling", "inn.SpatialAveragePooling", compared="outputs")
def test_inn_pooling_extends_over_the_edge() -> None:
    fields = {"kW": 2, "kH": 3, "dW": 2, "dH": 2, "ceil_mode": False}
    image = rand(2, 3, 6, 5)
    expected = functional.max_pool2d(image, (3, 2), 2, ceil_mode=True)
    assert torch.equal(convert(lua("inn.SpatialMaxPooling", **fields))(image), expected)
    ones = torch.ones_like(image)
    mean = functional.avg_pool2d(functional.pad(image, [0, 1, 0, 1]), (3, 2), 2)
    inside = functional.avg_pool2d(functional.pad(ones, [0, 1, 0, 1]), (3, 2), 2)
    output = convert(lua("inn.SpatialAveragePooling", **fields))(image)
    assert relative_error(output, mean / inside) < EXACT


@pytest.mark.covers(
    "inn.SpatialCrossResponseNormalization",
    "inn.LocalResponseNormalization",
    "inn.MeanSubtraction",
    compared="outputs",
)
def test_inns_normalizations_equal_their_formulas() -> None:
    image = rand(2, 8, 4, 5)
    fields = {"size": 5, "alpha": 0.1, "beta": 0.75, "k": 2}
    output = convert(lua("inn.SpatialCrossResponseNormalization", **fields))(image)
    assert relative_error(output, functional.local_response_norm(image, 5, 0.1, 0.75, 2)) < EXACT
    child = lua("nn.Sequential", modules=[lua("nn.Identity")])
    assert torch.equal(convert(lua("inn.LocalResponseNormalization", modules=child))(image), image)
    mean = rand(8, 4, 5)
    for saved_mean in (mean, mean.expand(3, -1, -1, -1)):
        module = convert(lua("inn.MeanSubtraction", mean=saved_mean))
        assert torch.equal(module(image), image - mean)
        assert torch.equal(module(image[0]), image[0] - mean)


@pytest.mark.covers("inn.ConstAffine", "nn.SpatialConstDiagonal", compared="outputs")
@pytest.mark.parametrize("name", ["inn.ConstAffine", "nn.SpatialConstDiagonal"])
def test_const_affine_has_no_parameters(name: str) -> None:
    a, b, image = rand(3), rand(3), rand(2, 3, 4, 5)
    module = convert(lua(name, a=a.reshape(1, 3, 1, 1), b=b))
    expected = image * a[:, None, None] + b[:, None, None]
    assert relative_error(module(image), expected) < EXACT
    assert relative_error(module(image[..., 0, 0]), expected[..., 0, 0]) < EXACT
    assert not list(module.parameters())


@pytest.mark.covers("inn.SpatialPyramidPooling", compared="outputs")
def test_pyramid_pooling_concatenates_features() -> None:
    def level(size: int) -> object:
        pool = lua("nn.SpatialAdaptiveMaxPooling", W=size, H=size)
        view = lua("nn.View", size=torch.tensor([-1]), numInputDims=3)
        return lua("nn.Sequential", modules=[pool, view])

    # The saved dimension is the one for the last input, which had no batch.
    module = convert(lua("inn.SpatialPyramidPooling", dimension=1, modules=[level(2), level(1)]))
    image = rand(2, 3, 6, 6)
    levels = [functional.adaptive_max_pool2d(image, size).flatten(1) for size in (2, 1)]
    assert torch.equal(module(image), torch.cat(levels, 1))
    assert torch.equal(module(image[0]), torch.cat(levels, 1)[0])


@pytest.mark.covers("inn.SpatialStochasticPooling", compared="outputs, training")
def test_stochastic_pooling_weights_values_by_themselves() -> None:
    module = convert(lua("inn.SpatialStochasticPooling", kW=2, kH=2, dW=2, dH=2, train=False))
    image = rand(2, 3, 5, 4).abs()
    padded = functional.pad(image, [0, 0, 0, 1])
    total = functional.avg_pool2d(padded, 2)
    expected = functional.avg_pool2d(padded**2, 2) / total
    assert relative_error(module(image), expected) < EXACT
    torch.manual_seed(0)
    output = module.train()(image.expand(2, 3, 5, 4))
    windows = functional.unfold(padded.flatten(0, 1).unsqueeze(1), 2, stride=2)
    assert (windows.reshape(2, 3, 4, 3, 2) == output[:, :, None]).any(2).all()
    mean = torch.stack([module(image) for _ in range(3000)]).mean(0)
    # For values up to 3, four standard deviations of the mean of 3,000 draws are below 0.15.
    assert (mean - expected).abs().max() < 0.15


def roi_pool(
    maps: torch.Tensor, region: list[float], size: tuple[int, int], scale: float, version2: bool
) -> torch.Tensor:
    """Compute `ROIPoolForward` or `ROIPoolForwardV2` of ROIPooling.cu for one region."""

    def c_round(value: float) -> int:
        return int(math.copysign(math.floor(abs(value) + 0.5), value))

    x1, y1, x2, y2 = (c_round((value - 1) * scale) for value in region[1:])
    pooled = torch.zeros(maps.shape[1], *size, dtype=maps.dtype)
    for index in np.ndindex(size):
        spans = []
        for axis, first, last in ((0, y1, y2), (1, x1, x2)):
            last -= version2
            bin_size = max(last - first + 1, 1) / size[axis]
            start, end = index[axis] * bin_size, (index[axis] + 1) * bin_size
            low, high = (
                (c_round(start), c_round(end)) if version2 else (math.floor(start), math.ceil(end))
            )
            limit = maps.shape[2 + axis]
            spans.append((min(max(low + first, 0), limit), min(max(high + first, 0), limit)))
        (top, bottom), (left, right) = spans
        if bottom > top and right > left:
            window = maps[int(region[0]) - 1, :, top:bottom, left:right]
            pooled[:, index[0], index[1]] = window.flatten(1).amax(1)
    return pooled


@pytest.mark.covers("inn.ROIPooling", compared="outputs")
@pytest.mark.parametrize("version2", [True, False])
def test_roi_pooling_equals_the_kernel(version2: bool) -> None:
    maps = rand(2, 3, 7, 9)
    regions = torch.tensor(
        [[1, 1, 1, 9, 7], [2, 3, 2, 14, 12], [1, 5, 5, 5, 5], [2, 8, 6, 30, 20], [1, 9, 9, 2, 2]]
    ).double()
    for scale in (1.0, 0.5):
        layer = lua("inn.ROIPooling", W=3, H=2, spatial_scale=scale, v2=version2 or None)
        expected = [roi_pool(maps, list(map(float, r)), (2, 3), scale, version2) for r in regions]
        assert torch.equal(convert(layer)([maps, regions]), torch.stack(expected))


@pytest.mark.covers("inn.ROIPooling", compared="gradients")
@pytest.mark.parametrize("version2", [True, False])
def test_roi_pooling_sends_the_gradient_to_the_first_maximum(version2: bool) -> None:
    maps = torch.tensor([[[[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0]]]])
    layer = convert(lua("inn.ROIPooling", W=1, H=1, v2=version2 or None))
    leaf = maps.clone().requires_grad_()
    layer([leaf, torch.tensor([[1.0, 1.0, 1.0, 3.0 + version2, 3.0 + version2]])]).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.flatten().nonzero().flatten().tolist() == [1]


def box_filter(features: int) -> object:
    """Return the mean over 3×3 pixels of all features, as built by `SpatialNormalization.lua`."""
    table = torch.tensor([[index, index] for index in range(1, features + 1)])
    convolution = lua(
        "nn.SpatialConvolutionSparse",
        connTable=table.double(),
        nInputPlane=features,
        nOutputPlane=features,
        kW=3,
        kH=3,
        dW=1,
        dH=1,
        weight=torch.full((features, 3, 3), 1 / 9).double(),
        bias=torch.zeros(features).double(),
    )
    pad = lua("nn.SpatialPadding", pad_l=1, pad_r=1, pad_t=1, pad_b=1)
    total, copies = lua("nn.Sum", dimension=1), lua("nn.Replicate", nfeatures=features)
    return lua("nn.Sequential", modules=[pad, convolution, total, copies])


@pytest.mark.covers("nn.SpatialNormalization", compared="outputs")
@pytest.mark.parametrize(("threshold", "contrast"), [(None, 1), (None, 1e-4), (2.0, 1)])
def test_spatial_normalization_equals_its_definition(
    threshold: float | None, contrast: float
) -> None:
    layer = lua(
        "nn.SpatialNormalization",
        convo=box_filter(2),
        convostd=box_filter(2),
        nfeatures=2,
        fixedThres=threshold,
    )
    image = rand(2, 5, 6) * contrast
    kernel = torch.full((1, 2, 3, 3), 1 / 9).double()

    def smooth(maps: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(maps[None], kernel, padding=1)[0]

    inside = smooth(torch.ones_like(image))
    centered = image - smooth(image) / inside
    deviation = smooth(centered**2).sqrt() / inside
    minimum = threshold or max(float(deviation.mean()), 1e-3)
    assert relative_error(convert(layer)(image), centered / deviation.clamp(min=minimum)) < EXACT


def test_the_least_deviation_of_an_image_is_a_number_for_the_gradient() -> None:
    """As in the Lua, whose layer nn.Threshold gets the mean deviation as a number."""
    filters = {"convo": box_filter(2), "convostd": box_filter(2), "nfeatures": 2}
    image = rand(2, 5, 6)
    kernel = torch.full((1, 2, 3, 3), 1 / 9).double()
    inside = functional.conv2d(torch.ones_like(image)[None], kernel, padding=1)[0]
    centered = image - functional.conv2d(image[None], kernel, padding=1)[0] / inside
    squares = functional.conv2d(centered.square()[None], kernel, padding=1)[0]
    least, to_output = float((squares.sqrt() / inside).mean()), rand(2, 5, 6)
    own, fixed = (
        torch.autograd.grad(convert(layer)(leaf), leaf, to_output)[0]
        for layer in (
            lua("nn.SpatialNormalization", **filters),
            lua("nn.SpatialNormalization", **filters, fixedThres=least),
        )
        for leaf in [image.clone().requires_grad_()]
    )
    assert relative_error(own, fixed) < EXACT


@pytest.mark.skipif(not FACES.is_file(), reason="the shared files are not available")
def test_face_detector_of_2011_equals_its_own_activations() -> None:
    """Each layer is compared with its output in the file, which has six digits."""
    model = t7.load(FACES)
    layers = model["modules"].to_list()
    output = t7.to_torch(layers[0]["input"])
    for module, layer in zip(convert(model), layers, strict=True):
        output = module(output)
        assert relative_error(output.detach(), t7.to_torch(layer["output"])) < 1e-4, layer
    assert {layer.class_name for layer in layers} > {"nn.SpatialNormalization"}
    assert layers[-1].class_name == "nn.SpatialClassifier"


@pytest.mark.covers("nn.SpatialPadding", compared="outputs")
def test_spatial_padding_pads_and_crops() -> None:
    fields = {"pad_l": 1, "pad_r": 2, "pad_t": -1, "pad_b": 0}
    image = rand(3, 4, 5)
    output = convert(lua("nn.SpatialPadding", **fields))(image)
    assert torch.equal(output[:, :, 1:6], image[:, 1:])
    assert output.shape == (3, 3, 8)
    other = convert(lua("nn.SpatialPadding", y_dim=1, x_dim=2, **fields))(image)
    assert torch.equal(other[:, 1:5], image[1:])
    assert other.shape == (2, 7, 5)


@pytest.mark.covers("nn.SpatialLinear", "nn.SpatialClassifier", compared="outputs")
def test_spatial_classifiers_classify_every_pixel() -> None:
    weight, bias, image = rand(6, 3), rand(6), rand(3, 4, 5)
    expected = torch.einsum("oc,chw->ohw", weight, image) + bias[:, None, None]
    output = convert(lua("nn.SpatialLinear", weight=weight, bias=bias))(image)
    assert relative_error(output, expected) < EXACT
    classifier = lua("nn.Linear", weight=weight, bias=bias)
    module = convert(lua("nn.SpatialClassifier", classifier=classifier))
    assert relative_error(module(image), expected) < EXACT
    assert relative_error(module(image[None])[0], expected) < EXACT
    flat = convert(lua("nn.SpatialClassifier", classifier=classifier, spatialOutput=False))
    assert relative_error(flat(image), expected.flatten(1).t()) < EXACT


@pytest.mark.covers("nn.SpatialReSampling", "nn.SpatialReSamplingEx", compared="outputs")
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"mode": "simple", "oheight": 2, "owidth": 5}, [[0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]),
        ({"mode": "simple", "rheight": 0.5, "rwidth": 0.34}, [[0]]),
        ({"mode": "average", "oheight": 1, "owidth": 1}, [[2.5]]),
        ({"mode": "bilinear", "oheight": 3, "owidth": 2}, [[0, 2], [1.5, 3.5], [3, 5]]),
    ],
)
def test_resampling_gives_what_was_computed_by_hand(
    fields: dict[str, object], expected: list[list[float]]
) -> None:
    image = torch.arange(6.0).reshape(1, 2, 3)
    module = convert(lua("nn.SpatialReSamplingEx", yDim=2, xDim=3, **fields))
    assert module(image)[0].tolist() == expected
    # The same with rows and columns in other dimensions.
    first = convert(lua("nn.SpatialReSamplingEx", yDim=1, xDim=2, **fields))
    assert first(image.movedim(0, -1))[..., 0].tolist() == expected
    if fields["mode"] == "bilinear":
        plain = convert(lua("nn.SpatialReSampling", oheight=3, owidth=2))
        assert plain(image[None])[0, 0].tolist() == expected


@pytest.mark.covers("nn.SpatialUpSampling", "nn.Minus", compared="outputs")
def test_up_sampling_and_minus() -> None:
    image = torch.arange(4.0).reshape(1, 2, 2)
    output = convert(lua("nn.SpatialUpSampling", dW=2, dH=1))(image)
    assert output[0].tolist() == [[0, 0, 1, 1], [2, 2, 3, 3]]
    assert torch.equal(convert(lua("nn.Minus"))(image), -image)


@pytest.mark.covers("nn.SpatialSymmetricPadding", compared="outputs, gradients")
def test_symmetric_padding_repeats_the_edge() -> None:
    image = rand(2, 3, 4, 5).requires_grad_()
    module = convert(lua("nn.SpatialSymmetricPadding", pad_l=2, pad_r=1, pad_t=-1, pad_b=3))
    output = module(image)
    expected = np.pad(
        image.detach().numpy()[:, :, 1:], ((0, 0), (0, 0), (0, 3), (2, 1)), "symmetric"
    )
    assert torch.equal(output.detach(), torch.from_numpy(expected))
    output.sum().backward()
    # As in nn.SpatialZeroPadding, the padding adds nothing to the gradient.
    assert torch.equal(image.grad[:, :, 1:], torch.ones(2, 3, 3, 5).double())


@pytest.mark.covers("nn.DeepMask", compared="outputs")
def test_deep_mask_returns_mask_and_score() -> None:
    branches = {"trunk": 2, "maskBranch": 3, "scoreBranch": 5}
    fields = {
        name: lua("nn.MulConstant", constant_scalar=factor) for name, factor in branches.items()
    }
    masks, scores = convert(lua("nn.DeepMask", **fields))(torch.ones(1))
    assert masks.tolist() == [6]
    assert scores.tolist() == [10]


@pytest.mark.covers(
    "nn.LinearNB", "nn.LookupTableGPU", "nn.CrossMapNormalization", compared="outputs"
)
def test_facebooks_names_of_nn_layers() -> None:
    weight = torch.randn(5, 3)
    linear, vectors = convert(lua("nn.LinearNB", weight=weight)), torch.randn(2, 3)
    assert linear.bias is None
    assert torch.equal(linear(vectors), functional.linear(vectors, weight))
    table = convert(lua("nn.LookupTableGPU", weight=weight, featuresInDim2=True))
    assert torch.equal(table(torch.tensor([[1, 5]])), weight[[0, 4]].t()[None])
    image = torch.randn(2, 8, 3, 3)
    norm = convert(lua("nn.CrossMapNormalization", size=5, scale=0.1, power=0.75))
    expected = functional.local_response_norm(image, 5, 0.1, 0.75)
    assert relative_error(norm(image), expected) < 1e-5


@pytest.mark.parametrize(("rows", "columns", "fits"), [(2, 3, True), (3, 2, False), (1, 3, False)])
def test_columns_that_are_resampled_follow_the_rows(rows: int, columns: int, fits: bool) -> None:
    source = lua("nn.SpatialReSamplingEx", yDim=rows, xDim=columns, oheight=2, owidth=2)
    if fits:
        assert convert(source)(torch.ones(1, 3, 3)).shape == (1, 2, 2)
    else:
        with pytest.raises(ConversionError, match="columns that do not follow its rows"):
            convert(source)
