"""Rules of the layers of packages where the usual values make two of them equal."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from layer_support import lua
from torch import nn
from torch.nn import functional

from torchlift.converters import convert
from torchlift.converters.modules import ConversionError, convert_recorded
from torchlift.converters.modules.layers.activation import ChannelPReLU
from torchlift.converters.modules.layers.local_convolution import ConvLocal2d
from torchlift.converters.modules.layers.local_normalization import LocalResponseNorm
from torchlift.converters.modules.layers.matmul import MM, MV
from torchlift.converters.modules.layers.upsampling import Upsample
from torchlift.converters.modules.packages.augmentation import SpatialUniformCrop
from torchlift.converters.modules.packages.binary_convolution import BinaryConv2d
from torchlift.converters.modules.packages.deformable import DeformableConvolution
from torchlift.converters.modules.packages.dpnn import Inception
from torchlift.converters.modules.packages.dqn import scale_last_axis
from torchlift.converters.modules.packages.glimpse import SpatialGlimpse, TemporalGlimpse
from torchlift.converters.modules.packages.inn import StochasticPool2d
from torchlift.converters.modules.packages.stn import BilinearSampler
from torchlift.converters.modules.packages.texture_nets import CircularPad


@pytest.mark.parametrize(
    ("fields", "scales"),
    [
        ({"size": 3, "depth": 1, "scale": 3}, [1]),
        ({"size": 3, "depth": 4, "scale": 3}, [1, 3, 6, 9]),
        ({"height": 3, "width": 3, "depth": 4, "scale": 3}, [1, 3, 9, 27]),
        ({"height": 3, "width": 5, "depth": 3, "scale": 1.5}, [[3, 5], [4, 7], [6, 10]]),
    ],
)
def test_the_crops_of_a_glimpse_grow_by_the_rule_of_its_version(
    fields: dict[str, float], scales: list[object]
) -> None:
    """With a scale of 2 and a depth of 3 both versions have 1, 2 and 4."""
    assert convert(lua("nn.SpatialGlimpse", **fields)).scales == scales


@pytest.mark.parametrize(
    ("size", "first"), [(3, 0), (4, 0), (5, 0), (6, 1), (7, 1), (8, 2), (9, 2)]
)
def test_a_center_crop_begins_at_half_the_margin_rounded_up_from_1(size: int, first: int) -> None:
    """`math.ceil(margin / 2)` is Lua's index; of no margin it would be 0."""
    module = convert(lua("nn.SpatialUniformCrop", oheight=3, owidth=2)).eval()
    image = torch.arange(size)[:, None].expand(size, 2)[None]
    assert module(image)[0, :, 0].tolist() == [first, first + 1, first + 2]
    assert module(image).shape == (1, 3, 2)


#: A layer, and an input without the batch.
ALONE: dict[str, tuple[nn.Module, Any]] = {
    "StochasticPool2d": (StochasticPool2d([2, 2], [2, 2]), torch.rand(3, 5, 4)),
    "TemporalGlimpse": (TemporalGlimpse(3), [torch.randn(6, 2), torch.tensor([0.5])]),
    "SpatialUniformCrop": (SpatialUniformCrop(2, 3), torch.randn(3, 5, 6)),
    "SpatialGlimpse": (SpatialGlimpse(2, 3, [1, 2]), [torch.randn(1, 7, 6), torch.zeros(2)]),
    "BilinearSampler": (BilinearSampler(), [torch.randn(4, 5, 1), torch.rand(3, 2, 2)]),
    "Inception": (Inception(nn.Conv2d(3, 1, 2)), torch.randn(3, 4, 5)),
    "BinaryConv2d": (BinaryConv2d(3, 1, [2, 2], [1, 1], [0, 0]), torch.randn(3, 4, 5)),
    "DeformableConvolution": (
        DeformableConvolution(nn.Conv2d(1, 8, 2), 1, 1, [2, 2]),
        torch.randn(1, 4, 5),
    ),
    "CircularPad": (CircularPad([1, 0, 2, 1]), torch.randn(1, 4, 5)),
    "ConvLocal2d": (ConvLocal2d(2, 1, [3, 4], [2, 2], [1, 1], [0, 0]), torch.randn(2, 4, 5)),
    "LocalResponseNorm": (LocalResponseNorm(3), torch.randn(1, 4, 5)),
    "Upsample": (Upsample(2, linear=True), torch.randn(1, 4, 5)),
    "ChannelPReLU": (ChannelPReLU(3), torch.randn(3)),
    "MM": (MM(trans_b=True), [torch.randn(1, 4), torch.randn(1, 4)]),
    "MV": (MV(), [torch.randn(1, 4), torch.randn(4)]),
}


