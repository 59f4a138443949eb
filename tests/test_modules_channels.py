"""A network whose layers do not fit each other is told by the layer and both numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from torchlift.converters import convert
from torchlift.converters.modules.channels import channel_misfit
from torchlift.converters.t7 import LuaObject, LuaTable


def test_the_layer_is_named_by_its_place_in_the_file() -> None:
    ones = np.ones
    convolution = {
        "weight": ones((6, 3, 1, 1)),
        "bias": ones(6),
        "nInputPlane": 3,
        "nOutputPlane": 6,
    }
    convolution |= {"kW": 1, "kH": 1, "dW": 1, "dH": 1, "padW": 0, "padH": 0}
    statistics = {"running_mean": ones(4), "running_var": ones(4), "eps": 1e-5, "affine": False}
    layers = [
        LuaObject("nn.SpatialConvolution", LuaTable(convolution)),
        LuaObject("nn.SpatialBatchNormalization", LuaTable(statistics), 2),
    ]
    network = convert(LuaObject("nn.Sequential", LuaTable({"modules": LuaTable.from_list(layers)})))
    assert channel_misfit(network) == (
        "the layers do not fit each other: model.modules[2] (BatchNorm2d) normalizes 4 channels, "
        "but gets 6"
    )


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5), nn.Conv2d(5, 2, 1)),
        # Another number of rows is no number of channels.
        nn.Sequential(
            nn.Conv2d(3, 5, 1), nn.Flatten(), nn.Linear(5 * 256**2, 7), nn.BatchNorm1d(7)
        ),
        nn.Sequential(
            nn.Conv2d(2, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(2), nn.BatchNorm1d(5)
        ),
        # Another number of columns of an image without a batch is none either.
        nn.Sequential(nn.Conv2d(3, 5, 1), nn.Flatten(0, 1), nn.Conv2d(10, 2, 1)),
        nn.Sequential(nn.Linear(4, 2)),
        # It takes images of another size than the one that is tried.
        nn.Sequential(nn.Conv2d(3, 1, 1), nn.Flatten(), nn.Linear(9, 2)),
    ],
)
def test_layers_that_fit_are_no_misfit(network: nn.Module) -> None:
    assert channel_misfit(network) == ""
    assert all(not parameter.is_meta for parameter in network.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_convolution_that_gets_more_channels_is_named_too(dtype: torch.dtype) -> None:
    for count in (4, 9):
        network = nn.Sequential(nn.Conv2d(5, 6, 1), nn.Tanh(), nn.Conv2d(count, 2, 1)).to(dtype)
        assert channel_misfit(network) == (
            f"the layers do not fit each other: 2 (Conv2d) takes {count} channels, but gets 6"
        )
