"""Deformable convolution, compared with torchvision's, and the places of crops."""

from __future__ import annotations

import pytest
import torch
from contract_objects_support import deformable
from layer_support import lua
from support import relative_error
from torch.nn import functional
from torchvision.ops import deform_conv2d

from torchlift.converters import convert, t7
from torchlift.converters.modules import ConversionError

#: Pixels by which the image is made larger: more than any offset below.
BORDER = 40


def converted() -> torch.nn.Module:
    source, _ = deformable()
    return convert(t7.loads(t7.dumps(source))).double().eval()


@pytest.mark.covers("nn.DeformableConvolution", compared="outputs, gradients")
def test_it_samples_at_the_offsets_and_at_the_border_outside() -> None:
    """Torchvision takes zeros outside, and y and x of the offsets in turn."""
    module = converted()
    images = torch.randn(2, 3, 5, 7, dtype=torch.float64, requires_grad=True)
    offsets = module.offsets(images)
    assert 3 < float(offsets.detach().abs().max()) < BORDER
    larger = functional.pad(images, (BORDER,) * 4, mode="replicate")
    in_turn = offsets.unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2)
    # The offsets of the larger image's outputs, of which those of the image itself are kept.
    everywhere = functional.pad(in_turn, (BORDER,) * 4)
    expected = deform_conv2d(larger, everywhere, module.weight, module.bias)
    expected = expected[:, :, BORDER:-BORDER, BORDER:-BORDER]
    assert relative_error(module(images).detach(), expected.detach()) < 1e-12
    variables = [images, module.weight, module.offsets.weight]
    for ours, theirs in zip(
        torch.autograd.grad(module(images).square().sum(), variables),
        torch.autograd.grad(expected.square().sum(), variables),
        strict=True,
    ):
        assert relative_error(ours, theirs) < 1e-10


def test_without_offsets_it_is_a_convolution() -> None:
    module = converted()
    for parameter in module.offsets.parameters():
        torch.nn.init.zeros_(parameter)
    images = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    expected = functional.conv2d(images, module.weight, module.bias)
    assert relative_error(module(images), expected) < 1e-12
    assert relative_error(module(images[0]), expected[0]) < 1e-12


def test_another_class_of_the_name_is_not_taken_for_it() -> None:
    """Its first versions had no offsets, and a weight of another layout."""
    weight = torch.randn(4, 3, 2, 2)
    source = lua("nn.DeformableConvolution", nInputPlane=3, nOutputPlane=4, weight=weight)
    with pytest.raises(ConversionError, match="no converter for"):
        convert(source)


@pytest.mark.covers("nn.CropInvert", compared="outputs")
def test_a_crop_after_its_inverse_is_the_identity() -> None:
    scales = torch.rand(3, 2, dtype=torch.float64) + 0.5
    shifts = torch.randn(3, 2, 1, dtype=torch.float64)
    last = torch.tensor([0.0, 0, 1]).double().expand(3, 1, 3)
    crop = torch.cat([torch.cat([scales.diag_embed(), shifts], 2), last], 1)
    inverse = convert(lua("nn.CropInvert"))(crop[:, :2])
    assert relative_error(inverse, torch.linalg.inv(crop)[:, :2]) < 1e-12