@pytest.mark.parametrize("name", ALONE)
def test_an_example_alone_and_a_batch_of_one_give_what_it_has_among_others(name: str) -> None:
    """A batch of one is a batch, whatever other sizes are 1."""
    module, alone = ALONE[name]
    module.eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    first = alone if isinstance(alone, list) else [alone]
    two = [torch.stack([each, torch.flip(each, [0])]) for each in first]
    with torch.no_grad():
        one, both, single = (
            module(inputs if isinstance(alone, list) else inputs[0])
            for inputs in ([each[:1] for each in two], two, first)
        )
    assert (one.shape, single.shape) == ((1, *both.shape[1:]), both.shape[1:])
    torch.testing.assert_close(one[0], both[0])
    torch.testing.assert_close(single, both[0])


def test_a_random_crop_of_an_image_alone_is_a_part_of_it() -> None:
    module, image = SpatialUniformCrop(2, 3).train(), torch.arange(30.0).reshape(1, 5, 6)
    seen = set()
    for seed in range(60):
        torch.manual_seed(seed)
        crop = module(image)
        top, left = divmod(int(crop[0, 0, 0]), 6)
        assert torch.equal(crop, image[:, top : top + 2, left : left + 3])
        seen.add((top, left))
    # Torch7's first row is ceil(uniform(0.01, margin)) from 1: never the last place.
    assert {top for top, _ in seen} == {0, 1, 2}
    assert {left for _, left in seen} == {0, 1, 2}


def test_the_weight_of_a_locally_connected_layer_has_one_of_two_layouts() -> None:
    sizes = {"nInputPlane": 2, "nOutputPlane": 3, "kW": 2, "kH": 2, "iW": 3, "iH": 3}
    fields = {**sizes, "dW": 1, "dH": 1, "bias": torch.randn(3, 2, 2)}
    good = lua("nn.LocallyConnected", weight=torch.randn(3, 2, 2, 2, 2, 2), **fields)
    assert convert(good)(torch.randn(1, 2, 3, 3)).shape == (1, 3, 2, 2)
    bad = lua("nn.LocallyConnected", weight=torch.randn(3, 2, 2, 2, 2, 1), **fields)
    with pytest.raises(ConversionError, match=r"unknown shape \(3, 2, 2, 2, 2, 1\)"):
        convert(bad)


def test_an_older_spatial_cross_entropy_sums_over_pixels() -> None:
    """Its `nll` is that of lists; a newer one is that of images, and averages."""
    scores, classes = torch.randn(2, 3, 4, 5), torch.randint(1, 4, (2, 4, 5))
    pixels = functional.cross_entropy(scores, classes - 1, reduction="none")
    for nll, expected in (
        ("nn.ClassNLLCriterion", pixels.sum()),
        ("nn.SpatialClassNLLCriterion", pixels.mean()),
    ):
        inner = lua(nll, sizeAverage=True)
        found = convert_recorded(lua("cudnn.SpatialCrossEntropyCriterion", nll=inner))
        loss = found.module(scores, classes)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
        assert any("an older version" in note.text for note in found.notes) is (
            "Spatial" not in nll
        )


