"""Activations: cases that Torch7's fixtures do not cover, and the export of torchlift's layers.

Expected values come from a second implementation of Torch7's rules with other operations.
"""

from __future__ import annotations

import pytest
import torch
from layer_support import export_error, lua
from support import relative_error
from torch import nn

from torchlift.converters import convert
from torchlift.converters.modules import convert_recorded
from torchlift.converters.modules.layers.activation import (
    Abs,
    ChannelPReLU,
    CReLU,
    Exp,
    Log,
    Power,
    Sqrt,
    Square,
)
from torchlift.converters.modules.layers.softmax import (
    ChannelLogSoftmax,
    ChannelSoftmax,
    ChannelSoftmin,
)


@pytest.mark.covers(
    "cudnn.LogSoftMax",
    "cudnn.SoftMax",
    "cudnn.SpatialLogSoftMax",
    "cudnn.SpatialSoftMax",
    "nn.LogSoftMax",
    "nn.SoftMax",
    compared="outputs",
)
@pytest.mark.parametrize(
    ("shape", "dims"),
    [((5,), (0,)), ((2, 5), (1,)), ((3, 4, 5), (0, 1, 2)), ((2, 3, 4, 5), (1, 2, 3))],
)
@pytest.mark.parametrize(
    ("name", "log", "instance"),
    [
        ("nn.SoftMax", False, False),
        ("nn.LogSoftMax", True, False),
        ("cudnn.SpatialSoftMax", False, False),
        ("cudnn.SpatialLogSoftMax", True, False),
        ("cudnn.SoftMax", False, True),
        ("cudnn.LogSoftMax", True, True),
    ],
)
def test_a_softmax_runs_over_torch7s_dimensions(
    name: str, log: bool, instance: bool, shape: tuple[int, ...], dims: tuple[int, ...]
) -> None:
    input = torch.randn(shape)
    dims = dims if instance else dims[:1]
    expected = input.exp() / input.exp().sum(dims, keepdim=True)
    output = convert(lua(name))(input)
    assert relative_error(output, expected.log() if log else expected) < 1e-5


@pytest.mark.covers("cudnn.VolumetricSoftMax", "cudnn.VolumetricLogSoftMax", compared="outputs")
@pytest.mark.parametrize(("shape", "dim"), [((3, 2, 4, 5), 0), ((2, 3, 2, 4, 5), 1)])
def test_volumetric_softmax_is_over_channels(shape: tuple[int, ...], dim: int) -> None:
    input = torch.randn(shape)
    output = convert(lua("cudnn.VolumetricSoftMax"))(input)
    assert relative_error(output, input.exp() / input.exp().sum(dim, keepdim=True)) < 1e-5
    logs = convert(lua("cudnn.VolumetricLogSoftMax"))(input)
    assert relative_error(logs, output.log()) < 1e-5


def test_softmax_layers_derive_from_torch_classes() -> None:
    assert isinstance(convert(lua("nn.LogSoftMax")), nn.LogSoftmax)
    assert isinstance(convert(lua("cudnn.SoftMax")), nn.Softmax)


@pytest.mark.covers("nn.Sqrt", compared="gradients")
def test_gradient_of_sqrt_at_zero_is_zero() -> None:
    input = torch.tensor([0.0, 4.0], requires_grad=True)
    output = convert(lua("nn.Sqrt"))(input)
    output.sum().backward()
    assert output.tolist() == [0.0, 2.0]
    assert input.grad is not None
    assert input.grad.tolist() == [0.0, 0.25]


@pytest.mark.covers("nn.PReLU", compared="outputs")
@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 4), (2, 3, 4, 5)])
def test_prelu_channels_are_the_second_or_only_dimension(shape: tuple[int, ...]) -> None:
    weight = torch.tensor([0.1, 0.2, 0.3])
    module = convert(lua("nn.PReLU", nOutputPlane=3, weight=weight.numpy()))
    input = torch.randn(shape)
    slope = weight if len(shape) == 1 else weight.view(1, 3, *[1] * (len(shape) - 2))
    assert relative_error(module(input), torch.where(input > 0, input, input * slope)) < 1e-6


@pytest.mark.covers("nn.CReLU", compared="outputs")
@pytest.mark.parametrize(("shape", "dim"), [((3, 4, 4), 0), ((2, 3, 4, 4), 1)])
@pytest.mark.parametrize("fields", [{}, {"nInputDims": 3}])
def test_crelu_doubles_channels(fields: dict[str, int], shape: tuple[int, ...], dim: int) -> None:
    input = torch.randn(shape)
    output = convert(lua("nn.CReLU", **fields))(input)
    positive, negative = output.chunk(2, dim)
    assert torch.equal(positive, input.clamp(min=0))
    assert torch.equal(negative, (-input).clamp(min=0))


