"""Normalization: optional weight and bias, older files, and explicit local sums."""

from __future__ import annotations

import pytest
import torch
from layer_support import export_error, layer, lua
from support import FIXTURES, relative_error
from torch import nn
from torch.nn import functional

from torchlift.converters import convert, t7
from torchlift.converters.modules import convert_recorded

#: float32 sums in another order.
TOLERANCE = 1e-5


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def batch_norm_fields(**more: object) -> dict[str, object]:
    mean, var = torch.randn(3), torch.rand(3) + 0.5
    return {"running_mean": mean, "running_var": var, "eps": 1e-3, "momentum": 0.1, **more}


@pytest.mark.parametrize("prefix", ["nn", "cudnn"])
@pytest.mark.parametrize(
    ("class_name", "shape", "torch_class"),
    [
        ("BatchNormalization", (5, 3), nn.BatchNorm1d),
        ("SpatialBatchNormalization", (5, 3, 4, 2), nn.BatchNorm2d),
        ("VolumetricBatchNormalization", (5, 3, 4, 2, 3), nn.BatchNorm3d),
    ],
)
def test_an_example_is_normalized_like_a_batch(
    prefix: str, class_name: str, shape: tuple[int, ...], torch_class: type[nn.Module]
) -> None:
    fields = batch_norm_fields(weight=torch.randn(3), bias=torch.randn(3))
    module = layer(f"{prefix}.{class_name}", **fields)
    assert isinstance(module, torch_class)
    batch = torch.randn(shape)
    ones = [-1, *(1 for _ in shape[2:])]
    scale = (fields["weight"] / (fields["running_var"] + 1e-3).sqrt()).reshape(ones)
    shift, mean = fields["bias"].reshape(ones), fields["running_mean"].reshape(ones)
    assert relative_error(module(batch), (batch - mean) * scale + shift) < TOLERANCE
    assert relative_error(module(batch[1]), module(batch)[1:2].detach()) < TOLERANCE


@pytest.mark.covers("nn.SpatialBatchNormalization", compared="outputs")
@pytest.mark.parametrize(
    ("name", "other", "neutral"), [("weight", "bias", 0.0), ("bias", "weight", 1.0)]
)
def test_weight_and_bias_are_optional_one_by_one(name: str, other: str, neutral: float) -> None:
    images = torch.randn(2, 3, 4, 4)
    fields = batch_norm_fields(**{name: torch.randn(3)})
    alone = layer("nn.SpatialBatchNormalization", **fields)
    both = layer("nn.SpatialBatchNormalization", **fields, **{other: torch.full((3,), neutral)})
    assert [parameter for parameter, _ in alone.named_parameters()] == [name]
    assert relative_error(alone(images), both(images).detach()) < TOLERANCE
    assert layer("nn.SpatialBatchNormalization", **batch_norm_fields()).weight is None


def test_running_std_of_version_1() -> None:
    fields = batch_norm_fields()
    new = layer("nn.SpatialBatchNormalization", **fields)
    std = (fields.pop("running_var") + 1e-3).rsqrt()
    old = convert_recorded(lua("nn.SpatialBatchNormalization", **fields, running_std=std))
    images = torch.randn(2, 3, 4, 4)
    assert relative_error(old.module.eval()(images), new(images)) < TOLERANCE
    assert "running_std" in old.notes[0].text


@pytest.mark.covers("nn.BatchNormalization", compared="training")
def test_training_updates_the_statistics_as_torch7() -> None:
    fields = batch_norm_fields()
    module = convert(lua("nn.BatchNormalization", **fields, train=True))
    batch = torch.randn(6, 3)
    module(batch)
    expected = 0.9 * fields["running_var"] + 0.1 * batch.var(0, unbiased=True)
    assert relative_error(module.running_var, expected) < TOLERANCE
    assert module.training