def test_an_axis_is_scaled_by_shares_or_between_its_ends() -> None:
    """`image.scale` in mode bilinear: one that shrinks is averaged over what each result covers."""
    row = torch.tensor([[1.0, 2.0, 3.0]])
    results = {1: [2], 2: [4 / 3, 8 / 3], 3: [1, 2, 3], 5: [1, 1.5, 2, 2.5, 3]}
    for size, expected in results.items():
        assert scale_last_axis(row, size)[0].tolist() == pytest.approx(expected)


def test_a_frame_becomes_gray_and_keeps_its_axes() -> None:
    """`image.rgb2y`: 0.299 red, 0.587 green and 0.114 blue."""
    frame = torch.zeros(2, 3, 2, 4)
    frame[0] = torch.tensor([1.0, 10.0, 100.0])[:, None, None]
    frame[0, :, 0] = 0
    gray = convert(lua("nn.Scale", height=2, width=1))(frame)
    assert gray.shape == (1, 2, 1)
    assert gray.flatten().tolist() == pytest.approx([0, 0.299 + 5.87 + 11.4])


def test_nodes_that_are_their_own_ancestors_are_outside_the_tree() -> None:
    fields = {
        "rootId": 1,
        "weight": torch.randn(3, 2),
        "bias": torch.randn(3),
        # The children of 1, 3 and 4 are 2, 4 and 3: first row of the weight, and how many.
        "parentChildren": torch.tensor([[1, 1], [-1, -1], [2, 1], [3, 1]]),
        "childParent": torch.tensor([[-1, -1], [1, 1], [4, 1], [3, 1]]),
    }
    module = convert(lua("nn.SoftMaxTree", **fields))
    output = module([torch.randn(4, 2), torch.tensor([1, 2, 3, 4])])
    assert output.tolist() == [0, 0, -float("inf"), -float("inf")]


def test_a_section_of_an_even_number_of_steps_has_the_smaller_half_in_front() -> None:
    """`TemporalGlimpse.lua` pads with floor((size - 1) / 2) steps on both sides."""
    sequence = torch.arange(1.0, 7)[None, :, None].expand(3, 6, 1)
    module = convert(lua("nn.TemporalGlimpse", size=4))
    sections = module([sequence, torch.tensor([[-1.0], [0.0], [1.0]])])
    assert sections[:, :, 0].tolist() == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 0]]


@pytest.mark.parametrize(
    ("name", "scale", "sign"),
    [("nn.SpatialBinaryConvolution", 2, 1), ("BinarySpatialConvolution", 1, -1)],
)
def test_the_sign_of_a_weight_of_zero_is_that_of_its_package(
    name: str, scale: float, sign: float
) -> None:
    """Dpnn takes 1; BinaryNet rounds 1/2 to the even 0, which is -1."""
    weight = torch.tensor([0.0, 2.0, -4.0]).reshape(1, 3, 1, 1)
    fields = {"nInputPlane": 3, "nOutputPlane": 1, "kW": 1, "kH": 1, "dW": 1, "dH": 1}
    module = convert(lua(name, weight=weight, **fields))
    pixel = torch.tensor([100.0, 10.0, 1.0]).reshape(1, 3, 1, 1)
    assert module(pixel).item() == scale * (sign * 100 + 10 - 1)


@pytest.mark.parametrize(
    ("name", "fields", "problem"),
    [
        ("nn.StereoJoin", {"disp_max": 2, "direction": 1}, "direction = 1 is not known"),
        ("nn.SpatialUpSampling", {"dW": 2, "dH": 2, "yDim": 2, "xDim": 4}, "do not follow its"),
        ("nn.SpatialUpSampling", {"dW": 2, "dH": 2, "yDim": 3, "xDim": 2}, "do not follow its"),
    ],
)
def test_what_a_layer_does_otherwise_is_refused(
    name: str, fields: dict[str, int], problem: str
) -> None:
    with pytest.raises(ConversionError, match=problem):
        convert(lua(name, **fields))
