"""Exported graphs have no more nodes than onnxslim, a program that simplifies them, leaves.

onnxslim is never run on our files otherwise: its graphs are the measure, where it is installed.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
import torchvision
from support import FIXTURES
from torch import nn

from torchlift.converters.onnx import export
from torchlift.converters.saved import open_model

onnxslim = pytest.importorskip("onnxslim")

#: torchvision's networks, with the size of their images.
TORCHVISION = {
    **dict.fromkeys(
        (
            *("alexnet", "densenet121", "efficientnet_b0", "googlenet", "mnasnet0_5"),
            *("mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf"),
            *("resnet18", "resnet50", "shufflenet_v2_x0_5", "squeezenet1_1", "vgg11_bn"),
            *("convnext_tiny", "swin_t", "vit_b_32"),
        ),
        224,
    ),
    "inception_v3": 299,
}


def counts(module: nn.Module, folder: Path, size: tuple[int, ...]) -> tuple[int, int]:
    """Return how many nodes a module's file has, and how many onnxslim leaves."""
    path = folder / "f.onnx"
    export(module, path, input_shape=size, output_kind="features")
    model = onnx.load(path)
    return len(model.graph.node), len(onnxslim.slim(onnx.load(path)).graph.node)


@pytest.mark.parametrize("name", ["digits/digits-lenet5-bn", "cifar/cifar-convnet-bn"])
def test_networks_of_the_labs(name: str, tmp_path: Path) -> None:
    model = open_model(FIXTURES / f"{name}.t7")
    ours, slimmed = counts(model.module, tmp_path, model.input_shape or ())
    assert ours <= slimmed


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_networks_of_torchvision(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    module = getattr(torchvision.models, name)(weights=None, **options).eval()
    ours, slimmed = counts(module, tmp_path, (3, TORCHVISION[name], TORCHVISION[name]))
    assert ours <= slimmed