def test_missing_limits_are_noted() -> None:
    conversion = convert_recorded(lua("nn.HardTanh"))
    assert [note.class_name for note in conversion.notes] == ["nn.HardTanh"]
    assert torch.equal(conversion.module(torch.tensor([-3.0, 3.0])), torch.tensor([-1.0, 1.0]))


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [
        # The constructors' defaults: HardShrink.lua and SoftShrink.lua `lambda or 0.5`.
        ("nn.HardShrink", [-0.6, -0.4, 0.4, 0.6, 0.9], [-0.6, 0, 0, 0.6, 0.9]),
        ("nn.SoftShrink", [-0.75, -0.4, 0.4, 0.75, 1.0], [-0.25, 0, 0, 0.25, 0.5]),
        # SoftPlus.lua: log(1 + e^x), and x above 20.
        ("nn.SoftPlus", [-1.0, 0.0, 3.0, 19.0], [0.3132616, 0.6931472, 3.0485873, 19.0]),
        ("nn.ELU", [-1.0, 2.0], [-0.6321206, 2]),
        ("nn.LeakyReLU", [-1.0, 2.0], [-0.01, 2]),
    ],
)
def test_fields_that_older_files_lack_have_the_defaults_of_lua(
    name: str, inputs: list[float], outputs: list[float]
) -> None:
    assert relative_error(convert(lua(name))(torch.tensor(inputs)), torch.tensor(outputs)) < 1e-6


def test_the_threshold_of_an_older_soft_plus_is_20() -> None:
    """In double precision log(1 + e^x) is not x yet at 20: below it is computed, above it is x."""
    inputs = torch.tensor([19.9, 20.1], dtype=torch.float64)
    computed, copied = (convert(lua("nn.SoftPlus"))(inputs) - inputs).tolist()
    assert computed == pytest.approx(2.28e-9, rel=0.01)
    assert copied == 0


def test_inplace_layers_do_not_change_their_input() -> None:
    input = torch.tensor([-1.0, 2.0])
    for name in ("nn.ReLU", "nn.ELU", "nn.LeakyReLU", "nn.HardTanh", "cudnn.Tanh"):
        convert(lua(name, inplace=True))(input)
    assert input.tolist() == [-1.0, 2.0]


LAYERS = [
    Abs(),
    Exp(),
    Log(),
    Square(),
    Sqrt(),
    Power(1.5),
    CReLU(3),
    ChannelPReLU(3),
    ChannelSoftmax(),
    ChannelSoftmax(instance=True),
    ChannelLogSoftmax(),
    ChannelSoftmin(),
]


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_layers_export_with_a_dynamic_batch(layer: nn.Module) -> None:
    # float32; the exponentials of PyTorch and ONNX Runtime differ in the last bits.
    assert export_error(layer, torch.rand(2, 3, 4, 5)) < 1e-5


@pytest.mark.covers("cudnn.ClippedReLU", compared="outputs, gradients")
def test_clipped_relu_ends_at_its_ceiling() -> None:
    input = torch.tensor([-1.0, 0.5, 3.0], requires_grad=True)
    output = convert(lua("cudnn.ClippedReLU", ceiling=2))(input)
    assert output.tolist() == [0, 0.5, 2]
    output.sum().backward()
    assert input.grad is not None
    assert input.grad.tolist() == [0, 1, 0]


@pytest.mark.parametrize(("fields", "axis"), [({}, 2), ({"dim": 3}, 2), ({"dim": 2}, 1)])
def test_a_gated_linear_unit_halves_one_dimension(fields: dict[str, int], axis: int) -> None:
    input = torch.randn(2, 4, 6)
    first, second = input.chunk(2, axis)
    output = convert(lua("nn.GatedLinearUnit", **fields))(input)
    torch.testing.assert_close(output, first * second.sigmoid())


def test_a_log_sigmoid_counts_what_is_left_far_from_zero() -> None:
    """In double precision e⁻²¹ beside 21 is no rounding error."""
    input = torch.tensor([-60.0, -49, -35, -25, -21, -1, 0, 21, 30], dtype=torch.float64)
    expected = -torch.logaddexp(torch.zeros_like(input), -input)
    output = convert(lua("nn.LogSigmoid"))(input)
    torch.testing.assert_close(output, expected, rtol=1e-14, atol=0)


def test_slopes_are_drawn_between_their_bounds_in_training_mode_only() -> None:
    torch.manual_seed(0)
    module = convert(lua("nn.RReLU", lower=0.1, upper=0.3)).train()
    input = torch.cat([torch.full((4000,), -1.0), torch.ones(10)])
    output = module(input)
    slopes = -output[:4000]
    # Of 4,000 uniform draws the mean is within 0.004 and the extremes come within 0.001.
    assert slopes.mean().item() == pytest.approx(0.2, abs=4e-3)
    assert slopes.min().item() == pytest.approx(0.1, abs=1e-3)
    assert slopes.max().item() == pytest.approx(0.3, abs=1e-3)
    assert output[4000:].eq(1).all()
    assert not torch.equal(module(input), output)
    torch.testing.assert_close(module.eval()(input)[:4000], torch.full((4000,), -0.2))
