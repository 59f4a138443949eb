"""Rules of pooling that rarely show: of equal values the first counts, and dilated positions."""

from __future__ import annotations

import pytest
import torch
from layer_support import layer, lua
from torch import nn

from torchlift.converters import convert


def test_of_equal_values_of_an_adaptive_window_the_first_one_has_the_gradient() -> None:
    """Row by row, as in `SpatialAdaptiveMaxPooling.c`; not the first of the first column."""
    image = torch.tensor([[[0.0, 1.0, 5.0, 5.0], [1.0, 0.0, 5.0, 5.0]]], requires_grad=True)
    layer("nn.SpatialAdaptiveMaxPooling", H=1, W=2)(image).sum().backward()
    assert image.grad is not None
    assert image.grad.tolist() == [[[0, 1, 1, 0], [0, 0, 0, 0]]]


def test_unpooling_has_the_dilation_of_its_pooling_layer() -> None:
    sizes = {"kW": 2, "kH": 1, "dW": 3, "dH": 1, "dilationW": 2, "dilationH": 1}
    pooling = lua("nn.SpatialDilatedMaxPooling", **sizes, padW=0, padH=0, ceil_mode=False)
    back = lua("nn.SpatialMaxUnpooling", pooling=pooling)
    model = convert(lua("nn.Sequential", modules=[pooling, back]))
    # The first window has the columns 1 and 3, the second one 4 and 6: what is between is not seen.
    image = torch.tensor([[[[1.0, 9.0, 2.0, 4.0, 9.0, 3.0]]]])
    assert model(image).tolist() == [[[[0, 0, 2, 4, 0, 0]]]]


@pytest.mark.parametrize(
    ("fields", "torch_class"),
    [
        ({"kW": 3, "kH": 3, "dW": 3, "dH": 3}, nn.MaxPool2d),
        ({"kW": 3, "kH": 3, "dW": 2, "dH": 2, "padW": 1, "padH": 1}, nn.MaxPool2d),
        ({"kW": 3, "kH": 3, "dW": 3, "dH": 3, "padW": 1, "padH": 0}, None),
        ({"kW": 3, "kH": 3, "dW": 3, "dH": 4}, None),
    ],
)
def test_in_ceil_mode_torchs_class_stands_for_windows_that_begin_inside(
    fields: dict[str, int], torch_class: type[nn.Module] | None
) -> None:
    """A window that begins outside the image and its padding PyTorch always drops."""
    module = layer("nn.SpatialMaxPooling", **fields, ceil_mode=True)
    assert (type(module) is nn.MaxPool2d) is (torch_class is not None)


@pytest.mark.parametrize("value", [1, "true", True])
def test_ceil_mode_is_the_boolean_true(value: object) -> None:
    """Lua's `ceil_mode` is set by `ceil()` and `floor()` alone."""
    module = layer("nn.SpatialMaxPooling", kW=2, kH=2, dW=2, dH=2, ceil_mode=value)
    assert module(torch.zeros(1, 3, 3)).shape == ((1, 2, 2) if value is True else (1, 1, 1))


def test_older_files_of_cudnn_keep_their_padding() -> None:
    """`backwardCompatible` of SpatialAveragePooling.lua is nn's: cudnn.torch has no such rule."""
    sizes = {"kW": 2, "kH": 2, "dW": 2, "dH": 2, "padW": 1, "padH": 1}
    module = layer("cudnn.SpatialAveragePooling", **sizes)
    assert module(torch.ones(1, 2, 2)).tolist() == [[[0.25, 0.25], [0.25, 0.25]]]
    volumes = layer("cudnn.VolumetricAveragePooling", **sizes, kT=1, dT=1, padT=0)
    assert volumes(torch.ones(1, 1, 2, 2)).flatten().tolist() == [0.25] * 4


@pytest.mark.parametrize("exporting", [False, True])
def test_a_norm_of_large_features_does_not_overflow(
    exporting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`FeatureLPPooling.c` sums powers in double precision; in single, 10⁴⁰ is infinite."""
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: exporting)
    module = layer("nn.FeatureLPPooling", width=2, stride=2, power=2, batch_mode=False)
    output = module(torch.tensor([3e20, 4e20, 6.0, 8.0]))
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, torch.tensor([5e20, 10.0]))