@pytest.mark.covers("nn.SpatialCrossMapLRN", "cudnn.SpatialCrossMapLRN", compared="outputs")
@pytest.mark.parametrize("size", [1, 3, 4, 5, 9])
@pytest.mark.parametrize("class_name", ["nn.SpatialCrossMapLRN", "cudnn.SpatialCrossMapLRN"])
def test_lrn_divides_by_a_window_of_channels(class_name: str, size: int) -> None:
    module = layer(class_name, size=size, alpha=0.5, beta=0.75, k=2)
    image = torch.randn(7, 3, 4)
    first, last = (size - 1) // 2, size // 2
    sums = [image[max(c - first, 0) : c + last + 1].square().sum(0) for c in range(7)]
    expected = image / (2 + 0.5 / size * torch.stack(sums)) ** 0.75
    assert relative_error(module(image), expected) < TOLERANCE
    assert relative_error(module(image[None])[0], expected) < TOLERANCE


def test_lrn_of_the_first_cudnn_files_has_the_field_capital_k() -> None:
    fields = {"size": 5, "alpha": 1e-4, "beta": 0.75}
    assert layer("cudnn.SpatialCrossMapLRN", **fields, K=2).k == 2
    assert layer("cudnn.SpatialCrossMapLRN", **fields).k == 1


@pytest.mark.covers("nn.Normalize", compared="outputs, gradients")
def test_normalize_has_its_epsilon_inside_the_root() -> None:
    module = layer("nn.Normalize", p=2, eps=1e-10)
    zeros = torch.zeros(2, 3, requires_grad=True)
    module(zeros).sum().backward()
    # 1 / √eps; torch.nn.functional.normalize has eps outside the root.
    assert torch.allclose(zeros.grad, torch.full((2, 3), 1e5))
    vector = torch.tensor([3.0, -4.0])
    assert torch.allclose(module(vector), torch.tensor([0.6, -0.8]))


@pytest.mark.parametrize(
    ("p", "norm"),
    [
        (1, 3 + 4 + 0.25),
        (2, (9 + 16 + 0.25) ** 0.5),
        (3, (27 + 64 + 0.25) ** (1 / 3)),
        (0.5, (3**0.5 + 4**0.5 + 0.25) ** 2),
        (float("inf"), 4 + 0.25),
    ],
)
def test_normalize_adds_its_epsilon_to_the_sum_of_powers(p: float, norm: float) -> None:
    """With p = ∞ to the largest value (`Normalize.lua`)."""
    vector = torch.tensor([3.0, -4.0])
    torch.testing.assert_close(layer("nn.Normalize", p=p, eps=0.25)(vector), vector / norm)


