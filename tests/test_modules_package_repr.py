"""What repr() shows of layers of packages: their arguments, in the order of the constructor."""

from __future__ import annotations

import pytest
from torch import nn

from torchlift.converters.modules.packages.atari import MinDim
from torchlift.converters.modules.packages.augmentation import (
    PCAColorTransform,
    SpatialUniformCrop,
)
from torchlift.converters.modules.packages.binary_convolution import BinaryConv2d
from torchlift.converters.modules.packages.binary_net import ShiftNorm
from torchlift.converters.modules.packages.deformable import DeformableConvolution
from torchlift.converters.modules.packages.facebook import GroupKMaxPool
from torchlift.converters.modules.packages.fairseq import (
    LinearizedConvolution,
    TemporalConvolutionTBC,
)
from torchlift.converters.modules.packages.fluid_net import ShuffledConvolution
from torchlift.converters.modules.packages.glimpse import SpatialGlimpse
from torchlift.converters.modules.packages.hierarchical_softmax import (
    ClusterNetworksLoss,
    ClusterSoftmaxLoss,
    SoftmaxTree,
)
from torchlift.converters.modules.packages.inn import StochasticPool2d
from torchlift.converters.modules.packages.masking import LookupTableMaskZero
from torchlift.converters.modules.packages.nce import NCEModule
from torchlift.converters.modules.packages.nnx import (
    Repeat2d,
    Resample,
    SaturatedLinear,
    SpatialPadding,
)
from torchlift.converters.modules.packages.nnx_images import SpatialMatching
from torchlift.converters.modules.packages.onmt import JoinReplicated
from torchlift.converters.modules.packages.rnn import ScalarAdd
from torchlift.converters.modules.packages.roi_pooling import ROIPooling
from torchlift.converters.modules.packages.seq_lstm import SeqGRU, SeqLSTM
from torchlift.converters.modules.packages.stn import AffineGrid, AffineMatrix
from torchlift.converters.modules.packages.texture_nets import NoiseFill
from torchlift.converters.modules.packages.torch_rnn import VanillaRNN

SHOWN: list[tuple[nn.Module, str]] = [
    (MinDim(1, 3), "1, input_dims=3"),
    (SpatialUniformCrop(2, 3), "2, 3"),
    (PCAColorTransform(3, 0.2), "3, std=0.2"),
    (
        BinaryConv2d(1, 2, [3, 4], [5, 6], [7, 8]),
        "1, 2, kernel_size=[3, 4], stride=[5, 6], padding=[7, 8]",
    ),
    (ShiftNorm(3, 0.5, 0.25), "3, eps=0.5, momentum=0.25"),
    (DeformableConvolution(nn.Identity(), 2, 3, [4, 5]), "2, 3, kernel_size=[4, 5]"),
    (GroupKMaxPool(2, 0.5), "2, factor=0.5"),
    (LinearizedConvolution(2, 3, 4), "2, 3, kernel_size=4"),
    (TemporalConvolutionTBC(2, 3, 4, 5), "2, 3, kernel_size=4, padding=5"),
    (ShuffledConvolution(nn.Identity(), scale=[2, 3]), "scale=[2, 3]"),
    (SpatialGlimpse(2, 3, [1, 4]), "2, 3, scales=[1, 4]"),
    (ClusterNetworksLoss(nn.Identity(), num_classes=5), "num_classes=5"),
    (ClusterSoftmaxLoss(4, [2, 3, 1]), "4, 3 clusters"),
    (SoftmaxTree(3, 4, 2, 2, 5, 2), "3, 4"),
    (StochasticPool2d([2, 3], [4, 5]), "kernel_size=[2, 3], stride=[4, 5]"),
    (LookupTableMaskZero(4, 2), "4, 2"),
    (NCEModule(2, 3, 4), "2, 3, noise_samples=4"),
    (Repeat2d(2, 3, 1), "2, 3"),
    (Resample("simple", height=2, ratio_x=0.5), "simple, 2, 0.5"),
    (SaturatedLinear(1, 2, 3, 4), "1, 2, 3, 4"),
    (SpatialPadding([1, 2, 3, 4], 0, 2, 5.0), "[1, 2, 3, 4], y_dim=0, x_dim=2, value=5.0"),
    (SpatialMatching([2, 3], True), "[2, 3], full_output=True"),
    (JoinReplicated(0, 1), "dim_repeat=0, dim_join=1"),
    (ScalarAdd(2, True), "2, negate=True"),
    (ROIPooling(2, 3, 0.5, False), "2, 3, spatial_scale=0.5"),
    (SeqLSTM(2, 3), "2 -> 3"),
    (SeqLSTM(2, 3, 4), "2 -> 3 -> 4"),
    (SeqGRU(2, 3), "2 -> 3"),
    (AffineGrid(2, 3), "2, 3"),
    (AffineMatrix(), "any affine matrix"),
    (AffineMatrix(rotation=True, translation=True), "rotation, translation"),
    (NoiseFill(-2, 3), "first=-2, planes=3"),
    (VanillaRNN(2, 3), "2 -> 3"),
]


@pytest.mark.parametrize(("module", "shown"), SHOWN, ids=lambda value: type(value).__name__)
def test_repr_shows_the_arguments(module: nn.Module, shown: str) -> None:
    assert module.extra_repr() == shown
    assert f"{type(module).__name__}(" in repr(module)
    assert shown in repr(module)
