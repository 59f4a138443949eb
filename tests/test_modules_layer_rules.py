"""Rules of single layers that the recorded cases do not reach: small sizes, absent batches, extras.

Expected numbers are worked out by hand or come from PyTorch's functions.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from layer_support import layer, lua

from torchlift.converters import convert
from torchlift.converters.modules.layers.fractional_pooling import FixedFractionalMaxPool

PAIR = [torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([[4.0, 2.0], [1.0, 8.0]])]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CSubTable", [[-3, 0], [2, -3]]),
        ("CDivTable", [[0.25, 1], [3, 0.625]]),
        ("PairwiseDistance", [3, 13**0.5]),
        ("DotProduct", [8, 43]),
        ("CosineDistance", [8 / 10, 43 / (34 * 65) ** 0.5]),
    ],
)
def test_a_layer_of_two_entries_ignores_the_others(name: str, expected: Any) -> None:
    found = layer(f"nn.{name}")([*PAIR, torch.full((2, 2), 9.0)])
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))


def test_a_mixture_ignores_what_stands_behind_its_experts() -> None:
    gates, experts = torch.tensor([0.25, 0.75]), [torch.tensor([4.0]), torch.tensor([8.0])]
    assert layer("nn.MixtureTable")([gates, experts, torch.ones(2)]).tolist() == [7]


def test_a_bottle_leaves_an_input_that_has_no_more_dimensions_than_its_module() -> None:
    """Also one that has fewer, as a single image."""
    pooling = lua("nn.SpatialMaxPooling", kW=2, kH=2, dW=2, dH=2, ceil_mode=False)
    bottle = layer("nn.Bottle", modules=[pooling], nInputDim=4)
    images = torch.randn(2, 5, 3, 4, 6)
    expected = torch.nn.functional.max_pool2d(images.flatten(0, 1), 2).reshape(2, 5, 3, 2, 3)
    assert torch.equal(bottle(images), expected)
    assert torch.equal(bottle(images[0]), expected[0])
    assert torch.equal(bottle(images[0, 1]), expected[0, 1])


def test_one_channel_is_normalized_by_itself() -> None:
    """X / (k + alpha · x² / size)^beta, in each image of a batch."""
    norm = layer("nn.SpatialCrossMapLRN", size=5, alpha=10, beta=0.5, k=2)
    images = torch.arange(6.0).reshape(2, 1, 1, 3)
    torch.testing.assert_close(norm(images), images / (2 + 10 / 5 * images.square()).sqrt())


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("columns", [2, 6])
def test_an_example_without_pairs_is_the_bias(training: bool, columns: int) -> None:
    """With and without the four columns of a layer that normalizes its input."""
    fields = {"weight": torch.ones(4, columns), "bias": torch.tensor([0.5, 2.0])}
    module = convert(lua("nn.IndexLinear", **fields)).train(training)
    none = [torch.zeros(0, dtype=torch.int64), torch.zeros(0)]
    assert module(none).tolist() == [0.5, 2.0]
    assert torch.equal(module.get_parameter("weight"), fields["weight"])


@pytest.mark.parametrize("training", [False, True])
def test_what_a_sparse_layer_divides_by_is_not_trained(training: bool) -> None:
    """Of the columns in front only the last, a bias, has a gradient."""
    weight = torch.tensor([[4.0, 0.25, 1.0, 0.5, 3.0], [2.0, 0.5, 1.0, 0.0, 7.0]])
    module = convert(lua("nn.IndexLinear", weight=weight, bias=torch.zeros(1))).train(training)
    module([torch.tensor([1]), torch.tensor([2.0])]).sum().backward()
    assert module.weight.grad.tolist() == [[0, 0, 0, 3, 2 / 4 + 0.5], [0] * 5]


def test_fixed_regions_may_have_a_ratio_instead_of_a_size() -> None:
    """Of 13 rows 0.4 are 5 (rounded down), of 9 columns 0.5 are 4."""
    samples = torch.rand(2, 3, 2)
    common = {"poolSizeW": 2, "poolSizeH": 3, "newRandomPool": True, "randomSamples": samples}
    by_ratio = layer("nn.SpatialFractionalMaxPooling", **common, ratioH=0.4, ratioW=0.5)
    by_size = layer("nn.SpatialFractionalMaxPooling", **common, outH=5, outW=4)
    assert isinstance(by_ratio, FixedFractionalMaxPool)
    assert (by_ratio.output_size, by_ratio.output_ratio) == (None, [0.4, 0.5])
    images = torch.randn(2, 3, 13, 9)
    assert by_size(images).shape == (2, 3, 5, 4)
    assert torch.equal(by_ratio(images), by_size(images))


@pytest.mark.parametrize("fields", [{}, {"newRandomPool": False}, {"newRandomPool": 1}])
def test_samples_of_the_last_pass_fix_no_regions(fields: dict[str, Any]) -> None:
    """Only after `fixPoolingRegions`, which sets `newRandomPool` to true."""
    window = {"poolSizeW": 2, "poolSizeH": 3, "outH": 5, "outW": 4}
    last = {"randomSamples": torch.rand(2, 3, 2)}
    module = layer("nn.SpatialFractionalMaxPooling", **window, **last, **fields)
    assert isinstance(module, torch.nn.FractionalMaxPool2d)


@pytest.mark.parametrize("shape", [(1, 3, 2), (3, 1, 2), (1, 1, 2), (1, 2)])
def test_a_product_with_a_vector_keeps_sizes_of_one(shape: tuple[int, ...]) -> None:
    matrix, vector = torch.randn(shape), torch.randn(*shape[:-2], 2)
    product = layer("nn.MV")([matrix, vector])
    assert product.shape == shape[:-1]
    torch.testing.assert_close(product, (matrix * vector.unsqueeze(-2)).sum(-1))


def test_a_cleared_weight_is_made_of_v_and_g_again() -> None:
    """`LinearWeightNorm.lua` empties its weight in `clearState`."""
    fields = {"v": torch.tensor([[3.0, 4.0]]), "g": torch.tensor([[10.0]])}
    module = layer("nn.LinearWeightNorm", **fields, weight=torch.zeros(0)).eval()
    assert module(torch.tensor([[1.0, 0.0]])).tolist() == [[6]]


def test_a_layer_with_a_normalized_weight_keeps_no_graph_of_its_training() -> None:
    """`LinearWeightNorm.lua` keeps the weight; its gradient goes to v and g alone."""
    fields = {"v": torch.tensor([[3.0, 4.0]]), "g": torch.tensor([[10.0]])}
    module = convert(lua("nn.LinearWeightNorm", **fields, weight=torch.ones(1, 2))).train()
    module(torch.ones(1, 2)).sum().backward()
    kept = module.get_buffer("weight")
    assert kept.tolist() == [[6, 8]]
    assert not kept.requires_grad
    assert copy.deepcopy(module).get_buffer("weight").tolist() == [[6, 8]]


def test_kernels_of_a_local_mean_are_never_trained() -> None:
    kernel = torch.full((1, 2, 3, 3), 1 / 18)
    mean = lua(
        "nn.SpatialConvolution",
        **dict.fromkeys(("dW", "dH", "padW", "padH"), 1),
        kW=3,
        kH=3,
        nInputPlane=2,
        nOutputPlane=1,
        weight=kernel,
        bias=torch.zeros(1),
    )
    expanded = lua("nn.Replicate", nfeatures=2, dim=1, ndim=3)
    estimator = lua("nn.Sequential", modules=[mean, expanded])
    module = convert(lua("nn.SpatialSubtractiveNormalization", meanestimator=estimator))
    assert [*module.parameters()] == []
    assert [(one.numel(), one.requires_grad) for one in module.buffers()] == [
        (18, False),
        (1, False),
    ]


@pytest.mark.parametrize("height", [3, 7])
def test_channels_behind_the_last_connected_one_are_ignored(height: int) -> None:
    """As in `SpatialConvolutionMap.c`, however high the image is."""
    fields = {"nInputPlane": 4, "nOutputPlane": 2, "kW": 2, "kH": 2, "dW": 1, "dH": 1}
    connections = torch.tensor([[1.0, 1], [3, 2], [4, 2]])
    weight, bias = torch.randn(3, 2, 2), torch.randn(2)
    module = layer(
        "nn.SpatialConvolutionMap", **fields, connTable=connections, weight=weight, bias=bias
    )
    images = torch.randn(2, 5, height, 6)
    kernels = torch.zeros(2, 4, 2, 2)
    kernels[[0, 1, 1], [0, 2, 3]] = weight
    expected = torch.nn.functional.conv2d(images[:, :4], kernels, bias)
    torch.testing.assert_close(module(images), expected)
    torch.testing.assert_close(module(images[1]), expected[1])


@pytest.mark.parametrize("names", [(), ("weight",), ("bias",), ("weight", "bias")])
def test_a_batch_normalization_has_what_the_file_has(names: tuple[str, ...]) -> None:
    statistics = {"running_mean": torch.zeros(3), "running_var": torch.ones(3)}
    fields = {name: torch.ones(3) for name in names}
    module = layer("nn.BatchNormalization", **statistics, **fields)
    assert {name for name, _ in module.named_parameters()} == {*names}
    assert module.affine == bool(names)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("fields", [{}, {"v2": True, "stochastic_inference": True}])
def test_a_dropout_keeps_the_dtype(dtype: torch.dtype, fields: dict[str, Any]) -> None:
    module = convert(lua("nn.Dropout", p=0.5, **fields)).train()
    assert module(torch.ones(8, dtype=dtype)).dtype == dtype


def test_of_equal_maxima_the_first_one_row_by_row_has_the_gradient() -> None:
    image = torch.tensor([[[0.0, 5, 1, 1], [5, 0, 1, 1]]], requires_grad=True)
    layer("nn.SpatialAdaptiveMaxPooling", H=1, W=2)(image).sum().backward()
    assert image.grad is not None
    assert image.grad.tolist() == [[[0, 1, 1, 0], [0, 0, 0, 0]]]


@pytest.mark.parametrize(("reference", "size"), [(7, 9), (8, 10), (9, 9), (10, 10), (12, 10)])
def test_a_reference_decides_only_what_the_stride_leaves_open(reference: int, size: int) -> None:
    """`calculateAdj` of `SpatialFullConvolution.lua`: (reference + 2·pad - k) % d more."""
    sizes = {name: value for axis in "HW" for name, value in ((f"k{axis}", 3), (f"d{axis}", 2))}
    fields = {**sizes, "nInputPlane": 1, "nOutputPlane": 1, "weight": torch.ones(1, 1, 3, 3)}
    module = layer("nn.SpatialFullConvolution", **fields, bias=torch.zeros(1))
    images = [torch.ones(1, 1, 4, 4), torch.ones(1, 1, reference, 9)]
    assert module(images).shape == (1, 1, size, 9)


def test_of_several_replicas_the_first_is_kept() -> None:
    replicas = [lua("nn.MulConstant", constant_scalar=2), lua("nn.MulConstant", constant_scalar=3)]
    assert layer("nn.DataParallelTable", modules=replicas)(torch.ones(1)).tolist() == [2]


def test_a_center_without_examples_stays() -> None:
    """The others' gradient is the mean of (center - example)."""
    module = convert(lua("nn.Kmeans", weight=torch.tensor([[0.0, 0], [90, 90]])))
    assert module(torch.tensor([[1.0, 2], [3, 4]])).tolist() == [1, 1]
    module(torch.tensor([[1.0, 2], [3, 4]])).sum().backward()
    torch.testing.assert_close(module.weight.grad, torch.tensor([[-2.0, -3], [0, 0]]))


def test_powers_of_features_are_summed_in_double_precision() -> None:
    module = layer("nn.FeatureLPPooling", width=2, stride=2, power=2, batch_mode=False)
    found = module(torch.tensor([3e30, 4e30, 3e-30, 4e-30]))
    torch.testing.assert_close(found, torch.tensor([5e30, 5e-30]), rtol=1e-6, atol=0)


def test_the_cosine_of_short_vectors_tends_to_zero() -> None:
    """`CosineDistance.lua` adds 1e-12 to each squared norm, which here is 1e-12 itself."""
    short = torch.tensor([[1e-6, 0.0]])
    assert layer("nn.CosineDistance")([short, short]).item() == pytest.approx(0.5, rel=1e-5)


def test_a_threshold_and_its_value_are_those_of_the_file() -> None:
    found = layer("nn.Threshold", threshold=1.0, val=-5.0)(torch.tensor([0.5, 1.0, 1.5, -7.0]))
    assert found.tolist() == [-5, -5, 1.5, -5]
    # Where beta·x is above the threshold, x itself.
    found = layer("nn.SoftPlus", beta=2.0, threshold=1.0)(torch.tensor([0.75, 0.0]))
    torch.testing.assert_close(found, torch.tensor([0.75, math.log(2) / 2]))