def estimator(kernel: torch.Tensor, planes: int, *before: t7.LuaObject) -> t7.LuaObject:
    """Return the estimator that early versions of `SpatialSubtractiveNormalization.lua` built."""
    height, width = (size // 2 for size in kernel.shape)
    table = torch.arange(1.0, planes + 1)[:, None].expand(planes, 2).contiguous()
    pad = lua("nn.SpatialZeroPadding", pad_l=width, pad_r=width, pad_t=height, pad_b=height)
    filter_planes = lua(
        "nn.SpatialConvolutionMap",
        nInputPlane=planes,
        nOutputPlane=planes,
        kH=kernel.shape[0],
        kW=kernel.shape[1],
        dW=1,
        dH=1,
        connTable=table,
        weight=kernel.expand(planes, *kernel.shape).contiguous(),
        bias=torch.zeros(planes),
    )
    replicate = lua("nn.Replicate", nfeatures=planes, dim=1)
    modules = [*before, pad, filter_planes, lua("nn.Sum", dimension=1), replicate]
    return lua("nn.Sequential", modules=modules)


def local_sums(image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Return the weighted sum over each pixel's neighborhood in all channels."""
    weight = kernel.expand(1, image.shape[0], *kernel.shape)
    padding = [size // 2 for size in kernel.shape]
    return functional.conv2d(image[None], weight, padding=padding)[0, 0]


@pytest.mark.covers(
    "nn.SpatialSubtractiveNormalization",
    "nn.SpatialDivisiveNormalization",
    compared="outputs",
)
def test_local_normalization_of_early_versions() -> None:
    image, kernel = torch.randn(2, 6, 7), torch.rand(3, 5)
    kernel /= kernel.sum() * 2
    coverage = local_sums(torch.ones_like(image), kernel)
    subtract = layer("nn.SpatialSubtractiveNormalization", meanestimator=estimator(kernel, 2))
    expected = image - local_sums(image, kernel) / coverage
    assert relative_error(subtract(image), expected) < TOLERANCE

    divide = layer(
        "nn.SpatialDivisiveNormalization",
        meanestimator=estimator(kernel, 2),
        stdestimator=lua(
            "nn.Sequential",
            modules=[estimator(kernel, 2, lua("nn.Square")), lua("nn.Sqrt", eps=0)],
        ),
        threshold=0.9,
        thresval=5.0,
    )
    std = local_sums(image.square(), kernel).sqrt() / coverage
    assert bool((std < 0.9).any())
    assert bool((std > 0.9).any())
    expected = image / torch.where(std > 0.9, std, 5.0)
    assert relative_error(divide(image), expected) < TOLERANCE


def fixture(name: str) -> t7.LuaTable:
    cases = t7.load(FIXTURES / "layers" / "normalization.t7").values()
    return next(case for case in cases if case["name"] == name)


LOCAL = [f"Spatial{kind}Normalization" for kind in ("Subtractive", "Divisive", "Contrastive")]


@pytest.mark.parametrize("name", LOCAL)
def test_kernels_are_not_parameters_and_an_example_is_like_a_batch(name: str) -> None:
    case = fixture(name)
    module, images = convert(case["module"]), t7.to_torch(case["input"])
    assert list(module.parameters()) == []
    assert relative_error(module(images[0]), t7.to_torch(case["output"])[0]) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("name", LOCAL)
def test_local_normalization_exports(name: str) -> None:
    case = fixture(name)
    module = convert(case["module"])
    assert export_error(module, t7.to_torch(case["input"])) < 1e-5


EXPORTED = {
    "BatchNorm1d": ("nn.BatchNormalization", batch_norm_fields(), (3,)),
    "BatchNorm2d with a bias": (
        "nn.SpatialBatchNormalization",
        batch_norm_fields(bias=torch.randn(3)),
        (3, 4, 4),
    ),
    "BatchNorm3d with a weight": (
        "nn.VolumetricBatchNormalization",
        batch_norm_fields(weight=torch.randn(3)),
        (3, 4, 4, 2),
    ),
    "LocalResponseNorm": (
        "nn.SpatialCrossMapLRN",
        {"size": 4, "alpha": 0.5, "beta": 0.75, "k": 1},
        (7, 4, 4),
    ),
    "Normalize": ("nn.Normalize", {"p": 2, "eps": 1e-10}, (7,)),
    "Normalize, odd": ("nn.Normalize", {"p": 3, "eps": 1e-10}, (7,)),
    "Normalize, largest": ("nn.Normalize", {"p": float("inf"), "eps": 1e-10}, (7,)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_layers_export_with_a_dynamic_batch(name: str) -> None:
    class_name, fields, shape = EXPORTED[name]
    assert export_error(layer(class_name, **fields), torch.randn(2, *shape)) < 1e-5


@pytest.mark.parametrize(
    ("class_name", "shape"),
    [
        ("nn.BatchNormalization", (1, 3)),
        ("nn.SpatialBatchNormalization", (1, 3, 4, 2)),
        ("nn.VolumetricBatchNormalization", (1, 3, 4, 2, 3)),
    ],
)
def test_a_batch_of_one_is_normalized_by_the_running_statistics_in_training(
    class_name: str, shape: tuple[int, ...]
) -> None:
    fields = batch_norm_fields(weight=torch.randn(3), bias=torch.randn(3)) | {"eps": 0.5}
    module = layer(class_name, **fields)
    batch = torch.randn(shape)
    expected, before = module(batch), module.running_mean.clone()
    assert relative_error(module.train()(batch), expected.detach()) < TOLERANCE
    assert torch.equal(module.running_mean, before)
    # One example without a batch is for evaluation mode only.
    with pytest.raises(ValueError, match="expected"):
        module(batch[0])


@pytest.mark.parametrize("p", [0.25, 0.75])
def test_a_zero_adds_nothing_to_the_gradient_of_a_norm(p: float) -> None:
    """The derivative of |x|ᵖ at 0 is infinite for p below 1; `Normalize.lua` has 0."""
    vector = torch.tensor([0.0, 2.0], requires_grad=True)
    layer("nn.Normalize", p=p, eps=0)(vector).sum().backward()
    # Of x / ‖x‖ = (0, 1) the first value grows by 1 / 2, and the second one stays.
    assert torch.allclose(vector.grad, torch.tensor([0.5, 0.0]), atol=1e-6)
